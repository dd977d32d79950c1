//! The picker asked as Envoy asks, message by message, through real sockets; its pods only say what they are.

mod answers;
mod bad_input;
mod choosing;
mod envoy;
#[path = "../../../gateway/tests/gateway/pod.rs"]
#[allow(dead_code, reason = "the gateway's tests use all of it")]
mod pod;
mod running;
mod served;
mod setup;
