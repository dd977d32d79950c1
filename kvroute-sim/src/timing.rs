//! How long a simulated pod takes. All times are `f64` seconds.
//!
//! Fitted on vLLM 0.24.0 on an NVIDIA H200: random weights, bf16, blocks of 16, eager prefills, CUDA
//! graphs for decode-only steps, at most 8192 tokens a step.
//!
//! # A step
//!
//! - *Decode only* (a CUDA graph): `decode_step`, plus `decode_per_sequence` for each request, plus
//!   `decode_per_context_token` for each token of their contexts, as all their KV is read.
//! - *With prefill* (eager): the GPU takes `per_token` for each new token (matrix products) and
//!   `per_pair` for each pair of a new token and one that it attends to (attention); the CPU takes
//!   `launch` to start the kernels, however small they are. The step takes the longer of the two. A
//!   decode in such a step goes through the attention kernel for prefills, and costs there what
//!   `mixed_decode_queries` new tokens would.
//!
//! # Around the steps
//!
//! A request first passes the API server: `request` seconds, and for each token of the prompt parsing,
//! checking, copying and block hashing, less beyond 8192 tokens. The work per token occupies the
//! server, one request after the other, but not the engine, which is another process. A token's way
//! back takes `response`.
//!
//! An engine plans one step ahead while the GPU computes (asynchronous scheduling, the default of
//! recent vLLM): what arrives during a step finds the next one planned, and begins with the one after
//! that.
//!
//! # What determines what
//!
//! Time to first token of single requests of 128 to 32768 tokens, new and cached, gives `launch`,
//! `per_token`, `per_pair`, parsing, and the sum of `request` and `response`; times between tokens of
//! 1, 4 and 16 requests give the decode terms. 16 prompts of 8k tokens at once and three pods under
//! load ([`three_pods`]) give `mixed_decode_queries`; the latter alone, where requests find most of
//! their prompt cached, gives `mixed_launch`. `tests/timing.rs` and `tests/three_pods.rs` compare.
//!
//! [`three_pods`]: crate::fleet::ThreePods

use crate::engine::Step;

/// Tokens of a prompt for which the API server takes [`Timing::parse_per_token`] each.
const PARSE_KNEE: f64 = 8192.0;

/// The durations that make up a pod of one model on one kind of GPU, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// From the gateway's sending to the engine's queue, without what depends on the prompt's length.
    pub request: f64,
    /// Work of the API server for each of the first 8192 tokens of a prompt.
    pub parse_per_token: f64,
    /// The same for each token after them.
    pub parse_per_token_beyond: f64,
    /// From the end of a step to the gateway.
    pub response: f64,
    /// Least duration of a step with prefill: the time the CPU takes to launch it.
    pub launch: f64,
    /// The same for a step that decodes too: there is more to prepare, and the last step's tokens to
    /// hand out.
    pub mixed_launch: f64,
    /// Prefill, for each new token.
    pub per_token: f64,
    /// Prefill, for each new token and token it attends to.
    pub per_pair: f64,
    /// New tokens that a decode counts for in the attention of a step with prefill.
    pub mixed_decode_queries: f64,
    /// A decode-only step.
    pub decode_step: f64,
    /// A decode-only step, for each request in it.
    pub decode_per_sequence: f64,
    /// A decode-only step, for each token of context.
    pub decode_per_context_token: f64,
    /// A step that computes nothing: it starts transfers or hands out events.
    pub idle_step: f64,
    /// Bytes of KV per token.
    pub kv_bytes_per_token: f64,
    /// Bandwidth between two pods, bytes a second. An assumption: one 400 Gbit/s network card a pod,
    /// used in full.
    pub transfer_bandwidth: f64,
    /// A transfer's latency, however small. An assumption.
    pub transfer_latency: f64,
}

impl Timing {
    /// The shape of Llama 3.2 1B: 16 layers, hidden size 2048, 8 KV heads of 64. How it mixes prefills
    /// and decodes was not measured: `mixed_launch` is in proportion to the 8B shape's.
    pub const H200_LLAMA_1B: Self = Self {
        launch: 7.3e-3,
        mixed_launch: 13.7e-3,
        per_token: 2.74e-6,
        per_pair: 0.301e-9,
        decode_step: 1.45e-3,
        decode_per_sequence: 20e-6,
        decode_per_context_token: 9e-9,
        kv_bytes_per_token: (16 * 8 * 64 * 2 * 2) as f64,
        ..Self::H200_LLAMA_8B
    };

    /// The shape of Llama 3.1 8B: 32 layers, hidden size 4096, 8 KV heads of 128.
    pub const H200_LLAMA_8B: Self = Self {
        request: 3e-3,
        parse_per_token: 1.47e-6,
        parse_per_token_beyond: 0.92e-6,
        response: 3e-3,
        launch: 11.7e-3,
        mixed_launch: 22e-3,
        per_token: 20.4e-6,
        per_pair: 1.03e-9,
        mixed_decode_queries: 180.0,
        decode_step: 5.0e-3,
        decode_per_sequence: 20e-6,
        decode_per_context_token: 36e-9,
        idle_step: 0.2e-3,
        kv_bytes_per_token: (32 * 8 * 128 * 2 * 2) as f64,
        transfer_bandwidth: 50e9,
        transfer_latency: 1e-3,
    };

    /// Duration of a step.
    #[must_use]
    pub fn step(&self, step: &Step) -> f64 {
        if step.scheduled.is_empty() {
            return self.idle_step;
        }
        let (mut decodes, mut decode_context) = (0.0, 0.0);
        let (mut tokens, mut pairs) = (0.0, 0.0);
        for scheduled in &step.scheduled {
            let (new, before) = (f64::from(scheduled.new_tokens), f64::from(scheduled.computed_tokens));
            if scheduled.is_decode {
                decodes += 1.0;
                decode_context += before + 1.0;
            } else {
                tokens += new;
                pairs += new * (before + 0.5 * (new + 1.0));
            }
        }
        if tokens == 0.0 {
            return self.decode_step
                + self.decode_per_sequence * decodes
                + self.decode_per_context_token * decode_context;
        }
        let launch = if decodes == 0.0 { self.launch } else { self.mixed_launch };
        pairs += self.mixed_decode_queries * decode_context;
        (self.per_token * (tokens + decodes) + self.per_pair * pairs).max(launch)
    }

    /// Time that the API server is busy with a prompt.
    #[must_use]
    pub fn parse(&self, prompt_tokens: usize) -> f64 {
        let tokens = prompt_tokens as f64;
        self.parse_per_token * tokens.min(PARSE_KNEE)
            + self.parse_per_token_beyond * (tokens - PARSE_KNEE).max(0.0)
    }

    /// Time until the KV of so many tokens has come from another pod.
    #[must_use]
    pub fn transfer(&self, tokens: u32) -> f64 {
        self.transfer_latency + f64::from(tokens) * self.kv_bytes_per_token / self.transfer_bandwidth
    }
}
