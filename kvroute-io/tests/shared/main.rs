//! Shared state against a real Redis, or a Valkey: what routers learn of each other, and what they do when it is gone.
//!
//! They need `redis-server` (`KVROUTE_REDIS_SERVER` names another), so they only run when they are asked for:
//! `cargo xtask test --only redis`.

mod failures;
mod index;
mod members;
mod peers;
mod proxy;
mod server;
mod snapshots;
