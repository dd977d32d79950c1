//! Means over seeds, and how sure they are.

use serde::Serialize;

/// A mean and the half width of its 95 % confidence interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// The interval is `mean - half..=mean + half`; 0 for a single value.
    pub half: f64,
}

impl Interval {
    /// Of values that are independent and about normally distributed; zeros of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let Some(freedom) = values.len().checked_sub(1).filter(|&freedom| freedom > 0) else {
            return Self { mean, half: 0.0 };
        };
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / freedom as f64).sqrt();
        Self { mean, half: student(freedom) * deviation / count.sqrt() }
    }

    /// Of the differences `one - other`, seed by seed: what both runs of a seed have in common falls out.
    #[must_use]
    pub fn paired(one: &[f64], other: &[f64]) -> Self {
        let differences: Vec<_> = one.iter().zip(other).map(|(one, other)| one - other).collect();
        Self::of(&differences)
    }

    /// Whether 0 lies in it.
    #[must_use]
    pub fn holds_zero(&self) -> bool {
        self.mean.abs() <= self.half
    }
}

/// The 97.5 % quantiles of Student's t distribution with 1 to 30 degrees of freedom, from the tables of any
/// textbook.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The 97.5 % quantile of Student's t distribution. Beyond the table the first terms of the expansion about the
/// normal distribution's quantile (Abramowitz and Stegun, 26.7.5), right to three digits.
fn student(freedom: usize) -> f64 {
    const NORMAL: f64 = 1.959_964;
    let expansion = || {
        let (z, n) = (NORMAL, freedom as f64);
        z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
    };
    STUDENT.get(freedom - 1).copied().unwrap_or_else(expansion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_that_of_the_textbook() {
        // By hand: the squares of -3, -1, 1, 3 are 20; of three degrees of freedom t is 3.182.
        let interval = Interval::of(&[2.0, 4.0, 6.0, 8.0]);
        assert_eq!(interval.mean, 5.0);
        assert!((interval.half - 3.182 * (20.0_f64 / 3.0).sqrt() / 2.0).abs() < 1e-12, "{interval:?}");
        assert_eq!(Interval::of(&[3.0]), Interval { mean: 3.0, half: 0.0 });
        assert_eq!(Interval::of(&[]), Interval::default());
    }

    #[test]
    fn what_seeds_have_in_common_falls_out_of_pairs() {
        let (one, other) = ([10.0, 20.0, 30.0], [9.0, 19.5, 28.5]);
        assert!(Interval::of(&one).half > 20.0 && Interval::of(&other).half > 20.0);
        let paired = Interval::paired(&one, &other);
        assert!(paired.mean == 1.0 && paired.half < 1.3, "{paired:?}");
        assert!(paired.holds_zero() && !Interval { mean: 2.0, half: 1.9 }.holds_zero());
    }

    #[test]
    fn quantiles_beyond_the_table_go_on_from_it() {
        for (freedom, quantile) in [(40, 2.021), (60, 2.000), (120, 1.980)] {
            assert!((student(freedom) - quantile).abs() < 6e-4, "{freedom}: {}", student(freedom));
        }
        assert!((1..200).all(|freedom| student(freedom + 1) < student(freedom)));
    }
}
