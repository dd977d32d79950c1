//! Deterministic pseudo-random numbers: a sequence, and a hash of its position.

use core::ops::RangeInclusive;

/// The step of splitmix64's state, and the odd number nearest to 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number that `stream` and `position` alone decide.
pub(crate) fn at(stream: u64, position: u64) -> u64 {
    mix(mix(stream.wrapping_add(STEP)).wrapping_add(position.wrapping_mul(STEP)))
}

/// splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of this seed. Seeds that differ in one bit have unrelated sequences.
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(STEP)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Uniform in 0..`bound`; 0 for a bound of 0. The bias, `bound` in 2^64, is beyond notice.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in the range; its start if it is empty.
    pub(crate) fn within(&mut self, range: &RangeInclusive<u32>) -> u32 {
        range.start() + self.below(u64::from(range.end().saturating_sub(*range.start())) + 1) as u32
    }

    /// In the range, with every factor as likely as any other: as many from 100 to 200 as from 1000 to 2000.
    pub(crate) fn scattered(&mut self, range: &RangeInclusive<u32>) -> u32 {
        let (least, most) = (f64::from(*range.start()).max(1.0), f64::from(*range.end()));
        (least * (most / least).powf(self.unit())) as u32
    }

    /// Uniform above 0 and up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with this rate: the time to the next arrival of a Poisson process.
    pub(crate) fn exponential(&mut self, rate: f64) -> f64 {
        -self.unit().ln() / rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        // The first numbers of the reference implementation from state 1234567 (prng.di.unimi.it).
        let mut random = Random(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn gaps_of_a_rate_have_its_mean() {
        let mut random = Random::new(3);
        let sum: f64 = (0..100_000).map(|_| random.exponential(8.0)).sum();
        assert!((sum / 100_000.0 - 0.125).abs() < 0.002, "{sum}");
    }
}
