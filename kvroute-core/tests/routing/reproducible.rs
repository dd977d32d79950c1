//! The same pods, loads, requests and times give the same decisions, by whatever policy; and what every decision keeps
//! to, whatever it is made of.

use kvroute_core::ErrorKind;
use kvroute_core::credits::Credits;
use kvroute_core::decision::Reason;
use kvroute_core::filter::{
    AcceptingFilter, AffinityFilter, HealthFilter, LabelFilter, LoraRoomFilter, ModelFilter, OverloadFilter,
    Requirement, RoleFilter, SubsetFilter,
};
use kvroute_core::guard::{LoadGuard, WarmUp};
use kvroute_core::hash::Lora;
use kvroute_core::load::AdapterReport;
use kvroute_core::pick::{PowerOfTwoPicker, SoftmaxPicker, WeightedRandomPicker};
use kvroute_core::policy::Sampling;
use kvroute_core::profile::ProfileBuilder;
use kvroute_core::score::{
    CostScorer, KvCacheScorer, KvUsageScorer, LatencyScorer, LoadScorer, LoraAffinityScorer, NoHitLruScorer,
    PrefixScorer, QueueScorer, RunningScorer, SessionScorer, TokenLoadScorer, TopologyScorer,
};
use proptest::prelude::*;

use super::*;

/// What a profile is made of: a bit for each filter, a weight for each scorer.
#[derive(Clone, Debug)]
struct Parts {
    filters: u16,
    weights: Vec<u8>,
    picker: u8,
    warm_up: bool,
    guard: Option<u32>,
    fallbacks: usize,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Recipe {
    decode: Parts,
    prefill: Option<(Parts, usize, u64)>,
    sampling: Sampling,
}

fn parts() -> impl Strategy<Value = Parts> {
    let weights = prop::collection::vec(0..4_u8, 13);
    let guard = prop::option::of(1..4_u32);
    (any::<u16>(), weights, 0..5_u8, any::<bool>(), guard, 0..4_usize, any::<u64>()).prop_map(
        |(filters, weights, picker, warm_up, guard, fallbacks, seed)| Parts {
            filters,
            weights,
            picker,
            warm_up,
            guard,
            fallbacks,
            seed,
        },
    )
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let prefill = prop::option::of((parts(), 0..40_usize, 0..100_u64));
    let sampling = (0..12_usize, 0..4_usize, 0..4_usize);
    (parts(), prefill, sampling).prop_map(|(decode, prefill, (above, holders, others))| Recipe {
        decode,
        prefill,
        sampling: Sampling { above, holders, others },
    })
}

impl Parts {
    fn profile(&self, role: Role) -> Profile {
        let has = |bit: u32| self.filters >> bit & 1 == 1;
        let mut builder = Profile::builder(role.name()).filter(RoleFilter::new(role)).filter(AcceptingFilter);
        let large = || LabelFilter::new([Requirement::NotIn("size".into(), vec!["small".into()])]);
        type Add = fn(ProfileBuilder) -> ProfileBuilder;
        let filters: [Add; 6] = [
            |builder| builder.filter(ModelFilter),
            |builder| builder.filter(SubsetFilter),
            |builder| builder.filter(HealthFilter { failures: 1, pause: seconds(1) }),
            |builder| builder.filter(OverloadFilter),
            |builder| builder.filter(LoraRoomFilter),
            |builder| builder.filter(AffinityFilter::default()),
        ];
        for (bit, add) in filters.into_iter().enumerate().filter(|(bit, _)| has(*bit as u32)) {
            builder = add(builder);
            if bit == 3 && has(9) {
                builder = builder.filter(large());
            }
        }
        let weight = |at: usize| f64::from(self.weights[at]) / 2.0;
        let credits = Credits::default().with_tier(Tier::Cpu, 0.5).unwrap();
        // The last one is there in any case.
        builder = builder
            .scorer(KvCacheScorer::new(credits), weight(0))
            .scorer(PrefixScorer, weight(1))
            .scorer(SessionScorer, weight(2))
            .scorer(CostScorer::new(0.25, credits).unwrap(), weight(3))
            .scorer(LatencyScorer::default(), weight(4))
            .scorer(TokenLoadScorer::default(), weight(5))
            .scorer(QueueScorer, weight(6))
            .scorer(RunningScorer, weight(7))
            .scorer(KvUsageScorer, weight(8))
            .scorer(LoraAffinityScorer, weight(9))
            .scorer(TopologyScorer::new([("size".to_string(), 0.5)]).unwrap(), weight(10))
            .scorer(NoHitLruScorer, weight(11))
            .scorer(LoadScorer::default(), weight(12));
        builder = match self.picker {
            0 | 1 => builder,
            2 => builder.picker(SoftmaxPicker::default()),
            3 => builder.picker(WeightedRandomPicker),
            _ => builder.picker(PowerOfTwoPicker),
        };
        if self.warm_up {
            builder = builder.warm_up(WarmUp::new(0.5, 200).unwrap());
        }
        if let Some(replicas) = self.guard {
            builder = builder.guard(LoadGuard::new(1.2, 2, replicas).unwrap());
        }
        builder.fallbacks(self.fallbacks).seed(self.seed).build().unwrap()
    }
}

impl Recipe {
    fn policy(&self) -> Policy {
        let prefill =
            self.prefill.as_ref().map(|(parts, min_prompt_tokens, max_prefill_load)| PrefillPolicy {
                min_prompt_tokens: *min_prompt_tokens,
                max_prefill_load: *max_prefill_load,
                ..PrefillPolicy::new(parts.profile(Role::Prefill), 8)
            });
        Policy { decode: self.decode.profile(Role::Decode), prefill, sampling: self.sampling }
    }

    fn weights(&self) -> f64 {
        self.decode.weights.iter().map(|&weight| f64::from(weight) / 2.0).sum()
    }
}

/// What happens to a router.
#[derive(Clone, Debug)]
enum Act {
    Dispatch {
        prompt: u8,
        length: usize,
        lora: bool,
        session: Option<u8>,
        nonce: Option<u64>,
        subset: Option<u8>,
    },
    Text(u8),
    FirstToken(usize),
    Finish(usize, Finish),
    Report {
        pod: usize,
        running: u32,
        waiting: u32,
        kv_usage: f32,
    },
    Adapters {
        pod: usize,
        max: u32,
    },
    Store {
        pod: usize,
        prompt: u8,
        blocks: usize,
        on_host: bool,
    },
    Clear(usize),
    Accept(usize, bool),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let pod = 0..16_usize;
    let how = prop_oneof![Just(Finish::Completed), Just(Finish::Failed), Just(Finish::Cancelled)];
    let request = (
        0..6_u8,
        0..42_usize,
        any::<bool>(),
        prop::option::of(0..3_u8),
        prop::option::of(any::<u64>()),
        prop::option::weighted(0.1, 0..20_u8),
    );
    let request = request.prop_map(|(prompt, length, lora, session, nonce, subset)| Act::Dispatch {
        prompt,
        length,
        lora,
        session,
        nonce,
        subset,
    });
    let report = (pod.clone(), 0..40_u32, 0..12_u32, 0..=10_u8);
    let report = report.prop_map(|(pod, running, waiting, tenths)| {
        let kv_usage = f32::from(tenths) / 10.0;
        Act::Report { pod, running, waiting, kv_usage }
    });
    let act = prop_oneof![
        8 => request,
        1 => (0..3_u8).prop_map(Act::Text),
        2 => (0..64_usize).prop_map(Act::FirstToken),
        3 => (0..64_usize, how).prop_map(|(which, how)| Act::Finish(which, how)),
        2 => report,
        1 => (pod.clone(), 0..3_u32).prop_map(|(pod, max)| Act::Adapters { pod, max }),
        3 => (pod.clone(), 0..6_u8, 1..=10_usize, any::<bool>())
            .prop_map(|(pod, prompt, blocks, on_host)| Act::Store { pod, prompt, blocks, on_host }),
        1 => pod.clone().prop_map(Act::Clear),
        1 => (pod, any::<bool>()).prop_map(|(pod, accepting)| Act::Accept(pod, accepting)),
        1 => (0..1500_u64).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 1..40)
}

/// A router with what was dispatched by it.
struct Side {
    router: Router,
    pods: Vec<PodId>,
    workspace: Workspace,
    tickets: Vec<Ticket>,
    now: Duration,
}

impl Side {
    fn new(recipe: &Recipe, pods: usize) -> Self {
        let (router, _) = router_by(recipe.policy(), &[]);
        let add = |n: usize| {
            let role = [Role::Both, Role::Decode, Role::Prefill][n % 3];
            let size = ["small", "large"][n / 3 % 2];
            let labels = [("size".to_string(), size.to_string())].into();
            let capacity = [1.0, 2.0, 0.5][n / 2 % 3];
            let spec = PodSpec::new(format!("pod-{n}"), domain("model", BLOCK_SIZE));
            router.add_pod(PodSpec { role, labels, capacity, ..spec }).unwrap()
        };
        let pods = (0..pods).map(add).collect();
        Self { router, pods, workspace: Workspace::default(), tickets: Vec::new(), now: seconds(1) }
    }

    fn pod(&self, number: usize) -> PodId {
        self.pods[number % self.pods.len()]
    }

    /// Answers what was decided, if something was.
    fn act(
        &mut self,
        act: &Act,
        recipe: &Recipe,
    ) -> Option<(Result<Decision, ErrorKind>, Explanation, Vec<PodId>)> {
        match *act {
            Act::Dispatch { prompt: seed, length, lora, session, nonce, subset } => {
                let lora = lora.then(|| Lora { name: "sql".into(), ..Lora::default() });
                let (context, token_ids) =
                    (HashContext { lora, ..HashContext::default() }, prompt(seed.into()));
                let id = session.map(|session| session.to_string());
                let names = subset.map(|n| [format!("pod-{n}"), "pod-1".to_string()]);
                let names = names.as_ref().map(|names| names.each_ref().map(String::as_str));
                let request = Request {
                    session: id.as_deref().map(Session::Id),
                    subset: names.as_ref().map(<[&str; 2]>::as_slice),
                    nonce,
                    ..Request::new(&token_ids[..length], &context)
                };
                Some(self.dispatch(&request, recipe))
            }
            Act::Text(seed) => {
                let text = vec![seed; 600];
                Some(self.dispatch(&Request::from_text(&text, &HashContext::default()), recipe))
            }
            Act::FirstToken(which) => {
                let ticket = self.tickets.get(which % self.tickets.len().max(1));
                ticket.map(|&ticket| self.router.first_token(ticket));
                None
            }
            Act::Finish(which, how) => {
                if !self.tickets.is_empty() {
                    let ticket = self.tickets.swap_remove(which % self.tickets.len());
                    self.router.finish(ticket, how, None);
                }
                None
            }
            Act::Report { pod, running, waiting, kv_usage } => {
                self.router.report_load(self.pod(pod), LoadReport { running, waiting, kv_usage }).unwrap();
                None
            }
            Act::Adapters { pod, max } => {
                let report =
                    AdapterReport { max, running: &["other"], waiting: &["sql"][..(max / 2) as usize] };
                self.router.report_adapters(self.pod(pod), &report).unwrap();
                None
            }
            Act::Store { pod, prompt: seed, blocks, on_host } => {
                let tier = if on_host { Tier::Cpu } else { Tier::Gpu };
                store(&self.router, self.pod(pod), &prompt(seed.into()), blocks, tier);
                None
            }
            Act::Clear(pod) => {
                clear(&self.router, self.pod(pod));
                None
            }
            Act::Accept(pod, accepting) => {
                self.router.set_accepting(self.pod(pod), accepting).unwrap();
                None
            }
            Act::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                None
            }
        }
    }

    fn dispatch(
        &mut self,
        request: &Request<'_>,
        recipe: &Recipe,
    ) -> (Result<Decision, ErrorKind>, Explanation, Vec<PodId>) {
        let Self { router, workspace, now, .. } = self;
        // Deciding changes nothing, and whoever decides decides the same.
        let first = router.decide(request, *now, &mut Workspace::default());
        let again = router.decide(request, *now, workspace);
        assert_eq!(first, again);
        let explained = router.explain(workspace);
        let sent = router.dispatch(request, *now, workspace);
        let explanation = router.explain(workspace);
        let fallbacks = workspace.fallbacks().to_vec();
        match (sent, again) {
            (Ok(sent), Ok(again)) => {
                assert_eq!((sent.decision, sent.retries, sent.contended), (again, 0, false));
                self.tickets.push(sent.ticket);
                let booked = |e: &Explanation| e.pods.iter().map(|pod| pod.total).collect::<Vec<_>>();
                assert_eq!(booked(&explained), booked(&explanation));
                self.check(request, &again, &explanation, &fallbacks, recipe);
                (Ok(again), explanation, fallbacks)
            }
            (Err(sent), Err(again)) => {
                assert_eq!(sent, again);
                assert_eq!(sent.kind(), ErrorKind::NoCandidate, "{sent}");
                assert_eq!((explanation.picked, explanation.not_sampled), (None, 0), "all were looked at");
                assert!(explanation.pods.iter().all(|pod| pod.dropped_by.is_some()));
                (Err(sent.kind()), explanation, fallbacks)
            }
            other => panic!("{other:?}"),
        }
    }

    /// What holds of every decision.
    fn check(
        &self,
        request: &Request<'_>,
        decision: &Decision,
        explanation: &Explanation,
        fallbacks: &[PodId],
        recipe: &Recipe,
    ) {
        let router = &self.router;
        let pod = router.pod_by_id(decision.pod).unwrap();
        assert!(pod.is_accepting() && pod.role().serves(Role::Decode));
        assert!((0.0..=recipe.weights() + 1e-9).contains(&decision.total));
        assert!(decision.uncached_tokens <= request.prompt.tokens());
        let of = |explanation: &Explanation, row: Option<usize>| explanation.pods[row.unwrap()].id;
        assert_eq!(of(explanation, explanation.picked), decision.pod.as_u64());
        assert_eq!(explanation.overruled.is_some(), decision.reason != Reason::Picked);
        assert_eq!(explanation.pods.len() + explanation.not_sampled, self.pods.len());
        assert_eq!(decision.candidates, explanation.pods.len());
        assert!(explanation.pods.iter().all(|pod| {
            pod.scores.iter().all(|score| (0.0..=1.0).contains(&score.value))
                && pod.speculative_blocks <= pod.searchable_blocks
        }));
        if recipe.decode.filters >> 1 & 1 == 1 {
            assert!(request.subset.is_none_or(|names| names.contains(&pod.name())));
        }
        let kept = explanation.pods.iter().filter(|pod| pod.dropped_by.is_none()).count();
        assert_eq!(fallbacks.len(), recipe.decode.fallbacks.min(kept - 1));
        for (at, fallback) in fallbacks.iter().enumerate() {
            assert!(*fallback != decision.pod && !fallbacks[..at].contains(fallback));
        }
        if let Some(prefill) = decision.prefill {
            let pod = router.pod_by_id(prefill.pod).unwrap();
            assert!(prefill.pod != decision.pod && pod.is_accepting() && pod.role().serves(Role::Prefill));
            let of_prefill = explanation.prefill.as_ref().unwrap();
            assert_eq!((of(of_prefill, of_prefill.picked), of_prefill.unused), (prefill.pod.as_u64(), None));
            assert!(decision.uncached_tokens > 8);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_decided_is_a_function_of_what_happened(
        recipe in recipes(),
        pods in 1..16_usize,
        acts in acts(),
    ) {
        let (mut one, mut other) = (Side::new(&recipe, pods), Side::new(&recipe, pods));
        for act in &acts {
            // The other's workspace is new for every request.
            other.workspace = Workspace::default();
            prop_assert_eq!(one.act(act, &recipe), other.act(act, &recipe));
        }
        for side in [one, other] {
            for ticket in side.tickets {
                side.router.finish(ticket, Finish::Completed, None);
            }
            prop_assert!(side.pods.iter().all(|&pod| bookings(&side.router, pod) == of(0, 0)));
        }
    }
}
