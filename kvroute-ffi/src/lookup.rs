//! Looking up what pods have of a prompt.

use kvroute_core::index::{PodMatch, TierBlocks};
use kvroute_core::{BlockHash, Tier};

use crate::domain::kvroute_domain;
use crate::error::kvroute_error;
use crate::memory::{array, fill, wanted};
use crate::router::kvroute_router;
use crate::workspace::{self, kvroute_workspace};
use crate::{guard, handle};

/// Room for tiers: those that `KVROUTE_TIER_...` does not name yet are 0.
pub const KVROUTE_MAX_TIERS: usize = 8;

/// What one pod has of a query.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_pod_match {
    /// The pod.
    pub pod: u64,
    /// Leading blocks it can use, by tier.
    pub blocks: [u32; KVROUTE_MAX_TIERS],
    /// Leading blocks that this router sent to it.
    pub predicted: u32,
    /// Those of them that were sent a moment ago, and that its events do not tell of yet.
    pub speculative: u32,
}

pub(crate) fn by_tier(blocks: TierBlocks) -> [u32; KVROUTE_MAX_TIERS] {
    let mut by_tier = [0; KVROUTE_MAX_TIERS];
    for (to, tier) in by_tier.iter_mut().zip(Tier::ALL) {
        *to = blocks.in_tier(tier);
    }
    by_tier
}

/// Looks up what every pod of `domain` has of the blocks `hashes: [n]`, cut by the caller where an engine would cut
/// them (`kvroute_domain_searchable_blocks`). Writes the pods that have any into `matches: [*written]`, in order of
/// their ids.
///
/// Errors: `KVROUTE_BUSY`; `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_lookup(
    router: *const kvroute_router,
    domain: *const kvroute_domain,
    hashes: *const u64,
    hashes_len: usize,
    workspace: *mut kvroute_workspace,
    matches: *mut kvroute_pod_match,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            wanted("written", written)?;
            let domain = handle::get(domain)?;
            // A `BlockHash` is a number in memory, and any number is one.
            let hashes = array("hashes", hashes.cast::<BlockHash>(), hashes_len)?;
            workspace::with(workspace, |scratch| {
                router.index().lookup(domain, hashes, &mut scratch.table);
                let found = scratch.table.matches().iter().map(|found: &PodMatch| kvroute_pod_match {
                    pod: found.pod.as_u64(),
                    blocks: by_tier(found.blocks),
                    predicted: found.predicted,
                    speculative: found.speculative,
                });
                scratch.found.clear();
                scratch.found.extend(found);
                scratch.found.sort_unstable_by_key(|found| found.pod);
                fill(&scratch.found, matches, capacity, written)
            })
        })
    }
}
