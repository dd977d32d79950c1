//! Keys and members of the shared index.

use std::hash::{BuildHasher, RandomState};

use kvroute_core::{BlockHash, CacheDomain, Tier};

/// A pod's stay in the index, as one writer tells it: from when it began to write to when that was void. 52 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Life(pub(super) u64);

impl Life {
    const BITS: u32 = 52;

    /// One that nobody had.
    pub(super) fn draw() -> Self {
        Self((RandomState::new().hash_one(0_u8) >> (64 - Self::BITS)).max(1))
    }

    /// As a member of a block's set, with the tier that holds it.
    #[must_use]
    pub fn member(self, tier: Tier) -> u64 {
        self.0 << 3 | tier as u64
    }

    /// The life and tier of a member; `None` for what no writer writes.
    #[must_use]
    pub fn of_member(member: u64) -> Option<(Self, Tier)> {
        let tier = Tier::ALL.into_iter().find(|&tier| tier as u64 == member & 7)?;
        let life = member >> 3;
        (life != 0 && life >> Self::BITS == 0).then_some((Self(life), tier))
    }
}

/// The pod that a life is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Named {
    /// Fingerprint of its domain.
    pub(super) domain: u64,
    pub(super) rank: u32,
    pub(super) name: String,
}

impl Named {
    /// As the value of a life's key.
    pub(super) fn to_value(&self) -> String {
        format!("{:016x} {} {}", self.domain, self.rank, self.name)
    }

    pub(super) fn of_value(value: &str) -> Option<Self> {
        let mut parts = value.splitn(3, ' ');
        let domain = u64::from_str_radix(parts.next()?, 16).ok()?;
        let rank = parts.next()?.parse().ok()?;
        Some(Self { domain, rank, name: parts.next()?.to_owned() })
    }
}

/// The keys of one index. All of them have one hash tag, so a command may name several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    tag: String,
}

impl Keys {
    /// Those of the index of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { tag: format!("{{{name}}}") }
    }

    /// Of a block of a domain with this fingerprint ([`CacheDomain::fingerprint`]).
    #[must_use]
    pub fn block(&self, domain: u64, block: BlockHash) -> String {
        format!("{}:b:{:016x}", self.tag, block.0 ^ domain)
    }

    /// Of a life.
    #[must_use]
    pub fn life(&self, life: Life) -> String {
        format!("{}:l:{:013x}", self.tag, life.0)
    }

    /// Of who writes of a pod.
    #[must_use]
    pub fn pod(&self, domain: &CacheDomain, name: &str, rank: u32) -> String {
        self.lease(&Named { domain: domain.fingerprint(), rank, name: name.to_owned() })
    }

    pub(super) fn lease(&self, pod: &Named) -> String {
        let Named { domain, rank, name } = pod;
        format!("{}:p:{domain:016x}:{rank}:{name}", self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_bring_back_life_and_tier_and_fit_a_signed_integer() {
        for tier in Tier::ALL {
            let life = Life::draw();
            let member = life.member(tier);
            assert!(i64::try_from(member).is_ok(), "sets of integers are kept without strings");
            assert_eq!(Life::of_member(member), Some((life, tier)));
        }
        for foreign in [0, 3, u64::MAX, 1 << 3 | 7, 1 << 63] {
            assert_eq!(Life::of_member(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_life_names_its_pod_whatever_that_is_called() {
        for name in ["pod", "a b  c", "", "10.0.0.1:8000", "{x}"] {
            let named = Named { domain: 7, rank: 3, name: name.to_owned() };
            assert_eq!(Named::of_value(&named.to_value()), Some(named));
        }
        for wrong in ["", "7", "7 x y", "zz 0 a"] {
            assert_eq!(Named::of_value(wrong), None);
        }
    }
}
