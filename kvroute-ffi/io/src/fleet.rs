//! A router in step with its pods.

use std::ffi::c_char;
use std::sync::Arc;

use kvroute::error::kvroute_error;
use kvroute::guard;
use kvroute::handle::{self, Handle, mark};
use kvroute::memory::{fill_text, fits_text, put, text, wanted};
use kvroute::router::{GuardedRouter, json, kvroute_router};
use kvroute::status::{Failure, KVROUTE_UNKNOWN_POD};
use kvroute::structs::{self, versioned};
use kvroute_core::PodId;
use kvroute_io::fleet::{FleetDocument, StandaloneFleet, StandaloneOptions};

/// A router, and what keeps it in step with reality: pods come from a list, a file and DNS; each is asked what it is
/// before it gets its first request; its KV events are subscribed to, its load is scraped; one that does not answer gets
/// no requests until it does; one that leaves the list is drained and removed.
pub struct kvroute_fleet {
    _opaque: [u8; 0],
}

/// How a fleet is started. All zero: the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_fleet_options {
    /// `sizeof(kvroute_fleet_options)`.
    pub struct_size: usize,
    /// Threads that ask pods and read answers, 256 at most; those that follow events (`fleet.events.threads` in the
    /// document) are others. 0: 2.
    pub threads: u32,
    /// Not 0: events wait for `kvroute_fleet_release_events`.
    pub hold_events: i32,
}

versioned!(kvroute_fleet_options up to hold_events);

/// A fleet, and its router as handles have it.
#[doc(hidden)]
pub struct Started {
    fleet: StandaloneFleet,
    router: GuardedRouter,
}

impl Handle for kvroute_fleet {
    type Content = Started;
    const MARK: u64 = mark(b"fleet");
    const NAME: &'static str = "kvroute_fleet";
}

/// # Safety
///
/// That of [`text`].
unsafe fn document(document: *const c_char, document_len: usize) -> Result<FleetDocument, Failure> {
    // SAFETY: the caller's word.
    Ok(FleetDocument::parse(unsafe { text("document", document, document_len) }?)?)
}

/// Makes the router of a document, YAML or JSON, and starts to feed it, in `*fleet`. In the document, `router` is what
/// `kvroute_router_from_config` takes, without pods, and `fleet` says where pods come from and how they are asked; a list
/// of URLs is enough:
///
///   fleet: {pods: ["http://10.0.0.7:8000", "http://10.0.0.8:8000"]}
///
/// Answers at once, while the pods are being asked. `options` may be NULL: the defaults.
///
/// Errors: `KVROUTE_INVALID_INPUT` with the place of the first thing that is wrong; or the system gives no threads or
/// sockets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_fleet_start(
    document: *const c_char,
    document_len: usize,
    options: *const kvroute_fleet_options,
    fleet: *mut *mut kvroute_fleet,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            wanted("fleet", fleet)?;
            let kvroute_fleet_options { threads, hold_events, .. } = structs::read_or_default(options)?;
            let mut options = StandaloneOptions::default();
            options.threads = if threads == 0 { options.threads } else { threads };
            options.hold_events = hold_events != 0;
            let started = StandaloneFleet::start(&self::document(document, document_len)?, &options)?;
            let router = GuardedRouter::new(Arc::clone(started.router()));
            put("fleet", fleet, handle::new(Started { fleet: started, router }))
        })
    }
}

/// A handle of the fleet's router, in `*router`; to be freed, before the fleet or after it. All functions of kvroute.h
/// work with it, and all such handles are of one router, also what is poisoned. Adding and removing pods,
/// applying events and expiring requests are the fleet's. Without its fleet the router has no pods.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_fleet_router(
    fleet: *const kvroute_fleet,
    router: *mut *mut kvroute_router,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let started = handle::get(fleet)?;
            wanted("router", router)?;
            put("router", router, handle::new(started.router.clone()))
        })
    }
}

/// The time to pass to every function that wants `now_ns`, in `*now_ns`: that of the fleet's clock, which also the fleet
/// gives to its router. It counts from 1970 and follows the monotonic clock, whatever is done to the wall clock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_fleet_now(
    fleet: *const kvroute_fleet,
    now_ns: *mut u64,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let now = handle::get(fleet)?.fleet.clock().now();
            put("now_ns", now_ns, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
        })
    }
}

/// Where a pod of the router is: its name with a NUL behind it in `name`, and its URL (such as "http://10.0.0.7:8000")
/// in `url`. `rank`, which may be NULL, is set to the data-parallel rank that was picked, and `ranks`, which may be NULL, to
/// how many are behind that URL: if more than one, the request has to say which is meant (vLLM: the header
/// `X-data-parallel-rank`).
///
/// Errors: `KVROUTE_UNKNOWN_POD` if it left, or is joining this very moment; `KVROUTE_BUFFER_TOO_SMALL`: then one of
/// `*name_written` and `*url_written` is the capacity needed, and the other is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_fleet_target(
    fleet: *const kvroute_fleet,
    pod: u64,
    name: *mut c_char,
    name_capacity: usize,
    name_written: *mut usize,
    url: *mut c_char,
    url_capacity: usize,
    url_written: *mut usize,
    rank: *mut u32,
    ranks: *mut u32,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let target = handle::get(fleet)?.fleet.target(PodId::from_u64(pod));
            let target = target.ok_or_else(|| {
                Failure::new(KVROUTE_UNKNOWN_POD, format!("the fleet has no pod with the id {pod}"))
            })?;
            let address = target.url.to_string();
            fits_text(&target.name, name, name_capacity, name_written)?;
            fill_text(&address, url, url_capacity, url_written)?;
            fill_text(&target.name, name, name_capacity, name_written)?;
            for (what, place, number) in [("rank", rank, target.rank), ("ranks", ranks, target.ranks)] {
                if !place.is_null() {
                    put(what, place, number)?;
                }
            }
            Ok(())
        })
    }
}

/// Writes the models and adapters that pods serve, a JSON array with a NUL behind it, into `buffer`. Each has `name`, `pods`
/// (names of those that serve it) and `is_partial`, and if known `root` and `max_model_len`. An adapter has `base`, the model
/// that its requests name in `kvroute_request.model`, and `lora` (`name`, `path`, `id`) for their
/// `kvroute_hash_context`; if `is_partial`, not all pods of `base` serve it, and requests need `pods` as their `subset`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_fleet_models(
    fleet: *const kvroute_fleet,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let models = handle::get(fleet)?.fleet.models();
            let models: Vec<_> = models.iter().map(Arc::as_ref).collect();
            fill_text(&json(&models)?, buffer, capacity, written)
        })
    }
}

/// Writes what sources, pods, models and streams of events are at, a JSON object with a NUL behind it, into `buffer`. For a
/// look now and then: it costs what the pods are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_fleet_status(
    fleet: *const kvroute_fleet,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            fill_text(&json(&handle::get(fleet)?.fleet.status())?, buffer, capacity, written)
        })
    }
}

/// Goes on by another document: pods that are no longer named are drained, new ones are asked, those that are described
/// otherwise join anew, all others stay as they are; and the router chooses by the policy of its `router`. All else in
/// `router`, and `fleet.events`, counts only at the start.
///
/// Errors: those of `kvroute_fleet_start`; then nothing changes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_fleet_reconfigure(
    fleet: *const kvroute_fleet,
    document: *const c_char,
    document_len: usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let started = handle::get(fleet)?;
            Ok(started.fleet.reconfigure(&self::document(document, document_len)?)?)
        })
    }
}

/// Subscribes to the events of all pods that are there, and from now on to those of others as they come. For fleets that
/// were started with `hold_events`, once a snapshot was restored: only pods without events take one in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_fleet_release_events(
    fleet: *const kvroute_fleet,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            handle::get(fleet)?.fleet.release_events();
            Ok(())
        })
    }
}

/// Stops a fleet and frees it; NULL is fine. Waits until its pods left the router, five seconds at most.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_fleet_free(fleet: *mut kvroute_fleet) {
    // SAFETY: the caller's word: made by `kvroute_fleet_start`, and not used any more.
    guard::value((), || unsafe { handle::free(fleet) });
}
