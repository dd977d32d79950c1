//! What became of the requests.

/// A request's use of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodUse {
    /// The pod's place in the list.
    pub pod: usize,
    /// Prompt tokens that the pod's cache held by what it had announced at the instant of the decision:
    /// what a router without any delay or loss would have known.
    pub announced_tokens: usize,
    /// Prompt tokens that the pod took from its own cache when it admitted the request; `None` before.
    pub cached_tokens: Option<usize>,
}

/// One request's history. Times are seconds since the run began. After a pod's death the request was
/// placed again: then the pods are those of its last try, and the first token the first that the client
/// ever got.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRecord {
    /// Its id.
    pub id: u64,
    /// Its session.
    pub session: u64,
    /// When it arrived.
    pub arrival: f64,
    /// Length of the prompt, tokens.
    pub prompt_tokens: usize,
    /// How often it was placed.
    pub tries: u32,
    /// The pod that answered, or the last that was to; `None` if there never was one.
    pub decode: Option<PodUse>,
    /// The pod that computed the prompt, if it was another.
    pub prefill: Option<PodUse>,
    /// Tokens whose KV the decode pod got from the prefill pod.
    pub transferred_tokens: usize,
    /// When the gateway got the first token.
    pub first_token: Option<f64>,
    /// When it got the last one. `None`: the request failed.
    pub finished: Option<f64>,
    /// Length of the answer, tokens.
    pub output_tokens: u32,
}

impl RequestRecord {
    /// Whether it was never finished: no pod could take it, or it was put on a pod that could not.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.finished.is_none()
    }

    /// Time to first token, seconds.
    #[must_use]
    pub fn time_to_first_token(&self) -> Option<f64> {
        Some(self.first_token? - self.arrival)
    }

    /// Mean time between two tokens, seconds; `None` for an answer of one.
    #[must_use]
    pub fn inter_token(&self) -> Option<f64> {
        let gaps = self.output_tokens.checked_sub(1).filter(|&gaps| gaps > 0)?;
        Some((self.finished? - self.first_token?) / f64::from(gaps))
    }

    /// From arrival to last token, seconds.
    #[must_use]
    pub fn end_to_end(&self) -> Option<f64> {
        Some(self.finished? - self.arrival)
    }
}

/// What became of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// One record a request, in order of arrival.
    pub records: Vec<RequestRecord>,
    /// Seconds that each pod's engine spent in steps, by place; a pod that died keeps its sum.
    pub busy: Vec<f64>,
}

/// Figures of many requests. Times in seconds, of the requests that finished; 0 if none did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Time to first token: median.
    pub ttft_p50: f64,
    /// The same, 90th percentile.
    pub ttft_p90: f64,
    /// The same, 99th percentile.
    pub ttft_p99: f64,
    /// Median over requests of their mean time between tokens.
    pub inter_token_p50: f64,
    /// From arrival to last token: median.
    pub end_to_end_p50: f64,
    /// Share of all prompt tokens that were cached on the pod that computed the prompt.
    pub cached_share: f64,
    /// Requests that failed.
    pub failed: usize,
}

impl Summary {
    /// The figures of these requests.
    #[must_use]
    pub fn of<'a>(records: impl IntoIterator<Item = &'a RequestRecord>) -> Self {
        let (mut ttft, mut inter_token, mut end_to_end) = (Vec::new(), Vec::new(), Vec::new());
        let (mut prompt_tokens, mut cached_tokens, mut failed) = (0, 0, 0);
        for record in records {
            if record.is_failed() {
                failed += 1;
                continue;
            }
            ttft.extend(record.time_to_first_token());
            inter_token.extend(record.inter_token());
            end_to_end.extend(record.end_to_end());
            prompt_tokens += record.prompt_tokens;
            cached_tokens +=
                record.prefill.or(record.decode).and_then(|used| used.cached_tokens).unwrap_or(0);
        }
        for values in [&mut ttft, &mut inter_token, &mut end_to_end] {
            values.sort_by(f64::total_cmp);
        }
        Self {
            ttft_p50: percentile(&ttft, 0.5),
            ttft_p90: percentile(&ttft, 0.9),
            ttft_p99: percentile(&ttft, 0.99),
            inter_token_p50: percentile(&inter_token, 0.5),
            end_to_end_p50: percentile(&end_to_end, 0.5),
            cached_share: cached_tokens as f64 / (prompt_tokens as f64).max(1.0),
            failed,
        }
    }

    /// The mean of each figure over these runs, and all failures; zeros of none.
    #[must_use]
    pub fn mean(runs: &[Self]) -> Self {
        let mean =
            |figure: fn(&Self) -> f64| runs.iter().map(figure).sum::<f64>() / (runs.len() as f64).max(1.0);
        Self {
            ttft_p50: mean(|run| run.ttft_p50),
            ttft_p90: mean(|run| run.ttft_p90),
            ttft_p99: mean(|run| run.ttft_p99),
            inter_token_p50: mean(|run| run.inter_token_p50),
            end_to_end_p50: mean(|run| run.end_to_end_p50),
            cached_share: mean(|run| run.cached_share),
            failed: runs.iter().map(|run| run.failed).sum(),
        }
    }
}

/// The value below which `share` of the sorted values lie, between two of them where needed; 0 of none.
#[must_use]
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}
