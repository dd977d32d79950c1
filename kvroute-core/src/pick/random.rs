//! Pickers that spread requests over good pods.

use super::{Picker, Scored, better, lot};
use crate::Error;

/// A softmax over the totals, as shares of what they could be at most: `p ~ exp(share / temperature)`. A low
/// temperature prefers the best, a high one spreads. Drawn as the highest `share / temperature - ln(-ln u)` with a
/// number `u` of each pod's own (the Gumbel-max trick), so that one pod's coming or going moves no choice between
/// others. Equals are taken equally often however low the temperature is.
///
/// Totals are shares, and not what they happen to be, so that a temperature means the same for all weights. (Dynamo's
/// `router_temperature` and SMG's softmax normalise too; vllm-router 0.1.17 takes raw costs.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftmaxPicker {
    temperature: f64,
}

impl Default for SoftmaxPicker {
    /// Temperature 0.1: a pod whose total is a tenth of the most behind is taken 1 / e times as often.
    fn default() -> Self {
        Self { temperature: 0.1 }
    }
}

impl SoftmaxPicker {
    /// With this temperature.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is not finite or not above 0.
    pub fn new(temperature: f64) -> Result<Self, Error> {
        if temperature.is_finite() && temperature > 0.0 {
            return Ok(Self { temperature });
        }
        Err(Error::invalid(alloc::format!("softmax: temperature is finite and above 0, not {temperature}")))
    }
}

impl Picker for SoftmaxPicker {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn pick(&self, pods: &[Scored], draw: u64) -> Option<usize> {
        // How far behind the best one: at a low temperature the lots would be lost beside the shares themselves.
        let best = pods.iter().map(|pod| pod.share).fold(0.0, f64::max);
        highest(pods, |pod| (pod.share - best) / self.temperature + gumbel(pod, draw))
    }
}

/// Each pod as often as its total is high: `p ~ total`. If all totals are 0, each as often as the others.
///
/// Drawn as the highest `ln(total) - ln(-ln u)` with a number `u` of each pod's own: the choices of
/// `weighted-random-picker` of llm-d-router ebab687, which takes the highest `ln(u) / total` (Efraimidis and Spirakis,
/// 2006), but for tiny totals too.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRandomPicker;

impl Picker for WeightedRandomPicker {
    fn name(&self) -> &'static str {
        "weighted-random"
    }

    fn pick(&self, pods: &[Scored], draw: u64) -> Option<usize> {
        let is_zero = pods.iter().all(|pod| pod.total <= 0.0);
        highest(pods, |pod| gumbel(pod, draw) + if is_zero { 0.0 } else { libm::log(pod.total) })
    }
}

/// The better of two pods that are drawn by lot (Mitzenmacher, 2001): nearly as even as always taking the best, without
/// sending everybody to the one that was best when loads were last reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct PowerOfTwoPicker;

impl Picker for PowerOfTwoPicker {
    fn name(&self) -> &'static str {
        "power-of-two"
    }

    fn pick(&self, pods: &[Scored], draw: u64) -> Option<usize> {
        let first = pods.iter().max_by_key(|pod| lot(pod.pod, draw))?;
        let others = pods.iter().filter(|pod| pod.row != first.row);
        let second = others.max_by_key(|pod| lot(pod.pod, draw)).unwrap_or(first);
        Some(if better(first, second, draw).is_lt() { second.row } else { first.row })
    }
}

/// A number of the pod's own in this draw, above 0 and below 1.
fn uniform(pod: &Scored, draw: u64) -> f64 {
    ((lot(pod.pod, draw) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// A number of the pod's own in this draw, of the standard Gumbel distribution.
fn gumbel(pod: &Scored, draw: u64) -> f64 {
    -libm::log(-libm::log(uniform(pod, draw)))
}

fn highest(pods: &[Scored], key: impl Fn(&Scored) -> f64) -> Option<usize> {
    let keyed = pods.iter().map(|pod| (key(pod), pod.row));
    keyed.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, row)| row)
}
