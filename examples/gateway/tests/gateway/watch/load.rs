//! Requests as people send them: conversations that grow, a few prefixes that many share, some that fail.

use std::net::SocketAddr;

use serde_json::json;

use super::sim_pod::SimPod;
use crate::client::{post, post_with};
use crate::setup::{Running, quoted};

/// Simulated pods, and a gateway in front of them whose events have begun to flow.
pub(crate) async fn fleet(pods: usize, section: &str) -> (Vec<SimPod>, Running) {
    let all: Vec<_> = (0..pods).map(|_| SimPod::start()).collect();
    let running = in_front_of(&all, section).await;
    (all, running)
}

pub(super) async fn in_front_of(pods: &[SimPod], section: &str) -> Running {
    let urls: Vec<String> = pods.iter().map(SimPod::url).collect();
    let document = format!(
        "gateway: {{{section}}}\nfleet: {{pods: [{}], scrape: {{interval_ms: 200}}}}\n\
         tokenizers: {{m: {{path: '{}/../../testdata/tokenize'}}}}\n",
        quoted(&urls),
        env!("CARGO_MANIFEST_DIR"),
    );
    let running = Running::with_document(&document, pods.len()).await;
    running
        .until("all streams are connected", |running| {
            let streams = running.gateway.fleet().status().events.streams;
            let connected = streams.len() == pods.len() && streams.iter().all(|stream| stream.connected);
            connected && pods.iter().all(SimPod::is_subscribed)
        })
        .await;
    running
}

/// A turn of a conversation, as token ids.
pub(super) fn turn(conversation: u32, turn: u32) -> String {
    // One of three beginnings.
    let shared = (conversation % 3 * 320..).take(320);
    let own = (0..160 * (turn + 1)).map(|at| 1000 + conversation * 10_000 + at);
    json!({ "model": "m", "prompt": shared.chain(own).collect::<Vec<u32>>() }).to_string()
}

/// So many conversations of four turns each; answers the number of requests.
pub(super) async fn conversations(address: SocketAddr, from: u32, number: u32) -> usize {
    let mut sent = 0;
    for at in 0..4 {
        for conversation in from..from + number {
            let session = format!("x-session-id: {conversation}\r\n");
            let got = post_with(address, "/v1/completions", &session, &turn(conversation, at)).await;
            assert_eq!(got.status, 200, "{got:?}");
            sent += 1;
        }
    }
    sent
}

/// A prompt that has to be tokenized.
pub(super) async fn text(address: SocketAddr) {
    let body =
        json!({ "model": "m", "prompt": "Once upon a time, there was a prompt. ".repeat(20) }).to_string();
    assert_eq!(post(address, "/v1/completions", &body).await.status, 200);
}

/// A request that each pod refuses as busy, until none is left (502) or it was tried often enough (the last one's 503).
pub(super) async fn failing(address: SocketAddr) {
    let body = json!({ "model": "m", "prompt": [1, 2, 3], "fail": true }).to_string();
    let status = post(address, "/v1/completions", &body).await.status;
    assert!(matches!(status, 502 | 503), "{status}");
}
