//! Where pods come from: a list, a file that is read again, names that are resolved again, the Kubernetes API.
//!
//! A file is read again by its content, whatever happened to its name meanwhile, so that the symbolic links of a
//! Kubernetes ConfigMap work. What cannot be read, or a name that cannot be resolved, changes nothing: the last good
//! answer stays, and the status says so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvroute_core::config::{self, Document, Problem};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::config::pods;
use super::kubernetes::Watcher;
use super::{KubernetesConfig, PodConfig, PodUrl};

/// Where pods come from, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SourceStatus {
    /// What it is: `list`, `file PATH`, `dns NAME:PORT` or `kubernetes NAMESPACE/POOL`.
    pub source: String,
    /// Pods it names; the last good answer. Those that another source names too are that one's as well.
    pub pods: usize,
    /// Why it could not be read last, if it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Seconds since it was last read well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_seconds_ago: Option<f64>,
}

/// A file of pods: a mapping with the key `pods`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PodsFile {
    #[serde(deserialize_with = "pods")]
    pods: Vec<PodConfig>,
}

impl Document for PodsFile {
    fn checked(&self) -> Result<(), Problem> {
        check_pods(&self.pods, |_| true).map_err(|problem| problem.at("pods"))
    }
}

/// Finds what is wrong with a list of pods, whose cache domains are those that `is_domain`.
pub(crate) fn check_pods(pods: &[PodConfig], is_domain: impl Fn(&str) -> bool) -> Result<(), Problem> {
    let mut names = BTreeMap::new();
    for (at, pod) in pods.iter().enumerate() {
        pod.checked().map_err(|problem| problem.at(at))?;
        if let Some(domain) = pod.domain.as_deref().filter(|domain| !is_domain(domain)) {
            let problem = Problem::new(format!("found `{domain}`, expected one of the router's `domains`"));
            return Err(problem.at("domain").at(at));
        }
        if let Some(first) = names.insert(pod.name(), at) {
            return Err(Problem::new(format!("pod `{}` is there already, at [{first}]", pod.name())).at(at));
        }
    }
    Ok(())
}

/// An answer that is kept until there is a better one.
#[derive(Debug)]
struct Kept<T> {
    value: T,
    read: Option<Instant>,
    error: Option<String>,
}

impl<T: Default> Default for Kept<T> {
    fn default() -> Self {
        Self { value: T::default(), read: None, error: None }
    }
}

impl<T> Kept<T> {
    fn take(&mut self, answer: Result<T, String>) {
        match answer {
            Ok(value) => (self.value, self.read, self.error) = (value, Some(Instant::now()), None),
            Err(error) => self.error = Some(error),
        }
    }

    fn status(&self, source: String, pods: usize) -> SourceStatus {
        let read_seconds_ago = self.read.map(|read| read.elapsed().as_secs_f64());
        SourceStatus { source, pods, error: self.error.clone(), read_seconds_ago }
    }
}

/// The sources of a fleet, and their last good answers.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    list: Vec<PodConfig>,
    file: Option<(PathBuf, Kept<Vec<PodConfig>>)>,
    kubernetes: Option<Watcher>,
    /// Addresses of each name that is to be resolved.
    names: BTreeMap<PodUrl, Kept<BTreeSet<IpAddr>>>,
    resolver: Resolver,
}

impl Sources {
    /// Takes over what the configuration says; what was read before of the same file and names stays.
    pub(crate) fn configure(
        &mut self,
        list: Vec<PodConfig>,
        file: Option<PathBuf>,
        kubernetes: Option<&KubernetesConfig>,
    ) {
        self.list = list;
        let watcher = self.kubernetes.take().filter(|watcher| Some(&watcher.config) == kubernetes);
        self.kubernetes = watcher.or_else(|| kubernetes.cloned().map(Watcher::start));
        let kept = self.file.take().filter(|(path, _)| Some(path) == file.as_ref());
        self.file = kept.or_else(|| file.map(|path| (path, Kept::default())));
    }

    /// Reads the file again, if there is one. `is_domain` tells the router's cache domains.
    pub(crate) async fn read_file(&mut self, is_domain: impl Fn(&str) -> bool) {
        let Some((path, kept)) = &mut self.file else { return };
        let path = path.clone();
        // Files may hang (NFS); the async threads never do.
        let text = tokio::task::spawn_blocking(move || read_text(&path)).await;
        let answer = text.unwrap_or_else(|error| Err(error.to_string())).and_then(|text| {
            let file: PodsFile = config::read(&text).map_err(|error| error.to_string())?;
            check_pods(&file.pods, is_domain)
                .map_err(|problem| kvroute_core::Error::from(problem.at("pods")).to_string())?;
            Ok(file.pods)
        });
        kept.take(answer);
    }

    /// Waits until the Kubernetes API says something else; for ever if it is not asked.
    pub(crate) async fn kubernetes_changes(&mut self) {
        if let Some(watcher) = &mut self.kubernetes
            && watcher.seen.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Resolves all names again, `max` addresses of each at most.
    pub(crate) async fn resolve(&mut self, max: usize) {
        let mut names = std::mem::take(&mut self.names);
        let wanted = self.configured().filter(|pod| pod.resolve).map(|pod| pod.url.clone());
        self.names = wanted.map(|url| (url.clone(), names.remove(&url).unwrap_or_default())).collect();
        let mut lookups = tokio::task::JoinSet::new();
        for url in self.names.keys().cloned() {
            let resolver = self.resolver.clone();
            lookups.spawn(async move {
                let addresses = resolver.resolve(&url, max).await;
                (url, addresses)
            });
        }
        while let Some(lookup) = lookups.join_next().await {
            // A lookup that panicked would be the resolver's bug; its name keeps its addresses.
            if let Ok((url, addresses)) = lookup
                && let Some(kept) = self.names.get_mut(&url)
            {
                kept.take(addresses);
            }
        }
    }

    /// Whether names are to be resolved that never were.
    pub(crate) fn has_new_names(&self) -> bool {
        self.configured().any(|pod| pod.resolve && !self.names.contains_key(&pod.url))
    }

    fn configured(&self) -> impl Iterator<Item = &PodConfig> {
        self.list.iter().chain(self.file.iter().flat_map(|(_, kept)| &kept.value))
    }

    /// All pods, by name. One that is named twice is as it is said first: in the list, then in the file, then by DNS, then
    /// by the Kubernetes API.
    pub(crate) fn pods(&self) -> BTreeMap<String, PodConfig> {
        let mut pods = BTreeMap::new();
        for pod in self.configured().filter(|pod| !pod.resolve) {
            pods.entry(pod.name()).or_insert_with(|| pod.clone());
        }
        for named in self.configured().filter(|pod| pod.resolve) {
            for address in self.names.get(&named.url).iter().flat_map(|kept| &kept.value) {
                let pod = PodConfig { url: named.url.at(*address), resolve: false, ..named.clone() };
                pods.entry(pod.name()).or_insert(pod);
            }
        }
        for pod in self.kubernetes.iter().flat_map(|watcher| watcher.seen.borrow().pods.clone()) {
            pods.entry(pod.name()).or_insert(pod);
        }
        pods
    }

    pub(crate) fn status(&self) -> Vec<SourceStatus> {
        let list = self.list.iter().filter(|pod| !pod.resolve).count();
        let list = SourceStatus { source: "list".into(), pods: list, error: None, read_seconds_ago: None };
        let file = self.file.iter().map(|(path, kept)| {
            let pods = kept.value.iter().filter(|pod| !pod.resolve).count();
            kept.status(format!("file {}", path.display()), pods)
        });
        let names = self
            .names
            .iter()
            .map(|(url, kept)| kept.status(format!("dns {}", url.authority()), kept.value.len()));
        let kubernetes = self.kubernetes.iter().map(|watcher| {
            let seen = watcher.seen.borrow();
            SourceStatus {
                source: watcher.config.name(),
                pods: seen.pods.len(),
                error: seen.error.clone(),
                read_seconds_ago: seen.read.map(|read| read.elapsed().as_secs_f64()),
            }
        });
        std::iter::once(list).chain(file).chain(names).chain(kubernetes).collect()
    }
}

/// Longest file of pods; bytes. As long as the longest configuration.
const MAX_FILE: u64 = 16 << 20;

fn read_text(path: &Path) -> Result<String, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("{}: longer than {MAX_FILE} bytes", path.display()));
    }
    Ok(text)
}

/// Who knows the addresses of names.
#[derive(Clone, Debug, Default)]
enum Resolver {
    /// The system.
    #[default]
    System,
    /// A test: addresses of each host.
    #[cfg(test)]
    Fixed(std::sync::Arc<parking_lot::Mutex<BTreeMap<String, Vec<IpAddr>>>>),
}

impl Resolver {
    /// How long a lookup may take.
    const TIMEOUT: Duration = Duration::from_secs(5);

    async fn resolve(&self, url: &PodUrl, max: usize) -> Result<BTreeSet<IpAddr>, String> {
        let addresses: BTreeSet<IpAddr> = match self {
            Self::System => {
                let lookup = tokio::net::lookup_host((url.host(), url.port()));
                let found = tokio::time::timeout(Self::TIMEOUT, lookup).await;
                let found = found.map_err(|_| format!("no answer within {} s", Self::TIMEOUT.as_secs()))?;
                found.map_err(|error| error.to_string())?.map(|address| address.ip()).collect()
            }
            #[cfg(test)]
            Self::Fixed(hosts) => {
                hosts.lock().get(url.host()).ok_or("no such name")?.iter().copied().collect()
            }
        };
        if addresses.len() > max {
            return Err(format!("{} addresses; {max} at most (`fleet.dns.max`)", addresses.len()));
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn listed(urls: &[&str]) -> Vec<PodConfig> {
        urls.iter().map(|url| PodConfig::new(url.parse().unwrap())).collect()
    }

    fn names(sources: &Sources) -> Vec<String> {
        sources.pods().into_keys().collect()
    }

    fn directory(test: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("kvroute-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[tokio::test]
    async fn a_file_is_read_again_and_a_broken_one_keeps_the_last_good_list() {
        let directory = directory("file");
        let path = directory.join("pods.yaml");
        let mut sources = Sources::default();
        sources.configure(listed(&["http://10.0.0.1:8000"]), Some(path.clone()), None);
        sources.read_file(|_| true).await;
        assert_eq!(names(&sources), ["10.0.0.1:8000"], "no file yet");
        assert!(sources.status()[1].error.is_some());

        std::fs::write(
            &path,
            "pods:\n- http://10.0.0.2:8000\n- {url: 'http://10.0.0.3:8000', role: prefill}\n",
        )
        .unwrap();
        sources.read_file(|_| true).await;
        assert_eq!(names(&sources), ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"]);
        assert_eq!(sources.pods()["10.0.0.3:8000"].role, kvroute_core::Role::Prefill);
        assert_eq!((sources.status()[1].pods, &sources.status()[1].error), (2, &None));

        for (broken, says) in [
            ("", "empty document"),
            ("pods:\n- http://10.0.0.4:8000\n- nonsense\n", "pods[1]: found no http://"),
            ("pods:\n- {url: 'http://10.0.0.4:8000', rol: prefill}\n", "did you mean `role`? (line 2"),
            ("pods:\n- http://10.0.0.4:8000\n- http://10.0.0.4:8000\n", "there already"),
            ("pods:\n- {url: 'http://10.0.0.4:8000', domain: x}\n", "expected one of the router's `domains`"),
        ] {
            std::fs::write(&path, broken).unwrap();
            sources.read_file(|_| false).await;
            let error = sources.status()[1].error.clone().unwrap_or_default();
            assert!(error.contains(says), "{error}");
            assert_eq!(names(&sources).len(), 3, "{broken}");
        }

        std::fs::write(&path, "{\"pods\": []}").unwrap();
        sources.read_file(|_| true).await;
        assert_eq!(
            (names(&sources), sources.status()[1].error.clone()),
            (vec!["10.0.0.1:8000".into()], None)
        );
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_that_is_turned_to_another_file_is_noticed() {
        let directory = directory("link");
        let (old, new, link) =
            (directory.join("..old"), directory.join("..new"), directory.join("pods.yaml"));
        std::fs::write(&old, "pods: ['http://10.0.0.1:8000']").unwrap();
        std::fs::write(&new, "pods: ['http://10.0.0.2:8000']").unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let mut sources = Sources::default();
        sources.configure(Vec::new(), Some(link.clone()), None);
        sources.read_file(|_| true).await;
        assert_eq!(names(&sources), ["10.0.0.1:8000"]);
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&new, &link).unwrap();
        sources.read_file(|_| true).await;
        assert_eq!(names(&sources), ["10.0.0.2:8000"]);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_a_pod_and_a_failed_lookup_keeps_the_last_ones() {
        let hosts = Arc::new(parking_lot::Mutex::new(BTreeMap::new()));
        let mut sources = Sources { resolver: Resolver::Fixed(Arc::clone(&hosts)), ..Sources::default() };
        let mut pod = listed(&["http://vllm.svc:8000"]);
        (pod[0].resolve, pod[0].role) = (true, kvroute_core::Role::Decode);
        sources.configure(pod, None, None);
        sources.resolve(3).await;
        assert_eq!((names(&sources).len(), sources.status()[1].error.as_deref()), (0, Some("no such name")));

        let set = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            hosts.lock().insert("vllm.svc".into(), addresses);
        };
        set(&["10.0.0.1", "fd00::2"]);
        sources.resolve(3).await;
        assert_eq!(names(&sources), ["10.0.0.1:8000", "[fd00::2]:8000"]);
        assert_eq!(sources.pods()["10.0.0.1:8000"].role, kvroute_core::Role::Decode);
        assert_eq!((sources.status()[1].pods, &sources.status()[1].error), (2, &None));

        hosts.lock().clear();
        sources.resolve(3).await;
        assert_eq!(names(&sources).len(), 2);
        assert!(sources.status()[1].error.is_some() && sources.status()[1].read_seconds_ago.is_some());

        set(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        sources.resolve(3).await;
        assert!(sources.status()[1].error.as_deref().unwrap().contains("3 at most"));
        set(&["10.0.0.9"]);
        sources.resolve(3).await;
        assert_eq!(names(&sources), ["10.0.0.9:8000"]);
    }

    #[tokio::test]
    async fn the_system_resolves_names() {
        let mut sources = Sources::default();
        let mut pod = listed(&["http://localhost:8000"]);
        pod[0].resolve = true;
        sources.configure(pod, None, None);
        sources.resolve(8).await;
        assert!(sources.pods().values().all(|pod| pod.url.is_loopback()));
        assert!(!sources.pods().is_empty(), "{:?}", sources.status());
    }

    #[test]
    fn a_pod_that_is_named_twice_is_as_it_is_said_first() {
        let mut sources = Sources::default();
        let mut list = listed(&["http://10.0.0.1:8000"]);
        list[0].capacity = 2.0;
        sources.configure(list, Some("x".into()), None);
        sources.file.as_mut().unwrap().1.take(Ok(listed(&["http://10.0.0.1:8000", "http://10.0.0.2:8000"])));
        assert_eq!(names(&sources), ["10.0.0.1:8000", "10.0.0.2:8000"]);
        assert_eq!(sources.pods()["10.0.0.1:8000"].capacity, 2.0);
        sources.configure(Vec::new(), Some("y".into()), None);
        assert_eq!(names(&sources).len(), 0, "another file's pods are not this one's");
    }
}
