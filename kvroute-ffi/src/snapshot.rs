//! What a router knows, as bytes, and back.

use std::ffi::c_char;
use std::mem;
use std::sync::Mutex;
use std::time::Duration;

use kvroute_core::{Error, Restore, RestoreReport, Snapshot};

use crate::error::kvroute_error;
use crate::guard;
use crate::handle::{self, Handle, mark};
use crate::memory::{array, fill, fill_text, put, wanted};
use crate::router::{json, kvroute_router};
use crate::status::Failure;
use crate::structs::{self, versioned};

/// Room for any chunk of a snapshot; bytes.
pub const KVROUTE_SNAPSHOT_CHUNK: usize = 65536;

const _: () = assert!(Snapshot::CHUNK <= KVROUTE_SNAPSHOT_CHUNK);

/// A snapshot in the making: what a router knows, as bytes, so that another one, or the next process, goes on as if this
/// one had never stopped. In it are the pods, what they hold, what was sent to them, where their streams of events stand,
/// and sessions. Not in it are the configuration, requests in flight, load reports and the router's counters.
///
/// Keep its bytes where the configuration is kept: a checksum finds damage, not forgery.
pub struct kvroute_snapshot {
    _opaque: [u8; 0],
}

/// A snapshot that is taken in, and then given to a router.
pub struct kvroute_restore {
    _opaque: [u8; 0],
}

/// What became of a snapshot, in numbers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_restored {
    /// `sizeof(kvroute_restored)`.
    pub struct_size: usize,
    /// Pods in the snapshot.
    pub pods: u64,
    /// Those of them that were not in the router before.
    pub pods_added: u64,
    /// Those that were given nothing of what the snapshot knows of them; `kvroute_restore_report` says why.
    pub pods_refused: u64,
    /// Blocks that pods hold again, once for each group and tier.
    pub blocks: u64,
    /// Blocks that are predicted for them again.
    pub predicted_blocks: u64,
    /// Blocks that there was no room for.
    pub blocks_refused: u64,
    /// Sessions that the router has from it.
    pub sessions: u64,
    /// Sessions left out: their pod is not here, the router knows a later one, or has no room.
    pub sessions_left_out: u64,
}

versioned!(kvroute_restored up to sessions_left_out);

/// A snapshot, and its next chunk until the caller has room for it.
#[doc(hidden)]
pub struct Writing {
    snapshot: Snapshot,
    chunk: Vec<u8>,
}

/// How far a restore is.
#[doc(hidden)]
pub enum Reading {
    /// It is being taken in.
    Begun(Restore),
    /// It was given to a router.
    Done(RestoreReport),
    /// It was not whole.
    Failed(Error),
}

impl Handle for kvroute_snapshot {
    type Content = Mutex<Writing>;
    const MARK: u64 = mark(b"snapshot");
    const NAME: &'static str = "kvroute_snapshot";
}

impl Handle for kvroute_restore {
    type Content = Mutex<Reading>;
    const MARK: u64 = mark(b"restore");
    const NAME: &'static str = "kvroute_restore";
}

/// Begins a snapshot of what the router knows, in `*snapshot`. `now_ns`: see "Time".
///
///   uint8_t chunk[KVROUTE_SNAPSHOT_CHUNK];
///   kvroute_router_snapshot(router, now_ns, &snapshot, error);
///   while (kvroute_snapshot_next(snapshot, router, chunk, sizeof chunk, &written, error) == KVROUTE_OK && written > 0) {
///     fwrite(chunk, 1, written, file);
///   }
///   kvroute_snapshot_free(snapshot);
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_snapshot(
    router: *const kvroute_router,
    now_ns: u64,
    snapshot: *mut *mut kvroute_snapshot,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            wanted("snapshot", snapshot)?;
            let begun = router.snapshot(Duration::from_nanos(now_ns));
            put("snapshot", snapshot, handle::new(Mutex::new(Writing { snapshot: begun, chunk: Vec::new() })))
        })
    }
}

/// Writes the next bytes of a snapshot into `buffer: [*written]`, none when there are no more. All chunks, one behind the
/// other, are the snapshot; `KVROUTE_SNAPSHOT_CHUNK` bytes have room for each. `router` is the one that it was begun on,
/// which may be used meanwhile: each pod is written as it was at one moment, and the pods' moments differ. A pod that
/// comes meanwhile is not in it, and one that goes before its turn is left out.
///
/// Errors: `KVROUTE_INVALID_INPUT` if it is another router, or was recovered since; `KVROUTE_LIMIT` if it has more than
/// 16 384 pods, or those more than 65 536 groups and tiers. Then what was written so far is of no use.
/// `KVROUTE_BUFFER_TOO_SMALL`: the chunk stays the next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_snapshot_next(
    snapshot: *mut kvroute_snapshot,
    router: *const kvroute_router,
    buffer: *mut u8,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            guard::alone("snapshot", handle::get(snapshot)?, |Writing { snapshot, chunk }| {
                if chunk.is_empty()
                    && let Some(next) = snapshot.next_chunk(router)?
                {
                    chunk.extend_from_slice(next);
                }
                fill(chunk, buffer, capacity, written)?;
                chunk.clear();
                Ok(())
            })
        })
    }
}

/// Frees a snapshot, ended or not; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_snapshot_free(snapshot: *mut kvroute_snapshot) {
    // SAFETY: the caller's word: made by `kvroute_router_snapshot`, and not used any more.
    guard::value((), || unsafe { handle::free(snapshot) });
}

/// A new restore, to take one snapshot in.
#[unsafe(no_mangle)]
pub extern "C" fn kvroute_restore_new() -> *mut kvroute_restore {
    guard::value(std::ptr::null_mut(), || Ok(handle::new(Mutex::new(Reading::Begun(Restore::default())))))
}

/// Takes in what comes next of a snapshot, as many bytes as there are. They are kept, in one to two times their size,
/// until they are given to a router.
///
/// Errors: `KVROUTE_DECODE`, with the offset, if it is no snapshot, one of another version, or damaged; every later call
/// answers the same. `KVROUTE_INVALID_INPUT` if it was given to a router already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_restore_push(
    restore: *mut kvroute_restore,
    bytes: *const u8,
    bytes_len: usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let bytes = array("bytes", bytes, bytes_len)?;
            guard::alone("restore", handle::get(restore)?, |reading| Ok(reading.begun()?.push(bytes)?))
        })
    }
}

/// Gives the snapshot that was taken in to a router, and fills `*restored`, which may be NULL, in. Pods that are not in
/// the router are added, if it knows their cache domain (`kvroute_router_add_domain`, or the configuration). Those that
/// are keep their ids, options, role, labels and capacity. To be called before events are applied: a pod that events came
/// to is left as it is; one that has its part again goes on with the next batch of its stream, or finds out what it
/// missed. `now_ns` (see "Time") need not count from the same moment as the one the snapshot was begun with.
///
/// Errors: `KVROUTE_DECODE` if the snapshot is not whole, or as `kvroute_restore_push` said; then the router is as it
/// was, and every later call answers the same. `KVROUTE_INVALID_INPUT` if it was given to a router already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_restore_finish(
    restore: *mut kvroute_restore,
    router: *const kvroute_router,
    now_ns: u64,
    restored: *mut kvroute_restored,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            if !restored.is_null() {
                structs::check_place(restored)?;
            }
            guard::alone("restore", handle::get(restore)?, |reading| {
                let begun = mem::take(reading.begun()?);
                match begun.finish(router, Duration::from_nanos(now_ns)) {
                    Ok(report) => {
                        let numbers = numbers(&report);
                        *reading = Reading::Done(report);
                        if restored.is_null() { Ok(()) } else { structs::write(restored, &numbers) }
                    }
                    Err(error) => {
                        *reading = Reading::Failed(error.clone());
                        Err(error.into())
                    }
                }
            })
        })
    }
}

/// Writes what became of a snapshot that was given to a router, a JSON object with a NUL behind it, into `buffer`: of each
/// pod what it has again, or why nothing (`refusal`).
///
/// Errors: `KVROUTE_INVALID_INPUT` if it was not; what `kvroute_restore_finish` answered, if that was an error;
/// `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_restore_report(
    restore: *mut kvroute_restore,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            guard::alone("restore", handle::get(restore)?, |reading| match reading {
                Reading::Done(report) => fill_text(&json(report)?, buffer, capacity, written),
                Reading::Begun(_) => Err(Failure::invalid("this snapshot was not given to a router yet")),
                Reading::Failed(error) => Err(error.clone().into()),
            })
        })
    }
}

/// Frees a restore, ended or not; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_restore_free(restore: *mut kvroute_restore) {
    // SAFETY: the caller's word: made by `kvroute_restore_new`, and not used any more.
    guard::value((), || unsafe { handle::free(restore) });
}

impl Reading {
    fn begun(&mut self) -> Result<&mut Restore, Failure> {
        match self {
            Self::Begun(restore) => Ok(restore),
            Self::Done(_) => Err(Failure::invalid("this snapshot was given to a router already")),
            Self::Failed(error) => Err(error.clone().into()),
        }
    }
}

fn numbers(report: &RestoreReport) -> kvroute_restored {
    let given = || report.pods.iter().filter_map(|pod| pod.blocks.ok());
    let count = |count: usize| count as u64;
    kvroute_restored {
        struct_size: 0,
        pods: count(report.pods.len()),
        pods_added: count(report.pods.iter().filter(|pod| pod.added).count()),
        pods_refused: count(report.pods.len() - given().count()),
        blocks: given().map(|blocks| blocks.held).sum(),
        predicted_blocks: given().map(|blocks| count(blocks.predicted)).sum(),
        blocks_refused: given().map(|blocks| blocks.refused).sum(),
        sessions: count(report.sessions),
        sessions_left_out: count(report.sessions_left_out),
    }
}
