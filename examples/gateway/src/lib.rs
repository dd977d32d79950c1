//! An OpenAI-compatible reverse proxy that sends each request to the pod that holds its prefix.
//!
//! ```text
//! client -> server -> intake -> request -> route -> forward -> pod
//!        <-                  answer (usage)      <-
//! ```
//!
//! A request's body is read whole (`intake`), looked at once ([`request`]), tokenized where that can be done
//! ([`tokenizers`]) and routed (`route`). Then it goes to its pod as it came, and the pod's answer comes back
//! byte for byte, as it comes ([`answer`]), while its count of cached tokens is read in passing ([`usage`]). A pod that
//! fails before its answer begins is replaced by another one (`forward`).
//!
//! Whatever becomes of a request, its `flight` gives back what was booked for it and hands an
//! [`outcome::RequestOutcome`] to those who watch: the log, and [`watch`] with metrics, a status page and traces.

pub mod answer;
mod client;
pub mod config;
pub mod decision_log;
mod disaggregated;
pub mod drain;
pub mod error;
mod explain;
pub mod flight;
mod forward;
pub mod gateway;
pub mod headers;
pub mod intake;
pub mod log;
pub mod outcome;
pub mod reload;
pub mod request;
pub mod route;
pub mod server;
pub mod shared;
pub mod snapshots;
mod stall;
pub mod tls;
pub mod tokenizers;
pub mod usage;
pub mod watch;
