//! Which requests share KV and which must not: served names, adapters, salts, models; and zones.
//!
//! Two replicas of one model and two of another, one of each in either zone. All four hash alike, and all are asked for
//! the same texts, so whatever leaks from one model, adapter or salt to another is a hit that no engine has. Hit rates by
//! what was asked for: `cargo test -p kvroute-sim --test domains -- --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kvroute_core::filter::{AcceptingFilter, ModelFilter, RoleFilter};
use kvroute_core::hash::{BlockHasher, HashSeed, Lora, VllmAlgorithm, VllmEra, VllmScheme};
use kvroute_core::pod::Audit;
use kvroute_core::score::{CostScorer, KvCacheScorer, TopologyScorer};
use kvroute_core::{
    CacheDomain, HashContext, OwnScheme, PrefillPolicy, Profile, Role, Router, RouterOptions,
};
use kvroute_sim::engine::EngineOptions;
use kvroute_sim::fleet::{
    Finish, FleetOptions, HashRing, InfiniteCache, KvroutePolicy, LeastInFlight, Placement, PodEvent,
    PodSpec, PodView, Policy, Prefilled, RequestRecord, RoundRobin, run,
};
use kvroute_sim::timing::Timing;
use kvroute_sim::workload::{FleetRequest, ModelLoad, Target};

/// What the first model is served as: its own name, an alias and two adapters. The second has one name.
const LLAMA: [&str; 4] = ["llama", "llama-latest", "llama-sql", "llama-french"];
const MISTRAL: [&str; 1] = ["mistral"];

const BLOCK_SIZE: u32 = 16;
const ZONE: &str = "topology.kubernetes.io/zone";

fn vllm() -> VllmScheme {
    let seed = HashSeed::Value("0".into());
    VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &seed).expect("a seed is given")
}

/// What hashes the requests of either kind of domain.
fn hashers() -> [(&'static str, BlockHasher); 2] {
    let native = BlockHasher::new(vllm(), BLOCK_SIZE);
    let translated = BlockHasher::new(OwnScheme::default(), BLOCK_SIZE);
    [("native", native), ("translated", translated)]
        .map(|(kind, hasher)| (kind, hasher.expect("a block size")))
}

/// Pods of both models, one of each role in the zones x and y.
fn fleet(roles: &[Role], num_blocks: u32) -> FleetOptions {
    let mut pods = Vec::new();
    for (model, models) in [("llama", &LLAMA[..]), ("mistral", &MISTRAL)] {
        for &role in roles {
            for zone in ["x", "y"] {
                let scheme = vllm();
                pods.push(PodSpec {
                    name: format!("{model}-{}-{zone}", role.name()),
                    role,
                    engine: EngineOptions { num_blocks, scheme, ..EngineOptions::default() },
                    timing: Timing::H200_LLAMA_8B,
                    models: models.iter().map(|&name| name.into()).collect(),
                });
            }
        }
    }
    FleetOptions::new(pods)
}

/// What clients ask for.
fn targets() -> Vec<Target> {
    let target = |model: &str, adapter: Option<&str>, salt: Option<&str>| {
        let lora = |name: &str| Lora { name: name.into(), path: format!("/adapters/{name}"), id: 1 };
        let cache_salt = salt.map(Into::into);
        let context = HashContext { lora: adapter.map(lora), cache_salt, ..HashContext::default() };
        Target { model: model.into(), context: context.into() }
    };
    vec![
        target("llama", None, None),
        target("llama-latest", None, None),
        target("llama-sql", Some("llama-sql"), None),
        target("llama-french", Some("llama-french"), None),
        target("llama", None, Some("tenant-1")),
        target("llama-latest", None, Some("tenant-1")),
        target("llama", None, Some("tenant-2")),
        target("llama-sql", Some("llama-sql"), Some("tenant-1")),
        target("mistral", None, None),
        target("mistral", None, Some("tenant-1")),
    ]
}

/// A load at which no two requests are there at one time, and one that is too much for the caches.
const GENTLE: f64 = 1.0;
const BUSY: f64 = 40.0;

fn load(rate: f64) -> Vec<FleetRequest> {
    ModelLoad::new(targets(), rate, 400, 1).requests().collect()
}

/// The base model that a request's served name belongs to.
fn base(request: &FleetRequest) -> &'static str {
    if request.model.as_deref() == Some("mistral") { "mistral" } else { "llama" }
}

/// Requests with all of these in common share KV.
type Group = (&'static str, Option<Lora>, Option<String>);

fn group(request: &FleetRequest) -> Group {
    (base(request), request.context.lora.clone(), request.context.cache_salt.clone())
}

/// Tells documents apart: the first token behind the system prompt.
fn document(request: &FleetRequest) -> u32 {
    request.token_ids[800]
}

/// Tokens at the end of a prompt that no other has, at most; and those that share a block with them.
const OWN: usize = 200 + BLOCK_SIZE as usize;

/// kvroute over pods of two domains, which know their zones.
fn kvroute(hasher: &BlockHasher, policy: impl Into<kvroute_core::Policy>) -> KvroutePolicy {
    let domain = |name: &str, models: &[&str]| {
        let domain = CacheDomain::new(name, hasher.clone()).expect("engines publish such hashes");
        Arc::new(domain.with_models(models.iter().copied()))
    };
    let (llama, mistral) = (domain("llama", &LLAMA), domain("mistral", &MISTRAL));
    let router = Router::new(RouterOptions::default(), policy.into()).expect("the policy is right");
    KvroutePolicy::new(router, llama).with_pod_specs(move |pod, spec| {
        let domain = if pod.name.starts_with("mistral") { Arc::clone(&mistral) } else { spec.domain };
        let labels = [(ZONE.to_owned(), zone(&pod.name).to_owned())].into();
        kvroute_core::PodSpec { domain, labels, ..spec }
    })
}

/// The zone that a pod's name ends in.
fn zone(pod: &str) -> &str {
    &pod[pod.len() - 1..]
}

/// A request, the tokens that the router expected its pod to hold, and what became of it.
struct Answered {
    request: FleetRequest,
    expected: usize,
    record: RequestRecord,
}

impl Answered {
    /// Tokens that the engine took from its cache.
    fn counted(&self) -> usize {
        self.record.decode.and_then(|used| used.cached_tokens).expect("it was answered")
    }

    fn pod(&self) -> usize {
        self.record.decode.expect("it was placed").pod
    }
}

fn play(fleet: &FleetOptions, requests: &[FleetRequest], policy: &mut KvroutePolicy) -> Vec<Answered> {
    let records = run(fleet, requests.to_vec(), policy).expect("options are right");
    assert!(policy.errors().is_empty(), "{:?}", policy.errors());
    let expected = policy.routed().iter().map(|routed| routed.decision.matched_tokens);
    let answered = requests.iter().cloned().zip(expected).zip(records);
    let answered: Vec<_> =
        answered.map(|((request, expected), record)| Answered { request, expected, record }).collect();
    assert_eq!(answered.len(), requests.len());
    answered
}

/// What the router's audits say, all pods together.
fn audit(policy: &KvroutePolicy) -> Audit {
    let audits = policy.router().pods().into_iter().map(|pod| pod.audit());
    audits.fold(Audit::default(), |sum, pod| Audit {
        agreed: sum.agreed + pod.agreed,
        overestimated: sum.overestimated + pod.overestimated,
        underestimated: sum.underestimated + pod.underestimated,
    })
}

#[test]
fn each_request_finds_exactly_what_was_expected_on_a_pod_that_serves_it() {
    // Caches too small for all that is asked, so that blocks of all groups are evicted as well.
    let fleet = fleet(&[Role::Both], 2000);
    for (kind, hasher) in hashers() {
        let mut policy = kvroute(&hasher, kvroute_core::Policy::default());
        let answered = play(&fleet, &load(GENTLE), &mut policy);
        for one in &answered {
            assert!(!one.record.is_failed());
            assert!(fleet.pods[one.pod()].name.starts_with(base(&one.request)), "{:?}", one.request.model);
            assert_eq!(one.expected, one.counted(), "{kind}: request {}", one.request.id);
        }
        let audit = audit(&policy);
        assert_eq!((audit.overestimated, audit.underestimated), (0, 0));
        assert!(audit.agreed > 200, "{kind}: {audit:?}");
    }
}

#[test]
fn served_names_of_one_model_share_and_models_adapters_and_salts_do_not() {
    for (kind, hasher) in hashers() {
        // All that is asked fits, so what was computed once is found again.
        let fleet = fleet(&[Role::Both], 9000);
        let mut policy = kvroute(&hasher, kvroute_core::Policy::default());
        let mut bounds = BTreeMap::<_, InfiniteCache>::new();
        // By group and document: the names it was asked for under.
        let mut names = BTreeMap::<_, BTreeSet<_>>::new();
        let mut groups = Vec::<Group>::new();
        // By target: tokens that were cached, and all.
        let mut tokens = BTreeMap::<u64, (usize, usize)>::new();
        let mut by_another_name = 0;
        for one in play(&fleet, &load(GENTLE), &mut policy) {
            let (request, found) = (&one.request, one.expected);
            let of_model = || InfiniteCache::new(BLOCK_SIZE).expect("a block size");
            let bound = bounds.entry(base(request)).or_insert_with(of_model).arrive(request);
            assert!(found <= bound, "{kind}: {:?} had not computed so much", group(request));
            let place = groups.iter().position(|known| *known == group(request)).unwrap_or_else(|| {
                assert_eq!((found, one.counted()), (0, 0), "{kind}: the first of {:?}", group(request));
                groups.push(group(request));
                groups.len() - 1
            });
            let known = names.entry((place, document(request))).or_default();
            if !known.is_empty() {
                assert!(found + OWN > request.token_ids.len(), "{kind}: {found} tokens of a known document");
                by_another_name += usize::from(!known.contains(&request.model));
            }
            known.insert(request.model.clone());
            let (cached, all) = tokens.entry(request.session).or_default();
            *cached += one.counted();
            *all += request.token_ids.len();
        }
        assert_eq!(groups.len(), 8, "ten targets, of which two are others by another name");
        assert_eq!(by_another_name, 8, "two groups, four documents, a second name each");
        println!("{kind}: model, adapter, salt, share of tokens cached");
        for (target, (cached, all)) in targets().into_iter().zip(tokens.into_values()) {
            let adapter = target.context.lora.as_ref().map_or("-", |lora| &lora.name);
            let salt = target.context.cache_salt.as_deref().unwrap_or("-");
            let share = cached as f64 / all as f64;
            println!("  {:14} {adapter:14} {salt:10} {share:.3}", target.model);
            assert!(share > 0.85, "{kind}: {share} of the tokens asked of {}", target.model);
        }
    }
}

#[test]
fn a_busy_fleet_is_expected_to_hold_what_it_has_announced_and_nothing_else() {
    for (kind, hasher) in hashers() {
        let mut policy = kvroute(&hasher, kvroute_core::Policy::default());
        for one in play(&fleet(&[Role::Both], 2000), &load(BUSY), &mut policy) {
            assert!(!one.record.is_failed());
            let announced = one.record.decode.map(|used| used.announced_tokens);
            assert_eq!(Some(one.expected), announced, "{kind}: request {}", one.request.id);
        }
    }
}

/// A gateway that tells the router neither adapters nor salts.
struct Forgetful(KvroutePolicy);

impl Policy for Forgetful {
    fn place(&mut self, request: &FleetRequest, pods: &[PodView], now: f64) -> Placement {
        self.0.place(&FleetRequest { context: Arc::default(), ..request.clone() }, pods, now)
    }

    fn on_batch(&mut self, pod: usize, sequence: u64, payload: &[u8], now: f64) {
        self.0.on_batch(pod, sequence, payload, now);
    }

    fn on_finish(&mut self, request: u64, finish: Finish, now: f64) {
        self.0.on_finish(request, finish, now);
    }

    fn on_pod_event(&mut self, pod: usize, event: PodEvent, pods: &[PodView], now: f64) {
        self.0.on_pod_event(pod, event, pods, now);
    }
}

#[test]
fn adapters_and_salts_that_the_router_is_not_told_show_in_the_audit() {
    for (kind, hasher) in hashers() {
        let mut policy = Forgetful(kvroute(&hasher, kvroute_core::Policy::default()));
        run(&fleet(&[Role::Both], 9000), load(GENTLE), &mut policy).expect("options are right");
        let audit = audit(&policy.0);
        assert!(audit.overestimated > 10, "{kind}: {audit:?}");
    }
}

#[test]
fn two_models_declared_as_one_domain_show_as_requests_that_pods_refuse() {
    for (kind, hasher) in hashers() {
        let names = LLAMA.into_iter().chain(MISTRAL);
        let both = CacheDomain::new("both", hasher).expect("engines publish such hashes").with_models(names);
        let mut policy = KvroutePolicy::new(Router::default(), Arc::new(both));
        let answered = play(&fleet(&[Role::Both], 9000), &load(GENTLE), &mut policy);
        let refused = answered.iter().filter(|one| one.record.is_failed()).count();
        assert!(refused > 50, "{kind}: {refused}");
    }
}

#[test]
fn policies_that_know_no_caches_keep_to_pods_that_serve_the_model() {
    let policies: [Box<dyn Policy>; 3] = [
        Box::new(RoundRobin::default()),
        Box::new(HashRing::sessions()),
        Box::new(Prefilled::new(LeastInFlight::seeded(1), 512)),
    ];
    for mut policy in policies {
        let fleet = fleet(&[Role::Both, Role::Prefill], 9000);
        let records = run(&fleet, load(BUSY), policy.as_mut()).expect("options are right");
        assert!(records.iter().all(|record| !record.is_failed()));
    }
}

/// The default's scorers, and one that prefers near pods whatever else is known; of the gateway's place for pods that
/// answer.
fn zonal(role: Role, gateway: &str) -> Profile {
    let near = TopologyScorer::default().near([(ZONE.to_owned(), gateway.to_owned())].into());
    let profile = Profile::builder(role.name())
        .filter(AcceptingFilter)
        .filter(ModelFilter)
        .filter(RoleFilter::new(role))
        .scorer(KvCacheScorer::default(), 0.6)
        .scorer(CostScorer::default(), 1.0)
        .scorer(near, 100.0);
    profile.build().expect("each scorer is there once")
}

#[test]
fn requests_stay_in_the_gateways_zone_where_near_pods_are_preferred() {
    let fleet = fleet(&[Role::Both], 9000);
    let [(_, native), _] = hashers();
    let zones = |policy: kvroute_core::Policy| -> BTreeSet<String> {
        let answered = play(&fleet, &load(BUSY), &mut kvroute(&native, policy));
        answered.iter().map(|one| zone(&fleet.pods[one.pod()].name).to_owned()).collect()
    };
    for gateway in ["x", "y"] {
        assert_eq!(zones(zonal(Role::Decode, gateway).into()), [gateway.to_owned()].into());
    }
    assert_eq!(zones(kvroute_core::Policy::default()), ["x".to_owned(), "y".to_owned()].into());
}

#[test]
fn prompts_are_computed_in_the_zone_of_the_pod_that_answers() {
    let fleet = fleet(&[Role::Decode, Role::Prefill], 9000);
    let [(_, native), _] = hashers();
    let prefill = Some(PrefillPolicy::new(zonal(Role::Prefill, "nowhere"), 512));
    let policy = kvroute_core::Policy { prefill, ..kvroute_core::Policy::default() };
    let mut zones = BTreeSet::new();
    for one in play(&fleet, &load(BUSY), &mut kvroute(&native, policy)) {
        assert!(!one.record.is_failed());
        let Some(prefill) = one.record.prefill else { continue };
        let [answering, computing] = [one.pod(), prefill.pod].map(|pod| fleet.pods[pod].name.as_str());
        assert!(computing.starts_with(base(&one.request)), "{computing}");
        assert_eq!(zone(answering), zone(computing));
        zones.insert(zone(computing).to_owned());
    }
    assert_eq!(zones.len(), 2);
}
