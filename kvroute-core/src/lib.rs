//! kvroute's core.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod domain;
mod error;
pub mod event;
pub mod hash;
mod id;
pub mod index;
#[cfg(any(test, feature = "oracle"))]
pub mod oracle;
mod sequence;

pub use domain::CacheDomain;
pub use error::{Error, ErrorKind};
pub use id::{BlockHash, EngineHash, Tier};
