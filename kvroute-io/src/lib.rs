//! What feeds a [`Router`](kvroute_core::Router) from real engines.
//!
//! - [`events`]: subscriptions to the engines' KV events over ZeroMQ, with replay of what was lost.
//! - [`pods`]: which pods there are (list, file, DNS, Kubernetes API), and what each says of itself.
//! - [`load`]: what the engines' `/metrics` say of their load.
//! - [`shared`]: what several routers share, over Redis or Valkey.
//! - [`tokenize`]: prompts and chats to the token ids that the engine will compute.
//! - [`fleet`]: all of it joined with a router.
//!
//! The core is pure; here are the clock, sockets, files and threads.

pub mod events;
pub mod fleet;
mod http;
pub mod load;
pub mod pods;
pub mod shared;
pub mod tokenize;

pub use http::HttpError;
