//! What a request was tokenized to.

use std::sync::Mutex;

use kvroute::error::kvroute_error;
use kvroute::guard;
use kvroute::handle::{self, Handle, mark};
use kvroute::memory::{kvroute_bytes, kvroute_str, put};
use kvroute::status::Failure;
use kvroute::structs::{self, versioned};
use kvroute_io::tokenize::TokenizedPrompt;

/// Room for the prompts of one request. Make one a thread and use it again.
pub struct kvroute_prompts {
    _opaque: [u8; 0],
}

impl Handle for kvroute_prompts {
    type Content = Mutex<Vec<TokenizedPrompt>>;
    const MARK: u64 = mark(b"prompts");
    const NAME: &'static str = "kvroute_prompts";
}

/// A prompt as the engine will see it, or as text and why. Goes into a `kvroute_request` as it is: `token_ids`,
/// `token_ids_len` and `text` are its fields too.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_prompt {
    /// `sizeof(kvroute_prompt)`.
    pub struct_size: usize,
    /// The engine's token ids; NULL if they are not known.
    pub token_ids: *const u32,
    /// How many.
    pub token_ids_len: usize,
    /// Without token ids: bytes that begin alike where conversations begin alike.
    pub text: kvroute_bytes,
    /// Why there are no token ids, empty if there are: "overloaded", "media", "stored_conversation", "no_chat_template",
    /// "own_renderer", "not_reproducible"; there may come to be more.
    pub reason: kvroute_str,
}

versioned!(kvroute_prompt up to reason);

/// New room, for no prompts yet.
#[unsafe(no_mangle)]
pub extern "C" fn kvroute_prompts_new() -> *mut kvroute_prompts {
    guard::value(std::ptr::null_mut(), || Ok(handle::new(Mutex::default())))
}

/// How many prompts there are, in `*count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_prompts_count(
    prompts: *mut kvroute_prompts,
    count: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            guard::alone("prompts object", handle::get(prompts)?, |prompts| {
                put("count", count, prompts.len())
            })
        })
    }
}

/// The prompt at `at`, from 0 on, in `*prompt`. What it points to is valid until the object is filled anew or freed.
///
/// Errors: `KVROUTE_INVALID_INPUT` if there are not so many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_prompts_get(
    prompts: *mut kvroute_prompts,
    at: usize,
    prompt: *mut kvroute_prompt,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            guard::alone("prompts object", handle::get(prompts)?, |prompts| {
                let found = prompts.get(at).ok_or_else(|| {
                    Failure::invalid(format!("there is no prompt {at}, but {} from 0 on", prompts.len()))
                })?;
                structs::write(prompt, &raw(found))
            })
        })
    }
}

/// Frees the object; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_prompts_free(prompts: *mut kvroute_prompts) {
    // SAFETY: the caller's word: made by `kvroute_prompts_new`, and not used any more.
    guard::value((), || unsafe { handle::free(prompts) });
}

fn raw(prompt: &TokenizedPrompt) -> kvroute_prompt {
    const NOTHING: kvroute_prompt = kvroute_prompt {
        struct_size: 0,
        token_ids: std::ptr::null(),
        token_ids_len: 0,
        text: kvroute_bytes { data: std::ptr::null(), len: 0 },
        reason: kvroute_str { data: std::ptr::null(), len: 0 },
    };
    match prompt {
        TokenizedPrompt::TokenIds(ids) => {
            kvroute_prompt { token_ids: ids.as_ptr(), token_ids_len: ids.len(), ..NOTHING }
        }
        TokenizedPrompt::Text { text, reason } => {
            let name = reason.name();
            kvroute_prompt {
                text: kvroute_bytes { data: text.as_ptr(), len: text.len() },
                reason: kvroute_str { data: name.as_ptr().cast(), len: name.len() },
                ..NOTHING
            }
        }
    }
}
