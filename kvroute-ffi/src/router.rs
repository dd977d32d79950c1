//! The router: making one, its state, what is asked of it as a whole.

use std::ffi::c_char;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvroute_core::{CacheDomain, Router};

use crate::domain::kvroute_domain;
use crate::error::kvroute_error;
use crate::guard;
use crate::handle::{self, Handle, mark};
use crate::memory::{fill_text, put, text, wanted};
use crate::options::{config, kvroute_router_options};
use crate::status::{Failure, KVROUTE_BUSY, KVROUTE_POISONED, KVROUTE_UNKNOWN_DOMAIN};
use crate::structs;

/// Everything a gateway needs to route. Functions that take it as `const` may be called from any number of threads
/// at a time.
pub struct kvroute_router {
    _opaque: [u8; 0],
}

/// A router, and whether it may be half changed. Whatever is cloned from it shares both.
#[doc(hidden)]
#[derive(Clone)]
pub struct GuardedRouter {
    is_poisoned: Arc<AtomicBool>,
    router: Arc<Router>,
}

impl Handle for kvroute_router {
    type Content = GuardedRouter;
    const MARK: u64 = mark(b"router");
    const NAME: &'static str = "kvroute_router";
}

impl GuardedRouter {
    /// A router that is whole.
    pub fn new(router: Arc<Router>) -> Self {
        Self { is_poisoned: Arc::default(), router }
    }

    /// The router, unless it may be half changed.
    pub(crate) fn usable(&self) -> Result<&Router, Failure> {
        if self.is_poisoned.load(Ordering::Acquire) {
            let message = "this router panicked while it was changed; see kvroute_router_recover";
            return Err(Failure::new(KVROUTE_POISONED, message));
        }
        Ok(&self.router)
    }

    pub(crate) fn poison(&self) {
        self.is_poisoned.store(true, Ordering::Release);
    }
}

/// # Safety
///
/// `place` is room for a pointer of the caller's.
unsafe fn give(router: Router, place: *mut *mut kvroute_router) -> Result<(), Failure> {
    // SAFETY: the caller's word.
    unsafe { put("router", place, handle::new(GuardedRouter::new(Arc::new(router)))) }
}

/// A new router without pods, in `*router`. `options` may be NULL: the defaults.
///
/// Errors: `KVROUTE_INVALID_INPUT` names the option.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_new(
    options: *const kvroute_router_options,
    router: *mut *mut kvroute_router,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::status(error, || {
            wanted("router", router)?;
            let (options, policy) = structs::read_or_default(options)?.build()?;
            give(Router::new(options, policy)?, router)
        })
    }
}

/// A new router with the policy, cache domains and pods of a configuration document, YAML or JSON, in `*router`.
///
/// Errors: `KVROUTE_INVALID_INPUT` with the place of the first thing that is wrong, what was found there and what was
/// expected; `KVROUTE_NOT_REPRODUCIBLE` for a vLLM domain whose hashes cannot be computed outside the engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_from_config(
    document: *const c_char,
    document_len: usize,
    router: *mut *mut kvroute_router,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            wanted("router", router)?;
            give(config(document, document_len)?.build()?, router)
        })
    }
}

/// Frees a router; NULL is fine. Must be the last call that is given it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_free(router: *mut kvroute_router) {
    // SAFETY: the caller's word: made by this library, and not used any more.
    guard::value((), || unsafe { handle::free(router) });
}

/// Chooses by another policy from now on: that of a configuration document, YAML or JSON, or the default one if it has
/// none. The document is checked whole, and all else in it is left aside. Every decision is made by one policy or the
/// other; pods, views, bookings, sessions and requests in flight stay as they are.
///
/// Errors: those of `kvroute_router_from_config`; then the policy is the one it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_set_policy(
    router: *const kvroute_router,
    document: *const c_char,
    document_len: usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            router.set_policy(config(document, document_len)?.policy()?);
            Ok(())
        })
    }
}

/// Makes a router usable again that answers `KVROUTE_POISONED`; works on any. What pods hold, what was sent to them,
/// requests in flight, sessions and counters are forgotten. Policy, domains, pods, their load reports and whether they
/// take requests stay, and session tokens keep their meaning, but every pod gets a new id
/// (`kvroute_router_find_pod`) and waits for the next batch of its stream, whatever that is.
///
/// No other call may use the router meanwhile.
///
/// Errors: `KVROUTE_BUSY` if somebody else has it too: its fleet, or another handle of it (`kvroute_fleet_router`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_recover(
    router: *mut kvroute_router,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let GuardedRouter { is_poisoned, router } = handle::get_mut(router)?;
            let Some(router) = Arc::get_mut(router) else {
                let message = "a fleet or another handle has this router too; free those first";
                return Err(Failure::new(KVROUTE_BUSY, message));
            };
            // Until it is done: a panic in here must not look like success.
            is_poisoned.store(true, Ordering::Release);
            router.reset();
            is_poisoned.store(false, Ordering::Release);
            Ok(())
        })
    }
}

/// Makes a cache domain known by its name, for pods that come later.
///
/// Errors: `KVROUTE_INVALID_INPUT` if the name belongs to a domain that hashes differently or serves other models.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_add_domain(
    router: *const kvroute_router,
    domain: *const kvroute_domain,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| Ok(router.add_domain(Arc::clone(handle::get(domain)?))?))
    }
}

/// The cache domain of this name (a pod's, the configuration's, or one that was added), in `*domain`; to be freed.
///
/// Errors: `KVROUTE_UNKNOWN_DOMAIN`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_domain(
    router: *const kvroute_router,
    name: *const c_char,
    name_len: usize,
    domain: *mut *mut kvroute_domain,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            wanted("domain", domain)?;
            let name = text("name", name, name_len)?;
            let known = known_domain(router, name)?;
            put("domain", domain, handle::new(known))
        })
    }
}

/// The cache domain of this name.
pub(crate) fn known_domain(router: &Router, name: &str) -> Result<Arc<CacheDomain>, Failure> {
    router.domain(name).ok_or_else(|| {
        Failure::new(KVROUTE_UNKNOWN_DOMAIN, format!("cache domain \"{name}\" is not in this router"))
    })
}

/// Forgets requests and sessions whose time is over; `expired`, which may be NULL, is set to how many requests. To be
/// called now and then, every second, say. `now_ns`: see "Time".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_expire(
    router: *const kvroute_router,
    now_ns: u64,
    expired: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            let count = router.expire(Duration::from_nanos(now_ns));
            if expired.is_null() { Ok(()) } else { put("expired", expired, count) }
        })
    }
}

/// Writes what the router and its pods are at, a JSON object with a NUL behind it, into `buffer`. For a look now and
/// then: it costs what the pods are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_status(
    router: *const kvroute_router,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| fill_text(&json(&router.status())?, buffer, capacity, written))
    }
}

/// A value as JSON.
#[doc(hidden)]
pub fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| {
        Failure::new(crate::status::KVROUTE_INTERNAL, format!("not to be written as JSON: {error}"))
    })
}
