//! One step of the engine, as it is planned and as it ends.

/// What a step computes. It takes as long as these tokens take; the events of its plan are handed out
/// when it ends.
///
/// A step may compute nothing: when it only starts transfers, or when all it has to do is to hand out
/// events. vLLM runs such steps too.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The requests that compute something, in the order of vLLM's `num_scheduled_tokens`: those that ran
    /// before, then those just admitted.
    pub scheduled: Vec<Scheduled>,
    /// Requests that run for the first time, in order; all are in `scheduled` too. One that comes back
    /// after a preemption is not listed again.
    pub admitted: Vec<Admitted>,
    /// Requests that got their blocks and whose KV may now be transferred.
    pub loading: Vec<Loading>,
}

impl Step {
    /// Tokens that the step computes.
    #[must_use]
    pub fn new_tokens(&self) -> u64 {
        self.scheduled.iter().map(|scheduled| u64::from(scheduled.new_tokens)).sum()
    }

    pub(super) fn clear(&mut self) {
        self.scheduled.clear();
        self.admitted.clear();
        self.loading.clear();
    }
}

/// A request's share of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// The request.
    pub id: u64,
    /// Tokens it computes in this step, at least one.
    pub new_tokens: u32,
    /// Tokens before them, whose KV is there: the context they attend to.
    pub computed_tokens: u32,
    /// Whether the step computes just the token that was generated last; otherwise it prefills.
    pub is_decode: bool,
}

/// What a request found when it was admitted, as `usage` reports it: vLLM's `num_cached_tokens` is the
/// sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The request.
    pub id: u64,
    /// Prompt tokens taken from the pod's own cache (`num_local_cached_tokens`).
    pub cached_tokens: u32,
    /// Prompt tokens whose KV was transferred (`num_external_cached_tokens`). The last one is computed
    /// again.
    pub transferred_tokens: u32,
}

/// A transfer that may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// The request.
    pub id: u64,
    /// Prompt tokens that the pod has in its own cache.
    pub cached_tokens: u32,
    /// The rest, whose KV is to be transferred.
    pub transferred_tokens: u32,
}

/// What left the engine at the end of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepResult {
    /// Sequence number and payload of the batch of events, if there were any. The bytes are those of the
    /// third frame of vLLM's ZeroMQ message.
    pub batch: Option<(u64, Vec<u8>)>,
    /// The tokens that were generated, in the order of [`Step::scheduled`].
    pub produced: Vec<Token>,
}

/// A generated token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The request.
    pub id: u64,
    /// The token.
    pub token: u32,
    /// Whether it is the first of the answer.
    pub is_first: bool,
    /// Whether the request is finished with it.
    pub is_last: bool,
}
