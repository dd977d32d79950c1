//! A pool of pods as documents name it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kvroute_core::config::Problem;
use kvroute_core::config::value::{labels, optional_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::objects::Pool;
use crate::pods::PodUrl;

/// Pods from the Kubernetes API: those of an InferencePool, or those that a selector says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Where they are; absent: the namespace of this process's service account.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub namespace: Option<String>,
    /// Name of the InferencePool, which says selector and ports.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub pool: Option<String>,
    /// Version of its API.
    #[serde(default)]
    pub pool_version: PoolVersion,
    /// Labels that pods must have, where no pool says it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "labels")]
    pub selector: BTreeMap<String, String>,
    /// Ports of their HTTP interfaces, where no pool says it; each is a pod of its own here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Label that says what a pod does: decode, prefill or both, in llm-d's words.
    #[serde(default = "KubernetesConfig::default_role_label")]
    pub role_label: String,
    /// Where the API is; absent: where a pod finds it.
    #[serde(default = "KubernetesConfig::default_api")]
    #[schemars(with = "String")]
    pub api: PodUrl,
    /// A file with the token to be shown there, read again whenever it is asked; where there is no such file, none is shown.
    #[serde(default = "KubernetesConfig::default_token_file")]
    #[schemars(with = "String")]
    pub token_file: PathBuf,
    /// A file with the certificates that the API is trusted by; where there is no such file, the machine's count.
    #[serde(default = "KubernetesConfig::default_ca_file")]
    #[schemars(with = "String")]
    pub ca_file: PathBuf,
    /// How long one answer, and the silence in a watch, may take; milliseconds.
    #[serde(default = "KubernetesConfig::default_timeout_ms")]
    #[schemars(range(min = 100))]
    pub timeout_ms: u64,
}

/// A version of the InferencePool's API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolVersion {
    /// `inference.networking.k8s.io/v1`.
    #[default]
    V1,
    /// `inference.networking.x-k8s.io/v1alpha2`.
    V1Alpha2,
}

/// Where a pod finds its service account (Kubernetes, "Accessing the API from within a Pod").
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl KubernetesConfig {
    fn default_role_label() -> String {
        "llm-d.ai/role".to_owned()
    }

    fn default_api() -> PodUrl {
        PodUrl::of("kubernetes.default.svc", 443, true)
    }

    fn default_token_file() -> PathBuf {
        PathBuf::from(ACCOUNT).join("token")
    }

    fn default_ca_file() -> PathBuf {
        PathBuf::from(ACCOUNT).join("ca.crt")
    }

    const fn default_timeout_ms() -> u64 {
        30_000
    }

    pub(crate) fn checked(&self) -> Result<(), Problem> {
        let has_selector = !self.selector.is_empty() || !self.ports.is_empty();
        match (&self.pool, has_selector) {
            (Some(_), true) => {
                return Err(Problem::new(
                    "`pool` says selector and ports; `selector` and `ports` go without it",
                ));
            }
            (None, _) if self.selector.is_empty() || self.ports.is_empty() => {
                return Err(Problem::new("found neither `pool` nor `selector` with `ports`"));
            }
            _ => {}
        }
        if self.ports.contains(&0) {
            return Err(Problem::found(0, "1 to 65535").at("ports"));
        }
        // They become parts of a path.
        for (key, name) in [("pool", &self.pool), ("namespace", &self.namespace)] {
            if let Some(name) = name
                && !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
            {
                let found = format!("{name:?}");
                return Err(Problem::found(found, "a name of letters, digits, `-` and `.`").at(key));
            }
        }
        if self.timeout_ms < 100 {
            return Err(Problem::found(self.timeout_ms, "100 or more").at("timeout_ms"));
        }
        Ok(())
    }

    /// The namespace: what is said, what the service account's file says, or `default`.
    fn namespace(&self) -> String {
        let of_account = || {
            let file = self.token_file.with_file_name("namespace");
            std::fs::read_to_string(file).ok().map(|name| name.trim().to_owned())
        };
        self.namespace.clone().or_else(of_account).unwrap_or_else(|| "default".to_owned())
    }

    /// What a pool would say, where there is none.
    pub(super) fn fixed_pool(&self) -> Option<Pool> {
        self.pool.is_none().then(|| Pool { selector: self.selector.clone(), ports: self.ports.clone() })
    }

    /// Path and query of the pool, in a list of one.
    pub(super) fn pool_path(&self) -> String {
        let group = match self.pool_version {
            PoolVersion::V1 => "inference.networking.k8s.io/v1",
            PoolVersion::V1Alpha2 => "inference.networking.x-k8s.io/v1alpha2",
        };
        let (namespace, pool) = (self.namespace(), self.pool.as_deref().unwrap_or_default());
        format!(
            "/apis/{group}/namespaces/{namespace}/inferencepools?fieldSelector=metadata.name%3D{}",
            encoded(pool)
        )
    }

    /// Path and query of the pods with these labels.
    pub(super) fn pods_path(&self, selector: &BTreeMap<String, String>) -> String {
        let labels: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("/api/v1/namespaces/{}/pods?labelSelector={}", self.namespace(), encoded(&labels.join(",")))
    }

    /// Name in the status.
    pub(crate) fn name(&self) -> String {
        let of = self.pool.clone().unwrap_or_else(|| {
            let labels: Vec<_> = self.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            labels.join(",")
        });
        format!("kubernetes {}/{of}", self.namespace())
    }
}

/// A part of a query (RFC 3986, section 2.1).
pub(super) fn encoded(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(byte.into());
        } else {
            all.push_str(&format!("%{byte:02X}"));
        }
    }
    all
}
