//! Several routers in front of one fleet, each of which gets its share of the requests.

use std::collections::VecDeque;
use std::time::Duration;

use kvroute_core::{Error, LoadReport, PeerOptions, Telling};

use super::kvroute::{KvroutePolicy, Routed};
use super::policy::{Finish, Placement, PodEvent, PodView, Policy};
use crate::random;
use crate::workload::FleetRequest;

/// How often each router states all it has in flight; seconds.
const STATEMENT: f64 = 5.0;

/// Routers that all see every pod's events and load reports, and of which each routes some of the requests, chosen by lot.
/// They may tell each other what they do: then what one knows of the others is at most so many seconds old, and half of
/// that at least.
#[derive(Debug)]
pub struct Replicas {
    members: Vec<KvroutePolicy>,
    /// At most so old is what they know of each other; `None`: they tell each other nothing.
    staleness: Option<f64>,
    seed: u64,
    reads_events: bool,
    /// When the next reports are made.
    next_report: f64,
    next_statement: f64,
    /// Reports on their way, with the time they were made.
    under_way: VecDeque<(f64, Vec<u8>)>,
    errors: Vec<Error>,
}

impl Replicas {
    /// `make` makes each of them; `staleness` in seconds.
    #[must_use]
    pub fn new(
        count: usize,
        staleness: Option<f64>,
        seed: u64,
        mut make: impl FnMut(usize) -> KvroutePolicy,
    ) -> Self {
        let members: Vec<_> = (0..count.max(1)).map(&mut make).collect();
        let mut errors = Vec::new();
        if staleness.is_some() {
            // Nobody dies here.
            let options = PeerOptions { silence: Duration::MAX, max_peers: count, ..PeerOptions::default() };
            for (number, member) in members.iter().enumerate() {
                errors.extend(member.router().join_peers(number as u64 + 1, "", options).err());
            }
        }
        Self {
            members,
            staleness,
            seed,
            reads_events: true,
            next_report: 0.0,
            next_statement: 0.0,
            under_way: VecDeque::new(),
            errors,
        }
    }

    /// Lets no events come: all go by what was sent.
    #[must_use]
    pub fn without_events(mut self) -> Self {
        self.reads_events = false;
        self
    }

    /// What all of them decided, one after the other.
    pub fn routed(&self) -> impl Iterator<Item = &Routed> {
        self.members.iter().flat_map(KvroutePolicy::routed)
    }

    /// What went wrong. Nothing should.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.errors.iter().chain(self.members.iter().flat_map(KvroutePolicy::errors))
    }

    /// The one that routes this request.
    fn member_of(&mut self, request: u64) -> &mut KvroutePolicy {
        let at = random::at(self.seed, request) % self.members.len() as u64;
        &mut self.members[at as usize]
    }

    /// Makes the reports and carries those that were due by now.
    fn carry(&mut self, now: f64) {
        let Some(staleness) = self.staleness else { return };
        let half = staleness / 2.0;
        loop {
            let due = self.under_way.front().map(|(made, _)| made + half).filter(|due| *due <= now);
            match due {
                Some(due) if due <= self.next_report => self.deliver(due),
                _ if self.next_report <= now => self.report(half),
                Some(due) => self.deliver(due),
                None => return,
            }
        }
    }

    fn report(&mut self, interval: f64) {
        let made = self.next_report;
        self.next_report += interval;
        let states = made >= self.next_statement;
        if states {
            self.next_statement = made + STATEMENT;
        }
        let what = if states { Telling::Statement } else { Telling::News };
        let reports = self.members.iter().filter_map(|member| member.router().report_to_peers(what));
        self.under_way.extend(reports.map(|report| (made, report)));
    }

    fn deliver(&mut self, now: f64) {
        let Some((made, report)) = self.under_way.pop_front() else { return };
        let age = Duration::try_from_secs_f64(now - made).unwrap_or_default();
        for member in &self.members {
            let taken = member.router().apply_peer_report(&report, age, Duration::from_secs_f64(now));
            self.errors.extend(taken.err());
        }
    }
}

impl Policy for Replicas {
    fn place(&mut self, request: &FleetRequest, pods: &[PodView], now: f64) -> Placement {
        self.carry(now);
        self.member_of(request.id).place(request, pods, now)
    }

    fn reads_events(&self) -> bool {
        self.reads_events
    }

    fn on_batch(&mut self, pod: usize, sequence: u64, payload: &[u8], now: f64) {
        self.members.iter_mut().for_each(|member| member.on_batch(pod, sequence, payload, now));
    }

    fn on_report(&mut self, pod: usize, report: LoadReport, now: f64) {
        self.carry(now);
        self.members.iter_mut().for_each(|member| member.on_report(pod, report, now));
    }

    fn on_first_token(&mut self, request: u64, now: f64) {
        self.member_of(request).on_first_token(request, now);
    }

    fn on_finish(&mut self, request: u64, finish: Finish, now: f64) {
        self.member_of(request).on_finish(request, finish, now);
    }

    fn on_failure(&mut self, request: u64, now: f64) {
        self.member_of(request).on_failure(request, now);
    }

    fn on_pod_event(&mut self, pod: usize, event: PodEvent, pods: &[PodView], now: f64) {
        self.members.iter_mut().for_each(|member| member.on_pod_event(pod, event, pods, now));
    }
}
