//! kvroute's core: which pod holds how much of a prompt, and which pod should serve it.
//!
//! Two paths meet in the index:
//!
//! ```text
//! read:   token ids -> block hashes -> index lookup -> filters -> scorers -> picker -> Decision
//! write:  engine bytes -> decode -> KvEvent -> apply -> index
//! life:   dispatch -> first_token -> finish
//! ```
//!
//! - [`router::Router`] is the paved way: add pods, [`apply`](router::Router::apply) their event streams and
//!   [`report_load`](router::Router::report_load) now and then; for each request
//!   [`dispatch`](router::Router::dispatch), [`first_token`](router::Router::first_token) and
//!   [`finish`](router::Router::finish); every second [`expire`](router::Router::expire); and
//!   [`explain`](router::Router::explain) why. [`decide`](router::Router::decide) is `dispatch` without any
//!   effect.
//! - [`snapshot`](router::Router::snapshot) and [`Restore`] carry what a router knows over its restart.
//! - [`record`] writes decisions down, one JSON line each, and [`router::Replay`] makes them again by another policy.
//! - [`config`] makes a router of a YAML or JSON document.
//! - [`index::BlockIndex`] is the knowledge alone, for gateways with a policy of their own.
//! - [`hash::BlockHasher`] turns token ids into block hashes: an engine's own or kvroute's.
//! - [`event::decode_batch`] reads what engines publish.
//!
//! # Consistency
//!
//! All of it is shared by reference between threads. A lookup that overlaps no apply is exact: it answers
//! what the pod's engine would take from its own cache. One that overlaps applies lies between the least
//! and the greatest answer that was true meanwhile. See [`index`].
//!
//! # What is not here
//!
//! I/O, async, threads, clocks, environment, globals: the embedder brings the bytes and the requests. No panic on any
//! input. No `unsafe` but in the lock of the index's shards, which begins with its proof.
//!
//! # Features
//!
//! - `config` (on): [`Config`], the configuration model, read from YAML and JSON.
//! - `oracle` (off): the naive index that tests and fuzzers compare the fast one with. For tests only; its
//!   interface may change at any time.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod candidate;
#[cfg(feature = "config")]
pub mod config;
pub mod credits;
pub mod decision;
mod domain;
mod error;
pub mod event;
pub mod filter;
mod frame;
pub mod guard;
pub mod hash;
mod id;
pub mod index;
pub mod latency;
pub mod load;
#[cfg(any(test, feature = "oracle"))]
pub mod oracle;
mod peer;
pub mod pick;
pub mod pod;
pub mod policy;
pub mod profile;
mod published;
pub mod record;
pub mod request;
pub mod router;
pub mod score;
mod sequence;
mod session;
mod ticket;

#[cfg(feature = "config")]
pub use config::Config;
pub use decision::Decision;
pub use domain::CacheDomain;
pub use error::{Error, ErrorKind};
pub use hash::{BlockHasher, HashContext, OwnScheme};
pub use id::{BlockHash, EngineHash, Tier};
pub use index::{PodId, PodOptions};
pub use load::{AdapterReport, LoadReport};
pub use pod::{PodSpec, Role};
pub use policy::{Policy, PrefillPolicy};
pub use profile::Profile;
pub use record::{DecisionRecord, OutcomeRecord, RecordOptions};
pub use request::{Finish, KnownPrefix, Prompt, Request, ScoreColumn, Session};
pub use router::{Dispatch, PeerOptions, PeerReport, PeerStatus, Telling};
pub use router::{Restore, RestoreReport, Router, RouterOptions, Snapshot, Workspace};
pub use session::SessionKey;
pub use ticket::Ticket;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
