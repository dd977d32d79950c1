//! What the API says of pools and pods, as far as it matters here. Untrusted: unknown keys are passed over, lengths are
//! bounded by what was read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kvroute_core::Role;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::pods::PodUrl;

/// An object that is listed and watched.
pub(super) trait Object: Clone + DeserializeOwned + Send + Sync {
    fn metadata(&self) -> &Metadata;
}

/// What all objects have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
    /// It is about to go.
    pub(super) deletion_timestamp: Option<String>,
}

/// A page of a list. Its objects are read one by one, so that one that cannot be costs no other.
#[derive(Debug, Deserialize)]
pub(super) struct List<'a> {
    pub(super) metadata: ListMetadata,
    #[serde(borrow)]
    pub(super) items: Vec<&'a RawValue>,
}

/// Reads an object; `None`: it cannot be, and is left out.
pub(super) fn read<T: Object>(object: &RawValue) -> Option<T> {
    let read = serde_json::from_str(object.get());
    read.inspect_err(|error| tracing::warn!(%error, "an object of the Kubernetes API cannot be read")).ok()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    /// Names the next page, if there is one.
    #[serde(rename = "continue")]
    pub(super) next: String,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct WatchEvent<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// An error, in place of an object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) message: String,
}

/// An InferencePool, of either version.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct InferencePool {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: PoolSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PoolSpec {
    selector: Selector,
    target_ports: Vec<TargetPort>,
    /// Of v1alpha2.
    target_port_number: Option<u16>,
}

/// v1 has the labels under a key of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Selector {
    V1 {
        #[serde(rename = "matchLabels")]
        match_labels: BTreeMap<String, String>,
    },
    V1Alpha2(BTreeMap<String, String>),
}

impl Default for Selector {
    fn default() -> Self {
        Self::V1Alpha2(BTreeMap::new())
    }
}

#[derive(Clone, Debug, Deserialize)]
struct TargetPort {
    number: u16,
}

/// Which pods belong to a pool, and where they listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) selector: BTreeMap<String, String>,
    pub(super) ports: Vec<u16>,
}

impl PoolSpec {
    /// What it says, or why that is nothing.
    pub(super) fn pool(&self) -> Result<Pool, String> {
        let selector = match &self.selector {
            Selector::V1 { match_labels } => match_labels,
            Selector::V1Alpha2(labels) => labels,
        };
        let ports: Vec<u16> =
            self.target_ports.iter().map(|port| port.number).chain(self.target_port_number).collect();
        if selector.is_empty() {
            return Err("the InferencePool selects nothing".to_owned());
        }
        if ports.is_empty() || ports.contains(&0) {
            return Err("the InferencePool has no target port".to_owned());
        }
        Ok(Pool { selector: selector.clone(), ports })
    }
}

impl Object for InferencePool {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// A pod.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Object for Pod {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Pod {
    /// Whether it takes requests, as far as Kubernetes knows.
    pub(super) fn is_ready(&self) -> bool {
        let is_ready = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
        self.metadata.deletion_timestamp.is_none() && self.status.conditions.iter().any(is_ready)
    }

    pub(super) fn url(&self, port: u16) -> Option<PodUrl> {
        let address: IpAddr = self.status.pod_ip.as_deref()?.parse().ok()?;
        Some(PodUrl::of(&address.to_string(), port, false))
    }

    /// What it does, by llm-d's label (llm-d-router ebab687): one without it answers requests; `None` for what answers
    /// nobody, encoders.
    pub(super) fn role(&self, label: &str) -> Option<Role> {
        match self.metadata.labels.get(label).map(String::as_str) {
            Some("encode") => None,
            Some("prefill" | "encode-prefill") => Some(Role::Prefill),
            Some("both" | "prefill-decode" | "encode-prefill-decode") => Some(Role::Both),
            _ => Some(Role::Decode),
        }
    }
}
