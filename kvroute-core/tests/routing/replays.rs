//! A recorded decision, made again by its own policy, is the same bit for bit: random fleets, policies and requests.

use std::collections::BTreeMap;

use kvroute_core::filter::{
    AcceptingFilter, AffinityFilter, Filter, HealthFilter, LabelFilter, LoraRoomFilter, ModelFilter,
    OverloadFilter, Requirement, RoleFilter, SubsetFilter,
};
use kvroute_core::guard::{LoadGuard, WarmUp};
use kvroute_core::hash::Lora;
use kvroute_core::pick::{PowerOfTwoPicker, SoftmaxPicker, WeightedRandomPicker};
use kvroute_core::policy::Sampling;
use kvroute_core::profile::ProfileBuilder;
use kvroute_core::record::{LogLine, RecordOptions};
use kvroute_core::router::Replay;
use kvroute_core::score::{
    CostScorer, ExternalScorer, KvCacheScorer, KvUsageScorer, LatencyScorer, LoadScorer, LoraAffinityScorer,
    NoHitLruScorer, PrefixScorer, QueueScorer, RunningScorer, SessionScorer, TokenLoadScorer, TopologyScorer,
};
use kvroute_core::{AdapterReport, ErrorKind, ScoreColumn};

use super::*;

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, most: u64) -> u64 {
        self.number() % most
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// 0 to 1, with all the digits there are.
    fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

fn filtered(mut profile: ProfileBuilder, dice: &mut Dice, role: Role) -> ProfileBuilder {
    fn with(profile: ProfileBuilder, filter: impl Filter + 'static, wanted: bool) -> ProfileBuilder {
        if wanted { profile.filter(filter) } else { profile }
    }
    profile = profile.filter(RoleFilter::new(role));
    profile = with(profile, AcceptingFilter, dice.is(80));
    profile = with(profile, ModelFilter, dice.is(70));
    profile = with(profile, SubsetFilter, dice.is(70));
    profile = with(profile, HealthFilter::default(), dice.is(40));
    profile = with(profile, OverloadFilter, dice.is(40));
    profile = with(profile, LoraRoomFilter, dice.is(40));
    profile = with(profile, AffinityFilter::default(), dice.is(40));
    let zone = Requirement::NotIn("zone".into(), vec!["c".into()]);
    with(profile, LabelFilter::new([zone]), dice.is(20))
}

fn profile(dice: &mut Dice, role: Role) -> Profile {
    let mut profile = filtered(Profile::builder(role.name()), dice, role);
    let weight = |dice: &mut Dice| dice.share() * 7.0;
    profile = profile.scorer(ExternalScorer::new("theirs"), weight(dice));
    for scorer in 0..13 {
        if !dice.is(40) {
            continue;
        }
        let weight = weight(dice);
        profile = match scorer {
            0 => profile.scorer(KvCacheScorer::default(), weight),
            1 => profile.scorer(PrefixScorer, weight),
            2 => profile.scorer(SessionScorer, weight),
            3 => profile.scorer(LoadScorer::default(), weight),
            4 => profile.scorer(CostScorer::default(), weight),
            5 => profile.scorer(LatencyScorer::default(), weight),
            6 => profile.scorer(TokenLoadScorer::default(), weight),
            7 => profile.scorer(QueueScorer, weight),
            8 => profile.scorer(RunningScorer, weight),
            9 => profile.scorer(KvUsageScorer, weight),
            10 => profile.scorer(LoraAffinityScorer, weight),
            11 => profile.scorer(TopologyScorer::new([("zone".into(), 0.3)]).unwrap(), weight),
            _ => profile.scorer(NoHitLruScorer, weight),
        };
    }
    profile = match dice.below(5) {
        0 => profile.picker(SoftmaxPicker::default()),
        1 => profile.picker(WeightedRandomPicker),
        2 => profile.picker(PowerOfTwoPicker),
        _ => profile,
    };
    if dice.is(40) {
        profile = profile.guard(LoadGuard::new(1.1, 1 + dice.below(8) as u32, 2).unwrap());
    }
    if dice.is(40) {
        profile = profile.warm_up(WarmUp::new(0.8, 200).unwrap());
    }
    profile.fallbacks(dice.below(4) as usize).seed(dice.number()).build().unwrap()
}

fn policy(dice: &mut Dice) -> Policy {
    let prefill = dice.is(60).then(|| PrefillPolicy {
        min_prompt_tokens: dice.below(30) as usize,
        max_prefill_load: if dice.is(30) { dice.below(100) } else { u64::MAX },
        ..PrefillPolicy::new(profile(dice, Role::Prefill), dice.below(40) as usize)
    });
    let sampling = Sampling {
        above: dice.one(&[3, 8, 32]),
        holders: 1 + dice.below(4) as usize,
        others: 1 + dice.below(4) as usize,
    };
    Policy { prefill, sampling, ..profile(dice, Role::Decode).into() }
}

fn token_ids(dice: &mut Dice) -> Vec<u32> {
    let (seed, length) = (dice.below(5) as u32, dice.below(60) as u32);
    (0..length).map(|n| seed * 1000 + n).collect()
}

fn fleet(dice: &mut Dice, router: &Router) -> Vec<PodId> {
    let models = CacheDomain::new("other", BlockHasher::new(OwnScheme::default(), 8).unwrap()).unwrap();
    let domains = [domain("model", BLOCK_SIZE), Arc::new(models.with_models(["llama", "llama-3"]))];
    let mut pods = Vec::new();
    for n in 0..1 + dice.below(24) {
        let zone = dice.one(&["a", "b", "c"]);
        let labels = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
        let spec = PodSpec {
            dp_rank: (n % 2) as u32,
            role: dice.one(&[Role::Both, Role::Decode, Role::Prefill]),
            labels: if dice.is(70) { labels } else { BTreeMap::new() },
            capacity: 0.3 + dice.share(),
            ..PodSpec::new(format!("pod-{}", n / 2), Arc::clone(&domains[usize::from(dice.is(30))]))
        };
        pods.push(router.add_pod(spec).unwrap());
        // Whoever comes next is of another generation.
        if dice.is(10) {
            router.remove_pod(pods.remove(0)).unwrap();
        }
    }
    for &pod in &pods {
        if dice.is(60) {
            let ids = token_ids(dice);
            let blocks = ids.len() / BLOCK_SIZE as usize;
            let tier = dice.one(&[Tier::Gpu, Tier::Gpu, Tier::Cpu, Tier::External]);
            store(router, pod, &ids, blocks, tier);
        }
        if dice.is(70) {
            let (running, waiting) = (dice.below(20) as u32, dice.below(10) as u32);
            let kv_usage = dice.share() as f32;
            router.report_load(pod, LoadReport { running, waiting, kv_usage }).unwrap();
        }
        if dice.is(50) {
            let max = dice.below(3) as u32;
            router
                .report_adapters(pod, &AdapterReport { max, running: &["sql"], waiting: &["poem"] })
                .unwrap();
        }
        router.set_accepting(pod, !dice.is(10)).unwrap();
    }
    pods
}

/// Decides about a random request, and makes the decision again from its line. Answers whether a pod was found.
fn decide_and_replay(dice: &mut Dice, router: &Router, pods: &[PodId], workspace: &mut Workspace) -> bool {
    let now = Duration::from_nanos(dice.below(40_000_000_000));
    let (ids, session) = (token_ids(dice), format!("session {}", dice.below(6)));
    let text: Vec<u8> = ids.iter().flat_map(|id| [*id as u8; 9]).collect();
    let lora =
        dice.is(30).then(|| Lora { name: dice.one(&["sql", "poem", "new"]).into(), ..Lora::default() });
    let context = HashContext { lora, ..HashContext::default() };
    let values: Vec<f64> = pods.iter().map(|_| dice.share()).collect();
    let columns = [ScoreColumn { scorer: "theirs", pods, values: &values }];
    let subset = ["pod-1", "pod-2", "pod-3", "pod-4"];
    let told = |dice: &mut Dice| KnownPrefix {
        pod: dice.one(pods),
        tier: dice.one(&Tier::ALL),
        blocks: dice.below(60) as u32,
    };
    let most = if pods.is_empty() { 1 } else { 6 };
    let known: Vec<_> = (0..dice.below(most)).map(|_| told(dice)).collect();
    let is_text = dice.is(20);
    let request = if !is_text { Request::new(&ids, &context) } else { Request::from_text(&text, &context) };
    let request = Request {
        model: dice.one(&[None, Some("llama"), Some("unheard of")]),
        session: dice.is(60).then_some(Session::Id(&session)),
        subset: dice.is(20).then_some(&subset),
        scores: if dice.is(50) { &columns } else { &[] },
        known: if is_text { &[] } else { &known },
        nonce: dice.is(50).then(|| dice.number()),
        ..request
    };
    let (decision, dispatch) = if dice.is(70) {
        let dispatch = router.dispatch(&request, now, workspace);
        (dispatch.as_ref().map(|dispatch| dispatch.decision).map_err(Clone::clone), dispatch.ok())
    } else {
        (router.decide(&request, now, workspace), None)
    };
    let options = RecordOptions { prompt: dice.is(30) };
    let record =
        router.record(&request, workspace, dispatch.as_ref(), options).expect("pods were chosen among");
    let line = record.to_json();
    let LogLine::Decision(read) = LogLine::parse(&line).unwrap() else { panic!("{line}") };
    assert_eq!((&*read, read.to_json()), (&record, line), "nothing is lost on the way");

    let mut replay = Replay::new(&read).unwrap();
    let policy = router.policy();
    // Twice: the first leaves nothing behind.
    for _ in 0..2 {
        match (&decision, replay.choose(&policy)) {
            (Ok(decision), Ok(replayed)) => {
                assert!(replayed.is_as_recorded(&read), "{replayed:#?}\n{read:#?}");
                let pod = |place: u32| PodId::from_u64(read.pods[place as usize].id);
                let decode = pod(replayed.decode.used().unwrap());
                let prefill = replayed.prefill.as_ref().and_then(|prefill| prefill.used()).map(pod);
                assert_eq!((decode, prefill), (decision.pod, decision.prefill.map(|prefill| prefill.pod)));
                assert_eq!(replayed.decode.uncached_tokens, decision.uncached_tokens);
            }
            (Err(error), Err(replayed)) => {
                assert_eq!(error.kind(), ErrorKind::NoCandidate);
                assert_eq!(error.to_string(), replayed.to_string());
            }
            (decision, replayed) => panic!("{decision:?}, but {replayed:?}"),
        }
    }
    // Another policy's answer is whatever it is, but never a panic or a broken contract.
    if let Err(error) = replay.choose(&self::policy(dice)) {
        assert_eq!(error.kind(), ErrorKind::NoCandidate, "{error}");
    }
    if let Some(dispatch) = dispatch.filter(|_| dice.is(60)) {
        let how = dice.one(&[Finish::Completed, Finish::Failed, Finish::Failed, Finish::Cancelled]);
        router.finish(dispatch.ticket, how, None);
    }
    decision.is_ok()
}

#[test]
fn the_same_policy_decides_the_same_about_a_record() {
    let (mut found, mut sampled, mut split) = (0, 0, 0);
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let router = Router::new(RouterOptions::default(), policy(&mut dice)).unwrap();
        let pods = fleet(&mut dice, &router);
        let mut workspace = Workspace::default();
        for _ in 0..12 {
            found += u32::from(decide_and_replay(&mut dice, &router, &pods, &mut workspace));
            let explanation = router.explain(&workspace);
            sampled += u32::from(explanation.not_sampled > 0);
            split += u32::from(explanation.prefill.is_some_and(|prefill| prefill.picked.is_some()));
        }
    }
    assert!(found > 2000 && sampled > 500 && split > 500, "{found} found, {sampled} sampled, {split} split");
}

/// Whatever numbers are in a line, it is refused or replayed.
#[test]
fn no_line_brings_a_replay_to_panic() {
    let (mut replayed, mut refused) = (0, 0);
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let router = Router::new(RouterOptions::default(), policy(&mut dice)).unwrap();
        let pods = fleet(&mut dice, &router);
        let context = HashContext::default();
        let (ids, mut workspace) = (token_ids(&mut dice), Workspace::default());
        let request = Request { session: Some(Session::Id("s")), ..Request::new(&ids, &context) };
        pods.iter().for_each(|_| drop(router.dispatch(&request, seconds(1), &mut workspace)));
        let record = router.record(&request, &workspace, None, RecordOptions::default());
        let Some(line) = record.map(|record| record.to_json()) else { continue };
        for _ in 0..100 {
            let mut bytes = line.clone().into_bytes();
            for _ in 0..1 + dice.below(3) {
                let digits: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
                let at = dice.one(&digits);
                let new = dice.one(&["9", "0", "-1", "4294967295", "18446744073709551615", "1e300", ""]);
                bytes.splice(at..=at, new.bytes());
            }
            let read = LogLine::parse(std::str::from_utf8(&bytes).unwrap());
            let Ok(LogLine::Decision(read)) = read else { continue };
            match Replay::new(&read).and_then(|mut replay| replay.choose(&router.policy()).map(drop)) {
                Ok(()) => replayed += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(replayed > 1000 && refused > 100, "{replayed} replayed, {refused} refused");
}

#[test]
fn a_policy_that_would_look_further_says_that_the_record_ends() {
    let policy = |role| Policy {
        sampling: Sampling { above: 2, holders: 1, others: 2 },
        ..Profile::llm_d_demo(role).into()
    };
    let router = Router::new(RouterOptions::default(), policy(Role::Decode)).unwrap();
    for n in 0..8 {
        let role = if n < 6 { Role::Decode } else { Role::Prefill };
        let spec = PodSpec::new(format!("pod-{n}"), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { role, ..spec }).unwrap();
    }
    let (context, mut workspace) = (HashContext::default(), Workspace::default());
    let request = Request::new(&[1, 2, 3], &context);
    router.decide(&request, seconds(0), &mut workspace).unwrap();
    let record = router.record(&request, &workspace, None, RecordOptions::default()).unwrap();
    assert!(record.not_sampled > 0 && record.pods.iter().all(|pod| pod.role == Role::Decode));
    let error = Replay::new(&record).unwrap().choose(&policy(Role::Prefill)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoCandidate);
    assert!(error.to_string().contains(&format!("{} are not on record", record.not_sampled)), "{error}");
}
