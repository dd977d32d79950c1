//! From a request to a decision.

use core::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Router;
use super::roster::Roster;
use super::workspace::Workspace;
use crate::Error;
use crate::candidate::Candidates;
use crate::decision::{Decision, Prefill};
use crate::policy::Policy;
use crate::request::Request;

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
        self.index.expire_speculations(now);
        self.with_current(workspace, |roster, policy, workspace| {
            self.gather(roster, policy, request, now, workspace)?;
            choose(roster, policy, request, workspace)
        })
    }

    /// Runs `act` with the roster and the policy that the workspace has seen, made current.
    pub(super) fn with_current<R>(
        &self,
        workspace: &mut Workspace,
        act: impl FnOnce(&Roster, &Policy, &mut Workspace) -> R,
    ) -> R {
        let (mut roster, mut policy) = (workspace.roster.take(), workspace.policy.take());
        let result = act(self.roster.refresh(&mut roster), self.policy.refresh(&mut policy), workspace);
        (workspace.roster, workspace.policy) = (roster, policy);
        result
    }
}

/// Decides by what was gathered. Where none of the pods that were looked at will do, by all.
pub(super) fn choose(
    roster: &Roster,
    policy: &Policy,
    request: &Request<'_>,
    workspace: &mut Workspace,
) -> Result<Decision, Error> {
    let mut decision = choose_decode(roster, policy, request, workspace)?;
    if decision.is_none() && workspace.not_sampled > 0 {
        workspace.consider_all(roster, request);
        decision = choose_decode(roster, policy, request, workspace)?;
    }
    match decision {
        Some(decision) => choose_prefill(roster, policy, request, workspace, decision),
        None => Err(workspace.decode.no_candidate(&policy.decode)),
    }
}

fn draw(workspace: &Workspace, seed: u64) -> u64 {
    xxh3_64_with_seed(&workspace.nonce.to_le_bytes(), seed)
}

fn candidates<'a>(roster: &'a Roster, request: &'a Request<'a>, workspace: &'a Workspace) -> Candidates<'a> {
    Candidates {
        request,
        prompt_tokens: workspace.prompt_tokens,
        most_computed: f64::INFINITY,
        now: workspace.now,
        pods: &roster.pods,
        facts: &workspace.facts,
        rows: &[],
        session: None,
        peer: None,
    }
}

fn choose_decode(
    roster: &Roster,
    policy: &Policy,
    request: &Request<'_>,
    workspace: &mut Workspace,
) -> Result<Option<Decision>, Error> {
    let mut board = core::mem::take(&mut workspace.decode);
    let profile = &policy.decode;
    let [session, _] = workspace.session.places;
    let goes_elsewhere = policy.prefill.as_ref().filter(|p| workspace.prompt_tokens >= p.min_prompt_tokens);
    let candidates = Candidates {
        session: session.map(|place| place as u32),
        most_computed: goes_elsewhere.map_or(f64::INFINITY, |prefill| prefill.max_uncached_tokens as f64),
        ..candidates(roster, request, workspace)
    };
    let chosen = board.choose(profile, &candidates, None, draw(workspace, profile.seed));
    let decide = |place: usize| {
        let facts = &workspace.facts[place];
        Decision {
            pod: roster.pods[facts.pod as usize].id,
            total: board.total(place).map_or(0.0, |(_, total)| total),
            matched: facts.matched,
            matched_tokens: facts.matched_tokens(),
            uncached_tokens: facts.uncached_tokens(workspace.prompt_tokens),
            reason: board.reason,
            prefill: None,
            candidates: workspace.facts.len(),
        }
    };
    let decision = chosen.map(|place| place.map(decide));
    let pod = |&place: &usize| roster.pods[workspace.facts[place].pod as usize].id;
    workspace.fallbacks.clear();
    workspace.fallbacks.extend(board.fallbacks.iter().map(pod));
    workspace.decode = board;
    decision
}

/// Finds a pod that prefills, where the policy has such and it is worth it.
fn choose_prefill(
    roster: &Roster,
    policy: &Policy,
    request: &Request<'_>,
    workspace: &mut Workspace,
    mut decision: Decision,
) -> Result<Decision, Error> {
    workspace.prefill.clear();
    let Some(policy_of_prefill) = policy.prefill.as_ref().filter(|prefill| {
        decision.uncached_tokens > prefill.max_uncached_tokens
            && workspace.prompt_tokens >= prefill.min_prompt_tokens
    }) else {
        return Ok(decision);
    };
    let mut board = core::mem::take(&mut workspace.prefill);
    let profile = &policy_of_prefill.profile;
    let [_, session] = workspace.session.places;
    let answering = workspace.facts_of(roster, decision.pod).map(|facts| &*roster.pods[facts.pod as usize]);
    let candidates = Candidates {
        session: session.map(|place| place as u32),
        peer: answering,
        ..candidates(roster, request, workspace)
    };
    // KV can only be handed over among pods that may share it.
    let domain = answering.map(|pod| pod.domain());
    let chosen = board.choose(profile, &candidates, domain, draw(workspace, profile.seed));
    workspace.prefill = board;
    let Some(place) = chosen? else {
        if workspace.not_sampled == 0 {
            return Ok(decision);
        }
        // It is about the pods that were looked at so far.
        workspace.prefill.clear();
        workspace.consider_all(roster, request);
        return choose(roster, policy, request, workspace);
    };
    let (board, facts) = (&mut workspace.prefill, &workspace.facts[place]);
    let pod = roster.pods[facts.pod as usize].id;
    if pod == decision.pod {
        board.unused = Some("it answers as well, and has nothing to hand over to itself");
    } else if facts.booked.prefill_tokens > policy_of_prefill.max_prefill_load {
        board.unused = Some("it has too much prefill work in flight");
    } else {
        decision.prefill = Some(Prefill {
            pod,
            total: board.total(place).map_or(0.0, |(_, total)| total),
            matched: facts.matched,
            matched_tokens: facts.matched_tokens(),
            uncached_tokens: facts.uncached_tokens(workspace.prompt_tokens),
            reason: board.reason,
        });
    }
    Ok(decision)
}
