//! Random calls through the C ABI, and what must hold after each: a status that is known and no panic, an error object
//! that says the same, no answer where there was a failure, and requests and pods as a naive book has them.
#![allow(unsafe_code, reason = "this is what C does")]

mod input;
mod pods;
mod requests;
mod snapshots;
mod steps;

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr;

use kvroute::counters::{kvroute_router_counters, kvroute_router_read_counters};
use kvroute::domain::{kvroute_domain, kvroute_domain_free, kvroute_domain_hash};
use kvroute::error::{
    kvroute_error, kvroute_error_free, kvroute_error_message, kvroute_error_new, kvroute_error_status,
};
use kvroute::hasher::{kvroute_hasher, kvroute_hasher_free, kvroute_hasher_new, kvroute_hasher_options};
use kvroute::pod::kvroute_router_pods;
use kvroute::router::{
    kvroute_router, kvroute_router_domain, kvroute_router_free, kvroute_router_from_config,
};
use kvroute::snapshot::{kvroute_snapshot, kvroute_snapshot_free};
use kvroute::status::{
    KVROUTE_BUFFER_TOO_SMALL, KVROUTE_BUSY, KVROUTE_INTERNAL, KVROUTE_OK, KVROUTE_PANIC, KVROUTE_POISONED,
    kvroute_status_name,
};
use kvroute::workspace::{kvroute_workspace, kvroute_workspace_free, kvroute_workspace_new};

use self::input::Input;

/// Small bounds, so that they are reached.
const CONFIG: &str = r#"{
    "domains": {"m": {"block_size": 4}},
    "pods": [{"name": "a", "domain": "m"}, {"name": "b", "domain": "m", "events": {"on_gap": "replay"}}],
    "policy": {"decode": {"scorers": {"kv-cache": {"weight": 2}, "prefix": {"weight": 1}, "session": {"weight": 1},
        "load": {"weight": 1}, "external": {"cheap": {"weight": 3}}}, "guard": {"spill": {"absolute": 1}},
        "fallbacks": 2}, "prefill": {"max_uncached_tokens": 32}},
    "index": {"shards": 4, "max_bytes": 65536, "max_predicted": 64},
    "sessions": {"max": 4, "key": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
    "requests": {"ttl_seconds": 10, "max": 6}}"#;

/// `requests` of it.
const REQUEST_TTL_NS: u64 = 10_000_000_000;
const MAX_REQUESTS: usize = 6;

/// Calls that are still fast enough: the whole book is compared after each.
const MAX_STEPS: usize = 200;

/// No call does what it must not. Each byte chooses a call or an argument.
pub fn ffi_calls(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.check_books();
    }
    world.finish_all();
}

/// Everything that was made, and the book.
struct World {
    router: *mut kvroute_router,
    domain: *mut kvroute_domain,
    hasher: *mut kvroute_hasher,
    workspaces: [*mut kvroute_workspace; 2],
    /// One that was begun, if any.
    snapshot: *mut kvroute_snapshot,
    error: *mut kvroute_error,
    now_ns: u64,
    /// Ids of the pods there are, and one or two that were.
    pods: Vec<u64>,
    gone: Vec<u64>,
    /// When requests that are in flight began.
    in_flight: BTreeMap<u64, u64>,
    ended: Vec<u64>,
    /// The policy, by its place in `steps::POLICIES`.
    policy: usize,
    /// The last session token.
    token: Vec<u8>,
    /// Block hashes of the prompt that most requests begin with.
    hashes: Vec<u64>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            router: ptr::null_mut(),
            domain: ptr::null_mut(),
            hasher: ptr::null_mut(),
            workspaces: [kvroute_workspace_new(), kvroute_workspace_new()],
            snapshot: ptr::null_mut(),
            error: kvroute_error_new(),
            now_ns: 0,
            pods: Vec::new(),
            gone: Vec::new(),
            in_flight: BTreeMap::new(),
            ended: Vec::new(),
            policy: steps::FIRST_POLICY,
            token: Vec::new(),
            hashes: vec![0; 20],
        };
        let tokens: Vec<u32> = (0..80).collect();
        let mut written = 0;
        // SAFETY: live handles, and places for answers.
        unsafe {
            let mut options: kvroute_hasher_options = std::mem::zeroed();
            options.struct_size = size_of::<kvroute_hasher_options>();
            options.block_size = 4;
            let (error, config) = (world.error, CONFIG.as_ptr().cast());
            let status = kvroute_hasher_new(&options, &mut world.hasher, error);
            world.expect_ok(status);
            let status = kvroute_router_from_config(config, CONFIG.len(), &mut world.router, error);
            world.expect_ok(status);
            let status = kvroute_router_domain(world.router, c"m".as_ptr(), 1, &mut world.domain, error);
            world.expect_ok(status);
            let (hashes, place) = (world.hashes.as_mut_ptr(), &raw mut written);
            let status =
                kvroute_domain_hash(world.domain, tokens.as_ptr(), 80, ptr::null(), hashes, 20, place, error);
            world.expect_ok(status);
        }
        world.pods = world.pod_ids();
        world
    }

    fn expect_ok(&self, status: i32) {
        assert_eq!(status, KVROUTE_OK, "{}", self.message());
    }

    fn message(&self) -> String {
        // SAFETY: a live handle; the message ends in a NUL.
        unsafe { CStr::from_ptr(kvroute_error_message(self.error, ptr::null_mut())) }
            .to_string_lossy()
            .into_owned()
    }

    /// What every call's end must be like, given the error object or not; answers whether it succeeded.
    fn judge(&self, status: i32, error: *mut kvroute_error) -> bool {
        // SAFETY: a name that ends in a NUL and is never freed.
        let known = unsafe { CStr::from_ptr(kvroute_status_name(status)) };
        assert_ne!(known, c"unknown", "status {status}");
        assert!(
            ![KVROUTE_PANIC, KVROUTE_INTERNAL, KVROUTE_POISONED, KVROUTE_BUSY].contains(&status),
            "{}",
            self.message()
        );
        if !error.is_null() {
            // SAFETY: a live handle.
            assert_eq!(unsafe { kvroute_error_status(error) }, status);
            assert_eq!(self.message().is_empty(), status == KVROUTE_OK, "{status}: {}", self.message());
        }
        status == KVROUTE_OK
    }

    /// Of a call with a buffer: what is written fits, what is needed is more than there was.
    fn judge_written(&self, status: i32, error: *mut kvroute_error, written: usize, capacity: usize) {
        if self.judge(status, error) {
            assert!(written <= capacity, "{written} written into {capacity}");
        } else if status == KVROUTE_BUFFER_TOO_SMALL {
            assert!(written > capacity && written < 1 << 20, "{written} needed, {capacity} there");
        } else {
            assert_eq!(written, UNTOUCHED, "an answer, and status {status}");
        }
    }

    fn pod_ids(&self) -> Vec<u64> {
        let (mut ids, mut written) = (vec![0; 64], 0);
        // SAFETY: a live handle, and places for answers.
        let status = unsafe {
            kvroute_router_pods(self.router, ids.as_mut_ptr(), ids.len(), &mut written, self.error)
        };
        self.expect_ok(status);
        ids.truncate(written);
        ids
    }

    fn check_books(&self) {
        // SAFETY: zero is a value of a struct of numbers; a live handle, and a place for an answer.
        let counters = unsafe {
            let mut counters: kvroute_router_counters = std::mem::zeroed();
            counters.struct_size = size_of::<kvroute_router_counters>();
            self.expect_ok(kvroute_router_read_counters(self.router, &mut counters, self.error));
            counters
        };
        assert_eq!(counters.in_flight, self.in_flight.len() as u64, "requests in flight");
        let mut ids = self.pod_ids();
        ids.sort_unstable();
        let mut pods = self.pods.clone();
        pods.sort_unstable();
        assert_eq!(ids, pods, "pods");
    }

    /// Ends all requests: each is known once.
    fn finish_all(&mut self) {
        for ticket in std::mem::take(&mut self.in_flight).into_keys() {
            assert!(self.finish(ticket) && !self.finish(ticket), "ticket {ticket}");
        }
        self.check_books();
    }
}

/// Room for any text.
const ROOM: usize = 1 << 14;

/// What places for numbers hold before a call.
const UNTOUCHED: usize = 0xa5a5_a5a5;

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: made above, and not used afterwards.
        unsafe {
            kvroute_domain_free(self.domain);
            kvroute_hasher_free(self.hasher);
            for workspace in self.workspaces {
                kvroute_workspace_free(workspace);
            }
            kvroute_router_free(self.router);
            kvroute_snapshot_free(self.snapshot);
            kvroute_error_free(self.error);
        }
    }
}
