//! Snapshots: one that goes on while everything else does, and ones that are given to a router, whole or not.

use std::ptr;

use kvroute::pod::kvroute_router_pods;
use kvroute::router::{kvroute_router, kvroute_router_free, kvroute_router_from_config};
use kvroute::snapshot::{
    KVROUTE_SNAPSHOT_CHUNK, kvroute_restore, kvroute_restore_finish, kvroute_restore_free,
    kvroute_restore_new, kvroute_restore_push, kvroute_restore_report, kvroute_restored,
    kvroute_router_snapshot, kvroute_snapshot, kvroute_snapshot_free, kvroute_snapshot_next,
};
use kvroute::status::KVROUTE_DECODE;

use super::input::{Grown, Input};
use super::{ROOM, UNTOUCHED, World};

/// The domain of the router that is there, and no pods.
const SUCCESSOR: &str = r#"{"domains": {"m": {"block_size": 4}}}"#;

impl World {
    /// Begins a snapshot, or asks the one there is for what comes next.
    pub(super) fn go_on_with_snapshot(&mut self, input: &mut Input<'_>) {
        let (router, error, begins) = (self.router(input), self.told(input), input.rarely());
        // SAFETY: handles that live, and places that are there.
        unsafe {
            if begins || self.snapshot.is_null() {
                kvroute_snapshot_free(self.snapshot);
                self.snapshot = ptr::null_mut();
                let place = &raw mut self.snapshot;
                let status = kvroute_router_snapshot(router, self.now_ns, input.pointer(place), error);
                assert_eq!(self.judge(status, error), !self.snapshot.is_null());
            }
            let snapshot: *mut kvroute_snapshot =
                if input.rarely() { self.router.cast() } else { self.snapshot };
            let capacity = if input.rarely() { 16 } else { KVROUTE_SNAPSHOT_CHUNK };
            let (mut chunk, mut written) = (vec![0; capacity], UNTOUCHED);
            let place = chunk.as_mut_ptr();
            let status = kvroute_snapshot_next(snapshot, router, place, capacity, &mut written, error);
            self.judge_written(status, error, written, capacity);
        }
    }

    /// Takes a snapshot and gives it, or what is left of it, to a new router or to the one there is.
    pub(super) fn carry_over(&mut self, input: &mut Input<'_>) {
        let mut bytes = self.whole_snapshot();
        let (from, is_new) = (self.pods.len(), input.byte() & 1 == 0);
        let is_whole = match input.below(4) {
            0 => {
                let at = usize::from(input.byte()) * bytes.len() / 256;
                bytes[at] ^= 1 << (input.byte() & 7);
                false
            }
            1 => {
                bytes.truncate(usize::from(input.byte()) * bytes.len() / 256);
                false
            }
            _ => true,
        };
        let restore = self.pushed(&bytes, 1 + input.number() as usize % 300);
        let (mut restored, error) = (Grown::<kvroute_restored>::new(input), self.told(input));
        let place = input.pointer(restored.place());
        let to = if is_new { self.successor() } else { self.router(input) };
        // SAFETY: handles that live, and places that are there.
        unsafe {
            let status = kvroute_restore_finish(restore, to, self.now_ns, place, error);
            let is_done = self.judge(status, error);
            assert!(is_whole || !is_done, "a snapshot that was not whole was taken");
            assert!(!is_whole || status != KVROUTE_DECODE, "a whole snapshot was refused");
            self.judge_report(restore, is_done, from);
            kvroute_restore_free(restore);
            if is_new {
                let mut written = 0;
                let status = kvroute_router_pods(to, [0; 64].as_mut_ptr(), 64, &mut written, self.error);
                self.expect_ok(status);
                assert_eq!(written, if is_done { from } else { 0 }, "pods of the successor");
                kvroute_router_free(to);
            }
        }
    }

    fn whole_snapshot(&self) -> Vec<u8> {
        let (mut snapshot, mut bytes) = (ptr::null_mut(), Vec::new());
        let mut chunk = vec![0; KVROUTE_SNAPSHOT_CHUNK];
        // SAFETY: handles that live, and places that are there.
        unsafe {
            self.expect_ok(kvroute_router_snapshot(self.router, self.now_ns, &mut snapshot, self.error));
            loop {
                let (place, mut written) = (chunk.as_mut_ptr(), UNTOUCHED);
                let status = kvroute_snapshot_next(
                    snapshot,
                    self.router,
                    place,
                    chunk.len(),
                    &mut written,
                    self.error,
                );
                self.expect_ok(status);
                if written == 0 {
                    break;
                }
                bytes.extend_from_slice(&chunk[..written]);
            }
            kvroute_snapshot_free(snapshot);
        }
        bytes
    }

    /// A restore that took these bytes in, as far as it did.
    fn pushed(&self, bytes: &[u8], at_a_time: usize) -> *mut kvroute_restore {
        let restore = kvroute_restore_new();
        for piece in bytes.chunks(at_a_time) {
            // SAFETY: a live handle, and bytes that are there.
            let status = unsafe { kvroute_restore_push(restore, piece.as_ptr(), piece.len(), self.error) };
            if !self.judge(status, self.error) {
                break;
            }
        }
        restore
    }

    fn successor(&self) -> *mut kvroute_router {
        let mut router = ptr::null_mut();
        // SAFETY: a text and a place of ours.
        let status = unsafe {
            kvroute_router_from_config(SUCCESSOR.as_ptr().cast(), SUCCESSOR.len(), &mut router, self.error)
        };
        self.expect_ok(status);
        router
    }

    /// There is one if it was given to a router, and it names all pods.
    fn judge_report(&self, restore: *mut kvroute_restore, is_done: bool, pods: usize) {
        let (mut report, mut written) = (vec![0; 4 * ROOM], UNTOUCHED);
        // SAFETY: a live handle, and places that are there.
        let status = unsafe {
            kvroute_restore_report(restore, report.as_mut_ptr(), report.len(), &mut written, self.error)
        };
        self.judge_written(status, self.error, written, report.len());
        assert_eq!(status == 0, is_done, "{}", self.message());
        if is_done {
            let report: Vec<u8> = report[..written].iter().map(|&byte| byte as u8).collect();
            assert_eq!(String::from_utf8_lossy(&report).matches("\"dp_rank\"").count(), pods);
        }
    }
}
