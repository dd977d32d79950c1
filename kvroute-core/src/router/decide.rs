//! From a request to a decision.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Router;
use super::board::Board;
use super::roster::{Roster, RoutedDomain};
use crate::candidate::{Candidates, Facts};
use crate::decision::{Decision, Prefill};
use crate::index::{MatchTable, PodId, TierBlocks, TrustLevel};
use crate::pod::RoutedPod;
use crate::request::{Prompt, Request, ScoreColumn, Session};
use crate::session::SessionTable;
use crate::published::Seen;
use crate::{BlockHash, CacheDomain, Error, ErrorKind};

/// Room for one decision at a time, reused so that deciding allocates nothing once warm; and what the last
/// decision saw, for [`Router::explain`]. One per thread.
#[derive(Debug, Default)]
pub struct Workspace {
    /// A text, four bytes a word.
    words: Vec<u32>,
    /// The prompt's blocks, once for each way of hashing.
    hashed: Vec<Hashed>,
    table: MatchTable,
    pub(super) facts: Vec<Facts>,
    pub(super) decode: Board,
    pub(super) prefill: Board,
    pub(super) roster: Option<Seen<Roster>>,
    pub(super) prompt_tokens: usize,
    pub(super) session: SessionRows,
    /// Distinguishes the request where a choice is even.
    nonce: u64,
    /// Domains that the request could not be hashed for, by name.
    pub(super) unhashed: Vec<(String, Error)>,
}

#[derive(Debug)]
struct Hashed {
    /// Of the hasher.
    identity: u64,
    blocks: Vec<BlockHash>,
}

/// The pods that served the request's session last, if they are here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SessionRows {
    decode: Option<usize>,
    prefill: Option<usize>,
    /// Why there is none.
    pub(super) missing: Option<&'static str>,
}

impl Workspace {
    /// A pod that took part in the last decision, also if it was removed since.
    #[must_use]
    pub fn pod(&self, id: PodId) -> Option<&Arc<RoutedPod>> {
        let roster = self.roster.as_ref()?.value();
        roster.row(id).map(|row| &roster.pods[row])
    }

    /// All full blocks of the prompt as `domain` hashes them; empty if it cannot.
    pub(super) fn blocks(&self, domain: &CacheDomain) -> &[BlockHash] {
        let identity = domain.hasher().identity();
        self.hashed.iter().find(|hashed| hashed.identity == identity).map_or(&[], |hashed| &hashed.blocks)
    }

    /// Begins a decision among these pods.
    fn reset(&mut self, roster: &Roster, request: &Request<'_>) {
        self.prompt_tokens = request.prompt.tokens();
        self.unhashed.clear();
        self.decode.clear();
        self.prefill.clear();
        self.facts.clear();
        let is_text = matches!(request.prompt, Prompt::Text(_));
        self.facts.extend(roster.pods.iter().map(|pod| {
            let (load, booked) = (pod.load(), pod.bookings());
            Facts {
                matched: TierBlocks::default(),
                predicted: 0,
                searchable: 0,
                block_size: pod.domain.block_size(),
                load,
                booked,
                in_flight: pod.in_flight(booked, load),
                accepting: pod.is_accepting(),
                trust: pod.trust(),
                events_tell: !is_text && pod.stream_trust() >= TrustLevel::Degraded,
            }
        }));
    }

    /// Looks at bookings again, which somebody changed.
    pub(super) fn refresh_bookings(&mut self, roster: &Roster) {
        for (pod, facts) in roster.pods.iter().zip(&mut self.facts) {
            facts.booked = pod.bookings();
            facts.in_flight = pod.in_flight(facts.booked, facts.load);
        }
    }
}

impl Router {
    /// Longest prompt that is routed; tokens. Far beyond any engine's.
    pub const MAX_PROMPT_TOKENS: usize = 1 << 28;

    /// Chooses a pod, or two. Changes nothing: the same pods, views, loads, bookings, sessions, time and nonce
    /// give the same decision. `now` is the time since any moment that is the same for all calls; with
    /// session tokens, since the Unix epoch.
    ///
    /// A cache domain that the request cannot be hashed for (a native one, and the adapter's path is
    /// missing, say) matches nothing; the explanation says so.
    ///
    /// # Errors
    ///
    /// `NoCandidate` if there is no pod or the filters drop every one (of the pods that prefill: then there
    /// is none that does); `InvalidInput` if the request can be hashed for no domain at all, a score
    /// column is not as it should be, or a scorer or picker breaks its contract; `Limit` if the prompt has more than
    /// [`MAX_PROMPT_TOKENS`](Self::MAX_PROMPT_TOKENS).
    pub fn decide(
        &self,
        request: &Request<'_>,
        now: Duration,
        workspace: &mut Workspace,
    ) -> Result<Decision, Error> {
        self.with_roster(workspace, |roster, workspace| {
            self.look_up(roster, request, now, workspace)?;
            self.choose(roster, request, workspace)
        })
    }

    /// Runs `act` with the roster that the workspace has seen, made current.
    pub(super) fn with_roster<R>(
        &self,
        workspace: &mut Workspace,
        act: impl FnOnce(&Roster, &mut Workspace) -> R,
    ) -> R {
        let mut seen = workspace.roster.take();
        let result = act(self.roster.refresh(&mut seen), workspace);
        workspace.roster = seen;
        result
    }

    /// Finds out what the pods have of the prompt, and where its session is at home.
    pub(super) fn look_up(
        &self,
        roster: &Roster,
        request: &Request<'_>,
        now: Duration,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        workspace.reset(roster, request);
        if workspace.prompt_tokens > Self::MAX_PROMPT_TOKENS {
            let (tokens, most) = (workspace.prompt_tokens, Self::MAX_PROMPT_TOKENS);
            let message = alloc::format!("a prompt of {tokens} tokens; at most {most}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        self.check_scores(request.scores)?;
        workspace.session = self.session_rows(roster, request, now);
        let fingerprint = self.find_matches(roster, request, workspace)?;
        workspace.nonce = request.nonce.unwrap_or(fingerprint);
        Ok(())
    }

    fn check_scores(&self, columns: &[ScoreColumn<'_>]) -> Result<(), Error> {
        for (at, ScoreColumn { scorer, pods, values }) in columns.iter().enumerate() {
            let fail = |what: &str| Err(Error::invalid(alloc::format!("score column \"{scorer}\": {what}")));
            if !self.policy.reads_column(scorer) {
                return fail("no profile has an external scorer of this name");
            }
            if columns[..at].iter().any(|other| other.scorer == *scorer) {
                return fail("it is there twice");
            }
            if pods.len() != values.len() {
                return fail(&alloc::format!("{} pods, but {} values", pods.len(), values.len()));
            }
            if let Some((pod, value)) = pods.iter().zip(*values).find(|(_, v)| !(0.0..=1.0).contains(*v)) {
                return fail(&alloc::format!("{value} for pod {pod}; scores are 0 to 1"));
            }
        }
        Ok(())
    }

    /// Decides by what was looked up.
    pub(super) fn choose(
        &self,
        roster: &Roster,
        request: &Request<'_>,
        workspace: &mut Workspace,
    ) -> Result<Decision, Error> {
        let Workspace { facts, decode, prefill, prompt_tokens, session, nonce, .. } = workspace;
        let candidates = Candidates {
            request,
            prompt_tokens: *prompt_tokens,
            pods: &roster.pods,
            facts,
            session_row: session.decode,
        };
        let draw = |seed: u64| xxh3_64_with_seed(&nonce.to_le_bytes(), seed);
        let profile = &self.policy.decode;
        let row = decode.choose(profile, &candidates, None, draw(profile.seed))?;
        let chosen = &facts[row];
        let uncached_tokens = chosen.uncached_tokens(*prompt_tokens);
        let mut decision = Decision {
            pod: roster.pods[row].id,
            total: decode.totals[row],
            matched: chosen.matched,
            matched_tokens: chosen.matched_tokens(),
            uncached_tokens,
            prefill: None,
            candidates: roster.pods.len(),
        };
        prefill.clear();
        let Some(policy) = self.policy.prefill.as_ref().filter(|p| uncached_tokens > p.max_uncached_tokens)
        else {
            return Ok(decision);
        };
        let candidates = Candidates { session_row: session.prefill, ..candidates };
        // KV can only be handed over among pods that may share it.
        let domain = Some(&*roster.pods[row].domain);
        match prefill.choose(&policy.profile, &candidates, domain, draw(policy.profile.seed)) {
            // A pod that does both has nothing to hand over to itself.
            Ok(first) if first != row => {
                let chosen = &facts[first];
                decision.prefill = Some(Prefill {
                    pod: roster.pods[first].id,
                    total: prefill.totals[first],
                    matched: chosen.matched,
                    matched_tokens: chosen.matched_tokens(),
                    uncached_tokens: chosen.uncached_tokens(*prompt_tokens),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NoCandidate => {}
            Err(error) => return Err(error),
        }
        Ok(decision)
    }

    /// Hashes the prompt once for all domains that hash alike and looks it up in each; answers a
    /// fingerprint of the prompt.
    fn find_matches(
        &self,
        roster: &Roster,
        request: &Request<'_>,
        workspace: &mut Workspace,
    ) -> Result<u64, Error> {
        let Workspace { words, hashed, table, facts, unhashed, .. } = workspace;
        let token_ids = match request.prompt {
            Prompt::TokenIds(token_ids) => token_ids,
            Prompt::Text(text) => {
                words.clear();
                words.extend(text.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
                words
            }
        };
        let mut fingerprint = token_ids.len() as u64;
        let mut used = 0;
        for RoutedDomain { domain, text } in &roster.domains {
            let is_text = matches!(request.prompt, Prompt::Text(_));
            let searched = if is_text { text } else { &**domain };
            let hasher = searched.hasher();
            // Domains that hash alike stand together.
            if used == 0 || hashed[used - 1].identity != hasher.identity() {
                if used == hashed.len() {
                    hashed.push(Hashed { identity: 0, blocks: Vec::new() });
                }
                let next = &mut hashed[used];
                if let Err(error) = hasher.hash_into(token_ids, request.context, &mut next.blocks) {
                    unhashed.push((domain.name().to_string(), error));
                    continue;
                }
                next.identity = hasher.identity();
                used += 1;
                let last = next.blocks.last().map_or(0, |hash| hash.0);
                fingerprint = xxh3_64_with_seed(&last.to_le_bytes(), fingerprint);
                // What is no block is hashed nowhere else.
                let rest = next.blocks.len() * hasher.block_size() as usize;
                let rest = match request.prompt {
                    Prompt::TokenIds(token_ids) => bytemuck::cast_slice(&token_ids[rest..]),
                    Prompt::Text(text) => &text[rest * Prompt::BYTES_PER_TOKEN..],
                };
                fingerprint = xxh3_64_with_seed(rest, fingerprint);
            }
            let blocks = &hashed[used - 1].blocks;
            // Where a text's last token begins nobody knows.
            let most = if is_text { blocks.len() } else { searched.searchable_blocks(token_ids.len()) };
            self.index.lookup(searched, &blocks[..most], table);
            for (pod, facts) in roster.pods.iter().zip(&mut *facts) {
                if Arc::ptr_eq(&pod.domain, domain) {
                    (facts.searchable, facts.block_size) = (most as u32, searched.block_size());
                }
            }
            for found in table.matches() {
                if let Some(row) = roster.row(found.pod) {
                    (facts[row].matched, facts[row].predicted) = (found.blocks, found.predicted);
                }
            }
        }
        // What is left from other requests must not be taken for this one's.
        hashed[used..].iter_mut().for_each(|old| old.blocks.clear());
        match unhashed.first() {
            Some((_, error)) if unhashed.len() == roster.domains.len() => Err(error.clone()),
            _ => Ok(fingerprint),
        }
    }

    fn session_rows(&self, roster: &Roster, request: &Request<'_>, now: Duration) -> SessionRows {
        let missing = |why| SessionRows { missing: Some(why), ..SessionRows::default() };
        let rows = match request.session {
            None | Some(Session::Id("")) => return SessionRows::default(),
            Some(Session::Id(id)) => {
                let Some(home) = self.sessions.home(SessionTable::key(id), now) else {
                    return missing("nothing was sent for this id lately");
                };
                (roster.row(home.decode), home.prefill.and_then(|pod| roster.row(pod)))
            }
            Some(Session::Token(token)) => {
                let Some(sealer) = &self.sealer else { return missing("this router has no session key") };
                let Some(sealed) = sealer.open(token, now) else {
                    return missing("the token is expired, or not of this router's key");
                };
                let row = |identity| roster.pods.iter().position(|pod| pod.identity == identity);
                (row(sealed.decode), row(sealed.prefill))
            }
        };
        match rows {
            (None, _) => SessionRows { prefill: rows.1, ..missing("the pod that served it is gone") },
            (decode, prefill) => SessionRows { decode, prefill, missing: None },
        }
    }
}
