//! ZeroMQ endpoints as pods say them, and as they are reached from here.

use super::PodUrl;
use super::url::{bracketed, is_loopback};
use crate::events::Mode;

/// An endpoint's host that names no particular machine.
fn is_any(host: &str) -> bool {
    matches!(host, "*" | "0.0.0.0" | "::" | "[::]" | "")
}

/// Host, without brackets, and port of a `tcp://` endpoint.
fn tcp(endpoint: &str) -> Option<(&str, u16)> {
    let (host, port) = endpoint.strip_prefix("tcp://")?.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

/// Who listens: vLLM's publisher does if the endpoint has a `*` or `::` in it, or is no TCP; else it connects
/// (`ZmqEventPublisher._socket_setup`, vLLM 0.32). An endpoint at 0.0.0.0 can be connected to by nobody else, so the pod
/// is taken to bind it.
pub(super) fn mode(endpoint: &str) -> Mode {
    let is_bound = endpoint.contains('*')
        || endpoint.contains("::")
        || !endpoint.starts_with("tcp://")
        || tcp(endpoint).is_some_and(|(host, _)| is_any(host));
    if is_bound { Mode::Connect } else { Mode::Bind }
}

/// The endpoint at which the router connects to what a pod binds: a host that names no other machine than the pod's own
/// is replaced by the pod's.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn at_pod(endpoint: &str, url: &PodUrl) -> Result<String, String> {
    if endpoint.starts_with("ipc://") {
        if url.is_loopback() {
            return Ok(endpoint.into());
        }
        return Err(format!("{endpoint:?} is on another machine"));
    }
    let (host, port) =
        tcp(endpoint).ok_or_else(|| format!("{endpoint:?} is no endpoint such as tcp://*:5557"))?;
    let host = if is_any(host) || (is_loopback(host) && !url.is_loopback()) { url.host() } else { host };
    Ok(format!("tcp://{}:{port}", bracketed(host)))
}

/// The endpoint that the router binds for pods that connect to `endpoint`: on all interfaces, unless they are on this
/// machine and connect to it by its loopback address.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn at_router(endpoint: &str, url: &PodUrl) -> Result<String, String> {
    let (host, port) =
        tcp(endpoint).ok_or_else(|| format!("{endpoint:?} is no endpoint such as tcp://10.0.0.1:5557"))?;
    match (is_loopback(host), url.is_loopback()) {
        (true, false) => {
            Err(format!("the pod publishes to {endpoint:?}, its own loopback address, where no router is"))
        }
        (true, true) => {
            Ok(format!("tcp://{}:{port}", bracketed(if host.contains(':') { host } else { "127.0.0.1" })))
        }
        (false, _) => Ok(format!("tcp://*:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> PodUrl {
        text.parse().expect(text)
    }

    #[test]
    fn who_listens_is_vllms_rule() {
        for endpoint in ["tcp://*:5557", "tcp://[::]:5557", "ipc:///tmp/x", "tcp://0.0.0.0:5557"] {
            assert_eq!(mode(endpoint), Mode::Connect, "{endpoint}");
        }
        for endpoint in ["tcp://127.0.0.1:5557", "tcp://router:5557", "tcp://10.0.0.1:5557"] {
            assert_eq!(mode(endpoint), Mode::Bind, "{endpoint}");
        }
    }

    #[test]
    fn hosts_that_name_no_other_machine_become_the_pods() {
        let far = url("http://10.0.0.7:8000");
        for endpoint in [
            "tcp://*:5600",
            "tcp://0.0.0.0:5600",
            "tcp://[::]:5600",
            "tcp://127.0.0.1:5600",
            "tcp://localhost:5600",
        ] {
            assert_eq!(at_pod(endpoint, &far).as_deref(), Ok("tcp://10.0.0.7:5600"), "{endpoint}");
        }
        assert_eq!(at_pod("tcp://10.0.0.9:5600", &far).as_deref(), Ok("tcp://10.0.0.9:5600"));
        let near = url("http://127.0.0.1:8101");
        assert_eq!(at_pod("tcp://127.0.0.2:5600", &near).as_deref(), Ok("tcp://127.0.0.2:5600"));
        assert_eq!(at_pod("tcp://*:5600", &near).as_deref(), Ok("tcp://127.0.0.1:5600"));
        assert_eq!(
            at_pod("tcp://*:5600", &url("http://[fd00::7]:8000")).as_deref(),
            Ok("tcp://[fd00::7]:5600")
        );
        assert_eq!(at_pod("ipc:///tmp/x", &near).as_deref(), Ok("ipc:///tmp/x"));
        for endpoint in ["ipc:///tmp/x", "tcp://*", "tcp://*:x", "tcp://*:70000", "udp://*:1", ""] {
            assert!(at_pod(endpoint, &far).is_err(), "{endpoint}");
        }
    }

    #[test]
    fn what_pods_connect_to_is_bound_no_wider_than_they_need() {
        let (near, far) = (url("http://127.0.0.1:8101"), url("http://10.0.0.7:8000"));
        assert_eq!(at_router("tcp://127.0.0.1:5557", &near).as_deref(), Ok("tcp://127.0.0.1:5557"));
        assert_eq!(at_router("tcp://localhost:5557", &near).as_deref(), Ok("tcp://127.0.0.1:5557"));
        assert_eq!(at_router("tcp://router.svc:5557", &far).as_deref(), Ok("tcp://*:5557"));
        let error = at_router("tcp://127.0.0.1:5557", &far).unwrap_err();
        assert!(error.contains("own loopback"), "{error}");
    }
}
