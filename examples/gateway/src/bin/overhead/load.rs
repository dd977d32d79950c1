//! The load: requests whose time has come, and how long they took.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Handle;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Prompts {
    /// 2048 token ids, of which 1536 are one of 50 beginnings.
    TokenIds,
    /// As much text, of which nine tenths are one of 50 beginnings.
    SeenText,
    /// As much text, new from its first word.
    NewText,
}

const TOPICS: u32 = 50;
const TOKENS: u32 = 2048;
/// Some four letters a token.
const TEXT: usize = 8192;

/// How long requests took.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    taken: Vec<Duration>,
    /// Requests that were not answered with 200.
    pub(crate) failures: usize,
}

impl Latencies {
    pub(crate) fn extend(&mut self, other: Self) {
        self.taken.extend(other.taken);
        self.failures += other.failures;
    }

    /// The time within which this share of the requests was answered.
    pub(crate) fn at(&mut self, share: f64) -> Duration {
        self.taken.sort_unstable();
        let place = (self.taken.len() as f64 * share) as usize;
        self.taken.get(place.min(self.taken.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Sends requests.
pub(crate) struct Load {
    runtime: Handle,
    client: Client<HttpConnector, Full<Bytes>>,
    prompts: Prompts,
    beginnings: Vec<String>,
    sent: u32,
}

impl Load {
    pub(crate) fn new(runtime: Handle, prompts: Prompts) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let beginning = |topic| match prompts {
            Prompts::TokenIds => token_ids(topic * 10_000, TOKENS * 3 / 4),
            Prompts::SeenText => words(topic, TEXT * 9 / 10),
            Prompts::NewText => String::new(),
        };
        Self { runtime, client, prompts, beginnings: (0..TOPICS).map(beginning).collect(), sent: 0 }
    }

    /// Sends so many requests a second for so long, to the addresses in turn.
    pub(crate) fn run(&mut self, addresses: &[SocketAddr], rate: u32, time: Duration) -> Latencies {
        let (done, results) = mpsc::channel();
        let (start, pause) = (Instant::now(), Duration::from_secs(1) / rate);
        let number = (time.as_secs_f64() * f64::from(rate)) as u32;
        for at in 0..number {
            // Made before its time, so that making it is not in it.
            let body = self.next_body();
            let due = start + pause * at;
            sleep(due.saturating_duration_since(Instant::now()));
            let (client, done) = (self.client.clone(), done.clone());
            let url = format!("http://{}/v1/completions", addresses[at as usize % addresses.len()]);
            self.runtime.spawn(async move {
                let is_good = ask(&client, url, body).await;
                // Nobody listens any more when it took too long.
                let _ = done.send(is_good.then(|| due.elapsed()));
            });
        }
        drop(done);
        let mut latencies = Latencies::default();
        for _ in 0..number {
            match results.recv_timeout(Duration::from_secs(5)) {
                Ok(Some(taken)) => latencies.taken.push(taken),
                Ok(None) | Err(_) => latencies.failures += 1,
            }
        }
        latencies
    }

    fn next_body(&mut self) -> Bytes {
        self.sent += 1;
        let beginning = &self.beginnings[(self.sent % TOPICS) as usize];
        let body = match self.prompts {
            Prompts::TokenIds => {
                let end = token_ids(1_000_000 + self.sent * 1000, TOKENS / 4);
                format!(r#"{{"model":"m","prompt":[{beginning},{end}],"max_tokens":4}}"#)
            }
            Prompts::SeenText | Prompts::NewText => {
                let end = words(1000 + self.sent, TEXT - beginning.len());
                format!(r#"{{"model":"m","prompt":"{beginning}{end}","max_tokens":4}}"#)
            }
        };
        Bytes::from(body)
    }
}

async fn ask(client: &Client<HttpConnector, Full<Bytes>>, url: String, body: Bytes) -> bool {
    let request = Request::post(url).header("content-type", "application/json").body(Full::new(body));
    let Ok(request) = request else { return false };
    let Ok(answer) = client.request(request).await else { return false };
    answer.status() == 200 && answer.into_body().collect().await.is_ok()
}

fn token_ids(first: u32, number: u32) -> String {
    let ids: Vec<String> = (first..first + number).map(|id| (id % 128_000).to_string()).collect();
    ids.join(",")
}

/// Words that no two seeds have in the same order.
fn words(seed: u32, bytes: usize) -> String {
    const WORDS: [&str; 16] = [
        "the", "cache", "holds", "a", "prefix", "of", "every", "prompt", "that", "was", "sent", "here",
        "before", "and", "waits", "for",
    ];
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(state >> 60) as usize]);
        text.push(' ');
    }
    text.truncate(bytes);
    text
}
