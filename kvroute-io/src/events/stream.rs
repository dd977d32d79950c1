//! One pod's stream of events: where it comes from.

use std::fmt;

use kvroute_core::PodId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who listens on a stream's endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The engine does, and we connect to it. vLLM binds where its endpoint has a `*` or `::` in it, or is `ipc://` or
    /// `inproc://` (`ZmqEventPublisher`, 0.32.0).
    #[default]
    Connect,
    /// We do, and engines connect. Many pods may share an endpoint.
    Bind,
}

/// Where one pod's events come from. Each data-parallel rank of an engine is a pod with a stream of its own, on ports
/// of its own ([`rank_endpoint`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The pod in the router. Where there is a replay endpoint it should have been added with
    /// [`GapPolicy::Replay`](kvroute_core::index::GapPolicy): else its view is dropped at each gap before the replay
    /// begins, which is safe but loses hits meanwhile.
    pub pod: PodId,
    /// ZeroMQ endpoint, such as `tcp://10.0.0.7:5557`; `tcp://*:5557` for binding. Addresses are better than
    /// names: libzmq looks names up on the thread that serves all its connections.
    pub endpoint: String,
    /// Who listens there.
    pub mode: Mode,
    /// Where lost batches can be asked for; engines always bind it. Without one a gap, or a connection that was lost
    /// and came back, costs the view.
    pub replay_endpoint: Option<String>,
    /// Prefix of the topics subscribed to; empty for all. Streams that share an endpoint are told apart by it, or, where
    /// it is empty, by topics of the form `kv@<pod>@<model>`.
    pub topic: String,
}

impl Stream {
    /// # Errors
    ///
    /// An endpoint that libzmq would not take.
    pub(super) fn check(&self) -> Result<(), SubscribeError> {
        check_endpoint(&self.endpoint, self.mode)?;
        self.replay_endpoint.as_deref().map_or(Ok(()), |endpoint| check_endpoint(endpoint, Mode::Connect))
    }
}

fn check_endpoint(endpoint: &str, mode: Mode) -> Result<(), SubscribeError> {
    let wrong = |why: &str| Err(SubscribeError::Endpoint(format!("endpoint {endpoint:?} {why}")));
    // libzmq takes C strings.
    if endpoint.contains('\0') {
        return wrong("has a NUL character in it");
    }
    if endpoint.strip_prefix("ipc://").is_some_and(|path| !path.is_empty()) {
        return Ok(());
    }
    let Some((host, port)) = endpoint.strip_prefix("tcp://").and_then(|address| address.rsplit_once(':'))
    else {
        return wrong("is neither tcp://HOST:PORT nor ipc://PATH");
    };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return wrong("has no port from 1 to 65535");
    }
    if host.is_empty() || (mode == Mode::Connect && host == "*") {
        return wrong("names no host to connect to");
    }
    Ok(())
}

/// The endpoint of a data-parallel rank, given that of rank 0: the port plus the rank
/// (`ZmqEventPublisher.offset_endpoint_port`, vLLM 0.32.0).
///
/// # Errors
///
/// An endpoint of rank 1 or above that has no port, or none that is so much greater.
pub fn rank_endpoint(endpoint: &str, dp_rank: u32) -> Result<String, SubscribeError> {
    if dp_rank == 0 {
        return Ok(endpoint.to_owned());
    }
    let port = endpoint.strip_prefix("tcp://").and_then(|address| address.rsplit_once(':'));
    let port = port.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let moved = port.and_then(|(host, port)| Some((host, port.checked_add(u16::try_from(dp_rank).ok()?)?)));
    let Some((host, port)) = moved else {
        let why = format!("endpoint {endpoint:?} has no port for data-parallel rank {dp_rank}");
        return Err(SubscribeError::Endpoint(why));
    };
    Ok(format!("tcp://{host}:{port}"))
}

/// Why a subscriber or a stream could not be had. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// An option out of range.
    Option(String),
    /// An endpoint that is none, or that another stream has already.
    Endpoint(String),
    /// The router does not know the pod.
    UnknownPod(String),
    /// The pod has a stream already.
    Subscribed(String),
    /// A thread or socket that the system did not give.
    System(String),
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Option(why)
        | Self::Endpoint(why)
        | Self::UnknownPod(why)
        | Self::Subscribed(why)
        | Self::System(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for SubscribeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_cannot_be_are_refused_with_a_reason() {
        let of = |endpoint: &str, mode| check_endpoint(endpoint, mode).map_err(|error| error.to_string());
        for good in ["tcp://10.0.0.7:5557", "tcp://[::1]:5557", "tcp://pod-0.svc:1", "ipc:///run/kv"] {
            assert_eq!(of(good, Mode::Connect), Ok(()), "{good}");
        }
        assert_eq!(of("tcp://*:5557", Mode::Bind), Ok(()));
        for (bad, why) in [
            ("tcp://*:5557", "no host"),
            ("tcp://:5557", "no host"),
            ("tcp://10.0.0.7", "neither"),
            ("tcp://10.0.0.7:0", "no port"),
            ("tcp://10.0.0.7:70000", "no port"),
            ("10.0.0.7:5557", "neither"),
            ("udp://10.0.0.7:5557", "neither"),
            ("ipc://", "neither"),
            ("ipc://a\0b", "NUL"),
        ] {
            let error = of(bad, Mode::Connect).unwrap_err();
            assert!(error.contains(why) && error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_rank_is_added_to_the_port() {
        assert_eq!(rank_endpoint("tcp://*:5557", 3).unwrap(), "tcp://*:5560");
        assert_eq!(rank_endpoint("tcp://[::1]:5557", 1).unwrap(), "tcp://[::1]:5558");
        assert_eq!(rank_endpoint("ipc:///run/kv", 0).unwrap(), "ipc:///run/kv");
        for (endpoint, rank) in
            [("ipc:///run/kv", 1), ("tcp://host", 1), ("tcp://host:65535", 1), ("tcp://h:1", 65536)]
        {
            assert!(rank_endpoint(endpoint, rank).unwrap_err().to_string().contains(endpoint));
        }
    }
}
