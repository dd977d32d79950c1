//! The demo on a running gateway: requests in phases, sent over HTTP, each expectation beside the engine's own count.
//!
//! Before every request it waits until the events of those before it have settled, so that gateway and engine speak of
//! the same cache. What is expected, where and why, is in the answers' `x-kvroute-` headers; what was cached in their
//! usage; whether events have settled in `/status.json`.

mod client;
mod gateway;
mod outcome;
mod play;
mod topics;

use std::time::Duration;

use serde::Serialize;

use crate::capture::Result;

pub use outcome::{Exempt, Loss, Outcome, PodOutcome, Row};
pub use play::play;
pub use topics::Form;

/// What a request is there to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// A topic's first request: its prefix is nowhere.
    Populate,
    /// Another question on the topic: its prefix is on one pod.
    Hit,
    /// A topic nobody asked about before.
    Miss,
    /// A conversation goes on: prompt, answer, next question.
    FollowUp,
    /// A pod is gone.
    Gone,
    /// It is there again, with an empty cache.
    Back,
    /// More topics than the pods' caches have room for, then some of them again.
    Overfill,
}

impl Phase {
    /// All, in order of time.
    pub const ALL: [Self; 7] =
        [Self::Populate, Self::Hit, Self::Miss, Self::FollowUp, Self::Gone, Self::Back, Self::Overfill];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Populate => "populate",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::FollowUp => "follow-up",
            Self::Gone => "gone",
            Self::Back => "back",
            Self::Overfill => "overfill",
        }
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The gateway, such as `http://127.0.0.1:8080`.
    pub url: String,
    /// The model to ask for; `None`: the first that the gateway names.
    pub model: Option<String>,
    /// Topics that are asked about again, and half as many that are not.
    pub topics: usize,
    /// Length of their prefixes, tokens; of texts, about.
    pub prefix_tokens: usize,
    /// Decides the topics.
    pub seed: u64,
    /// Whether a pod is to be lost and started again.
    pub loses_a_pod: bool,
    /// Whether the caches are to be filled until they overflow.
    pub overfills: bool,
    /// Events have settled when none came for so long. A vLLM on two busy cores published 2.5 ms after its answer in the
    /// median, and 0.6 s at most.
    pub quiet: Duration,
    /// How long pods may take to be ready, at the start and when the lost one is started again.
    pub patience: Duration,
}

impl Default for Options {
    /// Six topics of 1500 tokens and no gateway.
    fn default() -> Self {
        Self {
            url: String::new(),
            model: None,
            topics: 6,
            prefix_tokens: 1500,
            seed: 1,
            loses_a_pod: false,
            overfills: false,
            quiet: Duration::from_millis(700),
            patience: Duration::from_secs(60),
        }
    }
}

/// Sees what happens, and does what the demo cannot.
pub trait Audience {
    /// The gateway is there, with pods of these names.
    fn begins(&mut self, gateway: &str, engines: &[String], pods: &[String]);
    /// A phase begins.
    fn phase(&mut self, phase: Phase);
    /// A request was answered.
    fn request(&mut self, row: &Row);
    /// Stops the pod of this name, for good; it is stopped when this returns.
    ///
    /// # Errors
    ///
    /// If it cannot be stopped.
    fn stop(&mut self, pod: &str, url: &str) -> Result<()>;
    /// Starts it again; it need not be up yet when this returns.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    fn start(&mut self, pod: &str, url: &str) -> Result<()>;
}
