//! Status codes: what every function that can fail answers.

use std::borrow::Cow;
use std::ffi::{CStr, c_char};

use kvroute_core::{Error, ErrorKind};

/// Done.
pub const KVROUTE_OK: i32 = 0;

/// A pointer is NULL that must not be.
pub const KVROUTE_NULL_POINTER: i32 = 100;
/// An argument or option is out of range, of the wrong shape, or contradicts another.
pub const KVROUTE_INVALID_INPUT: i32 = 101;
/// A text is not UTF-8.
pub const KVROUTE_INVALID_UTF8: i32 = 102;
/// A struct's `struct_size` is none that this library knows, or there is something behind what it knows.
pub const KVROUTE_STRUCT_SIZE: i32 = 103;
/// A buffer is too small; what `written` points to is the capacity that would do.
pub const KVROUTE_BUFFER_TOO_SMALL: i32 = 104;
/// A handle is not one of this kind, or was freed.
pub const KVROUTE_INVALID_HANDLE: i32 = 105;

/// Bytes of an engine, a decision log or a snapshot are not the format they should be.
pub const KVROUTE_DECODE: i32 = 200;
/// A block hash cannot be reproduced outside the engine.
pub const KVROUTE_NOT_REPRODUCIBLE: i32 = 201;
/// A model's tokenizer cannot be read, is not what it should be, or fails (kvroute_io.h).
pub const KVROUTE_TOKENIZER: i32 = 202;
/// A request that its engine would refuse as well: its body, or what its chat template says of it (kvroute_io.h).
pub const KVROUTE_REQUEST: i32 = 203;

/// A pod that the router does not know.
pub const KVROUTE_UNKNOWN_POD: i32 = 300;
/// Every pod was dropped by a filter, or there is none.
pub const KVROUTE_NO_CANDIDATE: i32 = 301;
/// A configured bound was reached.
pub const KVROUTE_LIMIT: i32 = 302;
/// Another thread uses the workspace, the error object, the snapshot, the restore or the prompts right now; or a router is
/// to be recovered that a fleet uses (kvroute_io.h).
pub const KVROUTE_BUSY: i32 = 303;
/// A function that changes the router panicked before; `kvroute_router_recover` makes it usable again. A snapshot or
/// restore that panicked before is only to be freed.
pub const KVROUTE_POISONED: i32 = 304;

/// A cache domain that the router does not know.
pub const KVROUTE_UNKNOWN_DOMAIN: i32 = 305;

/// An error that this library has no code for.
pub const KVROUTE_INTERNAL: i32 = 900;
/// This library has a bug: it panicked. Please report it.
pub const KVROUTE_PANIC: i32 = 901;

const NAMES: &[(i32, &CStr)] = &[
    (KVROUTE_OK, c"ok"),
    (KVROUTE_NULL_POINTER, c"null-pointer"),
    (KVROUTE_INVALID_INPUT, c"invalid-input"),
    (KVROUTE_INVALID_UTF8, c"invalid-utf8"),
    (KVROUTE_STRUCT_SIZE, c"struct-size"),
    (KVROUTE_BUFFER_TOO_SMALL, c"buffer-too-small"),
    (KVROUTE_INVALID_HANDLE, c"invalid-handle"),
    (KVROUTE_DECODE, c"decode"),
    (KVROUTE_NOT_REPRODUCIBLE, c"not-reproducible"),
    (KVROUTE_TOKENIZER, c"tokenizer"),
    (KVROUTE_REQUEST, c"request"),
    (KVROUTE_UNKNOWN_POD, c"unknown-pod"),
    (KVROUTE_NO_CANDIDATE, c"no-candidate"),
    (KVROUTE_LIMIT, c"limit"),
    (KVROUTE_BUSY, c"busy"),
    (KVROUTE_POISONED, c"poisoned"),
    (KVROUTE_UNKNOWN_DOMAIN, c"unknown-domain"),
    (KVROUTE_INTERNAL, c"internal"),
    (KVROUTE_PANIC, c"panic"),
];

/// Name of a status, such as "unknown-pod"; "unknown" for a number that is none. Never NULL, never freed.
#[unsafe(no_mangle)]
pub extern "C" fn kvroute_status_name(status: i32) -> *const c_char {
    NAMES.iter().find(|(number, _)| *number == status).map_or(c"unknown", |(_, name)| name).as_ptr()
}

/// Why a function failed.
#[doc(hidden)]
#[derive(Debug)]
pub struct Failure {
    /// One of the codes above.
    pub status: i32,
    /// What was wrong, and where.
    pub message: Cow<'static, str>,
}

impl Failure {
    /// With any status.
    pub fn new(status: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into() }
    }

    /// `KVROUTE_INVALID_INPUT`.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(KVROUTE_INVALID_INPUT, message)
    }

    /// `KVROUTE_NULL_POINTER`: the argument of this name.
    pub fn null(what: &str) -> Self {
        Self::new(KVROUTE_NULL_POINTER, format!("{what} is NULL"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::InvalidInput => KVROUTE_INVALID_INPUT,
            ErrorKind::Decode => KVROUTE_DECODE,
            ErrorKind::NotReproducible => KVROUTE_NOT_REPRODUCIBLE,
            ErrorKind::UnknownPod => KVROUTE_UNKNOWN_POD,
            ErrorKind::NoCandidate => KVROUTE_NO_CANDIDATE,
            ErrorKind::Limit => KVROUTE_LIMIT,
            _ => KVROUTE_INTERNAL,
        };
        Self::new(status, error.to_string())
    }
}
