//! The decision log: what was decided, by what, and what came of it, as JSON lines.
//!
//! [`Router::record`](crate::Router::record) takes a decision down; [`DecisionRecord::to_json`] is its line.
//! [`OutcomeRecord`] is the line of a request's end. [`LogLine::parse`] reads either, and
//! [`Replay`](crate::router::Replay) makes a recorded decision again, by the same policy or by another.
//!
//! # Format
//!
//! UTF-8, one JSON object a line. `kvroute_log` is the version of the format, [`VERSION`]; `kind` is `decision` or
//! `outcome`. The fields are those of [`DecisionRecord`] and [`OutcomeRecord`]; `kvroute-core/log.schema.json` is their
//! JSON Schema. Every line stands alone, so a log can be cut, rotated and sampled anywhere. What is 0, false, empty or
//! absent is left out where the field says so. Readers pass over fields they do not know; what changes the meaning of
//! others comes with another version, which is an error.
//!
//! Lengths are in tokens or blocks, as the fields are named; `now` is the embedder's clock, seconds and nanoseconds.
//! Numbers are exact: ids, tickets and nonces are unsigned 64-bit integers (readers that take all numbers for doubles
//! lose their last digits), and reals are written so that they are read back bit for bit.
//!
//! # Privacy
//!
//! A line has no cache salt, no session token and, unless [`RecordOptions::prompt`] asks for it, neither text nor
//! token ids of the prompt. A session id is there as a hash: of the id and the router's session key, if it has one;
//! without a key, whoever can guess an id can confirm the guess. The same holds for the nonce where the request gave
//! none: then it is a hash of the whole prompt. Names of pods, models and adapters, and pods' labels, are as they are.

mod outcome;
mod pod;
mod profile;
mod prompt;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

pub use outcome::OutcomeRecord;
pub(crate) use pod::domains_of;
pub use pod::{DomainRecord, MatchedBlocks, PodRecord};
pub use profile::{Dropped, ProfileRecord, Scores};
pub use prompt::{PromptRecord, SessionRecord};

use crate::{Error, ErrorKind};

/// Version of the format that is written and read.
pub const VERSION: u32 = 1;

/// What else is taken down of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordOptions {
    /// The prompt itself, its token ids or its text: to find out why blocks are hashed as they are. Off, for a log
    /// should not tell what people asked.
    pub prompt: bool,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
pub enum Kind {
    /// A decision: [`DecisionRecord`].
    Decision,
    /// The end of a request: [`OutcomeRecord`].
    Outcome,
}

/// A decision with all that filters, scorers, pickers and guards looked at. *Places* are positions in `pods`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DecisionRecord<'a> {
    /// [`VERSION`].
    #[serde(rename = "kvroute_log")]
    pub version: u32,
    /// [`Kind::Decision`].
    pub kind: Kind,
    /// When it was decided, by the embedder's clock.
    pub now: Duration,
    /// The request's ticket, if it was dispatched; 0: dispatched, but not tracked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ticket: Option<u64>,
    /// How often it was decided again because of another booking. Left out if 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: u32,
    /// Somebody else booked the pod at the last try still. Left out if not.
    #[serde(default, skip_serializing_if = "is_default")]
    pub contended: bool,
    /// What even choices were decided by.
    pub nonce: u64,
    /// Whether the request brought it; else it is a hash of the prompt. Left out if not.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nonce_given: bool,
    /// The prompt's length, and itself if that was asked for.
    pub prompt: PromptRecord<'a>,
    /// The served model that was asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub model: Option<Cow<'a, str>>,
    /// Name of the LoRA adapter that was asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adapter: Option<Cow<'a, str>>,
    /// Names of the pods it might go to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub subset: Option<Vec<Cow<'a, str>>>,
    /// The conversation, if the request named one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub session: Option<SessionRecord<'a>>,
    /// What external scorers said. Left out if nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub columns: Vec<ColumnRecord<'a>>,
    /// The cache domains of the pods.
    pub domains: Vec<DomainRecord<'a>>,
    /// The pods that were looked at, in order of their slots.
    pub pods: Vec<PodRecord<'a>>,
    /// Number of pods that were not. Left out if 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub not_sampled: usize,
    /// How the pod that answers was chosen.
    pub decode: ProfileRecord<'a>,
    /// How a pod that prefills was, where one was looked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prefill: Option<ProfileRecord<'a>>,
}

/// A score column of the request, of the pods that were looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ColumnRecord<'a> {
    /// The external scorer's name.
    pub scorer: Cow<'a, str>,
    /// Ids of pods; `[n]`.
    pub pods: Vec<u64>,
    /// Their scores, 0..=1; `[n]`.
    pub values: Vec<f64>,
}

impl DecisionRecord<'_> {
    /// Its line in a log, without the line's end.
    #[must_use]
    pub fn to_json(&self) -> String {
        line(self)
    }

    /// The pod that answers; `None` if there was none.
    #[must_use]
    pub fn decode_pod(&self) -> Option<&PodRecord<'_>> {
        self.pods.get(self.decode.picked? as usize)
    }

    /// The pod that computes the prompt first, if one does.
    #[must_use]
    pub fn prefill_pod(&self) -> Option<&PodRecord<'_>> {
        self.pods.get(self.prefill.as_ref()?.used()? as usize)
    }

    /// Cached tokens that the engine's own count can be compared with: what was expected of the pod that answers,
    /// where no KV comes from another and its events tell what it has.
    #[must_use]
    pub fn expected_cached_tokens(&self) -> Option<usize> {
        let pod = self.decode_pod().filter(|pod| pod.events_tell && self.prefill_pod().is_none())?;
        Some(pod.matched_tokens())
    }
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LogLine {
    /// A decision.
    Decision(Box<DecisionRecord<'static>>),
    /// The end of a request.
    Outcome(OutcomeRecord),
}

/// What tells how to read the rest.
#[derive(Deserialize)]
struct Head {
    kvroute_log: u32,
    kind: Kind,
}

impl LogLine {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// `Decode` if it is no line of such a log, or one of another version; with what is wrong, and in which column.
    pub fn parse(line: &str) -> Result<Self, Error> {
        // Serde ends with "at line 1 column 7": of the one line the caller knows the number.
        let fail = |error: serde_json::Error| {
            let message = format!("{error}").replace("at line 1 column", "at column");
            Error::new(ErrorKind::Decode, format!("not a line of a decision log: {message}"))
        };
        // The version comes first: lines of another may lack what this one asks for.
        let Head { kvroute_log: version, kind } = serde_json::from_str(line).map_err(|error| {
            #[derive(Deserialize)]
            struct Version {
                kvroute_log: u32,
            }
            match serde_json::from_str(line) {
                Ok(Version { kvroute_log }) if kvroute_log != VERSION => other_version(kvroute_log),
                _ => fail(error),
            }
        })?;
        if version != VERSION {
            return Err(other_version(version));
        }
        Ok(match kind {
            Kind::Decision => Self::Decision(serde_json::from_str(line).map_err(fail)?),
            Kind::Outcome => Self::Outcome(serde_json::from_str(line).map_err(fail)?),
        })
    }

    /// JSON Schema (draft 2020-12) of a line; the repository has it as `kvroute-core/log.schema.json`.
    #[cfg(feature = "config")]
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        #[derive(schemars::JsonSchema)]
        #[schemars(title = "Line of a kvroute decision log", untagged)]
        #[expect(dead_code, reason = "only its shape is asked for")]
        enum Line {
            Decision(Box<DecisionRecord<'static>>),
            Outcome(OutcomeRecord),
        }
        schemars::schema_for!(Line).to_value()
    }
}

fn other_version(version: u32) -> Error {
    let message = format!("a decision log of version {version}; this library reads version {VERSION}");
    Error::new(ErrorKind::Decode, message)
}

/// JSON of a record; all its keys are strings, so that nothing can go wrong.
fn line(record: &impl Serialize) -> String {
    serde_json::to_string(record).unwrap_or_default()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
