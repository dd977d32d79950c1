//! A decision as a record: what was gathered, and what the boards made of it.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::board::{Board, filter_name};
use super::roster::Roster;
use super::{Dispatch, Router, Workspace};
use crate::profile::Profile;
use crate::published::Seen;
use crate::record::{
    ColumnRecord, DecisionRecord, Dropped, Kind, PodRecord, ProfileRecord, PromptRecord, RecordOptions,
    Scores, SessionRecord, VERSION, domains_of,
};
use crate::request::{Request, ScoreColumn};

impl Router {
    /// Takes down the last decision that this router made with `workspace`: `request` is what it was about, and
    /// `dispatch` what came out, if it was more than decided. `None` if it was another router's, or failed before
    /// pods were chosen among.
    ///
    /// The record borrows from the workspace; nearly all that a line costs is [`DecisionRecord::to_json`]. A decision
    /// that is not recorded costs nothing more.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use kvroute_core::{BlockHasher, CacheDomain, HashContext, OwnScheme, PodSpec, Policy, Request, Router};
    /// # use kvroute_core::{Workspace, record::{LogLine, RecordOptions}, router::Replay};
    /// # let router = Router::default();
    /// # let hasher = BlockHasher::new(OwnScheme::default(), 16)?;
    /// # router.add_pod(PodSpec::new("a", Arc::new(CacheDomain::new("model", hasher)?)))?;
    /// # let (token_ids, context, now) = ([1, 2, 3], HashContext::default(), Duration::ZERO);
    /// # let mut workspace = Workspace::default();
    /// let request = Request::new(&token_ids, &context);
    /// let dispatch = router.dispatch(&request, now, &mut workspace)?;
    /// let record = router.record(&request, &workspace, Some(&dispatch), RecordOptions::default());
    /// let line = record.map(|record| record.to_json()).unwrap_or_default();
    ///
    /// let LogLine::Decision(record) = LogLine::parse(&line)? else { panic!("a decision was written") };
    /// let mut replay = Replay::new(&record)?;
    /// assert!(replay.choose(&router.policy())?.is_as_recorded(&record), "the same policy decides the same");
    /// let other = Policy::preset("cost").ok_or("a preset of this name")?;
    /// let elsewhere = replay.choose(&other)?.decode.picked != record.decode.picked;
    /// # assert!(!elsewhere, "there is one pod");
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[must_use]
    pub fn record<'a>(
        &self,
        request: &Request<'a>,
        workspace: &'a Workspace,
        dispatch: Option<&Dispatch>,
        options: RecordOptions,
    ) -> Option<DecisionRecord<'a>> {
        let roster = workspace.roster.as_ref().filter(|seen| self.roster.is_owner_of(seen))?.value();
        let policy = workspace.policy.as_ref().map(Seen::value)?;
        if !workspace.decode.used {
            return None;
        }
        let pods = || workspace.facts.iter().map(|facts| &*roster.pods[facts.pod as usize]);
        let (domains, places) = domains_of(pods());
        let rows = pods().zip(places).zip(&workspace.facts);
        let prefill = policy.prefill.as_ref().filter(|_| workspace.prefill.used);
        Some(DecisionRecord {
            version: VERSION,
            kind: Kind::Decision,
            now: workspace.now,
            ticket: dispatch.map(|dispatch| dispatch.ticket.as_u64()),
            retries: dispatch.map_or(0, |dispatch| dispatch.retries),
            contended: dispatch.is_some_and(|dispatch| dispatch.contended),
            nonce: workspace.nonce,
            nonce_given: request.nonce.is_some(),
            prompt: PromptRecord::new(request.prompt, options),
            model: request.model.map(Cow::Borrowed),
            adapter: request.context.lora.as_ref().map(|lora| Cow::Borrowed(&*lora.name)),
            subset: request.subset.map(|names| names.iter().copied().map(Cow::Borrowed).collect()),
            session: SessionRecord::new(
                request.session,
                self.options.session_key.as_ref(),
                workspace.session.places,
                workspace.session.missing,
            ),
            columns: request.scores.iter().map(|column| workspace.column(roster, column)).collect(),
            domains,
            pods: rows.map(|((pod, domain), facts)| PodRecord::new(pod, domain, facts)).collect(),
            not_sampled: workspace.not_sampled,
            decode: workspace.profile(&policy.decode, &workspace.decode),
            prefill: prefill.map(|prefill| workspace.profile(&prefill.profile, &workspace.prefill)),
        })
    }
}

impl Workspace {
    /// What a profile made of what was gathered.
    pub(super) fn profile<'a>(&'a self, profile: &'a Profile, board: &'a Board) -> ProfileRecord<'a> {
        let dropped = |(place, by): (usize, &Option<usize>)| {
            by.map(|position| Dropped {
                pod: place as u32,
                by: Cow::Borrowed(filter_name(profile, position)),
            })
        };
        let scores = profile.scorers.iter().zip(&board.columns).map(|((scorer, weight), column)| Scores {
            scorer: Cow::Borrowed(scorer.name()),
            weight: *weight,
            values: Cow::Borrowed(&**column),
        });
        let facts = board.picked.and_then(|place| self.facts.get(place));
        // Before a pod was picked, columns and totals may be those of another decision.
        let is_scored = board.picked.is_some();
        ProfileRecord {
            profile: Cow::Borrowed(&profile.name),
            picker: Cow::Borrowed(profile.picker.name()),
            dropped: board.dropped_by.iter().enumerate().filter_map(dropped).collect(),
            kept: Cow::Borrowed(&*board.rows),
            scores: if is_scored { scores.collect() } else { Vec::new() },
            totals: Cow::Borrowed(if is_scored { &*board.totals } else { &[] }),
            picked: board.picked.map(|place| place as u32),
            reason: board.reason,
            overruled: board.overruled.map(|place| place as u32),
            fallbacks: board.fallbacks.iter().map(|&place| place as u32).collect(),
            unused: board.unused.map(Cow::Borrowed),
            matched_tokens: facts.map_or(0, |facts| facts.matched_tokens()),
            uncached_tokens: facts.map_or(0, |facts| facts.uncached_tokens(self.prompt_tokens)),
        }
    }

    /// A score column, of the pods that were looked at.
    fn column<'a>(&self, roster: &Roster, column: &ScoreColumn<'a>) -> ColumnRecord<'a> {
        let scored = column.pods.iter().zip(column.values);
        let (pods, values) = scored
            .filter(|(pod, _)| self.facts_of(roster, **pod).is_some())
            .map(|(pod, &value)| (pod.as_u64(), value))
            .unzip();
        ColumnRecord { scorer: Cow::Borrowed(column.scorer), pods, values }
    }
}
