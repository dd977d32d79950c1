//! Token ids to a decision among 64 pods, own scheme.
//!
//! `decide/{tokens}`: hash, look up, score, pick. `dispatch/{tokens}`: the same and all that a gateway does
//! for a request: book, predict its blocks, first token, end. `dispatch-new/{tokens}`: of prompts never seen, while
//! predictions are at their bound, so that each takes the room of others. `dispatch-shared/{tokens}`: as `dispatch`, by a
//! router that tells peers of it, reports included.
//!
//! `record/{pods}`: a decision's line for the log, of a decision about so many pods. `replay/{pods}`: the line read, and
//! the decision made again.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kvroute_benches::{Prompt, prompts, published, translated_domain};
use kvroute_core::index::IndexOptions;
use kvroute_core::policy::Sampling;
use kvroute_core::record::LogLine;
use kvroute_core::router::Replay;
use kvroute_core::{
    Finish, HashContext, LoadReport, PeerOptions, PodSpec, Policy, RecordOptions, Request, Router,
    RouterOptions, Session, Telling, Workspace,
};

const PODS: usize = 64;

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    let context = HashContext::default();
    for (tokens, count) in [(1024, 2048), (8192, 512), (32_768, 128)] {
        let prompts = prompts(tokens, count).expect("a fixed workload");
        let router = fleet(&prompts);
        let mut workspace = Workspace::default();
        let mut next = prompts.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(tokens), |b| {
            b.iter(|| {
                let prompt = next.next().expect("an endless cycle");
                router
                    .decide(&Request::new(&prompt.token_ids, &context), Duration::ZERO, &mut workspace)
                    .expect("there are pods")
            });
        });
    }
    group.finish();
}

/// What it costs that peers are told of every request.
fn dispatch(c: &mut Criterion) {
    requests(c, "dispatch", false);
    requests(c, "dispatch-shared", true);
}

fn requests(c: &mut Criterion, name: &str, is_shared: bool) {
    let mut group = c.benchmark_group(name);
    let context = HashContext::default();
    for (tokens, count) in [(1024, 2048), (8192, 512), (32_768, 128)] {
        let prompts = prompts(tokens, count).expect("a fixed workload");
        let router = fleet(&prompts);
        if is_shared {
            router.join_peers(1, "", PeerOptions::default()).expect("a short name");
        }
        let mut told = 0;
        let mut workspace = Workspace::default();
        let mut next = prompts.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(tokens), |b| {
            b.iter(|| {
                let prompt = next.next().expect("an endless cycle");
                let request = Request::new(&prompt.token_ids, &context);
                let dispatch =
                    router.dispatch(&request, Duration::ZERO, &mut workspace).expect("there are pods");
                router.first_token(dispatch.ticket);
                router.finish(dispatch.ticket, Finish::Completed, Some(dispatch.decision.matched_tokens));
                // As often as a router would that gets 10 000 requests a second.
                told += 1;
                (is_shared && told % 100 == 0).then(|| router.report_to_peers(Telling::News))
            });
        });
    }
    group.finish();
}

fn dispatch_new(c: &mut Criterion) {
    let mut group = c.benchmark_group("dispatch-new");
    let context = HashContext::default();
    let domain = translated_domain().expect("a fixed scheme");
    for tokens in [1024, 8192, 32_768_u32] {
        let index = IndexOptions { max_predicted: 8192, ..IndexOptions::default() };
        let options = RouterOptions { index, ..RouterOptions::default() };
        let router = Router::new(options, Policy::default()).expect("good options");
        for n in 0..PODS {
            router.add_pod(PodSpec::new(format!("pod-{n}"), Arc::clone(&domain))).expect("new");
        }
        let mut workspace = Workspace::default();
        let mut token_ids: Vec<u32> = (0..tokens).collect();
        let mut dispatch = || {
            token_ids[0] += 1;
            let request = Request::new(&token_ids, &context);
            let dispatch = router.dispatch(&request, Duration::ZERO, &mut workspace).expect("there are pods");
            router.first_token(dispatch.ticket);
            router.finish(dispatch.ticket, Finish::Completed, None)
        };
        (0..2 * 8192 * 16 / tokens * PODS as u32).for_each(|_| {
            dispatch();
        });
        group.bench_function(BenchmarkId::from_parameter(tokens), |b| b.iter(&mut dispatch));
    }
    group.finish();
}

fn record(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    for pods in [3, 64] {
        on_record(pods, |router, request, workspace| {
            let record = || router.record(request, workspace, None, RecordOptions::default());
            group.bench_function(BenchmarkId::from_parameter(pods), |b| {
                b.iter(|| record().map_or(0, |record| record.to_json().len()));
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("replay");
    for pods in [3, 64] {
        on_record(pods, |router, request, workspace| {
            let record = router.record(request, workspace, None, RecordOptions::default()).expect("decided");
            let (line, policy) = (record.to_json(), router.policy());
            group.bench_function(BenchmarkId::from_parameter(pods), |b| {
                b.iter(|| {
                    let Ok(LogLine::Decision(read)) = LogLine::parse(&line) else { return None };
                    let mut replay = Replay::new(&read).ok()?;
                    replay.choose(&policy).ok()?.decode.picked
                });
            });
        });
    }
    group.finish();
}

/// Decides among so many pods, and hands over what there is to be recorded.
fn on_record(pods: usize, act: impl FnOnce(&Router, &Request<'_>, &Workspace)) {
    let domain = translated_domain().expect("a fixed scheme");
    let sampling = Sampling { above: usize::MAX, ..Sampling::default() };
    let policy = Policy { sampling, ..Policy::default() };
    let router = Router::new(RouterOptions::default(), policy).expect("good options");
    for n in 0..pods {
        let pod = router.add_pod(PodSpec::new(format!("10.0.0.{n}:8000"), Arc::clone(&domain))).expect("new");
        let load = LoadReport { running: n as u32 % 9, waiting: 0, kv_usage: 0.37 };
        router.report_load(pod, load).expect("the pod is there");
    }
    let (token_ids, context): (Vec<u32>, _) = ((0..8192).collect(), HashContext::default());
    let session = Some(Session::Id("0f8fad5b-d9cb-469f-a165-70867728950e"));
    let request = Request { model: Some("llama-3.1-8b"), session, ..Request::new(&token_ids, &context) };
    let mut workspace = Workspace::default();
    for _ in 0..pods {
        router.dispatch(&request, Duration::ZERO, &mut workspace).expect("there are pods");
    }
    act(&router, &request, &workspace);
}

fn fleet(prompts: &[Prompt]) -> Router {
    let domain = translated_domain().expect("a fixed scheme");
    let router = Router::default();
    let pods: Vec<_> = (0..PODS)
        .map(|n| {
            let pod = router.add_pod(PodSpec::new(format!("pod-{n}"), Arc::clone(&domain))).expect("new");
            let load = LoadReport { running: n as u32 % 9, waiting: 0, kv_usage: 0.5 };
            router.report_load(pod, load).expect("the pod is there");
            pod
        })
        .collect();
    let mut sequences = [0; PODS];
    for prompt in prompts {
        router.apply(pods[prompt.pod], sequences[prompt.pod], &published(prompt)).expect("the pod is there");
        sequences[prompt.pod] += 1;
    }
    router
}

criterion_group!(benches, decide, dispatch, dispatch_new, record);
criterion_main!(benches);
