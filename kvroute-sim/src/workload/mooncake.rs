//! The request traces that Mooncake published: <https://github.com/kvcache-ai/Mooncake>,
//! `FAST25-release/traces` (Apache-2.0).
//!
//! A line is `{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47,
//! ...]}`: time in ms, lengths in tokens, and one id per 512 tokens of the prompt, the last of which
//! may be short. Equal ids at the same place mean an equal prefix. The texts are not published, so
//! every id becomes 512 token ids of its own.

use core::fmt;

use serde::Deserialize;

use super::{FleetRequest, token};
use crate::random::Random;

/// Tokens that one hash id stands for.
const CHUNK: usize = 512;

/// Seconds between two times that a trace tells apart.
const STEP: f64 = 3.0;

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TraceRequest {
    /// Arrival, in milliseconds since the trace began.
    pub timestamp: u64,
    /// Prompt, tokens.
    pub input_length: u32,
    /// Answer, tokens.
    pub output_length: u32,
    /// One id per 512 tokens of the prompt.
    pub hash_ids: Vec<u64>,
}

/// Why a trace cannot be read: the line, counted from 1, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    line: usize,
    problem: String,
}

impl TraceError {
    /// The line, counted from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trace line {}: {}", self.line, self.problem)
    }
}

impl core::error::Error for TraceError {}

/// A trace that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MooncakeTrace {
    requests: Vec<TraceRequest>,
}

impl MooncakeTrace {
    /// Reads a trace from its text, one JSON object a line; empty lines are skipped. Requests come out in
    /// order of time, those of one time in order of their lines.
    ///
    /// # Errors
    ///
    /// For a line that is not such an object, has an empty prompt or answer, or has more tokens than
    /// its ids stand for.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut requests = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fail = |problem: String| TraceError { line: index + 1, problem };
            let request: TraceRequest =
                serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
            let TraceRequest { input_length, output_length, hash_ids, .. } = &request;
            if *input_length == 0 || *output_length == 0 {
                return Err(fail("an empty prompt or answer".into()));
            }
            if *input_length as usize > hash_ids.len() * CHUNK {
                let ids = hash_ids.len();
                return Err(fail(format!("{ids} hash ids for a prompt of {input_length} tokens")));
            }
            requests.push(request);
        }
        requests.sort_by_key(|request| request.timestamp);
        Ok(Self { requests })
    }

    /// Its lines, in order of time.
    #[must_use]
    pub fn lines(&self) -> &[TraceRequest] {
        &self.requests
    }

    /// The first `limit` requests, with all times multiplied by `time_scale`: 0.5 makes the load twice as
    /// dense.
    ///
    /// The trace has no conversation ids. All its prompts begin with the same chunk, a system prompt, and
    /// part at the second, so that id is the session; of a prompt of one chunk, the first.
    pub fn requests(&self, time_scale: f64, limit: usize) -> impl Iterator<Item = FleetRequest> {
        let lines = self.requests.iter().take(limit).zip(0..);
        lines.map(move |(line, id)| line.request(id, line.timestamp as f64 * 1e-3 * time_scale))
    }

    /// `count` requests in a row, as many as there are, from a place that the seed chooses; times begin at 0 and
    /// are stretched so that `rate` requests arrive a second. The trace tells time in steps of three seconds:
    /// within them the seed chooses too.
    pub fn excerpt(&self, rate: f64, count: usize, seed: u64) -> impl Iterator<Item = FleetRequest> {
        let mut random = Random::new(seed);
        let spare = self.requests.len().saturating_sub(count);
        let first = random.below(spare as u64 + 1) as usize;
        let lines = &self.requests[first..self.requests.len().min(first + count)];
        let at = |line: Option<&TraceRequest>| line.map_or(0.0, |line| line.timestamp as f64 * 1e-3);
        let begin = at(lines.first());
        let stretch = lines.len() as f64 / rate / (at(lines.last()) - begin + STEP);
        let mut timed: Vec<_> = lines
            .iter()
            .map(|line| ((at(Some(line)) - begin + STEP * random.unit()) * stretch, line))
            .collect();
        timed.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        timed.into_iter().zip(0..).map(|((arrival, line), id)| line.request(id, arrival))
    }
}

impl TraceRequest {
    /// The request: its session is its second chunk, or the first of one.
    fn request(&self, id: u64, arrival: f64) -> FleetRequest {
        let tokens = self.hash_ids.iter().flat_map(|&hash| (0..CHUNK as u64).map(move |n| token(hash, n)));
        FleetRequest {
            id,
            arrival,
            token_ids: tokens.take(self.input_length as usize).collect(),
            output_tokens: self.output_length,
            session: *self.hash_ids.get(1).unwrap_or(&self.hash_ids[0]),
            ..FleetRequest::default()
        }
    }
}
