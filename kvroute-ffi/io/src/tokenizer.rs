//! From requests to the token ids that the engine will compute.

use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvroute::error::kvroute_error;
use kvroute::guard;
use kvroute::handle::{self, Handle, mark};
use kvroute::memory::{array, fill_text, kvroute_str, put, text, wanted};
use kvroute::options::{count, size};
use kvroute::status::{Failure, KVROUTE_LIMIT, KVROUTE_REQUEST, KVROUTE_TOKENIZER};
use kvroute::structs::{self, versioned};
use kvroute_io::tokenize::{
    Endpoint, Error, ErrorKind, PoolOptions, TokenizedPrompt, Tokenizer, TokenizerOptions, TokenizerPool,
};

use crate::prompts::kvroute_prompts;

/// `/v1/completions`: `prompt` is a text, token ids, or a list of either.
pub const KVROUTE_ENDPOINT_COMPLETIONS: i32 = 0;
/// `/v1/chat/completions`: `messages`, rendered by the chat template.
pub const KVROUTE_ENDPOINT_CHAT_COMPLETIONS: i32 = 1;
/// `/v1/responses`: `instructions` and `input`, made into messages.
pub const KVROUTE_ENDPOINT_RESPONSES: i32 = 2;

/// A model's tokenizer and chat template, and threads that use them.
pub struct kvroute_tokenizer {
    _opaque: [u8; 0],
}

/// How a tokenizer reads requests, and its bounds. All zero: the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_tokenizer_options {
    /// `sizeof(kvroute_tokenizer_options)`.
    pub struct_size: usize,
    /// Template that the engines were given by `--chat-template`, in place of the model's: its source. Empty: the model's.
    pub chat_template: kvroute_str,
    /// Arguments of the template that the engines were given by `--default-chat-template-kwargs`: a JSON object. Empty: none.
    pub chat_template_kwargs: kvroute_str,
    /// Not 0: the engines accept a template in the request (`--trust-request-chat-template`). Its time and text are bounded,
    /// its memory is not.
    pub trust_request_chat_template: i32,
    /// Not 0: the engines leave tools out where `tool_choice` is "none" (`--exclude-tools-when-tool-choice-none`).
    pub exclude_tools_when_tool_choice_none: i32,
    /// Bytes of memory for the ids of text seen before. 0: 256 MiB; negative: none.
    pub cache_bytes: i64,
    /// Bytes that a text, a request or a rendered chat may have; beyond is an error. 0: 16 MiB.
    pub max_text_bytes: u64,
    /// Steps a template may take (instructions of minijinja); beyond is an error. 0: 5 million.
    pub max_template_steps: u64,
    /// Threads that tokenize, 1024 at most. 0: 2.
    pub threads: u32,
    /// Requests that may wait for them; beyond, they are answered with text. 0: 256.
    pub queue: u32,
    /// Time after which a request is answered with text if it is not tokenized; nanoseconds. 0: 100 ms.
    pub wait_ns: u64,
}

versioned!(kvroute_tokenizer_options up to wait_ns);

/// What a tokenizer has done since it was made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_tokenizer_counters {
    /// `sizeof(kvroute_tokenizer_counters)`.
    pub struct_size: usize,
    /// Requests that were answered by a thread, errors included.
    pub answered: u64,
    /// Requests answered with text because the queue was full.
    pub queue_full: u64,
    /// Requests answered with text because their time was over.
    pub too_late: u64,
    /// Requests during which the tokenizer panicked, answered with text: a defect.
    pub panicked: u64,
    /// Requests that stand in the queue now.
    pub waiting: u64,
    /// Bytes of text whose ids were found in the cache.
    pub hit_bytes: u64,
    /// Bytes of text that were encoded.
    pub miss_bytes: u64,
    /// Pieces of text in the cache now.
    pub segments: u64,
    /// Bytes of memory they take.
    pub cache_bytes: u64,
    /// Pieces that made room for others.
    pub evictions: u64,
}

versioned!(kvroute_tokenizer_counters up to evictions);

impl Handle for kvroute_tokenizer {
    type Content = TokenizerPool;
    const MARK: u64 = mark(b"tokenizer");
    const NAME: &'static str = "kvroute_tokenizer";
}

impl kvroute_tokenizer_options {
    /// # Safety
    ///
    /// Its texts are the caller's.
    unsafe fn build(&self) -> Result<(TokenizerOptions, PoolOptions), Failure> {
        let (mut options, mut pool) = (TokenizerOptions::default(), PoolOptions::default());
        // SAFETY: the caller's word.
        let (template, kwargs) = unsafe {
            let kwargs = self.chat_template_kwargs.non_empty("options.chat_template_kwargs")?;
            (self.chat_template.non_empty("options.chat_template")?, kwargs)
        };
        options.chat_template = template.map(String::from);
        if let Some(kwargs) = kwargs {
            options.chat_template_kwargs = serde_json::from_str(kwargs).map_err(|error| {
                Failure::invalid(format!("options.chat_template_kwargs is no JSON object: {error}"))
            })?;
        }
        options.trust_request_chat_template = self.trust_request_chat_template != 0;
        options.exclude_tools_when_tool_choice_none = self.exclude_tools_when_tool_choice_none != 0;
        options.cache_bytes = count(self.cache_bytes, options.cache_bytes);
        options.max_text_bytes = size(self.max_text_bytes, options.max_text_bytes);
        if self.max_template_steps != 0 {
            options.max_template_steps = self.max_template_steps;
        }
        pool.threads = size(self.threads.into(), pool.threads);
        pool.queue = size(self.queue.into(), pool.queue);
        if self.wait_ns != 0 {
            pool.wait = Duration::from_nanos(self.wait_ns);
        }
        Ok((options, pool))
    }
}

fn failure(error: &Error) -> Failure {
    let status = match error.kind() {
        ErrorKind::Request | ErrorKind::Template => KVROUTE_REQUEST,
        ErrorKind::Limit => KVROUTE_LIMIT,
        _ => KVROUTE_TOKENIZER,
    };
    Failure::new(status, error.to_string())
}

fn endpoint(number: i32) -> Result<Endpoint, Failure> {
    match number {
        KVROUTE_ENDPOINT_COMPLETIONS => Ok(Endpoint::Completions),
        KVROUTE_ENDPOINT_CHAT_COMPLETIONS => Ok(Endpoint::ChatCompletions),
        KVROUTE_ENDPOINT_RESPONSES => Ok(Endpoint::Responses),
        number => Err(Failure::invalid(format!("endpoint is {number}, which is none"))),
    }
}

/// Reads a model's folder (`tokenizer.json`, and what lies beside it of its configuration and chat templates) and starts
/// threads that tokenize, in `*tokenizer`. `options` may be NULL: the defaults. Takes as long as reading does, a second for
/// large vocabularies.
///
/// Errors: `KVROUTE_TOKENIZER` with the file that cannot be read or is not what it should be, a chat template that does not
/// compile, or threads that the system does not give; `KVROUTE_INVALID_INPUT` names the option.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_tokenizer_new(
    folder: *const c_char,
    folder_len: usize,
    options: *const kvroute_tokenizer_options,
    tokenizer: *mut *mut kvroute_tokenizer,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::status(error, || {
            wanted("tokenizer", tokenizer)?;
            let folder = Path::new(text("folder", folder, folder_len)?);
            let (options, pool) = structs::read_or_default(options)?.build()?;
            let read = |error: Error| Failure::new(KVROUTE_TOKENIZER, error.to_string());
            let made = Tokenizer::from_dir(folder, &options).map_err(read)?;
            let made = TokenizerPool::new(Arc::new(made), &pool).map_err(read)?;
            put("tokenizer", tokenizer, handle::new(made))
        })
    }
}

/// Fills `prompts` with those of a request: one, or as many as a list of prompts has. `endpoint` is a
/// `KVROUTE_ENDPOINT_...`, and `body` the request's, JSON. The caller waits for `kvroute_tokenizer_options.wait_ns` at
/// most; what is not tokenized then, or found the queue full, or has images, is one prompt without token ids, with its
/// text and the reason.
///
/// Errors: `KVROUTE_REQUEST` for what an engine would refuse too, with what is wrong and where; `KVROUTE_LIMIT` for a
/// bound of the options; `KVROUTE_TOKENIZER`. Then the prompts are those they were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_tokenizer_prompts(
    tokenizer: *const kvroute_tokenizer,
    endpoint: i32,
    body: *const u8,
    body_len: usize,
    prompts: *mut kvroute_prompts,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let (pool, endpoint) = (handle::get(tokenizer)?, self::endpoint(endpoint)?);
            let body = Bytes::copy_from_slice(array("body", body, body_len)?);
            guard::alone("prompts object", handle::get(prompts)?, |prompts| {
                *prompts = pool.answer(endpoint, body).map_err(|error| failure(&error))?;
                Ok(())
            })
        })
    }
}

/// Fills `prompts` with one, the ids of a text. `add_special_tokens` not 0: with those around it that the tokenizer has for
/// a single text. Special tokens in the text are read as such, as engines do. Encoded on the caller's thread, which
/// takes as long as it does, tens of milliseconds for a megabyte that was not seen before.
///
/// Errors: `KVROUTE_LIMIT` if it is longer than `max_text_bytes`, `KVROUTE_TOKENIZER` if the tokenizer fails on it. Then
/// the prompts are those they were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_tokenizer_encode(
    tokenizer: *const kvroute_tokenizer,
    text: *const c_char,
    text_len: usize,
    add_special_tokens: i32,
    prompts: *mut kvroute_prompts,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let (pool, text) = (handle::get(tokenizer)?, kvroute::memory::text("text", text, text_len)?);
            guard::alone("prompts object", handle::get(prompts)?, |prompts| {
                let ids = pool.tokenizer().encode(text, add_special_tokens != 0);
                *prompts = vec![TokenizedPrompt::TokenIds(ids.map_err(|error| failure(&error))?)];
                Ok(())
            })
        })
    }
}

/// Writes whether text that was seen before is encoded again, with a NUL behind it, into `buffer`: "pieces" (texts are cut
/// at added tokens, and between them where no token can reach across), "added-tokens" (only at those), or "full: " and what
/// stands in the way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_tokenizer_segmentation(
    tokenizer: *const kvroute_tokenizer,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let segmentation = handle::get(tokenizer)?.tokenizer().segmentation().to_string();
            fill_text(&segmentation, buffer, capacity, written)
        })
    }
}

/// Fills `*counters` in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_tokenizer_read_counters(
    tokenizer: *const kvroute_tokenizer,
    counters: *mut kvroute_tokenizer_counters,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let pool = handle::get(tokenizer)?;
            let (done, cache) = (pool.counters(), pool.tokenizer().cache_counters());
            let numbers = kvroute_tokenizer_counters {
                struct_size: 0,
                answered: done.answered,
                queue_full: done.queue_full,
                too_late: done.too_late,
                panicked: done.panicked,
                waiting: done.waiting,
                hit_bytes: cache.hit_bytes,
                miss_bytes: cache.miss_bytes,
                segments: cache.segments,
                cache_bytes: cache.bytes,
                evictions: cache.evictions,
            };
            structs::write(counters, &numbers)
        })
    }
}

/// Frees a tokenizer; NULL is fine. What its threads have begun they finish by themselves.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_tokenizer_free(tokenizer: *mut kvroute_tokenizer) {
    // SAFETY: the caller's word: made by `kvroute_tokenizer_new`, and not used any more.
    guard::value((), || unsafe { handle::free(tokenizer) });
}
