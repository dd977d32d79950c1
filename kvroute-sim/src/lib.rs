//! Simulated engines and fleets.
//!
//! `engine` is a pod: its block pool, scheduler and event stream behave like vLLM's. `timing` says how long
//! its steps take. `fleet` puts several pods, a load and a routing policy together and runs them in
//! virtual time.

pub mod engine;
pub mod fleet;
mod random;
pub mod timing;
pub mod workload;
