//! Pickers.

use alloc::boxed::Box;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::problem::Problem;
use crate::pick::{MaxScorePicker, Picker, PowerOfTwoPicker, SoftmaxPicker, WeightedRandomPicker};

/// Which of the rated pods is taken. The request's nonce and the profile's seed decide what is even or random.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PickerConfig {
    /// The one with the highest total.
    #[default]
    MaxScore,
    /// Each as often as its total is high.
    WeightedRandom,
    /// The better of two that are drawn by lot.
    PowerOfTwo,
    /// A softmax over the totals.
    Softmax(SoftmaxConfig),
}

/// The `softmax` picker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SoftmaxConfig {
    /// Above 0. A pod whose total is this share of the most behind another's is taken 1 / e times as often.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
}

impl Default for SoftmaxConfig {
    fn default() -> Self {
        Self { temperature: 0.1 }
    }
}

impl PickerConfig {
    pub(super) fn picker(&self) -> Result<Box<dyn Picker>, Problem> {
        Ok(match self {
            Self::MaxScore => Box::new(MaxScorePicker),
            Self::WeightedRandom => Box::new(WeightedRandomPicker),
            Self::PowerOfTwo => Box::new(PowerOfTwoPicker),
            Self::Softmax(SoftmaxConfig { temperature }) => {
                let refused = |_| {
                    let problem = Problem::found(temperature, "a finite number above 0");
                    problem.at("temperature").at("softmax")
                };
                Box::new(SoftmaxPicker::new(*temperature).map_err(refused)?)
            }
        })
    }
}
