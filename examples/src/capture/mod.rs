//! Captures of real engines: their published batches and, for each query, what they said was cached.
//!
//! Two kinds are read, plain or `.gz` (formats: `testdata/captures/README.md`):
//! - *kvsim*, one file: batches and queries of several pods in order of time (`simulated.rs`);
//! - *live*, a directory: wire frames, requests and the engine's answers, joined by time (`live.rs`).

mod file;
mod live;
mod simulated;

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use self::file::Source;
use kvroute_core::hash::{BlockHasher, HashContext, HashScheme, OwnScheme};
use kvroute_core::{CacheDomain, Error as CoreError};

/// Whatever can go wrong while reading a capture, with the place in front.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How the index is to know blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the engine's own hashes, computed here byte for byte.
    Native,
    /// By kvroute's own, computed anew from the token ids in the events.
    Translated,
}

/// A capture in order of time.
#[derive(Clone, Debug)]
pub struct Capture {
    /// What published the batches.
    pub pods: Vec<CapturedPod>,
    /// Batches and queries, in the order in which they happened.
    pub items: Vec<Item>,
}

/// A pod of a capture.
#[derive(Clone, Debug)]
pub struct CapturedPod {
    /// Its name.
    pub name: String,
    /// Tokens a block.
    pub block_size: u32,
    /// What hashes its requests as its engine does; an error where that cannot be done.
    pub native: std::result::Result<BlockHasher, CoreError>,
}

impl CapturedPod {
    /// The cache domain of this pod in a mode.
    ///
    /// # Errors
    ///
    /// A native domain for an engine whose hashes cannot be reproduced.
    pub fn domain(&self, mode: Mode) -> Result<Arc<CacheDomain>> {
        let hasher = match mode {
            Mode::Native => self.native.clone()?,
            Mode::Translated => BlockHasher::new(OwnScheme::default(), self.block_size)?,
        };
        // Pods that hash differently are of different domains.
        let name = match hasher.scheme() {
            HashScheme::Vllm(scheme) => {
                let root: String = scheme.none_hash().iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{}/{}/{root}", scheme.algorithm().name(), self.block_size)
            }
            other => format!("{}/{}", other.name(), self.block_size),
        };
        Ok(Arc::new(CacheDomain::new(name, hasher)?))
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Item {
    /// A pod published a batch.
    Batch {
        /// Position in [`Capture::pods`].
        pod: usize,
        /// Its sequence number.
        sequence: u64,
        /// The bytes on the wire.
        payload: Vec<u8>,
    },
    /// Somebody asked, and the engines answered.
    Query(Query),
}

/// A prompt, and what engines had of it at that moment.
#[derive(Clone, Debug)]
pub struct Query {
    /// Name of the request in the capture.
    pub name: String,
    /// The prompt.
    pub token_ids: Vec<u32>,
    /// What else enters its hashes.
    pub context: HashContext,
    /// What engines said: one answer a pod that was asked.
    pub answers: Vec<Answer>,
}

/// What one engine said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Position in [`Capture::pods`].
    pub pod: usize,
    /// Tokens it took from its cache: the prompt was cut to whole blocks before its last token first.
    pub cached: u32,
    /// Tokens of all leading cached blocks, without that cut; live engines do not tell.
    pub full: Option<u32>,
    /// Why this engine's answer is known not to follow from its events.
    pub exception: Option<&'static str>,
}

/// Reads a capture: a kvsim file, or a directory (or any file in it) of a live one.
///
/// # Errors
///
/// What could not be read, and where: file and line.
pub fn read(path: &Path) -> Result<Capture> {
    if path.is_dir() {
        return live::read(&live::files(path)?);
    }
    let mut lines = Source::on_disk(path).open()?.lines();
    let first: serde_json::Value = match lines.next() {
        Some(line) => line.map_err(Into::into).and_then(|line| Ok(serde_json::from_str(&line)?)).map_err(
            |error: Box<dyn std::error::Error + Send + Sync>| format!("{}:1: {error}", path.display()),
        )?,
        None => return Err(format!("{}: empty", path.display()).into()),
    };
    if first.get("kvsim").is_some() {
        return simulated::read(path, &first, lines);
    }
    match path.parent() {
        Some(directory) if directory.join("pods.json").exists() => live::read(&live::files(directory)?),
        _ => Err(format!("{}: neither a kvsim capture nor part of a live one", path.display()).into()),
    }
}

/// Reads a live capture that is built into the program: file names and contents.
///
/// # Errors
///
/// Those of [`read`].
pub fn embedded(files: &[(&str, &'static [u8])]) -> Result<Capture> {
    let source = |&(name, bytes): &(&str, &'static [u8])| Source { path: name.into(), embedded: Some(bytes) };
    live::read(&files.iter().map(source).collect::<Vec<_>>())
}
