//! An endpoint picker: Envoy asks it, for each request, which pod is to answer.
//!
//! ```text
//! client -> Envoy -> pod
//!             |  ^
//!     request v  | destination
//!           picker  (server -> stream -> exchange -> the gateway's request, tokenizers, route)
//! ```
//!
//! It speaks the Endpoint Picker Protocol of the Gateway API Inference Extension (proposal 004, 1.0.0) over Envoy's
//! external processing ([`proto`]), and is the gateway of `kvroute-gateway` in all else: how requests are read and
//! routed, what is booked, logged and shown is its code.
//!
//! Each HTTP request is one gRPC stream. `stream` reads it and writes what is answered, `exchange` says what that is:
//! the request's body is held until it is whole, a pod is chosen, and head and body go back, with the pod's address
//! ([`metadata`]). The answer passes by, and what the engine says it used is read from it. Whatever ends a stream, what
//! was booked for its request is given back when its `exchange` is dropped.

pub mod config;
mod exchange;
mod headers;
mod health;
pub mod metadata;
mod picker;
pub mod proto;
mod reply;
pub mod server;
mod stream;

pub use picker::Picker;
