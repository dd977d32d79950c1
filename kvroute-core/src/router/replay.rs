//! A recorded decision made again: pods and facts from the record, chosen among by the very boards that live decisions
//! go over.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::decide::choose;
use super::roster::Roster;
use super::{Router, Workspace};
use crate::hash::{BlockHasher, HashContext, Lora, OwnScheme};
use crate::index::{PodId, TrustCell};
use crate::pod::{PodSpec, RoutedPod};
use crate::policy::Policy;
use crate::record::{DecisionRecord, DomainRecord, PodRecord, ProfileRecord};
use crate::request::{Prompt, Request, ScoreColumn};
use crate::{CacheDomain, Error, ErrorKind};

/// A recorded decision that can be made again, by any number of policies.
///
/// Filters, scorers, pickers and guards see what they saw then, but for the prompt, if it was not recorded; how
/// domains hash; and the pods' load and state of now, which the ones here have none of
/// ([`Candidate`](crate::candidate::Candidate) has those of the decision).
#[derive(Debug)]
pub struct Replay<'r> {
    record: &'r DecisionRecord<'r>,
    roster: Roster,
    workspace: Workspace,
    context: HashContext,
    text: Vec<u8>,
    subset: Option<Vec<&'r str>>,
    /// Pods of the score columns.
    columns: Vec<Vec<PodId>>,
}

/// What a policy makes of a recorded decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Replayed<'a> {
    /// How the pod that answers was chosen.
    pub decode: ProfileRecord<'a>,
    /// How a pod that prefills was, where one was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill: Option<ProfileRecord<'a>>,
}

impl Replayed<'_> {
    /// Whether it is what was recorded, bit for bit: pods that were dropped, scores, totals and choices.
    #[must_use]
    pub fn is_as_recorded(&self, record: &DecisionRecord<'_>) -> bool {
        self.decode == record.decode && self.prefill == record.prefill
    }
}

impl<'r> Replay<'r> {
    /// Makes a record's pods.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a record that is not one of a decision: places or blocks out of range, pods out of order.
    pub fn new(record: &'r DecisionRecord<'r>) -> Result<Self, Error> {
        let tokens = record.prompt.tokens;
        if tokens > Router::MAX_PROMPT_TOKENS {
            let most = Router::MAX_PROMPT_TOKENS;
            return Err(Error::new(ErrorKind::Limit, format!("a prompt of {tokens} tokens; at most {most}")));
        }
        let domains = record.domains.iter().map(domain).collect::<Result<Vec<_>, _>>()?;
        let pods = record.pods.iter().map(|pod| routed(pod, &domains)).collect::<Result<Vec<_>, _>>()?;
        if let Some(pair) = pods.windows(2).find(|pair| pair[0].id.slot() >= pair[1].id.slot()) {
            let (one, other) = (pair[0].id, pair[1].id);
            return Err(Error::invalid(format!("pods {one} and {other} are not in order of their slots")));
        }
        let facts = (0..).zip(&record.pods).map(|(place, pod)| pod.facts(place, tokens));
        let mut workspace = Workspace {
            facts: facts.collect::<Result<_, _>>()?,
            rows: (0..record.pods.len() as u32).collect(),
            prompt_tokens: tokens,
            now: record.now,
            nonce: record.nonce,
            ..Workspace::default()
        };
        let home = record.session.as_ref().map_or([None; 2], |session| [session.decode, session.prefill]);
        workspace.session.places = home.map(|place| place.map(|place| place as usize));
        if workspace.session.places.iter().flatten().any(|&place| place >= pods.len()) {
            return Err(Error::invalid("the session's pod is none of those that were looked at"));
        }
        let lora =
            record.adapter.as_ref().map(|name| Lora { name: String::from(&**name), ..Lora::default() });
        let text = record.prompt.text_base64.as_ref().map(|text| STANDARD.decode(text)).transpose();
        Ok(Self {
            record,
            roster: Roster::of(pods),
            workspace,
            context: HashContext { lora, ..HashContext::default() },
            text: text.map_err(|error| Error::invalid(format!("text_base64: {error}")))?.unwrap_or_default(),
            subset: record.subset.as_ref().map(|names| names.iter().map(|name| &**name).collect()),
            columns: record
                .columns
                .iter()
                .map(|column| column.pods.iter().map(|&pod| PodId::from_u64(pod)).collect())
                .collect(),
        })
    }

    /// Chooses by a policy. By the one that the record is of, the answer is the recorded one, bit for bit. Another one
    /// chooses among the same pods, as they were; in a large fleet it might have looked at others of them.
    ///
    /// # Errors
    ///
    /// As [`Router::decide`]; `NoCandidate` also where this policy would have looked at the pods that are not in the
    /// record, because none of those that are will do.
    pub fn choose<'a>(&'a mut self, policy: &'a Policy) -> Result<Replayed<'a>, Error> {
        let Self { record, roster, workspace, context, text, subset, columns } = self;
        let scores: Vec<_> = record
            .columns
            .iter()
            .zip(&*columns)
            .map(|(column, pods)| ScoreColumn { scorer: &column.scorer, pods, values: &column.values })
            .collect();
        let prompt = match &record.prompt.token_ids {
            _ if record.prompt.is_text => Prompt::Text(text),
            token_ids => Prompt::TokenIds(token_ids.as_deref().unwrap_or_default()),
        };
        let request = Request {
            prompt,
            model: record.model.as_deref(),
            subset: subset.as_deref(),
            scores: &scores,
            nonce: record.nonce_given.then_some(record.nonce),
            ..Request::new(&[], context)
        };
        workspace.decode.clear();
        workspace.prefill.clear();
        // There is nothing to look at beyond the record, so the decision does not try.
        workspace.not_sampled = 0;
        let chosen = choose(roster, policy, &request, workspace);
        let (decode, prefill) = (&workspace.decode, &workspace.prefill);
        let is_without = match &chosen {
            Err(error) => error.kind() == ErrorKind::NoCandidate,
            Ok(_) => prefill.used && prefill.picked.is_none(),
        };
        if is_without && record.not_sampled > 0 {
            let others = record.not_sampled;
            let message = format!("none of the pods on record will do, and {others} are not on record");
            return Err(Error::new(ErrorKind::NoCandidate, message));
        }
        chosen?;
        let prefill = policy.prefill.as_ref().filter(|_| prefill.used);
        Ok(Replayed {
            decode: workspace.profile(&policy.decode, decode),
            prefill: prefill.map(|prefill| workspace.profile(&prefill.profile, &workspace.prefill)),
        })
    }
}

/// A domain that is what policies ask of it; nothing is hashed with it.
fn domain(record: &DomainRecord<'_>) -> Result<Arc<CacheDomain>, Error> {
    let hasher = BlockHasher::new(OwnScheme::default(), record.block_size)?;
    let domain = CacheDomain::new(&*record.name, hasher)?;
    Ok(Arc::new(domain.with_models(record.models.iter().cloned())))
}

fn routed(record: &PodRecord<'_>, domains: &[Arc<CacheDomain>]) -> Result<Arc<RoutedPod>, Error> {
    let Some(domain) = domains.get(record.domain as usize) else {
        let (pod, domain) = (record.shown(), record.domain);
        return Err(Error::invalid(format!("pod \"{pod}\": there is no domain {domain}")));
    };
    let spec = PodSpec {
        dp_rank: record.dp_rank,
        role: record.role,
        labels: Cow::into_owned(record.labels.clone()),
        capacity: record.capacity,
        ..PodSpec::new(&*record.name, Arc::clone(domain))
    };
    spec.check()?;
    let trust = Arc::new(TrustCell::new(record.trust));
    Ok(Arc::new(RoutedPod::new(PodId::from_u64(record.id), spec, trust)))
}
