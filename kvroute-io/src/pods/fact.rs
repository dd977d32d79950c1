//! What is known of a pod, and from where.

use serde::Serialize;

/// From where something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// The pod said so.
    Learnt,
    /// The configuration says so; it counts more than what the pod says.
    Configured,
    /// Nobody said so; it is what such pods do when they are not told otherwise.
    Assumed,
    /// Nobody said anything, and nothing can be assumed.
    Unknown,
}

/// Something known of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact<T> {
    /// What is used; `None` if it is unknown.
    pub value: Option<T>,
    /// From where it is known.
    pub origin: Origin,
    /// What the pod says, where the configuration says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disagrees: Option<T>,
}

impl<T> Default for Fact<T> {
    fn default() -> Self {
        Self { value: None, origin: Origin::Unknown, disagrees: None }
    }
}

impl<T: Clone + PartialEq> Fact<T> {
    /// What the configuration and the pod say: the configuration wins, and keeps what the pod says otherwise.
    #[must_use]
    pub fn new(configured: Option<T>, learnt: Option<T>) -> Self {
        match (configured, learnt) {
            (Some(value), learnt) => {
                let disagrees = learnt.filter(|learnt| *learnt != value);
                Self { value: Some(value), origin: Origin::Configured, disagrees }
            }
            (None, Some(value)) => Self { value: Some(value), origin: Origin::Learnt, disagrees: None },
            (None, None) => Self::default(),
        }
    }

    /// The same, with what such pods do where nobody said anything.
    #[must_use]
    pub fn or_assume(self, assumed: impl FnOnce() -> Option<T>) -> Self {
        if self.value.is_some() {
            return self;
        }
        match assumed() {
            Some(value) => Self { value: Some(value), origin: Origin::Assumed, disagrees: None },
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_wins_and_what_the_pod_says_otherwise_is_kept() {
        let fact = Fact::new(Some(16), Some(32));
        assert_eq!((fact.value, fact.origin, fact.disagrees), (Some(16), Origin::Configured, Some(32)));
        assert_eq!(Fact::new(Some(16), Some(16)).disagrees, None);
        assert_eq!(Fact::new(None, Some(32)).origin, Origin::Learnt);
    }

    #[test]
    fn only_what_nobody_said_is_assumed() {
        assert_eq!(Fact::new(None, Some(1)).or_assume(|| Some(2)).value, Some(1));
        let fact = Fact::new(None, None).or_assume(|| Some(2));
        assert_eq!((fact.value, fact.origin), (Some(2), Origin::Assumed));
        assert_eq!(Fact::<u32>::new(None, None).or_assume(|| None).origin, Origin::Unknown);
    }
}
