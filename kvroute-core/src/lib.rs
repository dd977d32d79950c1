//! kvroute's core.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod error;
pub mod event;
pub mod hash;
mod id;

pub use error::{Error, ErrorKind};
pub use id::{BlockHash, EngineHash, Tier};
