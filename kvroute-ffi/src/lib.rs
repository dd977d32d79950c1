//! The C ABI of kvroute. `include/kvroute.h` is made of this crate and reads as its manual; here is how it is
//! kept safe:
//!
//! - `guard` runs every function's body: a panic becomes a status, a handle's state decides what may go on.
//! - `handle` turns pointers into references, checked by a mark that each kind of handle begins with.
//! - `structs` reads and writes structs whose size the caller states.
//! - `memory` turns pointers and lengths into slices and texts, and fills the caller's buffers.
//! - `error` and `workspace` give what is in them to one call at a time; `snapshot` has a mutex for that.
//!
//! All `unsafe` that is not in these six is a call of theirs.
//!
//! `kvroute-ffi-io` puts kvroute-io on top, by the same means: what it needs of them is public, but not C's.
#![allow(non_camel_case_types, reason = "types are named as in C")]

#[cfg(panic = "abort")]
compile_error!("libkvroute promises that a panic does not end the program: build it with panic = \"unwind\"");

// In the order of the header; the empty lines keep it.
pub mod version;

pub mod status;

pub mod error;

pub mod memory;

pub mod context;

pub mod hasher;

pub mod domain;

pub mod options;

pub mod router;

pub mod pod;

pub mod event;

pub mod apply;

pub mod workspace;

pub mod lookup;

pub mod held;

pub mod request;

pub mod decide;

pub mod explain;

pub mod record;

pub mod snapshot;

pub mod counters;

#[doc(hidden)]
pub mod guard;
#[doc(hidden)]
pub mod handle;
#[doc(hidden)]
pub mod structs;

#[cfg(test)]
mod tests;
