//! The pods of a router and their cache domains.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::hash::BlockHasher;
use crate::index::PodId;
use crate::pod::RoutedPod;
use crate::request::Prompt;
use crate::{CacheDomain, Error};

/// The pods at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// In order of slot.
    pub(super) pods: Vec<Arc<RoutedPod>>,
    /// Each distinct cache domain once; those that hash alike stand together.
    pub(super) domains: Vec<RoutedDomain>,
    /// Place of each pod's domain in `domains`; `[pods]`.
    pub(super) domain_rows: Vec<u32>,
    /// All ranks of each name.
    names: HashMap<String, Vec<PodId>>,
    /// What session tokens name pods by.
    identities: HashMap<u64, PodId>,
    /// Domains that are known with or without pods.
    pub(super) named: Vec<Arc<CacheDomain>>,
}

/// A cache domain with the one for those of its prompts that are only known as text.
#[derive(Clone, Debug)]
pub(super) struct RoutedDomain {
    pub(super) domain: Arc<CacheDomain>,
    pub(super) text: CacheDomain,
    /// What peers call the two: the same in every router that hashes alike.
    told: [u64; 2],
}

impl Roster {
    /// Pods, in order of slot, that are only chosen among: neither domains nor names are looked up in it.
    pub(super) fn of(pods: Vec<Arc<RoutedPod>>) -> Self {
        Self { pods, ..Self::default() }
    }

    /// Row of a pod.
    pub(super) fn row(&self, id: PodId) -> Option<usize> {
        let row = self.pods.binary_search_by_key(&id.slot(), |pod| pod.id.slot()).ok()?;
        (self.pods[row].id == id).then_some(row)
    }

    /// Puts a pod in; `text` hashes prompts that are only known as text.
    pub(super) fn insert(&mut self, pod: RoutedPod, text: &BlockHasher) {
        if self.domains.iter().all(|known| !Arc::ptr_eq(&known.domain, &pod.domain)) {
            let (domain, text) = (Arc::clone(&pod.domain), pod.domain.of_text(text.clone()));
            let told = [&*domain, &text].map(|domain| {
                let name = xxh3_64(domain.name().as_bytes());
                xxh3_64_with_seed(&domain.hasher().fingerprint().to_le_bytes(), name)
            });
            // Prompts that are only known as text mean something else, also where they are hashed alike.
            let told = [told[0], !told[1]];
            self.domains.push(RoutedDomain { domain, text, told });
            self.domains.sort_by_key(|known| known.domain.hasher().identity());
        }
        self.names.entry_ref(&pod.name).or_default().push(pod.id);
        self.identities.insert(pod.identity, pod.id);
        let row = self.pods.partition_point(|other| other.id.slot() < pod.id.slot());
        self.pods.insert(row, Arc::new(pod));
        self.find_domains();
    }

    pub(super) fn remove(&mut self, row: usize) {
        let pod = self.pods.remove(row);
        if let Some(ranks) = self.names.get_mut(&pod.name) {
            ranks.retain(|id| *id != pod.id);
            if ranks.is_empty() {
                self.names.remove(&pod.name);
            }
        }
        if self.identities.get(&pod.identity) == Some(&pod.id) {
            self.identities.remove(&pod.identity);
        }
        let pods = &self.pods;
        self.domains.retain(|known| pods.iter().any(|pod| Arc::ptr_eq(&pod.domain, &known.domain)));
        self.find_domains();
    }

    fn find_domains(&mut self) {
        let Self { pods, domains, domain_rows, .. } = self;
        let place = |pod: &Arc<RoutedPod>| domains.iter().position(|d| Arc::ptr_eq(&d.domain, &pod.domain));
        domain_rows.clear();
        domain_rows.extend(pods.iter().map(|pod| place(pod).unwrap_or(0) as u32));
    }

    /// Rows of all ranks of a pod.
    pub(super) fn ranks(&self, name: &str) -> impl Iterator<Item = usize> + '_ {
        self.names.get(name).into_iter().flatten().filter_map(|id| self.row(*id))
    }

    /// Row of the pod that session tokens name so.
    pub(super) fn row_of_identity(&self, identity: u64) -> Option<usize> {
        self.row(*self.identities.get(&identity)?)
    }

    /// The domain in which a pod's part in such a prompt is looked up and predicted.
    pub(super) fn domain_of<'a>(&'a self, pod: &'a RoutedPod, prompt: Prompt<'_>) -> &'a CacheDomain {
        match prompt {
            Prompt::TokenIds(_) => &pod.domain,
            Prompt::Text(_) => self.routed_domain(pod).map_or(&pod.domain, |known| &known.text),
        }
    }

    fn routed_domain(&self, pod: &RoutedPod) -> Option<&RoutedDomain> {
        self.domains.iter().find(|known| Arc::ptr_eq(&known.domain, &pod.domain))
    }

    /// What peers call the domain in which a pod's part in such a prompt is looked up.
    pub(super) fn told_domain(&self, pod: &RoutedPod, prompt: Prompt<'_>) -> u64 {
        let place = usize::from(matches!(prompt, Prompt::Text(_)));
        self.routed_domain(pod).map_or(0, |known| known.told[place])
    }

    /// The domain of the pod in this row that peers call so.
    pub(super) fn domain_told_as(&self, row: usize, told: u64) -> Option<&CacheDomain> {
        let known = self.routed_domain(&self.pods[row])?;
        match known.told.iter().position(|own| *own == told)? {
            0 => Some(&known.domain),
            _ => Some(&known.text),
        }
    }

    /// The domain of this name.
    pub(super) fn domain(&self, name: &str) -> Option<&Arc<CacheDomain>> {
        let routed = self.domains.iter().map(|known| &known.domain);
        routed.chain(&self.named).find(|known| known.name() == name)
    }

    /// The domain to use where somebody means `domain`: the known one of that name, so that a pod's domain is
    /// found by its address.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if that one hashes differently or serves other models.
    pub(super) fn same_domain(&self, domain: Arc<CacheDomain>) -> Result<Arc<CacheDomain>, Error> {
        let Some(known) = self.domain(domain.name()) else { return Ok(domain) };
        if known.hasher() == domain.hasher() && known.models() == domain.models() {
            return Ok(Arc::clone(known));
        }
        let (name, size) = (domain.name(), domain.block_size());
        Err(Error::invalid(format!(
            "cache domain \"{name}\" with blocks of {size} is known with another scheme, block size or models; \
             pods that hash differently need domains of different names"
        )))
    }
}
