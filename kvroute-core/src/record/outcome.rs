//! How a request ended.

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Kind, VERSION, is_default, line};
use crate::request::Finish;
use crate::ticket::Ticket;

/// The end of a request whose decision was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct OutcomeRecord {
    /// [`VERSION`].
    #[serde(rename = "kvroute_log")]
    pub version: u32,
    /// [`Kind::Outcome`].
    pub kind: Kind,
    /// When it ended, by the embedder's clock.
    pub now: Duration,
    /// The ticket that its decision has. Numbers are used again after a restart of the router.
    pub ticket: u64,
    /// How it ended.
    pub how: Finish,
    /// Tokens of the prompt that the engine took from its cache, where it told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub engine_cached_tokens: Option<usize>,
}

impl OutcomeRecord {
    /// What [`Router::finish`](crate::Router::finish) is told, and when.
    #[must_use]
    pub fn new(ticket: Ticket, how: Finish, engine_cached_tokens: Option<usize>, now: Duration) -> Self {
        let (version, kind, ticket) = (VERSION, Kind::Outcome, ticket.as_u64());
        Self { version, kind, now, ticket, how, engine_cached_tokens }
    }

    /// Its line in a log, without the line's end.
    #[must_use]
    pub fn to_json(&self) -> String {
        line(self)
    }
}
