//! The picker behind a real Envoy. They need one: `cargo xtask test --only envoy` installs it and runs them.

#[path = "../../../gateway/tests/gateway/client.rs"]
#[allow(dead_code, reason = "the gateway's tests use all of it")]
mod client;
#[path = "../../../gateway/tests/gateway/pod.rs"]
#[allow(dead_code, reason = "the gateway's tests use all of it")]
mod pod;
mod program;
mod proxy;
mod through;
