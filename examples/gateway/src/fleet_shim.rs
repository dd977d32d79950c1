//! Stands in for kvroute_io::fleet::Fleet until that is filled in.
use std::collections::HashMap;
use std::sync::Arc;

use kvroute_core::{BlockHasher, CacheDomain, Error, OwnScheme, PodId, PodSpec, Router};
use kvroute_io::fleet::{Clock, FleetConfig};
use kvroute_io::pods::PodUrl;
use parking_lot::RwLock;

#[derive(Debug)]
pub struct Target { pub name: String, pub url: PodUrl, pub rank: u32, pub ranks: u32 }
#[derive(Debug)]
pub struct Model { pub name: String, pub base: Option<String>, pub lora: Option<kvroute_core::hash::Lora>, pub root: Option<String>, pub max_model_len: Option<u64>, pub pods: Vec<String>, pub is_partial: bool }
impl Model { pub fn served(&self) -> &str { self.base.as_deref().unwrap_or(&self.name) } }
#[derive(Debug)]
pub struct Fleet { router: Arc<Router>, clock: Clock, targets: RwLock<HashMap<PodId, Arc<Target>>>, models: Vec<Arc<Model>> }
impl Fleet {
    pub fn start(router: Arc<Router>, config: FleetConfig) -> Result<Self, Error> {
        let domain = Arc::new(CacheDomain::new("m", BlockHasher::new(OwnScheme::default(), 16)?)?.with_models(["m"]));
        let mut targets = HashMap::new();
        for pod in &config.pods {
            let mut spec = PodSpec::new(pod.name(), Arc::clone(&domain));
            spec.role = pod.role;
            let id = router.add_pod(spec)?;
            targets.insert(id, Arc::new(Target { name: pod.name(), url: pod.url.clone(), rank: 0, ranks: 1 }));
        }
        let m = Model { name: "m".into(), base: None, lora: None, root: None, max_model_len: None, pods: config.pods.iter().map(|p| p.name()).collect(), is_partial: false };
        Ok(Self { router, clock: Clock::new(), targets: RwLock::new(targets), models: vec![Arc::new(m)] })
    }
    pub fn reconfigure(&self, _: FleetConfig) -> Result<(), Error> { Ok(()) }
    pub fn router(&self) -> &Arc<Router> { &self.router }
    pub fn clock(&self) -> Clock { self.clock }
    pub fn target(&self, pod: PodId) -> Option<Arc<Target>> { self.targets.read().get(&pod).cloned() }
    pub fn model(&self, name: &str) -> Option<Arc<Model>> { self.models.iter().find(|m| m.name == name).cloned() }
    pub fn models(&self) -> Vec<Arc<Model>> { self.models.clone() }
    pub async fn shutdown(self) {}
}
