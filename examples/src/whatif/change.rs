//! One decision that would have been another.

use kvroute_core::decision::Reason;
use kvroute_core::record::{DecisionRecord, ProfileRecord};
use kvroute_core::router::Replayed;
use serde::Serialize;

use super::Pair;

/// Where a request goes: places in the record's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The pod that answers.
    pub decode: u32,
    /// The pod that computes the prompt first, if one does.
    pub prefill: Option<u32>,
    /// Tokens that the pod which computes the prompt has to compute, as well as could be told.
    pub uncached_tokens: usize,
}

impl Route {
    /// `None` where there was no pod.
    pub(super) fn of(decode: &ProfileRecord<'_>, prefill: Option<&ProfileRecord<'_>>) -> Option<Self> {
        let used = prefill.and_then(|prefill| Some((prefill.used()?, prefill.uncached_tokens)));
        Some(Self {
            decode: decode.picked?,
            prefill: used.map(|(place, _)| place),
            uncached_tokens: used.map_or(decode.uncached_tokens, |(_, tokens)| tokens),
        })
    }

    /// The pod that computes the prompt.
    pub(super) fn computes(self) -> u32 {
        self.prefill.unwrap_or(self.decode)
    }

    /// Whether it leads to the same pods.
    pub(super) fn is(self, other: Self) -> bool {
        (self.decode, self.prefill) == (other.decode, other.prefill)
    }

    /// Requests that the pod which answers had.
    pub(super) fn in_flight(self, record: &DecisionRecord<'_>) -> u64 {
        record.pods.get(self.decode as usize).map_or(0, |pod| pod.in_flight)
    }

    pub(super) fn shown(self, record: &DecisionRecord<'_>) -> String {
        let name =
            |place: u32| record.pods.get(place as usize).map_or_else(String::new, |pod| pod.shown().into());
        match self.prefill {
            None => name(self.decode),
            Some(prefill) => format!("{} > {}", name(prefill), name(self.decode)),
        }
    }
}

/// A decision that would have been another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Number of its line.
    pub line: usize,
    /// When it was made, seconds of the log's clock.
    pub seconds: f64,
    /// Where it went and would have gone: `pod`, or `prefill pod > pod`.
    pub route: Pair<String>,
    /// Length of the prompt, tokens.
    pub prompt_tokens: usize,
    /// Tokens to compute, as was expected.
    pub uncached_tokens: Pair<usize>,
    /// Requests that the pod which answers had.
    pub in_flight: Pair<u64>,
    /// What made the difference: `filter:`, `guard:` or `prefill:` and what it did, `score:` and the scorer that speaks
    /// most for the pod of now, or `even: by lot`.
    pub why: String,
}

impl Change {
    pub(super) fn new(
        line: usize,
        record: &DecisionRecord<'_>,
        now: &Replayed<'_>,
        route: Pair<Route>,
    ) -> Self {
        Self {
            line,
            seconds: record.now.as_secs_f64(),
            route: route.map(|route| route.shown(record)),
            prompt_tokens: record.prompt.tokens,
            uncached_tokens: route.map(|route| route.uncached_tokens),
            in_flight: route.map(|route| route.in_flight(record)),
            why: why(record, now, route),
        }
    }

    /// How much it would have changed: tokens to compute, more or less.
    pub(super) fn size(&self) -> (usize, u64) {
        let Pair { then, now } = self.uncached_tokens;
        (then.abs_diff(now), self.in_flight.then.abs_diff(self.in_flight.now))
    }
}

/// What made the difference: a filter that drops the pod of then, a guard, the scorer that speaks most for the pod of
/// now, a lot among equals, or a threshold of the prefill policy.
fn why(record: &DecisionRecord<'_>, now: &Replayed<'_>, route: Pair<Route>) -> String {
    let Pair { then: old, now: new } = route;
    if old.decode == new.decode {
        return match (old.prefill, new.prefill) {
            (None, _) => "prefill: used",
            (_, None) => "prefill: not used",
            _ => "prefill: another pod",
        }
        .into();
    }
    if let Some(filter) = now.decode.dropped_by(old.decode) {
        return format!("filter: {filter}");
    }
    match (record.decode.reason, now.decode.reason) {
        (Reason::Picked, Reason::Picked) => {}
        (then, Reason::Picked) => return format!("guard: not {}", then.name()),
        (_, reason) => return format!("guard: {}", reason.name()),
    }
    let totals = now.decode.total(old.decode).zip(now.decode.total(new.decode));
    if totals.is_none_or(|(old, new)| new <= old) {
        return "even: by lot".into();
    }
    let gains = now.decode.scores.iter().filter_map(|scores| {
        let value = |place| scores.values.get(now.decode.row(place)?).copied();
        Some((scores.weight * (value(new.decode)? - value(old.decode)?), &scores.scorer))
    });
    let most = gains.max_by(|a, b| a.0.total_cmp(&b.0));
    most.map_or_else(String::new, |(_, scorer)| format!("score: {scorer}"))
}
