//! A Kubernetes API server: lists in pages, watches line by line, on threads of its own.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use kvroute_io::fleet::{FleetConfig, FleetDocument};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::super::support::{config, until};

/// What watches are told.
#[derive(Clone, Debug)]
pub(super) enum Tell {
    /// A line about objects of this kind, and the version that it belongs to.
    Line(Kind, u64, String),
    /// Those that run end, as they do when their time is over.
    End,
    /// Their connections break.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Pools,
    Pods,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) objects: Mutex<BTreeMap<(Kind, String), Value>>,
    pub(super) version: Mutex<u64>,
    /// All that was told, in order.
    told: Mutex<Vec<Tell>>,
    /// Paths with their queries, and the key that was shown.
    pub(super) asked: Mutex<Vec<(String, Option<String>)>>,
    /// What is answered in place of all else.
    pub(super) status: Mutex<Option<u16>>,
    /// Objects a page.
    pub(super) page: Mutex<usize>,
    is_over: AtomicBool,
}

/// An API server.
pub(super) struct ApiServer {
    address: SocketAddr,
    pub(super) state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        // So that it looks.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl ApiServer {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        (*state.page.lock(), *state.version.lock()) = (100, 1000);
        let serving = Arc::clone(&state);
        let thread = Some(spawn(move || serve(&listener, &serving)));
        Self { address, state, thread }
    }

    /// Puts an object there, or changes it.
    pub(super) fn put(&self, kind: Kind, mut object: Value) {
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let before = self.state.objects.lock().insert((kind, name), object.clone());
        self.say(kind, if before.is_some() { "MODIFIED" } else { "ADDED" }, &object);
    }

    pub(super) fn delete(&self, kind: Kind, name: &str) {
        let version = self.next_version();
        let mut object = self.state.objects.lock().remove(&(kind, name.to_owned())).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.say(kind, "DELETED", &object);
    }

    pub(super) fn say(&self, kind: Kind, event: &str, object: &Value) {
        self.line(kind, json!({ "type": event, "object": object }).to_string());
    }

    pub(super) fn line(&self, kind: Kind, line: String) {
        let version = *self.state.version.lock();
        self.tell(Tell::Line(kind, version, line));
    }

    pub(super) fn tell(&self, tell: Tell) {
        self.state.told.lock().push(tell);
    }

    fn next_version(&self) -> u64 {
        let mut version = self.state.version.lock();
        *version += 1;
        *version
    }

    pub(super) fn asked(&self, part: &str) -> Vec<String> {
        let asked = self.state.asked.lock();
        asked.iter().filter(|(path, _)| path.contains(part)).map(|(path, _)| path.clone()).collect()
    }

    /// How often pods were watched, and how often they were listed.
    pub(super) fn watches(&self) -> (usize, usize) {
        let asked = self.asked("/pods?");
        let watches = asked.iter().filter(|path| path.contains("watch=1")).count();
        (watches, asked.len() - watches)
    }

    /// Waits until pods are watched after so many watches before.
    pub(super) async fn until_watched(&self, before: usize) {
        until("it is watched", || (self.watches().0 > before).then_some(())).await;
        // The server notes the question before it listens to what is told.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// A fleet of the pool `llm` here.
    pub(super) fn config(&self, more: &str) -> FleetConfig {
        let address = self.address;
        let document = format!(
            "fleet:\n  kubernetes: {{namespace: serving, pool: llm, api: 'http://{address}', timeout_ms: 2000{more}}}\n"
        );
        let mut fleet = FleetDocument::parse(&document).unwrap().fleet;
        let quick = config(&[]);
        (fleet.learn, fleet.scrape, fleet.drain_ms) = (quick.learn, quick.scrape, 100);
        fleet
    }
}

fn serve(listener: &TcpListener, state: &Arc<State>) {
    let mut connections = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if state.is_over.load(Ordering::Relaxed) {
            break;
        }
        let state = Arc::clone(state);
        // A client that went away is no failure of the server's.
        connections.push(spawn(move || drop(answer(stream, &state))));
    }
    for connection in connections {
        let _ = connection.join();
    }
}

/// The head of the next request; an error once the server is to end.
fn head(stream: &mut TcpStream, state: &State) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => head.push(byte[0]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if state.is_over.load(Ordering::Relaxed) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn answer(mut stream: TcpStream, state: &State) -> io::Result<()> {
    loop {
        let head = head(&mut stream, state)?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let key = head.lines().find_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned);
        state.asked.lock().push((path.clone(), key));
        let kind = if path.contains("/inferencepools") { Kind::Pools } else { Kind::Pods };
        let status = *state.status.lock();
        if let Some(status) = status {
            write_whole(&mut stream, status, "{}")?;
        } else if path.contains("watch=1") {
            let from = path.rsplit("resourceVersion=").next().and_then(|version| version.parse().ok());
            if !watch(&mut stream, state, kind, from.unwrap_or(0))? {
                return Ok(());
            }
        } else {
            let page = list(state, kind, &path);
            write_whole(&mut stream, 200, &page)?;
        }
    }
}

/// Tells what happened after a version, and what happens from now on. Answers whether the connection is still good.
fn watch(stream: &mut TcpStream, state: &State, kind: Kind, from: u64) -> io::Result<bool> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let begun = state.told.lock().len();
    let mut at = 0;
    while !state.is_over.load(Ordering::Relaxed) {
        let next = state.told.lock().get(at).cloned();
        match next {
            None => {
                sleep(Duration::from_millis(2));
                continue;
            }
            Some(Tell::Line(of, version, line)) if of == kind && (at >= begun || version > from) => {
                // In two chunks: lines and frames have nothing to do with each other.
                let line = format!("{line}\n");
                let (one, two) = line.split_at(line.len() / 2);
                for part in [one, two] {
                    stream.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes())?;
                    stream.flush()?;
                }
            }
            Some(Tell::End) if at >= begun => {
                stream.write_all(b"0\r\n\r\n")?;
                return Ok(true);
            }
            Some(Tell::Cut) if at >= begun => return Ok(false),
            Some(_) => {}
        }
        at += 1;
    }
    Ok(false)
}

fn write_whole(stream: &mut TcpStream, status: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    stream.write_all(format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes())
}

fn list(state: &State, kind: Kind, path: &str) -> String {
    let next = path.rsplit("continue=").next().unwrap_or_default();
    let from: usize = next.parse().unwrap_or(0);
    let objects = state.objects.lock();
    let all: Vec<&Value> =
        objects.iter().filter(|((of, _), _)| *of == kind).map(|(_, object)| object).collect();
    let size = *state.page.lock();
    let page: Vec<_> = all.iter().skip(from).take(size).collect();
    let next = if from + size < all.len() { (from + size).to_string() } else { String::new() };
    let version = state.version.lock().to_string();
    json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version, "continue": next },
            "items": page })
    .to_string()
}
