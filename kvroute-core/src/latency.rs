//! How long a pod takes to its first token.

use alloc::format;

use crate::Error;
use crate::candidate::Candidate;
use crate::credits::Credits;

/// Expected time from sending a request to its first token, apart from what is the same on all pods; seconds.
///
/// `prefill(u) = max(least, u * (per_token + per_pair * (prompt - u / 2)))` is the time that computing the last `u`
/// tokens of a prompt takes: matrix products for each, attention to each token before it. The time is
///
/// `(prefill(uncached) + booked * (per_token + per_pair * prompt / 2)) / capacity + per_request * in flight`
///
/// with the prefill work in flight there computed before, as if it were of prompts like this one, and every request
/// that decodes meanwhile slowing the steps down.
///
/// The default is fitted on vLLM 0.24.0 on an NVIDIA H200 with the shape of Llama 3.1 8B, bf16: times to the first
/// token of single requests of 128 to 32768 tokens, new and cached, and three such pods under load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyModel {
    /// A step with prefill, however small; seconds.
    pub least: f64,
    /// Each token computed; seconds.
    pub per_token: f64,
    /// Each token computed and token it attends to; seconds.
    pub per_pair: f64,
    /// Each request that the pod has; seconds.
    pub per_request: f64,
}

impl Default for LatencyModel {
    fn default() -> Self {
        Self { least: 11.7e-3, per_token: 20.4e-6, per_pair: 1.03e-9, per_request: 1.5e-3 }
    }
}

impl LatencyModel {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let times = [
            ("least", self.least),
            ("per_token", self.per_token),
            ("per_pair", self.per_pair),
            ("per_request", self.per_request),
        ];
        if let Some((name, time)) = times.iter().find(|(_, time)| !time.is_finite() || *time < 0.0) {
            return Err(Error::invalid(format!(
                "latency model: {name} is finite and not negative, not {time}"
            )));
        }
        // Else two pods could take no time at all, and be no better or worse than each other.
        if self.least == 0.0 {
            return Err(Error::invalid("latency model: least is above 0"));
        }
        Ok(())
    }

    /// Of a prompt of so many tokens on this pod; above 0.
    #[must_use]
    pub fn of(&self, pod: &Candidate<'_>, prompt_tokens: usize, credits: &Credits) -> f64 {
        let (prompt, uncached) = (prompt_tokens as f64, pod.credited_uncached(credits));
        let prefill = uncached * (self.per_token + self.per_pair * (prompt - uncached / 2.0));
        let booked = pod.bookings().prefill_tokens as f64;
        let queued = booked * (self.per_token + self.per_pair * prompt / 2.0);
        (prefill.max(self.least) + queued) / pod.pod().capacity() + self.per_request * pod.in_flight() as f64
    }
}
