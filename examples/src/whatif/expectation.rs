//! How good the expectations were: what engines counted, beside what was expected.

use std::collections::{HashMap, VecDeque};

use kvroute_core::record::{DecisionRecord, OutcomeRecord};
use kvroute_core::{Finish, Router};
use serde::Serialize;

/// Requests whose end is in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expectations {
    /// The engine had what was expected.
    pub agreed: u64,
    /// It had less: too much was expected.
    pub over: u64,
    /// It had more: too little was expected.
    pub under: u64,
    /// Nothing was expected, and the engine had nothing.
    pub nothing: u64,
    /// The engine's count cannot be compared: it was not told, the prompt came from another pod, no events tell of the
    /// pod's cache, or the request was not answered.
    pub not_comparable: u64,
    /// Requests whose decision is not in the log.
    pub without_decision: u64,
}

/// Decisions whose end is to come, by ticket; no more than a router has in flight.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    /// With the number of the decision, for tickets are used again.
    expected: HashMap<u64, (u64, Option<usize>)>,
    /// Numbers and tickets in order, with some that have ended.
    order: VecDeque<(u64, u64)>,
    decisions: u64,
}

impl Awaited {
    pub(super) fn begin(&mut self, record: &DecisionRecord<'_>) {
        let Some(ticket) = record.ticket.filter(|&ticket| ticket != 0) else { return };
        self.decisions += 1;
        self.expected.insert(ticket, (self.decisions, record.expected_cached_tokens()));
        self.order.push_back((self.decisions, ticket));
        if self.order.len() > 2 * Router::MAX_REQUESTS {
            self.prune();
        }
    }

    /// Forgets what has ended, and of the rest the oldest.
    fn prune(&mut self) {
        let Self { expected, order, .. } = self;
        let is_open = |number, ticket| expected.get(&ticket).is_some_and(|(of, _)| *of == number);
        order.retain(|&(number, ticket)| is_open(number, ticket));
        let oldest = order.drain(..order.len().saturating_sub(Router::MAX_REQUESTS));
        oldest.for_each(|(_, ticket)| {
            expected.remove(&ticket);
        });
    }

    pub(super) fn end(&mut self, outcome: &OutcomeRecord, into: &mut Expectations) {
        let Some((_, expected)) = self.expected.remove(&outcome.ticket) else {
            into.without_decision += 1;
            return;
        };
        let counted = outcome.engine_cached_tokens.filter(|_| outcome.how == Finish::Completed);
        let which = match (expected, counted) {
            (Some(0), Some(0)) => &mut into.nothing,
            (Some(expected), Some(counted)) if counted == expected => &mut into.agreed,
            (Some(expected), Some(counted)) if counted < expected => &mut into.over,
            (Some(_), Some(_)) => &mut into.under,
            _ => &mut into.not_comparable,
        };
        *which += 1;
    }
}
