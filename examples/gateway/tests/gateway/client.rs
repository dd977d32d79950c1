//! Clients, down to the bytes.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// With chunks put together.
    pub(crate) body: Vec<u8>,
    /// All of it came: as long as the head says, or to the last chunk.
    pub(crate) is_whole: bool,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Of an error in OpenAI's form.
    pub(crate) fn message(&self) -> String {
        let json = self.json();
        assert!(json["error"]["type"].is_string(), "{json}");
        json["error"]["message"].as_str().expect("an error has a message").to_owned()
    }
}

/// A request's bytes.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
        .into_bytes()
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &str) -> Got {
    post_with(address, path, "", body).await
}

pub(crate) async fn post_with(address: SocketAddr, path: &str, headers: &str, body: &str) -> Got {
    exchange(address, &request("POST", path, &format!("connection: close\r\n{headers}"), body)).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Got {
    exchange(address, &request("GET", path, "connection: close\r\n", "")).await
}

/// Sends bytes, and reads what comes until the connection closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Got {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.write_all(bytes).await.expect("it reads");
    read(&mut stream).await
}

pub(crate) async fn read(stream: &mut TcpStream) -> Got {
    let mut bytes = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the answer ends within 10 s");
    parse(&bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> Got {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a head has a status");
    let rest = &bytes[end + 4..];
    let mut got = Got { status, head, body: rest.to_vec(), is_whole: false };
    if got.header("transfer-encoding") == Some("chunked") {
        (got.body, got.is_whole) = unchunked(rest);
    } else {
        let length = got.header("content-length").and_then(|length| length.parse().ok());
        got.is_whole = length == Some(rest.len());
    }
    got
}

fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let Ok(size) = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16) else { break };
        rest = &rest[end + 2..];
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = rest.get(..size) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}
