//! A pod's URL is enough; what it does not tell is said to be unknown.

use kvroute_core::HashContext;
use kvroute_io::fleet::PodState;
use kvroute_io::pods::Origin;

use super::support::*;

#[tokio::test]
async fn a_pod_is_learnt_from_its_url() {
    let fake = FakePod::vllm().await;
    let fleet = start(config(&[&fake]));
    let pod = until_state(&fleet, &fake.name(), PodState::Ready).await;
    let known = pod.known.unwrap();
    assert_eq!((known.block_size.value, known.block_size.origin), (Some(32), Origin::Learnt));
    assert_eq!((known.version.value.as_deref(), known.blocks.value), (Some("0.32.0"), Some(96)));
    assert_eq!(known.hash_seed.origin, Origin::Unknown);
    assert_eq!(pod.domain.as_deref(), Some("tiny (tiny-llama), own, 32"));
    assert_eq!(pod.error, None);

    let decision = decide(&fleet, 0).unwrap();
    let target = fleet.target(decision.pod).unwrap();
    assert_eq!((&target.url, target.rank, target.ranks), (&fake.url, 0, 1));
    let lora = fleet.model("lora-a").unwrap();
    assert_eq!((lora.served(), lora.lora.as_ref().unwrap().path.as_str()), ("tiny", "tiny-llama/lora-a"));
    let routed = fleet.router().pod_by_id(decision.pod).unwrap();
    assert!(routed.domain().serves(Some("tiny")) && !routed.domain().serves(Some("other")));
    let json = serde_json::to_value(fleet.status()).unwrap();
    assert_eq!(json["pods"][0]["known"]["block_size"]["origin"], "learnt");

    let router = fleet.router().clone();
    soon("shutting down", fleet.shutdown()).await;
    assert!(router.pods().is_empty());
}

#[tokio::test]
async fn older_versions_are_used_without_what_they_do_not_tell() {
    let fake = FakePod::vllm().await;
    fake.answer("/version", Reply::Status(404));
    let mut config = config(&[&fake]);
    config.known.version = Some("0.10.2".into());
    let fleet = start(config);
    let known = until_state(&fleet, &fake.name(), PodState::Ready).await.known.unwrap();
    assert_eq!((known.version.value.as_deref(), known.version.origin), (Some("0.10.2"), Origin::Configured));
    assert!(known.notes[0].contains("/kv_event_sources"), "{:?}", known.notes);
    assert!(known.streams.is_empty());
    assert_eq!(chosen(&fleet), [fake.name()]);
}

#[tokio::test]
async fn adapters_that_come_and_go_are_noticed() {
    let (with, without) = (FakePod::vllm().await, FakePod::vllm().await);
    let fleet = start(config(&[&with, &without]));
    for fake in [&with, &without] {
        until_state(&fleet, &fake.name(), PodState::Ready).await;
    }
    assert!(fleet.model("lora-b").is_none());
    let ids = || fleet.router().pods().iter().map(|pod| pod.id()).collect::<Vec<_>>();
    let before = ids();

    with.answer("/v1/models", Reply::text(MODELS_WITH_LORA_B));
    let lora = until("lora-b is there", || fleet.model("lora-b")).await;
    assert_eq!((lora.pods.clone(), lora.is_partial), (vec![with.name()], true));
    let subset: Vec<&str> = lora.pods.iter().map(String::as_str).collect();
    let context = HashContext { lora: lora.lora.clone(), ..HashContext::default() };
    let prompt: Vec<u32> = (0..100).collect();
    let request = kvroute_core::Request {
        model: Some(lora.served()),
        subset: Some(&subset),
        ..kvroute_core::Request::new(&prompt, &context)
    };
    let decision = fleet.router().decide(&request, fleet.clock().now(), &mut Default::default()).unwrap();
    assert_eq!(fleet.target(decision.pod).unwrap().name, with.name());

    without.answer("/v1/models", Reply::text(MODELS_WITH_LORA_B));
    until("both have it", || fleet.model("lora-b").filter(|lora| !lora.is_partial)).await;
    for fake in [&with, &without] {
        fake.answer("/v1/models", Reply::text(MODELS));
    }
    until("it is gone", || fleet.model("lora-b").is_none().then_some(())).await;
    assert_eq!(ids(), before, "what pods hold is not forgotten for that");
}

#[tokio::test]
async fn a_pod_that_hangs_or_answers_garbage_is_marked_and_disturbs_no_other() {
    let (good, hanging, garbage, refusing) =
        (FakePod::vllm().await, FakePod::vllm().await, FakePod::vllm().await, FakePod::vllm().await);
    hanging.answer("/v1/models", Reply::Hang);
    garbage.answer("/v1/models", Reply::text("{\"data\": [{\"id\": 7}]}"));
    refusing.answer("/v1/models", Reply::Status(401));
    let fleet = start(config(&[&good, &hanging, &garbage, &refusing]));
    until_state(&fleet, &good.name(), PodState::Ready).await;
    let says = |state, name: String, what: &'static str| {
        let fleet = &fleet;
        async move {
            until(what, || {
                let pod = pod(fleet, &name).filter(|pod| pod.state == state)?;
                pod.error.filter(|error| error.contains(what))
            })
            .await
        }
    };
    says(PodState::Learning, hanging.name(), "GET /v1/models: no answer within 500 ms").await;
    says(PodState::Unusable, garbage.name(), "not the JSON that was expected").await;
    says(PodState::Unusable, refusing.name(), "token_file").await;
    assert_eq!(chosen(&fleet), [good.name()]);

    hanging.answer("/v1/models", Reply::text(MODELS));
    garbage.answer("/v1/models", Reply::text(MODELS));
    for fake in [&hanging, &garbage] {
        let pod = until_state(&fleet, &fake.name(), PodState::Ready).await;
        assert_eq!(pod.error, None);
    }
    let asked = refusing.asked("/v1/models");
    assert!(asked < 100, "it was asked {asked} times: no back-off");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let fake = FakePod::vllm().await;
    fake.answer("/v1/models", Reply::text(format!("{{\"data\": [], \"x\": \"{}\"}}", "x".repeat(2 << 20))));
    let fleet = start(config(&[&fake]));
    until("it is refused", || {
        pod(&fleet, &fake.name())?.error.filter(|error| error.contains("more than 1048576 bytes"))
    })
    .await;
}

#[tokio::test]
async fn pods_behind_a_key_are_asked_with_it() {
    let directory = directory("token");
    let token = directory.join("token");
    let fake = FakePod::vllm().await;
    let mut config = config(&[&fake]);
    config.learn.token_file = Some(token.clone());
    let fleet = start(config);
    let error = until("the file is missed", || pod(&fleet, &fake.name())?.error).await;
    assert!(error.contains("fleet.learn.token_file"), "{error}");
    std::fs::write(&token, "secret\n").unwrap();
    until_state(&fleet, &fake.name(), PodState::Ready).await;
    assert_eq!(fake.key("/v1/models"), Some("Bearer secret".into()));
    std::fs::remove_dir_all(&directory).unwrap();
}
