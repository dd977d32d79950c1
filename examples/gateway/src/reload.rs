//! The configuration's file, read again when it changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kvroute_core::Error;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::config::{Document, invalid};
use crate::gateway::Gateway;

/// What a configuration's file says: a gateway, and maybe more.
pub trait Configured: Sized + Send + 'static {
    /// Reads and checks it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    fn parse(text: &str) -> Result<Self, Error>;

    /// The gateway.
    fn gateway(&self) -> &Document;

    /// What else only counts at the start; paths, with their values.
    fn fixed(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }
}

impl Configured for Document {
    fn parse(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }

    fn gateway(&self) -> &Document {
        self
    }
}

/// A configuration's file and what was last read from it.
#[derive(Debug)]
pub struct ConfigFile<D = Document> {
    path: PathBuf,
    /// What was in it when it was last looked at, good or not.
    text: String,
    /// What the gateway runs by.
    running: D,
}

/// What came of looking at the file again.
#[derive(Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// It says what it said before.
    Unchanged,
    /// The gateway runs by it now.
    Applied {
        /// What changed, but will not before a restart; paths in the document.
        needs_restart: Vec<&'static str>,
    },
    /// It cannot be used, for this reason; the gateway runs as it did.
    Refused(Error),
}

impl<D: Configured> ConfigFile<D> {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// That it cannot be read, or the first thing that is wrong with it; with its name.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let text = read(&path)?;
        let running = parse(&path, &text)?;
        Ok(Self { path, text, running })
    }

    /// What it said when it was last good.
    #[must_use]
    pub fn document(&self) -> &D {
        &self.running
    }

    /// Looks at the file, and lets the gateway go on by what it says now, if that is something else and good. What is in
    /// flight stays as it is.
    pub fn reload(&mut self, gateway: &Gateway) -> Reloaded {
        match read(&self.path) {
            Ok(text) if text == self.text => return Reloaded::Unchanged,
            Ok(text) => self.text = text,
            Err(error) => return Reloaded::Refused(error),
        }
        match parse(&self.path, &self.text).and_then(|document| self.apply(document, gateway)) {
            Ok(needs_restart) => Reloaded::Applied { needs_restart },
            Err(error) => Reloaded::Refused(error),
        }
    }

    /// Each of the three parts is replaced as a whole; each request sees one or the other.
    fn apply(&mut self, document: D, gateway: &Gateway) -> Result<Vec<&'static str>, Error> {
        let (running, next) = (self.running.gateway(), document.gateway());
        let policy = next.router.policy()?;
        if next.fleet != running.fleet {
            gateway.fleet().reconfigure(next.fleet.clone())?;
        }
        if next.router.policy != running.router.policy {
            gateway.router().set_policy(policy);
        }
        gateway.set_settings(next.gateway.clone());
        let fixed = fixed(&self.running).into_iter().zip(fixed(&document));
        let needs_restart = fixed.filter(|(old, new)| old != new).map(|((path, _), _)| path).collect();
        self.running = document;
        Ok(needs_restart)
    }
}

/// What only counts at the start.
fn fixed<D: Configured>(document: &D) -> Vec<(&'static str, Value)> {
    let Document { gateway, router, shared, tokenizers, .. } = document.gateway();
    let mut all = vec![
        ("gateway.listen", json!(gateway.listen)),
        ("gateway.tls", json!(gateway.tls)),
        ("gateway.limits.max_connections", json!(gateway.limits.max_connections)),
        ("gateway.timeouts.connect_ms", json!(gateway.timeouts.connect_ms)),
        ("gateway.log", json!(gateway.log)),
        ("gateway.decision_log", json!(gateway.decision_log)),
        ("gateway.snapshot", json!(gateway.snapshot)),
        ("gateway.watch", json!(gateway.watch)),
        ("router.index", json!(router.index)),
        ("router.text_block_bytes", json!(router.text_block_bytes)),
        ("router.sessions", json!(router.sessions)),
        ("router.requests", json!(router.requests)),
        ("router.overload", json!(router.overload)),
        ("router.domains", json!(router.domains)),
        ("shared", json!(shared)),
        ("tokenizers", json!(tokenizers)),
    ];
    all.extend(document.fixed());
    all
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| invalid(format!("{}: {error}", path.display())))
}

fn parse<D: Configured>(path: &Path, text: &str) -> Result<D, Error> {
    D::parse(text).map_err(|error| invalid(format!("{}: {error}", path.display())))
}

/// Looks at the file now and then, and at each SIGHUP, for ever.
pub async fn watch<D: Configured>(mut file: ConfigFile<D>, gateway: Arc<Gateway>) {
    let mut hangups = signal(SignalKind::hangup()).ok();
    let mut refused = None;
    loop {
        let pause = gateway.settings().reload_ms;
        let is_asked = tokio::select! {
            () = sleep(Duration::from_millis(pause)), if pause > 0 => false,
            () = hangup(&mut hangups) => true,
        };
        let gateway = Arc::clone(&gateway);
        let looked = tokio::task::spawn_blocking(move || {
            let reloaded = file.reload(&gateway);
            (file, reloaded)
        });
        // It does not panic, and nobody aborts it.
        let Ok((looked_at, reloaded)) = looked.await else { return };
        file = looked_at;
        match reloaded {
            Reloaded::Unchanged if is_asked => tracing::info!("the configuration is what it was"),
            Reloaded::Unchanged => {}
            Reloaded::Applied { needs_restart } => {
                refused = None;
                tracing::info!("the configuration was read again");
                for path in needs_restart {
                    tracing::warn!(path, "changed, but counts only from the next start");
                }
            }
            // A file that cannot be read stays so for a while: said once.
            Reloaded::Refused(error) if refused.as_ref() == Some(&error) && !is_asked => {}
            Reloaded::Refused(error) => {
                tracing::error!(%error, "the configuration is refused; the running one stays");
                refused = Some(error);
            }
        }
    }
}

async fn hangup(hangups: &mut Option<tokio::signal::unix::Signal>) {
    match hangups {
        Some(hangups) => {
            hangups.recv().await;
        }
        None => std::future::pending().await,
    }
}
