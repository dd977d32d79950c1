//! Topics with long prefixes, in the phases of llm-d's cache-aware routing demo: populate, hit, miss; and
//! conversations that go on.
//!
//! That demo's shared prefixes were about twelve tokens long, fewer than any engine's block, so nothing could
//! be cached. Here they are 2k to 16k tokens.

use serde::Serialize;

use super::{FleetRequest, answer, text};
use crate::random::Random;

/// What a request is there to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// A topic's first request: its prefix is nowhere.
    Populate,
    /// A further request on the topic: its prefix is on one pod.
    Hit,
    /// A topic nobody asked about before or will again.
    Miss,
    /// A conversation goes on.
    FollowUp,
}

impl Phase {
    /// All, in order of time.
    pub const ALL: [Self; 4] = [Self::Populate, Self::Hit, Self::Miss, Self::FollowUp];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Populate => "populate",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::FollowUp => "follow-up",
        }
    }
}

/// A request and what it is there to show.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What it is there to show.
    pub phase: Phase,
    /// Tokens it shares with others of its topic.
    pub prefix_tokens: usize,
    /// The request before it in its conversation.
    pub previous: Option<u64>,
    /// The request.
    pub request: FleetRequest,
}

/// Lengths of the topics' prefixes, tokens.
const PREFIXES: [usize; 8] = [2048, 3072, 4096, 6144, 8192, 10_240, 12_288, 16_384];

/// Topics that are asked about again; twice as many as there are lengths.
const TOPICS: usize = 16;

/// Requests a topic in the hit phase.
const HITS: usize = 3;

/// Conversations that go on, and for how many turns.
const CONVERSATIONS: usize = 8;
const TURNS: usize = 3;

/// Arrivals a second while topics are new, and while they are known.
const COLD_RATE: f64 = 2.0;
const WARM_RATE: f64 = 10.0;

/// Seconds between two phases.
const PAUSE: f64 = 3.0;

const OUTPUT_TOKENS: u32 = 64;

/// The requests of all phases, in order of arrival.
#[must_use]
pub fn phases(seed: u64) -> Vec<Asked> {
    let mut load = Load { random: Random::new(seed), seed, now: 0.0, asked: Vec::new() };
    for topic in 0..TOPICS {
        load.ask(Phase::Populate, topic, COLD_RATE);
    }
    load.now += PAUSE;
    for n in 0..HITS * TOPICS {
        // Every topic equally often, in an order of no pattern.
        load.ask(Phase::Hit, (n * 5 + n / TOPICS * 3) % TOPICS, WARM_RATE);
    }
    load.now += PAUSE;
    for topic in 0..PREFIXES.len() {
        load.ask(Phase::Miss, TOPICS + topic, COLD_RATE);
    }
    load.now += PAUSE;
    let first = TOPICS;
    let mut last: Vec<usize> = (first..first + CONVERSATIONS).collect();
    for _ in 0..TURNS {
        for last in &mut last {
            load.follow_up(*last);
            *last = load.asked.len() - 1;
        }
        load.now += PAUSE;
    }
    load.asked
}

struct Load {
    random: Random,
    seed: u64,
    now: f64,
    asked: Vec<Asked>,
}

impl Load {
    fn ask(&mut self, phase: Phase, topic: usize, rate: f64) {
        let id = self.asked.len() as u64;
        let prefix_tokens = PREFIXES[topic % PREFIXES.len()];
        let mut token_ids = text(self.seed ^ (topic as u64) << 32, prefix_tokens);
        token_ids.extend(self.question(id));
        self.push(phase, prefix_tokens, None, token_ids, id, rate);
    }

    fn follow_up(&mut self, previous: usize) {
        let Asked { prefix_tokens, request, .. } = &self.asked[previous];
        let (prefix_tokens, session, before) = (*prefix_tokens, request.session, request.id);
        let mut token_ids = request.token_ids.to_vec();
        token_ids.extend((0..request.output_tokens).map(|n| answer(before, n)));
        let id = self.asked.len() as u64;
        token_ids.extend(self.question(id));
        self.push(Phase::FollowUp, prefix_tokens, Some(before), token_ids, session, WARM_RATE);
    }

    fn question(&mut self, id: u64) -> Vec<u32> {
        let length = 64 + self.random.below(129) as usize;
        text(self.seed ^ (id + 1) << 48, length)
    }

    fn push(
        &mut self,
        phase: Phase,
        prefix_tokens: usize,
        previous: Option<u64>,
        token_ids: Vec<u32>,
        session: u64,
        rate: f64,
    ) {
        let id = self.asked.len() as u64;
        self.now += self.random.exponential(rate);
        let request = FleetRequest {
            id,
            arrival: self.now,
            token_ids: token_ids.into(),
            output_tokens: OUTPUT_TOKENS,
            session,
            ..FleetRequest::default()
        };
        self.asked.push(Asked { phase, prefix_tokens, previous, request });
    }
}
