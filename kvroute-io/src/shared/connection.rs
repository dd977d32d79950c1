//! One connection to Redis or Valkey that is kept up.
//!
//! A task connects, and connects again with back-off and jitter when the connection breaks, when an answer does not come
//! in time, or when the server turns out to be a read-only replica. Commands go out over whatever connection stands now;
//! where none does they fail at once, so nobody ever waits for more than his own time limit.
//!
//! ```text
//! connecting -> (PING, ROLE: a primary?) -> connected -> broken, timed out, READONLY, MOVED -> connecting
//! ```
//!
//! Commands of all callers share the connection (multiplexed), so one that blocks in the server (`XREAD BLOCK`) needs a
//! [`Connection`] of its own. In a cluster, keys with one hash tag lie on one node: a MOVED answer is followed there.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::Error;
use kvroute_core::config::Problem;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
};
use redis::{TlsCertificates, Value};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Where the server is, and how long it is waited for.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// `redis://[user][:password@]host[:port][/db]`, `rediss://` for TLS, or `unix:///path`. Of several the first that is
    /// a primary is used, and they are tried in turn when it is lost.
    pub urls: Vec<String>,
    /// Certificates (PEM) that the server's is checked against, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// For a connection to stand, greeting and login included.
    pub connect_timeout: Duration,
    /// For the answer to a command.
    pub command_timeout: Duration,
    /// For all answers to a pipeline.
    pub pipeline_timeout: Duration,
    /// Between the first two attempts to connect; doubled after each, with up to half of it taken off by lot.
    pub min_backoff: Duration,
    /// Longest time between two attempts.
    pub max_backoff: Duration,
    /// How often a connection is looked at that nobody uses.
    pub ping: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            ca_file: None,
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(1),
            pipeline_timeout: Duration::from_secs(2),
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(2),
            ping: Duration::from_secs(1),
        }
    }
}

/// Why a command has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionError {
    /// There is no connection now; nothing was sent.
    Disconnected,
    /// No answer came within this time; whether the command was carried out is not known.
    TimedOut(Duration),
    /// The connection broke before an answer came; whether the command was carried out is not known.
    Broken(String),
    /// The server refused it.
    Refused {
        /// The first word of its answer: `OOM`, `READONLY`, `NOPERM`, `LOADING` and so on.
        code: String,
        /// The rest.
        message: String,
    },
}

impl ConnectionError {
    /// Whether the server has no memory for what was to be written.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "OOM")
    }

    fn of(error: &redis::RedisError) -> Self {
        if let Some(code) = error.code() {
            let message = error.detail().unwrap_or_default().to_owned();
            return Self::Refused { code: code.to_owned(), message };
        }
        // Of a pipeline the first refusal stands for all.
        let refused = error.clone().into_server_errors();
        if let Some((_, first)) = refused.as_ref().and_then(|all| all.first()) {
            let message = first.details().unwrap_or_default().to_owned();
            return Self::Refused { code: first.code().to_owned(), message };
        }
        Self::Broken(error.to_string())
    }

    /// Whether another connection may do better: this one is dead, hangs, or leads to the wrong server.
    fn ends_connection(&self) -> bool {
        match self {
            Self::Disconnected => false,
            Self::TimedOut(_) | Self::Broken(_) => true,
            Self::Refused { code, .. } => matches!(&**code, "READONLY" | "MOVED" | "NOAUTH"),
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("not connected"),
            Self::TimedOut(after) => write!(f, "no answer within {} ms", after.as_millis()),
            Self::Broken(why) => write!(f, "the connection broke: {why}"),
            Self::Refused { code, message } => write!(f, "refused: {code} {message}"),
        }
    }
}

impl std::error::Error for ConnectionError {}

/// How a connection stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// Whether commands can be sent now.
    pub is_connected: bool,
    /// How long it has been so.
    pub lasts: Duration,
    /// The server, without user and password: the one connected to, or tried last.
    pub server: String,
    /// How often a connection came to stand.
    pub connections: u64,
    /// What was wrong last, if it was not put right by a connection since.
    pub error: Option<String>,
}

/// A connection that is kept up, shared by its clones. Its task ends with the last of them.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    options: ConnectionOptions,
    servers: Vec<ConnectionInfo>,
    live: watch::Sender<Option<Live>>,
    state: Mutex<State>,
    broken: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Live {
    /// Which connection this is, counted from 1.
    number: u64,
    connection: MultiplexedConnection,
}

#[derive(Debug)]
struct State {
    since: Instant,
    server: String,
    connections: u64,
    error: Option<String>,
    /// Where a cluster said that our keys are.
    moved_to: Option<(String, u16)>,
}

impl Connection {
    /// Starts to connect; to be called inside a tokio runtime. Answers at once.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a URL cannot be read, none is there, or the file of certificates cannot be read.
    pub fn start(options: ConnectionOptions) -> Result<Self, Error> {
        if options.urls.is_empty() {
            return Err(Problem::new("shared state needs a URL, such as redis://127.0.0.1:6379").into());
        }
        let servers = options.urls.iter().enumerate().map(|(at, url)| {
            // The URL has a password in it: it is not shown.
            url.as_str().into_connection_info().map_err(|error| {
                let reason = error.category().to_owned();
                Problem::new(format!("URL {at} of the shared state cannot be read: {reason}"))
            })
        });
        let servers: Vec<_> = servers.collect::<Result<_, _>>()?;
        if let Some(path) = &options.ca_file {
            let unreadable = |error| Problem::new(format!("{}: {error}", path.display()));
            std::fs::metadata(path).map_err(unreadable)?;
        }
        let state = State {
            since: Instant::now(),
            server: servers[0].addr().to_string(),
            connections: 0,
            error: None,
            moved_to: None,
        };
        let live = watch::Sender::new(None);
        let shared =
            Arc::new(Shared { options, servers, live, state: Mutex::new(state), broken: Notify::new() });
        let task = tokio::spawn(keep_up(Arc::clone(&shared))).abort_handle();
        Ok(Self(Arc::new(Handle { shared, task })))
    }

    /// The answer to a command.
    ///
    /// # Errors
    ///
    /// Why there is none, within the time limit of commands.
    pub async fn command(&self, command: &Cmd) -> Result<Value, ConnectionError> {
        self.command_within(command, self.0.shared.options.command_timeout).await
    }

    /// The answer to a command that may take longer, or must take less, than others.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn command_within(&self, command: &Cmd, limit: Duration) -> Result<Value, ConnectionError> {
        let answer = async |mut live: Live| live.connection.send_packed_command(command).await;
        self.0.shared.ask(limit, answer).await
    }

    /// The answers to a pipeline, in its order. If one of its commands is refused, the first refusal stands for all; the
    /// others may have been carried out.
    ///
    /// # Errors
    ///
    /// Why there are none, within the time limit of pipelines as a whole.
    pub async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>, ConnectionError> {
        self.pipeline_within(pipeline, self.0.shared.options.pipeline_timeout).await
    }

    /// The same within a time limit of its own.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub async fn pipeline_within(
        &self,
        pipeline: &Pipeline,
        limit: Duration,
    ) -> Result<Vec<Value>, ConnectionError> {
        let answer = async |mut live: Live| pipeline.query_async(&mut live.connection).await;
        self.0.shared.ask(limit, answer).await
    }

    /// Waits until there is a connection, and answers which: their numbers grow, so that whoever knows the last one sees
    /// whether it was another since.
    pub async fn ready(&self) -> u64 {
        let mut live = self.0.shared.live.subscribe();
        // The sender lives as long as this handle.
        let number =
            live.wait_for(Option::is_some).await.map(|live| live.as_ref().map_or(0, |live| live.number));
        number.unwrap_or(0)
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> ConnectionStatus {
        let shared = &self.0.shared;
        let is_connected = shared.live.borrow().is_some();
        let state = shared.state.lock();
        ConnectionStatus {
            is_connected,
            lasts: state.since.elapsed(),
            server: state.server.clone(),
            connections: state.connections,
            error: state.error.clone(),
        }
    }
}

impl Shared {
    async fn ask<T, F>(&self, limit: Duration, answer: impl FnOnce(Live) -> F) -> Result<T, ConnectionError>
    where
        F: Future<Output = Result<T, redis::RedisError>>,
    {
        let live = self.live.borrow().clone();
        let Some(live) = live else { return Err(ConnectionError::Disconnected) };
        let number = live.number;
        let result = match timeout(limit, answer(live)).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                if let Some((address, _)) = error.redirect_node() {
                    self.state.lock().moved_to = host_and_port(address);
                }
                ConnectionError::of(&error)
            }
            Err(_) => ConnectionError::TimedOut(limit),
        };
        if result.ends_connection() {
            self.lose(number, &result);
        }
        Err(result)
    }

    /// Gives up this connection, if it still is the one in use.
    fn lose(&self, number: u64, why: &ConnectionError) {
        let lost = self.live.send_if_modified(|live| {
            let is_it = live.as_ref().is_some_and(|live| live.number == number);
            if is_it {
                *live = None;
            }
            is_it
        });
        if lost {
            let mut state = self.state.lock();
            state.since = Instant::now();
            state.error = Some(why.to_string());
            drop(state);
            self.broken.notify_one();
        }
    }

    /// Connects to the first server that is a primary.
    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let moved_to = self.state.lock().moved_to.take();
        let moved_to = moved_to.map(|to| redirected(&self.servers[0], to));
        let mut reason = String::new();
        for server in moved_to.iter().chain(&self.servers) {
            self.state.lock().server = server.addr().to_string();
            reason = match timeout(self.options.connect_timeout, self.connect_to(server)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => format!("no connection within {} ms", self.options.connect_timeout.as_millis()),
            };
        }
        Err(reason)
    }

    async fn connect_to(&self, server: &ConnectionInfo) -> Result<MultiplexedConnection, String> {
        let describe = |error: redis::RedisError| error.to_string();
        let client = match &self.options.ca_file {
            None => Client::open(server.clone()),
            Some(path) => {
                let root_cert =
                    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
                Client::build_with_tls(server.clone(), certificates)
            }
        };
        // Time limits are ours: they differ from call to call.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = client.map_err(describe)?;
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.map_err(describe)?;
        redis::cmd("PING").exec_async(&mut connection).await.map_err(describe)?;
        // Who may not ask for the role is told READONLY soon enough.
        let role: Result<Vec<Value>, _> = redis::cmd("ROLE").query_async(&mut connection).await;
        let role =
            role.ok().and_then(|role| redis::from_redis_value::<String>(role.into_iter().next()?).ok());
        match role.as_deref() {
            Some("slave" | "sentinel") => Err(format!("{} is not a primary", server.addr())),
            _ => Ok(connection),
        }
    }
}

/// Connects, and again whenever the connection is lost.
async fn keep_up(shared: Arc<Shared>) {
    let options = &shared.options;
    let (mut number, mut backoff) = (0, options.min_backoff);
    loop {
        match shared.connect().await {
            Ok(connection) => {
                number += 1;
                {
                    let mut state = shared.state.lock();
                    (state.since, state.connections, state.error) = (Instant::now(), number, None);
                    tracing::info!(server = state.server, "connected to the shared state");
                }
                shared.live.send_replace(Some(Live { number, connection }));
                let began = Instant::now();
                watch_over(&shared, number).await;
                // One that broke at once is no reason to try faster.
                if began.elapsed() > options.max_backoff {
                    backoff = options.min_backoff;
                }
                let error = shared.state.lock().error.clone();
                tracing::warn!(error, "lost the connection to the shared state");
            }
            Err(error) => {
                let mut state = shared.state.lock();
                tracing::debug!(error, server = state.server, "no connection to the shared state");
                state.error = Some(error);
            }
        }
        tokio::time::sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(options.max_backoff);
    }
}

/// Ends when this connection was lost.
async fn watch_over(shared: &Shared, number: u64) {
    let is_up = || shared.live.borrow().as_ref().is_some_and(|live| live.number == number);
    while is_up() {
        if timeout(shared.options.ping, shared.broken.notified()).await.is_err() {
            let ping = async |mut live: Live| redis::cmd("PING").exec_async(&mut live.connection).await;
            // Its failure ends the connection.
            let _ = shared.ask(shared.options.command_timeout, ping).await;
        }
    }
}

/// Between half of a time and all of it, so that many clients do not come back at one moment.
pub(crate) fn jittered(time: Duration) -> Duration {
    let share = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    time.mul_f64(0.5 + share / 2.0)
}

/// `host:port`, as clusters write it, IPv6 addresses without brackets.
fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    (!host.is_empty()).then_some(())?;
    Some((host.to_owned(), port.parse().ok()?))
}

/// Another node of the same cluster: same login, same way to speak.
fn redirected(server: &ConnectionInfo, (host, port): (String, u16)) -> ConnectionInfo {
    let addr = match server.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    server.clone().set_addr(addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_differ_and_stay_between_half_of_the_time_and_all_of_it() {
        let whole = Duration::from_millis(800);
        let waits: Vec<_> = (0..50).map(|_| jittered(whole)).collect();
        assert!(waits.iter().all(|wait| (whole / 2..=whole).contains(wait)));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }

    #[test]
    fn a_cluster_names_nodes_by_host_and_port() {
        assert_eq!(host_and_port("10.0.0.7:6380"), Some(("10.0.0.7".into(), 6380)));
        assert_eq!(host_and_port("fd00::7:6380"), Some(("fd00::7".into(), 6380)));
        assert_eq!(host_and_port(":6380"), None);
        assert_eq!(host_and_port("node"), None);
    }

    #[tokio::test]
    async fn wrong_urls_are_named_without_their_password() {
        let start = |url: &str| {
            let options = ConnectionOptions { urls: vec![url.to_owned()], ..ConnectionOptions::default() };
            Connection::start(options).map(drop).unwrap_err().to_string()
        };
        for url in ["http://:secret@127.0.0.1", "redis//:secret@x", ""] {
            let error = start(url);
            assert!(error.contains("URL 0") && !error.contains("secret"), "{error}");
        }
    }
}
