//! What a decision is made of: what pods have of the prompt, which pods are looked at, and what is known of them.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Router;
use super::roster::{Roster, RoutedDomain};
use super::workspace::{Hashed, Hit, Searched, SessionRows, Workspace};
use crate::candidate::Facts;
use crate::index::TrustLevel;
use crate::pick::lot;
use crate::pod::{Role, RoutedPod};
use crate::policy::{Policy, Sampling};
use crate::request::{KnownPrefix, Prompt, Request, ScoreColumn, Session};
use crate::session::SessionTable;
use crate::{Error, ErrorKind, Tier};

impl Router {
    /// Finds out all that a decision needs.
    pub(super) fn gather(
        &self,
        roster: &Roster,
        policy: &Policy,
        request: &Request<'_>,
        now: Duration,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        workspace.begin(request, now);
        if workspace.prompt_tokens > Self::MAX_PROMPT_TOKENS {
            let (tokens, most) = (workspace.prompt_tokens, Self::MAX_PROMPT_TOKENS);
            let message = alloc::format!("a prompt of {tokens} tokens; at most {most}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        check_scores(policy, request.scores)?;
        if let (Prompt::Text(_), Some(_)) = (request.prompt, request.known.first()) {
            return Err(Error::invalid("known prefixes are of token ids, and this prompt is a text"));
        }
        workspace.session = self.session_rows(roster, request, now);
        let found = self.find_matches(roster, request, workspace);
        // Also a request that cannot be hashed is explained by its pods.
        workspace.nonce = request.nonce.unwrap_or(*found.as_ref().unwrap_or(&0));
        if roster.pods.len() <= policy.sampling.above {
            workspace.consider_all(roster, request);
        } else {
            sample(roster, policy, request, workspace);
            workspace.look_at_rows(roster, request);
        }
        found.map(drop)
    }

    /// Hashes the prompt once for all domains that hash alike and looks it up in each; answers a
    /// fingerprint of the prompt.
    fn find_matches(
        &self,
        roster: &Roster,
        request: &Request<'_>,
        workspace: &mut Workspace,
    ) -> Result<u64, Error> {
        let Workspace { words, hashed, table, hits, told, searched, unhashed, .. } = workspace;
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
        for RoutedDomain { domain, text, .. } in &roster.domains {
            let is_text = matches!(request.prompt, Prompt::Text(_));
            let searched_in = if is_text { text } else { &**domain };
            let hasher = searched_in.hasher();
            let block_size = searched_in.block_size();
            // Domains that hash alike stand together.
            if used == 0 || hashed[used - 1].identity != hasher.identity() {
                if used == hashed.len() {
                    hashed.push(Hashed::default());
                }
                let next = &mut hashed[used];
                if let Err(error) = hasher.hash_into(token_ids, request.context, &mut next.blocks) {
                    unhashed.push((domain.name().to_string(), error));
                    searched.push(Searched { blocks: 0, block_size: domain.block_size() });
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
            let most = if is_text { blocks.len() } else { searched_in.searchable_blocks(token_ids.len()) };
            searched.push(Searched { blocks: most as u32, block_size });
            self.index.lookup(searched_in, &blocks[..most], table);
            hits.extend(table.matches().iter().filter_map(|found| {
                let row = roster.row(found.pod)? as u32;
                let (matched, predicted, speculative) = (found.blocks, found.predicted, found.speculative);
                Some(Hit { row, matched, predicted, speculative, ..Hit::default() })
            }));
        }
        hits.sort_unstable_by_key(|hit| hit.row);
        hear(roster, request.known, told, searched, hits);
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
                (roster.row_of_identity(sealed.decode), roster.row_of_identity(sealed.prefill))
            }
        };
        match rows {
            (None, _) => SessionRows { prefill: rows.1, ..missing("the pod that served it is gone") },
            (decode, prefill) => SessionRows { decode, prefill, ..SessionRows::default() },
        }
    }
}

/// Adds what was found out elsewhere to what the index has.
fn hear(
    roster: &Roster,
    known: &[KnownPrefix],
    told: &mut Vec<(u32, Tier, u32)>,
    searched: &[Searched],
    hits: &mut Vec<Hit>,
) {
    if known.is_empty() {
        return;
    }
    told.clear();
    told.extend(known.iter().filter_map(|KnownPrefix { pod, tier, blocks }| {
        roster.row(*pod).map(|row| (row as u32, *tier, *blocks))
    }));
    told.sort_unstable();
    let found = hits.len();
    for told in told.chunk_by(|a, b| a.0 == b.0) {
        let row = told[0].0;
        let at = hits[..found].binary_search_by_key(&row, |hit| hit.row).unwrap_or_else(|_| {
            hits.push(Hit { row, ..Hit::default() });
            hits.len() - 1
        });
        hits[at].hear(told, searched[roster.domain_rows[row as usize] as usize].blocks);
    }
    hits.sort_unstable_by_key(|hit| hit.row);
}

fn check_scores(policy: &Policy, columns: &[ScoreColumn<'_>]) -> Result<(), Error> {
    for (at, ScoreColumn { scorer, pods, values }) in columns.iter().enumerate() {
        let fail = |what: &str| Err(Error::invalid(alloc::format!("score column \"{scorer}\": {what}")));
        if !policy.reads_column(scorer) {
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

/// Chooses the rows of a large fleet that are looked at: for each role that the policy asks for, those that have most
/// of the prompt and some others by lot; and the session's.
fn sample(roster: &Roster, policy: &Policy, request: &Request<'_>, workspace: &mut Workspace) {
    let Workspace { rows, hits, nonce, session, holders, .. } = workspace;
    rows.clear();
    rows.extend([session.decode, session.prefill].into_iter().flatten().map(|row| row as u32));
    let Sampling { holders: most_holders, others, .. } = policy.sampling;
    let takes = |row: usize, role: Role| {
        let pod = &roster.pods[row];
        pod.is_accepting() && pod.role().serves(role) && pod.domain().serves(request.model)
    };
    let draw = xxh3_64_with_seed(&nonce.to_le_bytes(), policy.decode.seed);
    for role in [Some(Role::Decode), policy.prefill.as_ref().map(|_| Role::Prefill)].into_iter().flatten() {
        if let Some(subset) = request.subset {
            let named = subset.iter().flat_map(|name| roster.ranks(name)).map(|row| row as u32);
            rows.extend(named);
            continue;
        }
        holders.clear();
        holders.extend(hits.iter().filter(|hit| takes(hit.row as usize, role)).map(|hit| {
            let pod = &roster.pods[hit.row as usize];
            let is_text = matches!(request.prompt, Prompt::Text(_));
            let expected = hit.expected(!is_text && events_tell(pod));
            (Reverse(hit.matched.total().max(expected)), lot(pod.id(), draw), hit.row)
        }));
        if holders.len() > most_holders {
            if most_holders > 0 {
                holders.select_nth_unstable(most_holders - 1);
            }
            holders.truncate(most_holders);
        }
        rows.extend(holders.iter().map(|&(_, _, row)| row));
        let by_lot = in_order_of(draw, roster.pods.len() as u64).map(|row| row as usize);
        rows.extend(by_lot.filter(|&row| takes(row, role)).take(others).map(|row| row as u32));
    }
    rows.sort_unstable();
    rows.dedup();
}

/// The numbers below `count`, each once, in an order of the draw's own: a permutation of the next power of two, of
/// which those beyond are passed over. Any pods of a fleet, however they stand, are as likely to come first.
fn in_order_of(draw: u64, count: u64) -> impl Iterator<Item = u64> {
    let bits = count.next_power_of_two().trailing_zeros();
    let (mask, half) = ((1_u64 << bits) - 1, bits.div_ceil(2).max(1));
    let keys = [draw, draw.rotate_left(21), draw.rotate_left(42)];
    let place = move |number: u64| {
        // Each step can be undone, so no two numbers meet.
        keys.iter().fold(number, |number, key| {
            let mixed = number.wrapping_add(*key).wrapping_mul(key >> 32 | 1) & mask;
            mixed ^ mixed >> half
        })
    };
    (0..=mask).map(place).filter(move |&number| number < count)
}

fn events_tell(pod: &RoutedPod) -> bool {
    pod.stream_trust() >= TrustLevel::Degraded
}

impl Workspace {
    /// Looks at all pods.
    pub(super) fn consider_all(&mut self, roster: &Roster, request: &Request<'_>) {
        self.rows.clear();
        self.rows.extend(0..roster.pods.len() as u32);
        self.look_at_rows(roster, request);
    }

    /// Takes down what is known of the pods in `rows`.
    fn look_at_rows(&mut self, roster: &Roster, request: &Request<'_>) {
        let Self { facts, rows, hits, searched, session, not_sampled, .. } = self;
        let is_text = matches!(request.prompt, Prompt::Text(_));
        let adapter = request.context.lora.as_ref().map(|lora| &*lora.name);
        facts.clear();
        let mut hits = hits.iter().peekable();
        for &row in &*rows {
            let pod = &roster.pods[row as usize];
            while hits.peek().is_some_and(|hit| hit.row < row) {
                hits.next();
            }
            let hit = hits.peek().filter(|hit| hit.row == row).map_or(Hit::default(), |hit| **hit);
            let searched = searched[roster.domain_rows[row as usize] as usize];
            let (load, own) = (pod.load.report(), pod.load.bookings());
            let booked = own.and(pod.load.peer_bookings());
            facts.push(Facts {
                pod: row,
                matched: hit.matched,
                predicted: hit.predicted,
                speculative: hit.speculative,
                searchable: searched.blocks,
                block_size: searched.block_size,
                load,
                own,
                booked,
                in_flight: pod.load.in_flight(booked, load),
                accepting: pod.is_accepting(),
                overloaded: pod.load.is_overloaded(),
                adapter: adapter.map(|name| pod.load.adapter_fit(name)),
                failures: pod.failures(),
                ever_booked: pod.load.ever_booked(),
                cold_turn: pod.cold_turn(),
                known: hit.known,
                trust: match hit.is_hearsay {
                    // As a degraded view, and less where its engine kept having less than was expected.
                    true => pod.trust_if(TrustLevel::Degraded),
                    false => pod.trust(),
                },
                events_tell: !is_text && events_tell(pod),
            });
        }
        let place = |row: Option<usize>| row.and_then(|row| rows.binary_search(&(row as u32)).ok());
        session.places = [place(session.decode), place(session.prefill)];
        *not_sampled = roster.pods.len() - rows.len();
    }

    /// Looks at bookings again, which somebody changed.
    pub(super) fn refresh_bookings(&mut self, roster: &Roster) {
        for facts in &mut self.facts {
            let load = &roster.pods[facts.pod as usize].load;
            facts.own = load.bookings();
            facts.booked = facts.own.and(load.peer_bookings());
            facts.in_flight = load.in_flight(facts.booked, facts.load);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::in_order_of;
    use alloc::vec::Vec;

    #[test]
    fn an_order_has_every_number_once_and_each_draw_its_own() {
        for count in [1, 2, 3, 31, 32, 33, 120, 1000, 1024, 1025] {
            for draw in [0, 1, u64::MAX, 0x9e37_79b9_7f4a_7c15, 1 << 32, 0xffff_ffff] {
                let mut numbers: Vec<_> = in_order_of(draw, count).collect();
                numbers.sort_unstable();
                assert!(numbers.into_iter().eq(0..count), "{count} in the order of {draw}");
            }
        }
        assert_eq!(in_order_of(7, 0).count(), 0);
        assert!(in_order_of(0x0123_4567_89ab_cdef, 100).ne(in_order_of(0xfedc_ba98_7654_3210, 100)));
    }
}
