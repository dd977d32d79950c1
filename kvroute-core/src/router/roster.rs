//! The pods of a router and their cache domains.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::candidate::RoutedPod;
use crate::index::PodId;
use crate::{CacheDomain, Error};

/// The pods at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// In order of slot.
    pub(super) pods: Vec<Arc<RoutedPod>>,
    /// Each distinct cache domain once; those that hash alike stand together.
    pub(super) domains: Vec<Arc<CacheDomain>>,
}

impl Roster {
    /// Row of a pod.
    pub(super) fn row(&self, id: PodId) -> Option<usize> {
        let row = self.pods.binary_search_by_key(&id.slot, |pod| pod.id.slot).ok()?;
        (self.pods[row].id == id).then_some(row)
    }

    pub(super) fn insert(&mut self, pod: RoutedPod) {
        if self.domains.iter().all(|domain| !Arc::ptr_eq(domain, &pod.domain)) {
            self.domains.push(Arc::clone(&pod.domain));
            self.domains.sort_by_key(|domain| domain.hasher().identity());
        }
        let row = self.pods.partition_point(|other| other.id.slot < pod.id.slot);
        self.pods.insert(row, Arc::new(pod));
    }

    pub(super) fn remove(&mut self, row: usize) {
        self.pods.remove(row);
        let pods = &self.pods;
        self.domains.retain(|domain| pods.iter().any(|pod| Arc::ptr_eq(&pod.domain, domain)));
    }

    /// The domain to use for a pod that names `domain`: the known one of that name, so that a pod's domain is
    /// found by its address.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if that one hashes differently.
    pub(super) fn domain(&self, pod: &str, domain: Arc<CacheDomain>) -> Result<Arc<CacheDomain>, Error> {
        let Some(known) = self.domains.iter().find(|known| known.name() == domain.name()) else {
            return Ok(domain);
        };
        if known.hasher() == domain.hasher() {
            return Ok(Arc::clone(known));
        }
        let (name, size) = (domain.name(), domain.block_size());
        Err(Error::invalid(format!(
            "pod \"{pod}\": cache domain \"{name}\" with blocks of {size} is known with another scheme or block \
             size; pods that hash differently need domains of different names"
        )))
    }
}
