//! Cache domains.

use std::ffi::c_char;
use std::sync::Arc;

use kvroute_core::CacheDomain;

use crate::context::kvroute_hash_context;
use crate::error::kvroute_error;
use crate::guard;
use crate::handle::{self, Handle, mark};
use crate::hasher::{self, kvroute_hasher};
use crate::memory::{array, fill_text, kvroute_str, put, text, wanted};

/// A set of pods whose blocks mean the same: same model weights, same block hashes, same block size. Never changes;
/// share it between threads and routers.
pub struct kvroute_domain {
    _opaque: [u8; 0],
}

impl Handle for kvroute_domain {
    type Content = Arc<CacheDomain>;
    const MARK: u64 = mark(b"domain");
    const NAME: &'static str = "kvroute_domain";
}

/// A new domain, in `*domain`. Requests are hashed by `hasher`, which may be freed afterwards. `models: [n]` are the
/// models its pods serve, as requests name them; none: any.
///
/// Errors: `KVROUTE_INVALID_INPUT` for one of llm-d's schemes, which no engine publishes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_domain_new(
    name: *const c_char,
    name_len: usize,
    hasher: *const kvroute_hasher,
    models: *const kvroute_str,
    models_len: usize,
    domain: *mut *mut kvroute_domain,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::status(error, || {
            wanted("domain", domain)?;
            let name = text("name", name, name_len)?;
            let hasher = handle::get(hasher)?.clone();
            let models = array("models", models, models_len)?.iter().map(|model| model.get("models"));
            let models = models.collect::<Result<Vec<&str>, _>>()?;
            let made = CacheDomain::new(name, hasher)?.with_models(models);
            put("domain", domain, handle::new(Arc::new(made)))
        })
    }
}

/// Frees a domain; NULL is fine. Pods that are of it live on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_domain_free(domain: *mut kvroute_domain) {
    // SAFETY: the caller's word: made by this library, and not used any more.
    guard::value((), || unsafe { handle::free(domain) });
}

/// Writes the domain's name, with a NUL behind it, into `buffer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_domain_name(
    domain: *const kvroute_domain,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe { guard::status(error, || fill_text(handle::get(domain)?.name(), buffer, capacity, written)) }
}

/// Tokens a block; 0 if this is no domain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_domain_block_size(domain: *const kvroute_domain) -> u32 {
    // SAFETY: the header's contract.
    guard::value(0, || Ok(unsafe { handle::get(domain) }?.block_size()))
}

/// How many leading blocks of a prompt of so many tokens an engine can take from its cache: it always computes the last
/// token. As many of the prompt's hashes are what to look up. 0 if this is no domain.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_domain_searchable_blocks(
    domain: *const kvroute_domain,
    tokens: usize,
) -> usize {
    // SAFETY: the header's contract.
    guard::value(0, || Ok(unsafe { handle::get(domain) }?.searchable_blocks(tokens)))
}

/// Hashes the full blocks of a prompt as the domain does; see `kvroute_hasher_hash`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_domain_hash(
    domain: *const kvroute_domain,
    token_ids: *const u32,
    token_ids_len: usize,
    context: *const kvroute_hash_context,
    hashes: *mut u64,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::status(error, || {
            let hasher = handle::get(domain)?.hasher();
            hasher::hash(hasher, token_ids, token_ids_len, context, hashes, capacity, written)
        })
    }
}
