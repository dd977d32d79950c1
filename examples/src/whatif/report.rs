//! What a log comes to.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use kvroute_core::record::DecisionRecord;
use kvroute_core::router::Replayed;
use serde::Serialize;

use super::{Change, Expectations, Route};

/// Something then, as it was recorded, and now, under the other policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pair<T> {
    /// As it was recorded.
    pub then: T,
    /// Under the other policy.
    pub now: T,
}

impl<T> Pair<T> {
    pub(super) fn map<U>(self, mut what: impl FnMut(T) -> U) -> Pair<U> {
        Pair { then: what(self.then), now: what(self.now) }
    }
}

/// A line that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Its number, from 1 on.
    pub line: usize,
    /// What is wrong.
    pub error: String,
}

/// How well the policy that made the log makes its decisions again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reproduced {
    /// The same, bit for bit.
    pub same: u64,
    /// Others: the log is of another policy.
    pub other: u64,
    /// Lines of the first of those.
    pub first_others: Vec<usize>,
}

impl Reproduced {
    pub(super) fn note(&mut self, line: usize, is_same: bool) {
        if is_same {
            self.same += 1;
            return;
        }
        self.other += 1;
        if self.first_others.len() < SHOWN {
            self.first_others.push(line);
        }
    }
}

/// Requests that would have gone elsewhere, from one place to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    /// `pod`, or `prefill pod > pod`.
    pub route: Pair<String>,
    /// How many.
    pub requests: u64,
    /// The same by what made the difference.
    pub why: BTreeMap<String, u64>,
}

/// A pod's part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PodShare {
    /// Whether a decode profile ever kept it, so that it might have answered.
    pub may_answer: bool,
    /// Requests it answers.
    pub requests: Pair<u64>,
    /// Tokens it has to compute, as was expected.
    pub uncached_tokens: Pair<u64>,
}

/// The pod with most, against the mean; and how busy the chosen pods were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Of requests, over the pods that a decode profile kept at any time.
    pub requests: Pair<f64>,
    /// Of tokens to compute, over the pods that had any.
    pub uncached_tokens: Pair<f64>,
    /// Mean over decisions of the requests that the chosen pod had.
    pub in_flight: Pair<f64>,
}

/// What a log comes to under another policy. Its JSON form is what `cargo whatif --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Decisions in the log.
    pub decisions: u64,
    /// Ends of requests in it.
    pub outcomes: u64,
    /// Lines that could not be read.
    pub bad_lines: u64,
    /// The first of them.
    pub bad: Vec<BadLine>,
    /// Whether the policy that made the log makes it again, if it was given.
    pub reproduced: Option<Reproduced>,
    /// Decisions that found a pod then and now: what all below is about.
    pub compared: u64,
    /// Decisions that looked at some of the pods only; the other policy chooses among the same.
    pub sampled: u64,
    /// Decisions for which the other policy would have looked at pods that are not on record.
    pub beyond_record: u64,
    /// Decisions that found no pod then.
    pub failed_then: u64,
    /// Those of them that would have found one.
    pub failed_then_only: u64,
    /// Decisions that would have found no pod.
    pub failed_now: u64,
    /// The first of those.
    pub first_failure: Option<String>,
    /// Decisions that would have gone elsewhere: another pod answers, or another or none prefills.
    pub elsewhere: u64,
    /// Those of them where another pod answers.
    pub another_pod_answers: u64,
    /// The same by what made the difference.
    pub why: BTreeMap<String, u64>,
    /// The same by where from and where to, most first.
    pub moves: Vec<Move>,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Tokens of them to compute, as was expected.
    pub uncached_tokens: Pair<u64>,
    /// How the requests spread over pods.
    pub spread: Spread,
    /// The pods' parts.
    pub pods: BTreeMap<String, PodShare>,
    /// What engines counted beside what was expected of them.
    pub expectations: Expectations,
    /// The changes of most tokens to compute.
    pub largest: Vec<Change>,
    #[serde(skip)]
    pub(super) moved: BTreeMap<Pair<String>, BTreeMap<String, u64>>,
    #[serde(skip)]
    pub(super) in_flight: Pair<u64>,
}

/// Entries of lists of examples.
const SHOWN: usize = 10;
/// Distinct pods and moves that are told apart; beyond them memory would grow with the log.
const MOST_NAMES: usize = 10_000;
const OTHERS: &str = "(others)";

/// Adds what a log says, which may be anything.
fn add(sum: &mut u64, amount: u64) {
    *sum = sum.saturating_add(amount);
}

impl Report {
    pub(super) fn note_bad(&mut self, line: usize, error: String) {
        self.bad_lines += 1;
        if self.bad.len() < SHOWN {
            self.bad.push(BadLine { line, error });
        }
    }

    pub(super) fn compare(&mut self, line: usize, record: &DecisionRecord<'static>, now: &Replayed<'_>) {
        let then = Route::of(&record.decode, record.prefill.as_ref());
        let Some((then, new)) = then.zip(Route::of(&now.decode, now.prefill.as_ref())) else { return };
        let route = Pair { then, now: new };
        self.compared += 1;
        add(&mut self.prompt_tokens, record.prompt.tokens as u64);
        for place in record.decode.kept.iter().chain(&*now.decode.kept) {
            self.pod(record, *place).may_answer = true;
        }
        self.pod(record, then.decode).requests.then += 1;
        self.pod(record, new.decode).requests.now += 1;
        let tokens = route.map(|route| route.uncached_tokens as u64);
        add(&mut self.pod(record, then.computes()).uncached_tokens.then, tokens.then);
        add(&mut self.pod(record, new.computes()).uncached_tokens.now, tokens.now);
        add(&mut self.uncached_tokens.then, tokens.then);
        add(&mut self.uncached_tokens.now, tokens.now);
        let in_flight = route.map(|route| route.in_flight(record));
        add(&mut self.in_flight.then, in_flight.then);
        add(&mut self.in_flight.now, in_flight.now);
        if !then.is(new) {
            self.another_pod_answers += u64::from(then.decode != new.decode);
            self.note_change(Change::new(line, record, now, route));
        }
    }

    fn note_change(&mut self, change: Change) {
        self.elsewhere += 1;
        *self.why.entry(change.why.clone()).or_default() += 1;
        let mut route = change.route.clone();
        if self.moved.len() >= MOST_NAMES && !self.moved.contains_key(&route) {
            route = Pair { then: OTHERS.into(), now: OTHERS.into() };
        }
        *self.moved.entry(route).or_default().entry(change.why.clone()).or_default() += 1;
        // Of equal ones the first.
        let place = self.largest.partition_point(|other| other.size() >= change.size());
        self.largest.insert(place, change);
        self.largest.truncate(SHOWN);
    }

    fn pod(&mut self, record: &DecisionRecord<'static>, place: u32) -> &mut PodShare {
        let name = record.pods.get(place as usize).map_or(OTHERS.into(), |pod| pod.shown());
        let is_told_apart = self.pods.len() < MOST_NAMES || self.pods.contains_key(&*name);
        let name = if is_told_apart { name.into_owned() } else { OTHERS.into() };
        self.pods.entry(name).or_default()
    }

    /// Adds up.
    pub(super) fn finished(mut self) -> Self {
        let moved = std::mem::take(&mut self.moved);
        self.moves =
            moved.into_iter().map(|(route, why)| Move { route, requests: why.values().sum(), why }).collect();
        self.moves.sort_by_key(|one| Reverse(one.requests));
        let spread = |of: fn(&PodShare) -> Pair<u64>, is_one: fn(&PodShare) -> bool| {
            let pods = || self.pods.values().filter(|pod| is_one(pod)).map(of);
            let count = pods().count() as f64;
            let of_one = |which: fn(Pair<u64>) -> u64| {
                let sum: f64 = pods().map(which).map(|amount| amount as f64).sum();
                let most = pods().map(which).max().unwrap_or(0) as f64;
                if sum > 0.0 { most * count / sum } else { 1.0 }
            };
            Pair { then: of_one(|pair| pair.then), now: of_one(|pair| pair.now) }
        };
        self.spread = Spread {
            requests: spread(|pod| pod.requests, |pod| pod.may_answer),
            uncached_tokens: spread(|pod| pod.uncached_tokens, |pod| pod.uncached_tokens != Pair::default()),
            in_flight: self.in_flight.map(|sum| sum as f64 / (self.compared as f64).max(1.0)),
        };
        self
    }
}
