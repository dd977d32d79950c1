//! kvroute's core.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod candidate;
pub mod decision;
mod domain;
mod error;
pub mod event;
pub mod filter;
pub mod hash;
mod id;
pub mod index;
#[cfg(any(test, feature = "oracle"))]
pub mod oracle;
pub mod pick;
pub mod profile;
pub mod router;
pub mod score;
mod sequence;

pub use domain::CacheDomain;
pub use error::{Error, ErrorKind};
pub use id::{BlockHash, EngineHash, Tier};
