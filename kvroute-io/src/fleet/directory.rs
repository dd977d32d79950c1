//! What a gateway looks up for each request: where a pod is, what a model's name stands for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kvroute_core::PodId;
use kvroute_core::hash::Lora;
use parking_lot::{Mutex, RwLock};

use super::Target;
use super::model::{Model, ModelStatus};
use crate::pods::ServedModel;

/// The pods that are in the router, and what they serve.
#[derive(Debug, Default)]
pub(super) struct Directory {
    targets: RwLock<HashMap<PodId, Arc<Target>>>,
    /// What each pod serves, by its name; `None` is any model.
    served: Mutex<BTreeMap<String, Option<Vec<ServedModel>>>>,
    /// Made of `served` when it is first asked for after a change.
    models: RwLock<Option<Arc<Models>>>,
}

#[derive(Debug, Default)]
struct Models {
    by_name: BTreeMap<String, Arc<Model>>,
    status: Vec<ModelStatus>,
}

impl Directory {
    pub(super) fn insert(&self, id: PodId, target: Target) {
        self.targets.write().insert(id, Arc::new(target));
    }

    pub(super) fn remove(&self, id: PodId) {
        self.targets.write().remove(&id);
    }

    pub(super) fn target(&self, id: PodId) -> Option<Arc<Target>> {
        self.targets.read().get(&id).cloned()
    }

    pub(super) fn targets(&self) -> Vec<Arc<Target>> {
        self.targets.read().values().cloned().collect()
    }

    /// All pods in the router.
    pub(super) fn ids(&self) -> Vec<PodId> {
        self.targets.read().keys().copied().collect()
    }

    /// Notes what a pod serves.
    pub(super) fn serve(&self, pod: &str, models: Option<Vec<ServedModel>>) {
        let mut served = self.served.lock();
        if served.get(pod) != Some(&models) {
            served.insert(pod.into(), models);
            *self.models.write() = None;
        }
    }

    /// A pod serves nothing any more.
    pub(super) fn withdraw(&self, pod: &str) {
        if self.served.lock().remove(pod).is_some() {
            *self.models.write() = None;
        }
    }

    fn models(&self) -> Arc<Models> {
        if let Some(models) = &*self.models.read() {
            return Arc::clone(models);
        }
        // Under the lock of what they are made of, so that no change comes between.
        let served = self.served.lock();
        let models = Arc::new(Models::of(&served));
        *self.models.write() = Some(Arc::clone(&models));
        models
    }

    pub(super) fn model(&self, name: &str) -> Option<Arc<Model>> {
        self.models().by_name.get(name).cloned()
    }

    pub(super) fn all_models(&self) -> Vec<Arc<Model>> {
        self.models().by_name.values().cloned().collect()
    }

    pub(super) fn status(&self) -> Vec<ModelStatus> {
        self.models().status.clone()
    }
}

/// A model while what the pods say of it is gathered.
#[derive(Default)]
struct Draft<'a> {
    base: Option<&'a str>,
    max_model_len: Option<u64>,
    pods: Vec<&'a str>,
    /// How many pods have it from where.
    roots: BTreeMap<&'a str, usize>,
}

impl Models {
    fn of(served: &BTreeMap<String, Option<Vec<ServedModel>>>) -> Self {
        let mut drafts: BTreeMap<&str, Draft<'_>> = BTreeMap::new();
        for (pod, models) in served {
            for model in models.iter().flatten() {
                let draft = drafts.entry(&model.name).or_default();
                if draft.pods.last() == Some(&&**pod) {
                    continue;
                }
                draft.base = draft.base.or(model.parent.as_deref());
                draft.max_model_len = [draft.max_model_len, model.max_model_len].into_iter().flatten().min();
                draft.pods.push(pod);
                if let Some(root) = &model.root {
                    *draft.roots.entry(root).or_default() += 1;
                }
            }
        }
        let pods_of = |name: &str| drafts.get(name).map_or(0, |draft| draft.pods.len());
        let mut models = Self::default();
        for (name, draft) in &drafts {
            let mut roots: Vec<_> = draft.roots.iter().collect();
            // Of as many pods, the first by name, so that it stays the same.
            roots.sort_by_key(|(root, pods)| (std::cmp::Reverse(**pods), **root));
            let mut roots = roots.into_iter().map(|(root, _)| (*root).to_string());
            let root = roots.next();
            models.status.push(ModelStatus {
                name: (*name).into(),
                base: draft.base.map(String::from),
                root: root.clone(),
                pods: draft.pods.len(),
                other_roots: roots.collect(),
            });
            let lora = draft.base.map(|_| Lora {
                name: (*name).into(),
                path: root.clone().unwrap_or_default(),
                id: 0,
            });
            let model = Model {
                name: (*name).into(),
                base: draft.base.map(String::from),
                lora,
                root,
                max_model_len: draft.max_model_len,
                pods: draft.pods.iter().map(|pod| (*pod).to_string()).collect(),
                is_partial: draft.base.is_some_and(|base| pods_of(base) > draft.pods.len()),
            };
            models.by_name.insert((*name).into(), Arc::new(model));
        }
        models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(name: &str, root: &str, parent: Option<&str>, max_model_len: Option<u64>) -> ServedModel {
        ServedModel {
            name: name.into(),
            root: Some(root.into()),
            parent: parent.map(String::from),
            max_model_len,
        }
    }

    #[test]
    fn adapters_name_their_model_their_path_and_the_pods_that_have_them() {
        let directory = Directory::default();
        let base = |length| served("tiny", "/m/tiny", None, Some(length));
        let adapter = |path| served("lora-a", path, Some("tiny"), None);
        directory.serve("pod-a", Some(vec![base(4096), adapter("/m/a")]));
        directory.serve("pod-b", Some(vec![base(2048)]));
        let tiny = directory.model("tiny").unwrap();
        assert_eq!((tiny.served(), tiny.max_model_len, tiny.pods.len()), ("tiny", Some(2048), 2));
        assert!(!tiny.is_partial && tiny.lora.is_none());
        let lora = directory.model("lora-a").unwrap();
        assert_eq!((lora.served(), &*lora.pods, lora.is_partial), ("tiny", &["pod-a".to_string()][..], true));
        assert_eq!(lora.lora.as_ref().unwrap().path, "/m/a");
        assert_eq!(directory.model("lora-b"), None);

        directory.serve("pod-b", Some(vec![base(2048), adapter("/m/other"), adapter("/m/twice")]));
        directory.serve("pod-c", Some(vec![base(2048), adapter("/m/other")]));
        let lora = directory.model("lora-a").unwrap();
        assert_eq!((lora.pods.len(), lora.is_partial), (3, false));
        assert_eq!(lora.root.as_deref(), Some("/m/other"), "most pods have it from there");
        assert_eq!(directory.status()[0].other_roots, ["/m/a"]);

        for pod in ["pod-a", "pod-b", "pod-c"] {
            directory.withdraw(pod);
        }
        assert!(directory.all_models().is_empty() && directory.model("tiny").is_none());
    }

    #[test]
    fn a_pod_that_does_not_tell_its_models_adds_none() {
        let directory = Directory::default();
        directory.serve("pod-a", None);
        assert!(directory.all_models().is_empty());
    }
}
