//! What the requests of a live demo add up to, and whether that is as it should be.

use std::collections::BTreeMap;

use kvroute_sim::fleet::percentile;
use serde::Serialize;

use super::{Form, Phase};

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it was there to show.
    pub phase: Phase,
    /// How its prompt was sent.
    pub form: Form,
    /// Length of the prompt as the engine counts, tokens.
    pub prompt_tokens: usize,
    /// The same as the gateway knew it; `None` if nobody decided where it goes.
    pub told_tokens: Option<usize>,
    /// The pod that answered.
    pub pod: String,
    /// Tokens that the gateway expected to be cached there.
    pub expected: usize,
    /// Tokens that the engine took from its cache, by its own count.
    pub cached: Option<usize>,
    /// Why that pod, as the gateway says.
    pub reason: String,
    /// What reading, tokenizing and routing took, microseconds.
    pub overhead_us: f64,
    /// Time to the first token, as the client saw it, milliseconds.
    pub ttft_ms: f64,
    /// Whether the pod is one that held the topic; `None` of topics that are new.
    pub is_on_right_pod: Option<bool>,
    /// Whether the turn before was on the same pod; `None` of what goes on with nothing.
    pub is_on_same_pod: Option<bool>,
    /// Why what was expected need not be what the engine counts.
    pub exempt: Option<Exempt>,
}

/// Why what was expected need not be what the engine counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exempt {
    /// The gateway routes it without a decision: round robin.
    Undecided,
    /// The gateway has no tokenizer for the model, and knows the prompt by its text.
    KnownAsText,
    /// It has one, which was too busy, so that it went by the text.
    Overloaded,
    /// The pod publishes no events: what it holds is guessed from what was sent to it.
    NoEvents,
    /// Another pod computed the prompt, and handed it over.
    Prefilled,
    /// The engine does not tell what it had cached.
    Untold,
    /// Others use the gateway too: events never settled.
    Unsettled,
}

impl Exempt {
    /// What is printed.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Undecided => "were routed without a decision (round robin)",
            Self::KnownAsText => "are known as text only: the gateway has no tokenizer for the model",
            Self::NoEvents => "went to a pod that publishes no events",
            Self::Overloaded => "went by their text: the gateway's tokenizer was too busy",
            Self::Prefilled => "had their prompt computed by another pod",
            Self::Untold => "had an engine that does not tell (vLLM: --enable-prompt-tokens-details)",
            Self::Unsettled => "were sent while others' events came in",
        }
    }
}

impl Row {
    /// Whether gateway and engine agree, on the prompt's length too.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.cached == Some(self.expected) && self.told_tokens == Some(self.prompt_tokens)
    }

    /// Whether they should and do not.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        !self.is_exact() && self.exempt.is_none()
    }
}

/// One pod's figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PodOutcome {
    /// Requests it answered.
    pub requests: usize,
    /// Tokens of their prompts.
    pub prompt_tokens: usize,
    /// Those of them that it took from its cache, by its own count.
    pub cached_tokens: usize,
}

/// What became of the pod that was lost.
#[derive(Clone, Debug, Serialize)]
pub struct Loss {
    /// Its name.
    pub pod: String,
    /// Topics that only it held.
    pub topics: usize,
    /// Blocks that the gateway knew it to hold before.
    pub blocks_before: u64,
    /// The pod that answered the first request after it was gone, if that was not it.
    pub first_answer_by: String,
    /// Seconds from its being started again to its being ready in the gateway; what the engine took is in it.
    pub back_after_seconds: f64,
    /// Whether the gateway knew then that its cache is empty.
    pub is_emptied: bool,
    /// Requests that it answered afterwards, and found all or part of in its new cache.
    pub hits_after: usize,
}

/// What the demo shows, in figures.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The gateway and its version.
    pub gateway: String,
    /// What computes in its pods.
    pub engines: Vec<String>,
    /// The model asked for.
    pub model: String,
    /// Requests sent; all of them were answered.
    pub requests: usize,
    /// Those for which the gateway expected just what the engine counted.
    pub exact: usize,
    /// Those that had something cached, among them.
    pub exact_hits: usize,
    /// Those for which it did not, and should have.
    pub wrong: usize,
    /// Those for which it need not, by why.
    pub exempt: BTreeMap<Exempt, usize>,
    /// Share of the hit phase's requests that went to a pod with their topic, 0..=1; without those that are exempt.
    pub hit_phase_on_right_pod: f64,
    /// Share of the follow-ups that went to the pod of the turn before, likewise.
    pub follow_up_on_same_pod: f64,
    /// By how much hits beat misses in median time to first token: a share of the misses' time.
    pub ttft_reduction_hit_vs_miss: f64,
    /// Median time to first token by phase, milliseconds.
    pub ttft_ms_p50_by_phase: BTreeMap<&'static str, f64>,
    /// What reading, tokenizing and routing took: median, microseconds.
    pub overhead_us_p50: f64,
    /// 99 of 100 took at most this.
    pub overhead_us_p99: f64,
    /// By pod.
    pub pods: BTreeMap<String, PodOutcome>,
    /// When the caches had overflowed: topics that had lost more than a quarter of their prefix, of those that were asked
    /// about again; `None`: not done.
    pub evicted: Option<(usize, usize)>,
    /// The pod that was lost, if one was.
    pub loss: Option<Loss>,
}

impl Outcome {
    /// The figures of these rows.
    #[must_use]
    pub(super) fn of(rows: &[Row], gateway: String, engines: Vec<String>, model: String) -> Self {
        let mut overhead: Vec<_> = rows.iter().map(|row| row.overhead_us).collect();
        overhead.sort_by(f64::total_cmp);
        let ttft = |phase: Phase| {
            let of_phase = rows.iter().filter(|row| row.phase == phase);
            let mut times: Vec<_> = of_phase.map(|row| row.ttft_ms).collect();
            times.sort_by(f64::total_cmp);
            (!times.is_empty()).then(|| percentile(&times, 0.5))
        };
        let reduction = match (ttft(Phase::Hit), ttft(Phase::Miss)) {
            (Some(hit), Some(miss)) if miss > 0.0 => 1.0 - hit / miss,
            _ => 0.0,
        };
        let (mut exempt, mut pods) = (BTreeMap::new(), BTreeMap::<String, PodOutcome>::new());
        for row in rows {
            if let Some(why) = row.exempt.filter(|_| !row.is_exact()) {
                *exempt.entry(why).or_default() += 1;
            }
            let pod = pods.entry(row.pod.clone()).or_default();
            pod.requests += 1;
            pod.prompt_tokens += row.prompt_tokens;
            pod.cached_tokens += row.cached.unwrap_or(0);
        }
        let exact = rows.iter().filter(|row| row.is_exact());
        let counted = || rows.iter().filter(|row| row.exempt.is_none());
        Self {
            gateway,
            engines,
            model,
            requests: rows.len(),
            exact: exact.clone().count(),
            exact_hits: exact.filter(|row| row.expected > 0).count(),
            wrong: rows.iter().filter(|row| row.is_wrong()).count(),
            exempt,
            hit_phase_on_right_pod: share(
                counted().filter(|row| row.phase == Phase::Hit).filter_map(|row| row.is_on_right_pod),
            ),
            follow_up_on_same_pod: share(counted().filter_map(|row| row.is_on_same_pod)),
            ttft_reduction_hit_vs_miss: reduction,
            ttft_ms_p50_by_phase: Phase::ALL
                .into_iter()
                .filter_map(|phase| Some((phase.name(), ttft(phase)?)))
                .collect(),
            overhead_us_p50: percentile(&overhead, 0.5),
            overhead_us_p99: percentile(&overhead, 0.99),
            pods,
            evicted: None,
            loss: None,
        }
    }

    /// What is not as it should be, a line each.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut require = |holds: bool, what: String| {
            if !holds {
                failures.push(what);
            }
        };
        require(self.wrong == 0, format!("{} expectations are not the engine's own count", self.wrong));
        require(self.exact_hits > 0, "no expected hit was confirmed by an engine".to_owned());
        require(
            self.hit_phase_on_right_pod >= 1.0,
            "not every request of the hit phase went to a pod with its topic".to_owned(),
        );
        require(self.follow_up_on_same_pod >= 1.0, "not every follow-up stayed on its pod".to_owned());
        if let Some(loss) = &self.loss {
            let Loss { pod, first_answer_by, .. } = loss;
            require(first_answer_by != pod, format!("{pod} was not gone: it answered"));
            require(loss.is_emptied, format!("{pod} came back, and is still taken to hold what it lost"));
            require(loss.hits_after > 0, format!("{pod} came back, and had no hit since"));
        }
        failures
    }
}

/// The share of those that hold; 1 of none.
fn share(all: impl Iterator<Item = bool>) -> f64 {
    let (mut count, mut held) = (0_u32, 0_u32);
    for holds in all {
        count += 1;
        held += u32::from(holds);
    }
    if count == 0 { 1.0 } else { f64::from(held) / f64::from(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(phase: Phase, expected: usize, cached: usize) -> Row {
        Row {
            phase,
            form: Form::Text,
            prompt_tokens: 100,
            told_tokens: Some(100),
            pod: "a".to_owned(),
            expected,
            cached: Some(cached),
            reason: "picked".to_owned(),
            overhead_us: 10.0,
            ttft_ms: 2.0,
            is_on_right_pod: (phase == Phase::Hit).then_some(true),
            is_on_same_pod: (phase == Phase::FollowUp).then_some(true),
            exempt: None,
        }
    }

    fn failures(rows: &[Row]) -> Vec<String> {
        Outcome::of(rows, "g".to_owned(), vec![], "m".to_owned()).failures()
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_named() {
        let good = [row(Phase::Populate, 0, 0), row(Phase::Hit, 64, 64), row(Phase::FollowUp, 96, 96)];
        assert_eq!(failures(&good), [""; 0]);
        let [populate, hit, follow_up] = good.clone();
        for (what, spoilt) in [
            ("1 expectations are not", Row { cached: Some(32), ..hit.clone() }),
            ("1 expectations are not", Row { told_tokens: Some(99), ..populate }),
            ("not every request of the hit phase", Row { is_on_right_pod: Some(false), ..hit }),
            ("not every follow-up", Row { is_on_same_pod: Some(false), ..follow_up }),
        ] {
            let failures = failures(&[good[1].clone(), spoilt]);
            assert!(failures.len() == 1 && failures[0].starts_with(what), "{what}: {failures:?}");
        }
        assert!(failures(&good[..1])[0].starts_with("no expected hit"));
    }

    #[test]
    fn what_need_not_agree_is_counted_by_its_reason_and_no_failure() {
        let mut rows = [row(Phase::Hit, 64, 64), row(Phase::Hit, 64, 32), row(Phase::Hit, 64, 0)];
        rows[1].exempt = Some(Exempt::KnownAsText);
        (rows[2].exempt, rows[2].cached) = (Some(Exempt::Untold), None);
        assert_eq!(failures(&rows), [""; 0]);
        let outcome = Outcome::of(&rows, "g".to_owned(), vec![], "m".to_owned());
        assert_eq!(outcome.exempt, BTreeMap::from([(Exempt::KnownAsText, 1), (Exempt::Untold, 1)]));
        assert_eq!((outcome.exact, outcome.wrong), (1, 0));
    }

    #[test]
    fn a_lost_pod_has_to_be_gone_and_come_back_empty_and_useful() {
        let rows = [row(Phase::Hit, 64, 64)];
        let mut outcome = Outcome::of(&rows, "g".to_owned(), vec![], "m".to_owned());
        let healed = Loss {
            pod: "a".to_owned(),
            topics: 2,
            blocks_before: 9,
            first_answer_by: "b".to_owned(),
            back_after_seconds: 1.0,
            is_emptied: true,
            hits_after: 1,
        };
        outcome.loss = Some(healed.clone());
        assert_eq!(outcome.failures(), [""; 0]);
        for spoilt in [
            Loss { first_answer_by: "a".to_owned(), ..healed.clone() },
            Loss { is_emptied: false, ..healed.clone() },
            Loss { hits_after: 0, ..healed },
        ] {
            outcome.loss = Some(spoilt);
            assert_eq!(outcome.failures().len(), 1, "{:?}", outcome.loss);
        }
    }
}
