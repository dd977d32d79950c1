//! What C cannot bring about: panics inside, and what they leave behind. All else is tested through C, in tests/.

use std::ffi::CStr;
use std::sync::Mutex;
use std::{ptr, slice, str};

use kvroute_core::Router;
use std::sync::Arc;

use crate::counters::{kvroute_router_counters, kvroute_router_read_counters};
use crate::error::{
    kvroute_error, kvroute_error_free, kvroute_error_message, kvroute_error_new, kvroute_error_status,
};
use crate::guard;
use crate::handle;
use crate::pod::kvroute_router_find_pod;
use crate::router::{
    GuardedRouter, kvroute_router, kvroute_router_free, kvroute_router_from_config, kvroute_router_recover,
};
use crate::status::{
    Failure, KVROUTE_BUSY, KVROUTE_INVALID_HANDLE, KVROUTE_INVALID_INPUT, KVROUTE_OK, KVROUTE_PANIC,
    KVROUTE_POISONED, kvroute_status_name,
};
use crate::version::{KVROUTE_ABI_VERSION, kvroute_version};
use crate::workspace::{self, kvroute_workspace_free, kvroute_workspace_new};

const CONFIG: &str = r#"{"domains": {"m": {"block_size": 4}}, "pods": [{"name": "a", "domain": "m"}]}"#;

/// A router of one pod and an error object, freed in the end.
struct Fixture {
    router: *mut kvroute_router,
    error: *mut kvroute_error,
}

impl Fixture {
    fn new() -> Self {
        let (mut router, error) = (ptr::null_mut(), kvroute_error_new());
        // SAFETY: a text of ours, room for a pointer, and a live object.
        let status = unsafe {
            kvroute_router_from_config(CONFIG.as_ptr().cast(), CONFIG.len(), &raw mut router, error)
        };
        assert_eq!(status, KVROUTE_OK);
        Self { router, error }
    }

    fn message(&self) -> &str {
        let mut length = 0;
        // SAFETY: a live object, room for a number, and a message of that length.
        unsafe {
            let message = kvroute_error_message(self.error, &raw mut length);
            str::from_utf8(slice::from_raw_parts(message.cast(), length)).unwrap()
        }
    }

    fn counters(&self) -> i32 {
        // SAFETY: zero is a value of it.
        let mut counters: kvroute_router_counters = unsafe { std::mem::zeroed() };
        counters.struct_size = size_of_val(&counters);
        // SAFETY: live objects, and a struct of ours.
        unsafe { kvroute_router_read_counters(self.router, &raw mut counters, self.error) }
    }

    fn find_pod(&self) -> Result<u64, i32> {
        let mut pod = 0;
        // SAFETY: live objects, a text of ours, and room for a number.
        match unsafe { kvroute_router_find_pod(self.router, c"a".as_ptr(), 1, 0, &raw mut pod, self.error) } {
            KVROUTE_OK => Ok(pod),
            status => Err(status),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // SAFETY: live objects, not used any more.
        unsafe {
            kvroute_router_free(self.router);
            kvroute_error_free(self.error);
        }
    }
}

fn panics(_: &Router) -> Result<(), Failure> {
    panic!("on {}", "purpose")
}

#[test]
fn a_panic_while_reading_is_told_and_leaves_the_router_usable() {
    let fixture = Fixture::new();
    // SAFETY: live objects.
    let status = unsafe { guard::reading(fixture.router, fixture.error, panics) };
    assert_eq!(status, KVROUTE_PANIC);
    assert_eq!(fixture.message(), "kvroute panicked, which is a bug in it: on purpose");
    assert_eq!(fixture.counters(), KVROUTE_OK);
    assert_eq!(fixture.message(), "");
}

#[test]
fn a_panic_while_writing_poisons_the_router_until_it_is_recovered() {
    let fixture = Fixture::new();
    let before = fixture.find_pod().unwrap();
    // SAFETY: live objects.
    let status = unsafe { guard::writing(fixture.router, fixture.error, panics) };
    assert_eq!(status, KVROUTE_PANIC);
    assert_eq!(fixture.counters(), KVROUTE_POISONED);
    assert!(fixture.message().contains("kvroute_router_recover"));
    assert_eq!(fixture.find_pod(), Err(KVROUTE_POISONED));
    // SAFETY: live objects, used by nobody else.
    assert_eq!(unsafe { kvroute_router_recover(fixture.router, fixture.error) }, KVROUTE_OK);
    assert_eq!(fixture.counters(), KVROUTE_OK);
    assert_ne!(fixture.find_pod().unwrap(), before, "a pod that comes back is a new one");
}

#[test]
fn a_failure_while_writing_poisons_nothing() {
    let fixture = Fixture::new();
    let fails = |_: &Router| Err(Failure::invalid("no\0 good"));
    // SAFETY: live objects.
    assert_eq!(unsafe { guard::writing(fixture.router, fixture.error, fails) }, KVROUTE_INVALID_INPUT);
    assert_eq!(fixture.message(), "no  good", "a NUL would cut it");
    assert_eq!(fixture.counters(), KVROUTE_OK);
}

#[test]
fn a_panic_without_words_is_told_too() {
    // SAFETY: no error object is fine.
    let status = unsafe { guard::status(ptr::null_mut(), || std::panic::panic_any(7)) };
    assert_eq!(status, KVROUTE_PANIC);
}

#[test]
fn an_error_object_that_is_none_is_refused_before_anything_is_done() {
    let fixture = Fixture::new();
    let wrong: *mut kvroute_error = fixture.router.cast();
    // SAFETY: a live object, of another kind.
    unsafe {
        assert_eq!(guard::status(wrong, || unreachable!()), KVROUTE_INVALID_HANDLE);
        assert!(handle::free(wrong).is_err(), "it is not freed as what it is not");
    }
    assert_eq!(fixture.counters(), KVROUTE_OK);
}

#[test]
fn an_error_object_is_given_to_one_at_a_time() {
    let fixture = Fixture::new();
    let mut inner = KVROUTE_OK;
    // SAFETY: a live object.
    unsafe {
        let status = guard::status(fixture.error, || {
            inner = guard::status(fixture.error, || unreachable!());
            assert_eq!(kvroute_error_status(fixture.error), KVROUTE_BUSY);
            Err(Failure::invalid("outer"))
        });
        assert_eq!((status, inner), (KVROUTE_INVALID_INPUT, KVROUTE_BUSY));
    }
    assert_eq!(fixture.message(), "outer");
}

#[test]
fn a_workspace_is_given_to_one_at_a_time_and_given_back_by_a_panic() {
    let workspace = kvroute_workspace_new();
    // SAFETY: a live object.
    unsafe {
        let inner =
            |_: &mut workspace::Scratch| Ok(workspace::with(workspace, |_| Ok(())).unwrap_err().status);
        assert_eq!(workspace::with(workspace, inner).unwrap(), KVROUTE_BUSY);
        let body = || workspace::with(workspace, |_| panic!("midway"));
        assert_eq!(guard::status(ptr::null_mut(), body), KVROUTE_PANIC);
        assert!(workspace::with(workspace, |_| Ok(())).is_ok());
        kvroute_workspace_free(workspace);
    }
}

#[test]
fn a_router_that_somebody_else_has_too_is_poisoned_there_as_well_and_not_recovered() {
    let shared = GuardedRouter::new(Arc::default());
    let handles: [*mut kvroute_router; 2] = [shared.clone(), shared].map(handle::new);
    // SAFETY: live handles that nobody else uses, each freed once; no error object is fine.
    unsafe {
        assert_eq!(guard::writing(handles[0], ptr::null_mut(), panics), KVROUTE_PANIC);
        assert_eq!(guard::reading(handles[1], ptr::null_mut(), |_| Ok(())), KVROUTE_POISONED);
        assert_eq!(kvroute_router_recover(handles[1], ptr::null_mut()), KVROUTE_BUSY);
        assert_eq!(guard::reading(handles[1], ptr::null_mut(), |_| Ok(())), KVROUTE_POISONED);
        kvroute_router_free(handles[0]);
        assert_eq!(kvroute_router_recover(handles[1], ptr::null_mut()), KVROUTE_OK);
        assert_eq!(guard::reading(handles[1], ptr::null_mut(), |_| Ok(())), KVROUTE_OK);
        kvroute_router_free(handles[1]);
    }
}

#[test]
fn what_is_for_one_thread_is_given_to_one_at_a_time_and_to_nobody_after_a_panic() {
    let content = Mutex::new(());
    let again = || guard::alone("thing", &content, |()| Ok(())).unwrap_err().status;
    assert_eq!(guard::alone("thing", &content, |()| Ok(again())).unwrap(), KVROUTE_BUSY);
    // SAFETY: no error object is fine.
    let status =
        unsafe { guard::status(ptr::null_mut(), || guard::alone("thing", &content, |()| panic!("midway"))) };
    assert_eq!((status, again()), (KVROUTE_PANIC, KVROUTE_POISONED));
}

#[test]
fn versions_agree_wherever_they_are_written() {
    // SAFETY: a text that ends in a NUL.
    let version = unsafe { CStr::from_ptr(kvroute_version()) };
    assert_eq!(version.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
    let build = include_str!("../build.rs");
    assert!(build.contains(&format!("const ABI: u32 = {KVROUTE_ABI_VERSION};")));
    let symbol = format!("pub extern \"C\" fn kvroute_abi_{KVROUTE_ABI_VERSION}()");
    assert!(include_str!("version.rs").contains(&symbol));
}

#[test]
fn every_status_has_a_name_and_other_numbers_have_none() {
    // SAFETY: texts that end in a NUL.
    let name = |status| unsafe { CStr::from_ptr(kvroute_status_name(status)) }.to_str().unwrap();
    let numbers = include_str!("status.rs").lines().filter_map(|line| {
        line.strip_prefix("pub const KVROUTE_")?.split_once(": i32 = ")?.1.strip_suffix(';')?.parse().ok()
    });
    let names: Vec<&str> = numbers.map(name).collect();
    assert_eq!(names.len(), 19);
    assert!(!names.contains(&"unknown"));
    assert_eq!((name(-1), name(7)), ("unknown", "unknown"));
}
