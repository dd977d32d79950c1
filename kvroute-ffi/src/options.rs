//! Configuration documents and option structs.

use std::ffi::c_char;
use std::time::Duration;

use kvroute_core::index::IndexOptions;
use kvroute_core::load::Overload;
use kvroute_core::{Config, Policy, PrefillPolicy, Profile, Role, Router, RouterOptions, SessionKey};

use crate::error::kvroute_error;
use crate::guard;
use crate::memory::{array, fill_text, fits_text, kvroute_bytes, kvroute_str, text, wanted};
use crate::router::json;
use crate::status::Failure;
use crate::structs::versioned;

/// Bounds and sizes of a router, and its policy by name. All zero: the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_router_options {
    /// `sizeof(kvroute_router_options)`.
    pub struct_size: usize,
    /// Name of the policy: "cost", which is the default, "llm-d-demo" or "affinity". Other weights and filters: in a
    /// configuration document.
    pub preset: kvroute_str,
    /// Not 0: prompts of which the decode pod would have to compute more than `prefill_max_uncached_tokens` are
    /// computed by a prefill pod first.
    pub has_prefill: i32,
    /// Bytes a block of a prompt that is only known as text; a multiple of 4. 0: 256.
    pub text_block_bytes: u32,
    /// See `has_prefill`; tokens.
    pub prefill_max_uncached_tokens: u64,
    /// Locks the index is spread over. 0: 256.
    pub shards: u64,
    /// Bytes for blocks and their holders. 0: 4 GiB.
    pub max_bytes: u64,
    /// Blocks a pod of which it is remembered that they were sent there. 0: 31 250; negative: none.
    pub max_predicted: i64,
    /// How long a session is remembered and a session token counts; nanoseconds. 0: 300 s.
    pub session_ttl_ns: u64,
    /// Most sessions remembered by id. 0: 100 000; negative: none.
    pub max_sessions: i64,
    /// Secret of session tokens, 32 random bytes; none: no session tokens.
    pub session_key: kvroute_bytes,
    /// How long a request may be in flight before it is forgotten; nanoseconds. 0: 600 s.
    pub request_ttl_ns: u64,
    /// Most requests in flight. 0: 262 144, the most there can be; negative: none.
    pub max_requests: i64,
    /// With `has_prefill`: shorter prompts than this are never computed by a prefill pod; tokens.
    pub prefill_min_prompt_tokens: u64,
    /// With `has_prefill`: nor are prompts if the prefill pod has more prefill work in flight than this; tokens. 0: however
    /// much it has; negative: if it has any.
    pub prefill_max_load: i64,
    /// How long what was sent to a pod counts as if it were there, until the first token at most, where the pod's events
    /// do not say so yet; nanoseconds. 0: 2 s; negative: not at all.
    pub speculation_ttl_ns: i64,
    /// Requests that wait from which on a load report says that its pod is overloaded. 0: 8; negative: never.
    pub overload_waiting: i64,
    /// The same for the share of the KV cache in use. 0: 0.8; above 1: never.
    pub overload_kv_usage: f64,
}

versioned!(kvroute_router_options up to max_requests);

/// `given` unless it says default (0) or none (negative).
#[doc(hidden)]
pub fn count(given: i64, default: usize) -> usize {
    match given {
        0 => default,
        given => usize::try_from(given).unwrap_or(if given < 0 { 0 } else { usize::MAX }),
    }
}

/// `given` unless it says default (0).
#[doc(hidden)]
pub fn size(given: u64, default: usize) -> usize {
    if given == 0 { default } else { usize::try_from(given).unwrap_or(usize::MAX) }
}

fn time(given: u64, default: Duration) -> Duration {
    if given == 0 { default } else { Duration::from_nanos(given) }
}

impl kvroute_router_options {
    /// # Safety
    ///
    /// Its texts and bytes are the caller's.
    pub(crate) unsafe fn build(&self) -> Result<(RouterOptions, Policy), Failure> {
        // SAFETY: the caller's word.
        let (preset, key) =
            unsafe { (self.preset.non_empty("options.preset")?, self.session_key.get("session_key")?) };
        let name = preset.unwrap_or(Policy::PRESETS[0]);
        let mut policy = Policy::preset(name).ok_or_else(|| {
            let known = Policy::PRESETS.join(", ");
            Failure::invalid(format!("options.preset is \"{name}\"; known: {known}"))
        })?;
        policy.prefill = self.prefill(name)?;
        let session_key = match key {
            [] => None,
            key => Some(SessionKey::new(<[u8; 32]>::try_from(key).map_err(|_| {
                Failure::invalid(format!("options.session_key is {} bytes; 32 are needed", key.len()))
            })?)),
        };
        if usize::try_from(self.max_requests).is_ok_and(|most| most > Router::MAX_REQUESTS) {
            let (given, most) = (self.max_requests, Router::MAX_REQUESTS);
            return Err(Failure::invalid(format!("options.max_requests is {given}; at most {most}")));
        }
        let default = RouterOptions::default();
        let index = IndexOptions {
            shards: size(self.shards, default.index.shards),
            max_bytes: size(self.max_bytes, default.index.max_bytes),
            max_predicted: count(self.max_predicted, default.index.max_predicted),
        };
        let options = RouterOptions {
            index,
            text_block_bytes: if self.text_block_bytes == 0 {
                default.text_block_bytes
            } else {
                self.text_block_bytes
            },
            session_ttl: time(self.session_ttl_ns, default.session_ttl),
            max_sessions: count(self.max_sessions, default.max_sessions),
            session_key,
            speculation_ttl: match self.speculation_ttl_ns {
                0 => default.speculation_ttl,
                given => Duration::from_nanos(u64::try_from(given).unwrap_or(0)),
            },
            overload: self.overload(default.overload)?,
            request_ttl: time(self.request_ttl_ns, default.request_ttl),
            max_requests: count(self.max_requests, default.max_requests),
        };
        Ok((options, policy))
    }

    /// The preset's part for pods that prefill, if they are wanted.
    fn prefill(&self, preset: &str) -> Result<Option<PrefillPolicy>, Failure> {
        if self.has_prefill == 0 {
            let settings = [
                ("prefill_max_uncached_tokens", self.prefill_max_uncached_tokens != 0),
                ("prefill_min_prompt_tokens", self.prefill_min_prompt_tokens != 0),
                ("prefill_max_load", self.prefill_max_load != 0),
            ];
            return match settings.iter().find(|(_, is_set)| *is_set) {
                Some((name, _)) => {
                    Err(Failure::invalid(format!("options.{name} without options.has_prefill")))
                }
                None => Ok(None),
            };
        }
        // The name is known: the policy is made of it.
        let profile = Profile::preset(preset, Role::Prefill).unwrap_or_else(|| Profile::cost(Role::Prefill));
        let tokens = |given: u64| usize::try_from(given).unwrap_or(usize::MAX);
        Ok(Some(PrefillPolicy {
            min_prompt_tokens: tokens(self.prefill_min_prompt_tokens),
            max_prefill_load: match self.prefill_max_load {
                0 => u64::MAX,
                given => u64::try_from(given).unwrap_or(0),
            },
            ..PrefillPolicy::new(profile, tokens(self.prefill_max_uncached_tokens))
        }))
    }

    fn overload(&self, default: Overload) -> Result<Overload, Failure> {
        let (waiting, kv_usage) = (self.overload_waiting, self.overload_kv_usage);
        if !kv_usage.is_finite() || kv_usage < 0.0 {
            return Err(Failure::invalid(format!(
                "options.overload_kv_usage is {kv_usage}; a share is needed, or more than 1"
            )));
        }
        Ok(Overload {
            waiting: match waiting {
                0 => default.waiting,
                // 0 is never in the core.
                waiting if waiting < 0 => 0,
                waiting => u32::try_from(waiting).unwrap_or(u32::MAX),
            },
            kv_usage: if kv_usage == 0.0 { default.kv_usage } else { kv_usage as f32 },
        })
    }
}

/// Reads a configuration document.
///
/// # Safety
///
/// `document` is NULL or `document_len` bytes of the caller's.
pub(crate) unsafe fn config(document: *const c_char, document_len: usize) -> Result<Config, Failure> {
    // SAFETY: the caller's word.
    let document = unsafe { text("document", document, document_len) }?;
    Ok(Config::parse(document)?)
}

/// Checks a configuration document, YAML or JSON, without making anything of it.
///
/// Errors: `KVROUTE_INVALID_INPUT` with the place of the first thing that is wrong, what was found there and what was
/// expected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_config_check(
    document: *const c_char,
    document_len: usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe { guard::status(error, || config(document, document_len).map(drop)) }
}

/// Writes the JSON Schema of configuration documents, with a NUL behind it, into `buffer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_config_schema(
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || fill_text(&Config::json_schema().to_string(), buffer, capacity, written))
    }
}

/// Reads llm-d's configuration, an `EndpointPickerConfig` in YAML or JSON. Writes a configuration document without
/// domains and pods (JSON) and, as a JSON array of texts, notes: a line for each thing that does not map or means
/// something else here; each with a NUL behind it. `notes` may be NULL.
///
/// Errors: `KVROUTE_INVALID_INPUT` with the place of what llm-d would refuse as well, and of what cannot be done here;
/// `KVROUTE_BUFFER_TOO_SMALL` if one of the buffers is, and then the capacity that would do is told for each that is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_config_from_endpoint_picker(
    endpoint_picker: *const c_char,
    endpoint_picker_len: usize,
    document: *mut c_char,
    document_capacity: usize,
    document_written: *mut usize,
    notes: *mut c_char,
    notes_capacity: usize,
    notes_written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            wanted("document_written", document_written)?;
            let read =
                Config::from_endpoint_picker(text("endpoint_picker", endpoint_picker, endpoint_picker_len)?)?;
            let document = Place { buffer: document, capacity: document_capacity, written: document_written };
            let notes = Place { buffer: notes, capacity: notes_capacity, written: notes_written };
            answer(&read, document, notes)
        })
    }
}

/// Reads the environment variables of llm-d's first scheduler, given as `names: [n]` and `values: [n]`; the whole
/// environment may be passed. Writes a configuration document without pods (JSON) and, as a JSON array of texts,
/// notes on variables that are known but mean nothing here; each with a NUL behind it. `notes` may be NULL.
///
/// Errors: `KVROUTE_INVALID_INPUT` for misspelt names and values that are none; `KVROUTE_BUFFER_TOO_SMALL` if
/// one of the buffers is, and then the capacity that would do is told for each that is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_config_from_env(
    names: *const kvroute_str,
    values: *const kvroute_str,
    len: usize,
    document: *mut c_char,
    document_capacity: usize,
    document_written: *mut usize,
    notes: *mut c_char,
    notes_capacity: usize,
    notes_written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::status(error, || {
            wanted("document_written", document_written)?;
            let (names, values) = (array("names", names, len)?, array("values", values, len)?);
            let pairs =
                names.iter().zip(values).map(|(name, value)| Ok((name.get("names")?, value.get("values")?)));
            let read = Config::from_env_pairs(pairs.collect::<Result<Vec<_>, Failure>>()?)?;
            let document = Place { buffer: document, capacity: document_capacity, written: document_written };
            let notes = Place { buffer: notes, capacity: notes_capacity, written: notes_written };
            answer(&read, document, notes)
        })
    }
}

/// Where a text of the answer is put.
struct Place {
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
}

impl Place {
    /// # Safety
    ///
    /// That of [`fill_text`].
    unsafe fn fits(&self, text: &str) -> Result<(), Failure> {
        // SAFETY: the caller's word.
        unsafe { fits_text(text, self.buffer, self.capacity, self.written) }
    }

    /// # Safety
    ///
    /// That of [`fill_text`].
    unsafe fn fill(&self, text: &str) -> Result<(), Failure> {
        // SAFETY: the caller's word.
        unsafe { fill_text(text, self.buffer, self.capacity, self.written) }
    }
}

/// Writes a configuration and, where there is a place for them, notes on how it was read: both or neither.
///
/// # Safety
///
/// That of [`fill_text`], for both places.
unsafe fn answer(
    (config, said): &(Config, Vec<String>),
    document: Place,
    notes: Place,
) -> Result<(), Failure> {
    let (config, said) = (json(config)?, json(said)?);
    let wants_notes = !notes.buffer.is_null() || notes.capacity > 0;
    // SAFETY: the caller's word.
    unsafe {
        let document_fits = document.fits(&config);
        let notes_fit = if wants_notes { notes.fits(&said) } else { Ok(()) };
        document_fits.and(notes_fit)?;
        if wants_notes {
            notes.fill(&said)?;
        }
        document.fill(&config)
    }
}
