//! A request's life: dispatched, its first token, its end.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use core::time::Duration;

use super::Router;
use super::decide::choose;
use super::roster::Roster;
use super::workspace::Workspace;
use crate::decision::Decision;
use crate::index::{PodId, Speculation, TrustLevel};
use crate::load::Bookings;
use crate::peer::{Booked, SentBlocks};
use crate::pod::RoutedPod;
use crate::request::{Finish, Prompt, Request, Session};
use crate::session::{Home, Sealed, SessionTable};
use crate::ticket::{InFlight, Leg, Ticket};
use crate::{Error, ErrorKind};

/// A request that was sent on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Dispatch {
    /// Where it goes.
    pub decision: Decision,
    /// Names it in [`Router::first_token`] and [`Router::finish`].
    pub ticket: Ticket,
    /// How often it was decided again because somebody else booked the same pod meanwhile; at most
    /// [`Router::MAX_RETRIES`].
    pub retries: u32,
    /// Somebody else still did at the last try, and it was booked all the same.
    pub contended: bool,
}

/// Most tokens booked for one request, so that the sum of all that can be in flight fits in a booking.
pub(super) const MAX_BOOKED_TOKENS: usize = 1 << 21;
const _: () = assert!(MAX_BOOKED_TOKENS as u64 * Router::MAX_REQUESTS as u64 <= Bookings::MAX_PREFILL_TOKENS);

impl Router {
    /// Most times a dispatch decides again.
    pub const MAX_RETRIES: u32 = 3;

    /// Decides and books: until its first token the request counts as prefill work of the pod that computes
    /// its prompt, until its end as a request of the pod that answers it; its blocks are predicted to be in
    /// those pods' caches; its session is at home there.
    ///
    /// Deciding takes no lock, so others may decide by the same bookings at the same time. They are only
    /// changed if they still are what the decision saw; else it is made again with the new ones, at most
    /// [`MAX_RETRIES`](Self::MAX_RETRIES) times, and then booked as it is
    /// ([`Dispatch::contended`]). Only the bookings of the pods it goes to count: what happened on others
    /// made those no better.
    ///
    /// # Errors
    ///
    /// As [`decide`](Self::decide); then nothing was booked.
    pub fn dispatch(
        &self,
        request: &Request<'_>,
        now: Duration,
        workspace: &mut Workspace,
    ) -> Result<Dispatch, Error> {
        self.index.expire_speculations(now);
        self.with_current(workspace, |roster, policy, workspace| {
            self.gather(roster, policy, request, now, workspace)?;
            let (mut retries, mut contended) = (0, false);
            let decision = loop {
                let decision = choose(roster, policy, request, workspace)?;
                if book(roster, workspace, &decision, false) {
                    break decision;
                }
                if retries == Self::MAX_RETRIES {
                    contended = book(roster, workspace, &decision, true);
                    break decision;
                }
                retries += 1;
                workspace.refresh_bookings(roster);
            };
            let session = match request.session {
                Some(Session::Id(id)) if !id.is_empty() => Some(SessionTable::key(id)),
                _ => None,
            };
            if let Some(key) = session {
                let home = Home { decode: decision.pod, prefill: decision.prefill.map(|p| p.pod) };
                self.sessions.bind(key, home, now);
            }
            let ticket = self.track(roster, request, now, workspace, &decision, session);
            Ok(Dispatch { decision, ticket, retries, contended })
        })
    }

    /// The engine sent the request's first token: its prompt is computed. Answers whether that was news.
    pub fn first_token(&self, ticket: Ticket) -> bool {
        let news = self.tickets.start(ticket, |request| {
            let tokens = core::mem::take(&mut request.decode.prefill_tokens);
            let decode = (Arc::clone(&request.decode.pod), tokens, request.decode.speculation.take());
            (decode, request.prefill.take())
        });
        let Some(((pod, tokens, speculation), prefill)) = news else { return false };
        if let Some(leg) = prefill {
            leg.pod.load.release(1, leg.prefill_tokens);
            self.end_speculation(&leg.pod, leg.speculation);
        }
        pod.load.release(0, tokens);
        self.end_speculation(&pod, speculation);
        true
    }

    /// The request ended: what was booked for it is given back. After a failure its session is at home nowhere,
    /// and what it alone was predicted to bring into caches is taken back, on both pods. Answers whether it was in flight still; a
    /// ticket that was finished before, or whose time is over, changes nothing.
    ///
    /// `engine_cached_tokens`: what the engine says it took from its cache
    /// (`usage.prompt_tokens_details.cached_tokens`), where the caller has it. It is compared with what
    /// was expected of the pod's view ([`RoutedPod::audit`]).
    pub fn finish(&self, ticket: Ticket, how: Finish, engine_cached_tokens: Option<usize>) -> bool {
        let Some(request) = self.tickets.remove(ticket, how) else { return false };
        if let (Finish::Completed, Some(expected), Some(counted)) =
            (how, request.expected, engine_cached_tokens)
        {
            request.decode.pod.compare(expected, counted);
        }
        self.let_go(request, how);
        true
    }

    /// Forgets requests and sessions whose time is over ([`RouterOptions`](super::RouterOptions)); answers how
    /// many requests. To be called now and then, every second, say.
    pub fn expire(&self, now: Duration) -> usize {
        let mut expired = 0;
        self.tickets.expire(now, |request| {
            self.let_go(request, Finish::Cancelled);
            expired += 1;
        });
        self.sessions.expire(now);
        self.expired.fetch_add(expired as u64, Ordering::Relaxed);
        expired
    }

    /// A token for the client to send with its next request ([`Session::Token`]), so that it comes back to these
    /// pods, a decision's: opaque, of constant length, of no use without the key. A prefill pod that is gone is left
    /// out.
    ///
    /// # Errors
    ///
    /// `UnknownPod`; `InvalidInput` if the router has no session key.
    pub fn session_token(&self, pod: PodId, prefill: Option<PodId>, now: Duration) -> Result<String, Error> {
        let Some(sealer) = &self.sealer else {
            return Err(Error::invalid("session tokens need a session key in the router's options"));
        };
        let decode = self.pod_by_id(pod)?.identity;
        let prefill = prefill.and_then(|pod| self.pod_by_id(pod).ok()).map_or(0, |pod| pod.identity);
        let expires =
            u64::try_from(now.saturating_add(self.options.session_ttl).as_millis()).unwrap_or(u64::MAX);
        sealer
            .seal(Sealed { decode, prefill, expires }, now)
            .ok_or_else(|| Error::new(ErrorKind::Limit, "the session token could not be sealed"))
    }

    /// Predicts the request's blocks and keeps what was booked for it.
    fn track(
        &self,
        roster: &Roster,
        request: &Request<'_>,
        now: Duration,
        workspace: &Workspace,
        decision: &Decision,
        session: Option<u128>,
    ) -> Ticket {
        let speculation_end = Some(self.options.speculation_ttl)
            .filter(|ttl| !ttl.is_zero())
            .map(|ttl| now.saturating_add(ttl));
        let leg = |id: PodId, prefill_tokens: u64| {
            let (row, facts) = (roster.row(id)?, workspace.facts_of(roster, id)?);
            let domain = roster.domain_of(&roster.pods[row], request.prompt);
            let blocks = workspace.blocks(domain);
            // A pod that was removed meanwhile has nothing to predict.
            let prediction = self.index.predict(id, domain, blocks).unwrap_or_default();
            // Where no events tell, what was predicted counts anyway.
            let end = speculation_end.filter(|_| facts.events_tell);
            let speculation =
                end.and_then(|end| self.index.speculate(id, domain, blocks, end).ok().flatten());
            Some(Leg { pod: Arc::clone(&roster.pods[row]), prefill_tokens, prediction, speculation })
        };
        let booked = booked_tokens(decision);
        let Some(decode) = leg(decision.pod, booked.decode) else { return Ticket::UNTRACKED };
        let prefill = decision.prefill.and_then(|p| leg(p.pod, booked.prefill));
        let is_cold = workspace.facts.iter().all(|facts| facts.cached_blocks() == 0);
        if is_cold {
            let turn = self.next_cold_turn();
            core::iter::once(&decode).chain(&prefill).for_each(|leg| leg.pod.set_cold_turn(turn));
        }
        // What comes by transfer counts as cached for the engine, and a view that nothing feeds expects nothing.
        let is_told = workspace.facts_of(roster, decision.pod).is_some_and(|facts| facts.known > 0);
        let comparable = prefill.is_none()
            && (is_told || decode.pod.stream_trust() >= TrustLevel::Degraded)
            && matches!(request.prompt, Prompt::TokenIds(_));
        let expected = comparable.then_some(decision.matched_tokens);
        let news = self.told_to_peers(roster, request, workspace, &decode, prefill.as_ref());
        let news = news.map(|told| Booked { session, is_cold, ..told });
        let in_flight = InFlight { decode, prefill, since: now, started: false, expected, session };
        let mut expired = 0;
        let ticket = self.tickets.insert(in_flight, news, now, |request| {
            self.let_go(request, Finish::Cancelled);
            expired += 1;
        });
        self.expired.fetch_add(expired, Ordering::Relaxed);
        ticket.unwrap_or_else(|request| {
            self.untracked.fetch_add(1, Ordering::Relaxed);
            self.give_back(&request);
            Ticket::UNTRACKED
        })
    }

    pub(super) fn next_cold_turn(&self) -> u64 {
        self.cold_turns.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn end_speculation(&self, pod: &RoutedPod, speculation: Option<Speculation>) {
        if let Some(speculation) = speculation {
            self.index.end_speculation(pod.id(), speculation);
        }
    }

    /// Gives back what was booked for a request.
    fn give_back(&self, request: &InFlight) {
        for leg in core::iter::once(&request.decode).chain(&request.prefill) {
            leg.pod.load.release(1, leg.prefill_tokens);
            self.end_speculation(&leg.pod, leg.speculation);
        }
    }

    /// Gives back what was booked for a request, and notes how it ended.
    fn let_go(&self, request: InFlight, how: Finish) {
        let keep = how == Finish::Completed || (how == Finish::Cancelled && request.started);
        let decode = &request.decode;
        self.give_back(&request);
        for leg in core::iter::once(decode).chain(&request.prefill) {
            match how {
                Finish::Completed => leg.pod.note_answer(),
                Finish::Failed => leg.pod.note_failure(request.since),
                Finish::Cancelled => {}
            }
        }
        if let (Finish::Failed, Some(key)) = (how, request.session) {
            self.sessions.unbind(key, decode.pod.id());
        }
        if !keep {
            for leg in core::iter::once(decode).chain(&request.prefill) {
                self.index.revoke(leg.pod.id(), leg.prediction);
            }
        }
    }
}

impl Router {
    /// What peers are to know of a dispatch, if there are any.
    fn told_to_peers(
        &self,
        roster: &Roster,
        request: &Request<'_>,
        workspace: &Workspace,
        decode: &Leg,
        prefill: Option<&Leg>,
    ) -> Option<Booked> {
        let most = self.told_blocks.load(Ordering::Relaxed);
        if most == 0 {
            return None;
        }
        let blocks = |leg: &Leg| {
            let facts = workspace.facts_of(roster, leg.pod.id())?;
            let domain = roster.domain_of(&leg.pod, request.prompt);
            let blocks = workspace.blocks(domain);
            let blocks = &blocks[..blocks.len().min(most)];
            // Where the pod's own events tell peers of all of it, nothing is to be added.
            let is_known = facts.events_tell && facts.matched.total() as usize >= blocks.len();
            (!blocks.is_empty() && !is_known).then(|| SentBlocks {
                domain: roster.told_domain(&leg.pod, request.prompt),
                is_speculative: facts.events_tell,
                hashes: blocks.iter().map(|block| block.0).collect(),
            })
        };
        let decode_blocks = blocks(decode);
        let prefill_blocks = prefill.and_then(|leg| {
            let own = blocks(leg)?;
            // The same memory, where it is the same.
            Some(decode_blocks.clone().filter(|blocks| *blocks == own).unwrap_or(own))
        });
        Some(Booked {
            decode: decode.share(),
            decode_blocks,
            prefill: prefill.map(Leg::share),
            prefill_blocks,
            session: None,
            is_cold: false,
        })
    }
}

struct BookedTokens {
    decode: u64,
    prefill: u64,
}

/// The prompt is computed once: by the prefill pod if there is one, and then the decode pod gets it by transfer.
fn booked_tokens(decision: &Decision) -> BookedTokens {
    let tokens = |uncached: usize| uncached.min(MAX_BOOKED_TOKENS) as u64;
    match decision.prefill {
        None => BookedTokens { decode: tokens(decision.uncached_tokens), prefill: 0 },
        Some(prefill) => BookedTokens { decode: 0, prefill: tokens(prefill.uncached_tokens) },
    }
}

/// Books a decision on its pods if nobody booked them since it was made, or with `anyway`; all or nothing.
fn book(roster: &Roster, workspace: &Workspace, decision: &Decision, anyway: bool) -> bool {
    let booked = booked_tokens(decision);
    let try_one = |id: PodId, tokens: u64| -> Option<(&RoutedPod, bool)> {
        let row = roster.row(id)?;
        let seen = if anyway { None } else { Some(workspace.facts_of(roster, id)?.own) };
        Some((&roster.pods[row], roster.pods[row].load.book(seen, tokens)))
    };
    let first = decision.prefill.and_then(|prefill| try_one(prefill.pod, booked.prefill));
    if matches!(first, Some((_, false))) {
        return false;
    }
    if let Some((pod, true)) = try_one(decision.pod, booked.decode) {
        pod.load.note_sent(booked.decode);
        if let Some((pod, _)) = first {
            pod.load.note_sent(booked.prefill);
        }
        return true;
    }
    if let Some((pod, _)) = first {
        pod.load.release(1, booked.prefill);
    }
    false
}
