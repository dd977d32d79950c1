//! What peers have in flight.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;

use super::{PeerOptions, PeerReport, PeerStatus};
use crate::BlockHash;
use crate::peer::{Booked, Entry, Report, SentBlocks, Share, Stated};
use crate::request::Finish;
use crate::router::Router;
use crate::router::dispatch::MAX_BOOKED_TOKENS;
use crate::router::roster::Roster;
use crate::session::Home;
use crate::ticket::Leg;

/// This router among its peers. Nothing that decides looks here: what counts for decisions stands in the pods' loads, the
/// index and the sessions.
#[derive(Debug, Default)]
pub(in crate::router) struct PeerTable {
    /// This router, if it joined.
    me: Option<Me>,
    options: PeerOptions,
    /// By life.
    peers: HashMap<u64, Peer>,
    /// Requests in flight of all of them.
    requests: usize,
}

#[derive(Debug)]
struct Me {
    life: u64,
    name: String,
    /// Reports given out.
    sequence: u64,
}

#[derive(Debug)]
struct Peer {
    name: String,
    /// Number of its last report.
    sequence: u64,
    /// When that was made.
    heard: Duration,
    is_whole: bool,
    requests: HashMap<u64, Theirs>,
    reports: u64,
    lost: u64,
}

/// A request that a peer has in flight.
#[derive(Debug)]
struct Theirs {
    decode: Leg,
    /// Until the first token.
    prefill: Option<Leg>,
    started: bool,
    session: Option<u128>,
}

impl PeerTable {
    pub(super) fn me(&self) -> Option<(u64, &str)> {
        self.me.as_ref().map(|me| (me.life, &*me.name))
    }

    pub(super) fn join(&mut self, router: &Router, life: u64, name: &str, options: PeerOptions) {
        self.leave(router);
        self.me = Some(Me { life, name: name.to_string(), sequence: 0 });
        self.options = options;
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.me.as_mut().map_or(0, |me| {
            me.sequence += 1;
            me.sequence
        })
    }

    pub(super) fn leave(&mut self, router: &Router) {
        self.me = None;
        self.forget_peers(router);
    }

    /// Forgets what peers have in flight; they are heard again with their next reports.
    pub(in crate::router) fn forget_peers(&mut self, router: &Router) {
        for (_, peer) in core::mem::take(&mut self.peers) {
            peer.forget(router);
        }
        self.requests = 0;
    }

    /// Takes in a report that was made at `made`.
    pub(super) fn apply(
        &mut self,
        router: &Router,
        roster: &Roster,
        report: Report,
        made: Duration,
        now: Duration,
    ) -> PeerReport {
        let mut outcome = PeerReport { sequence: report.sequence, ..PeerReport::default() };
        if self.me.as_ref().is_some_and(|me| me.life == report.life) {
            outcome.is_own = true;
            return outcome;
        }
        if !self.peers.contains_key(&report.life) {
            if report.is_last {
                return outcome;
            }
            if self.peers.len() >= self.options.max_peers {
                outcome.is_refused = true;
                return outcome;
            }
        }
        let peer = self.peers.entry(report.life).or_insert_with(|| Peer::new(report.sequence, made));
        if peer.reports > 0 && report.sequence <= peer.sequence {
            outcome.is_repeated = true;
            return outcome;
        }
        outcome.lost = (report.sequence - peer.sequence).saturating_sub(1);
        (peer.lost, peer.reports) = (peer.lost + outcome.lost, peer.reports + 1);
        (peer.sequence, peer.heard, peer.name) = (report.sequence, peer.heard.max(made), report.name);
        peer.is_whole &= outcome.lost == 0;
        if report.is_last {
            if let Some(peer) = self.peers.remove(&report.life) {
                self.requests -= peer.requests.len();
                peer.forget(router);
            }
            return outcome;
        }
        let before = peer.requests.len();
        let mut taker =
            Taker { router, roster, made, now, room: Router::MAX_REQUESTS - self.requests, outcome };
        for entry in report.entries {
            taker.take(peer, entry);
        }
        if let Some(statement) = report.statement {
            taker.state(peer, &statement);
            peer.is_whole = true;
        }
        self.requests = self.requests - before + peer.requests.len();
        taker.outcome
    }

    pub(super) fn expire(&mut self, router: &Router, now: Duration) -> usize {
        let silence = self.options.silence;
        let silent = self.peers.extract_if(|_, peer| now.saturating_sub(peer.heard) >= silence);
        let silent: Vec<_> = silent.collect();
        let count = silent.len();
        for (_, peer) in silent {
            self.requests -= peer.requests.len();
            peer.forget(router);
        }
        count
    }

    pub(super) fn status(&self, now: Duration) -> Vec<PeerStatus> {
        let mut all: Vec<_> = self.peers.iter().map(|(&life, peer)| peer.status(life, now)).collect();
        all.sort_by(|a, b| (&a.name, a.life).cmp(&(&b.name, b.life)));
        all
    }
}

impl Peer {
    /// One of which this report is the first that comes here.
    fn new(sequence: u64, heard: Duration) -> Self {
        Self {
            name: String::new(),
            sequence,
            heard,
            // Only one that begins now has said all there is.
            is_whole: sequence == 1,
            requests: HashMap::new(),
            reports: 0,
            lost: 0,
        }
    }

    /// Gives back all it had in flight. What it sent to pods stays predicted: most of it will have arrived.
    fn forget(self, router: &Router) {
        self.requests.into_values().for_each(|request| give_back(router, &request));
    }

    fn status(&self, life: u64, now: Duration) -> PeerStatus {
        PeerStatus {
            name: self.name.clone(),
            life,
            silent_for: now.saturating_sub(self.heard),
            is_whole: self.is_whole,
            in_flight: self.requests.len(),
            reports: self.reports,
            lost: self.lost,
        }
    }
}

/// Takes in what one report says.
struct Taker<'a> {
    router: &'a Router,
    roster: &'a Roster,
    made: Duration,
    now: Duration,
    /// Requests that may still be kept.
    room: usize,
    outcome: PeerReport,
}

impl Taker<'_> {
    fn take(&mut self, peer: &mut Peer, entry: Entry) {
        match entry {
            Entry::Booked(request, booked) => self.book(peer, request, &booked),
            Entry::Started(request) => {
                if let Some(theirs) = peer.requests.get_mut(&request) {
                    start(self.router, theirs);
                }
            }
            Entry::Finished(request, how) => {
                if let Some(theirs) = peer.requests.remove(&request) {
                    self.room += 1;
                    self.finish(theirs, how);
                }
            }
        }
    }

    fn book(&mut self, peer: &mut Peer, request: u64, booked: &Booked) {
        if peer.requests.contains_key(&request) {
            return;
        }
        let decode = self.leg(booked.decode, booked.decode_blocks.as_ref());
        let prefill = booked.prefill.and_then(|share| self.leg(share, booked.prefill_blocks.as_ref()));
        let legs = || decode.iter().chain(&prefill);
        legs().for_each(|leg| leg.pod.load.note_sent(leg.prefill_tokens));
        if booked.is_cold {
            let turn = self.router.next_cold_turn();
            legs().for_each(|leg| leg.pod.set_cold_turn(turn));
        }
        if let (Some(key), Some(decode)) = (booked.session, &decode) {
            let home = Home { decode: decode.pod.id(), prefill: prefill.as_ref().map(|leg| leg.pod.id()) };
            self.router.sessions.bind_if_later(key, home, self.made);
        }
        self.keep(peer, request, decode, prefill, booked.session);
    }

    /// Makes what is in flight what is stated.
    fn state(&mut self, peer: &mut Peer, statement: &[Stated]) {
        let stated: HashMap<u64, &Stated> = statement.iter().map(|stated| (stated.request, stated)).collect();
        let gone: Vec<_> = peer.requests.extract_if(|request, _| !stated.contains_key(request)).collect();
        for (_, theirs) in gone {
            self.room += 1;
            give_back(self.router, &theirs);
        }
        for (&request, stated) in &stated {
            if let Some(theirs) = peer.requests.get_mut(&request) {
                if theirs.is_as(stated, self.roster) {
                    continue;
                }
                // Its first token came, or a pod is another one since.
                if let Some(theirs) = peer.requests.remove(&request) {
                    self.room += 1;
                    give_back(self.router, &theirs);
                }
            }
            let decode = self.leg(stated.decode, None);
            let prefill = stated.prefill.and_then(|share| self.leg(share, None));
            self.keep(peer, request, decode, prefill, None);
        }
    }

    fn keep(
        &mut self,
        peer: &mut Peer,
        request: u64,
        decode: Option<Leg>,
        prefill: Option<Leg>,
        session: Option<u128>,
    ) {
        // What a peer has on a prefill pod ends with the first token, so without its decode pod it has no end here.
        let Some(decode) = decode else { return };
        if self.room == 0 {
            self.outcome.over_limit += 1;
            return;
        }
        self.room -= 1;
        for leg in core::iter::once(&decode).chain(&prefill) {
            leg.pod.load.book_for_peer(leg.prefill_tokens);
        }
        peer.requests.insert(request, Theirs { decode, prefill, started: false, session });
    }

    /// The part of a pod that is here.
    fn leg(&mut self, share: Share, blocks: Option<&SentBlocks>) -> Option<Leg> {
        let Some(row) = self.roster.row_of_identity(share.pod) else {
            self.outcome.unknown_pods += 1;
            return None;
        };
        let pod = Arc::clone(&self.roster.pods[row]);
        // As many as this router books itself, so that the sum fits.
        let prefill_tokens = share.prefill_tokens.min(MAX_BOOKED_TOKENS as u64);
        let mut leg = Leg { pod, prefill_tokens, prediction: Default::default(), speculation: None };
        if let Some(blocks) = blocks {
            self.expect(&mut leg, row, blocks);
        }
        Some(leg)
    }

    /// Expects blocks to come to a pod's cache.
    fn expect(&mut self, leg: &mut Leg, row: usize, blocks: &SentBlocks) {
        let Some(domain) = self.roster.domain_told_as(row, blocks.domain) else {
            self.outcome.unknown_blocks += 1;
            return;
        };
        let (index, id) = (&self.router.index, leg.pod.id());
        let hashes: Vec<_> = blocks.hashes.iter().map(|&hash| BlockHash(hash)).collect();
        // A pod that was removed meanwhile has nothing to predict.
        leg.prediction = index.predict(id, domain, &hashes).unwrap_or_default();
        let end = self.made.saturating_add(self.router.options.speculation_ttl);
        if blocks.is_speculative && end > self.now {
            leg.speculation = index.speculate(id, domain, &hashes, end).ok().flatten();
        }
    }

    fn finish(&self, theirs: Theirs, how: Finish) {
        give_back(self.router, &theirs);
        if let (Finish::Failed, Some(key)) = (how, theirs.session) {
            self.router.sessions.unbind(key, theirs.decode.pod.id());
        }
        let keeps = how == Finish::Completed || (how == Finish::Cancelled && theirs.started);
        if !keeps {
            for leg in core::iter::once(&theirs.decode).chain(&theirs.prefill) {
                self.router.index.revoke(leg.pod.id(), leg.prediction);
            }
        }
    }
}

impl Theirs {
    fn is_as(&self, stated: &Stated, roster: &Roster) -> bool {
        let same = |leg: &Leg, share: Share| {
            let tokens = share.prefill_tokens.min(MAX_BOOKED_TOKENS as u64);
            leg.prefill_tokens == tokens
                && roster.row_of_identity(share.pod).is_some_and(|row| roster.pods[row].id() == leg.pod.id())
        };
        same(&self.decode, stated.decode)
            && match (&self.prefill, stated.prefill) {
                (None, None) => true,
                (Some(leg), Some(share)) => same(leg, share),
                _ => false,
            }
    }
}

/// A request's first token came.
fn start(router: &Router, theirs: &mut Theirs) {
    theirs.started = true;
    if let Some(leg) = theirs.prefill.take() {
        leg.pod.load.release_for_peer(1, leg.prefill_tokens);
        router.end_speculation(&leg.pod, leg.speculation);
    }
    let tokens = core::mem::take(&mut theirs.decode.prefill_tokens);
    theirs.decode.pod.load.release_for_peer(0, tokens);
    router.end_speculation(&theirs.decode.pod, theirs.decode.speculation.take());
}

fn give_back(router: &Router, theirs: &Theirs) {
    for leg in core::iter::once(&theirs.decode).chain(&theirs.prefill) {
        leg.pod.load.release_for_peer(1, leg.prefill_tokens);
        router.end_speculation(&leg.pod, leg.speculation);
    }
}
