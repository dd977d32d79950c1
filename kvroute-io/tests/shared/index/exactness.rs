//! What is told is what the writer's index answers.

use std::time::Duration;

use kvroute_core::event::KvEvent;
use kvroute_core::{Prompt, Request, Tier, Workspace};
use kvroute_io::shared::index::{IndexOptions, IndexWriter, Keys};
use redis::Value;

use super::super::server::Server;
use super::support::{Asker, SOON, Side, connect, domain, options, patient, prompt, until, write};

const PODS: [&str; 4] = ["a", "b", "c", "10.0.0.1:8000"];

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % most) as usize
    }
}

/// Something that happens to a pod.
fn happen(side: &Side, dice: &mut Dice, prompts: &[Vec<u32>]) {
    let pod = PODS[dice.below(PODS.len() as u64)];
    let token_ids = &prompts[dice.below(prompts.len() as u64)];
    let blocks = (token_ids.len() / 4) as u64;
    let from = dice.below(blocks);
    let to = from + 1 + dice.below(blocks - from as u64);
    match dice.below(20) {
        0..=7 => side.store(pod, token_ids, 0, to),
        8..=10 => side.store(pod, token_ids, from, to),
        11..=13 => side.remove(pod, token_ids, from, to.min(from + 3), Tier::Gpu),
        14 | 15 => side.offload(pod, token_ids, from, to),
        16 => side.remove(pod, token_ids, from, to, Tier::Cpu),
        17 => side.apply(pod, KvEvent::Cleared),
        18 => side.router.index().note_restart(side.id(pod)).unwrap(),
        _ => {
            side.router.remove_pod(side.id(pod)).unwrap();
            side.add(pod);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn random_histories_are_told_as_they_are() {
    let server = Server::start(&[]);
    let domain = domain("model");
    let side = Side::new(&domain, &PODS);
    let asker = Asker::new(&server, &domain, &PODS, patient());
    let writer = write(&server, &side);
    // Longer than the first pipelines (32 and 128 blocks), with beginnings in common.
    let mut prompts: Vec<_> =
        [(1, 200), (2, 40), (3, 170)].map(|(variant, blocks)| prompt(variant, blocks)).into();
    for (of, fork) in [(0, 33), (0, 160), (1, 7)] {
        let mut forked = prompts[of][..fork * 4].to_vec();
        forked.extend(prompt(50 + fork as u32, 30));
        prompts.push(forked);
    }
    let (mut dice, mut told) = (Dice(7), 0);
    for round in 0..60 {
        for _ in 0..=dice.below(12) {
            happen(&side, &mut dice, &prompts);
        }
        for (at, token_ids) in prompts.iter().enumerate() {
            asker.agrees(&side, token_ids, &format!("round {round}, prompt {at}")).await;
            told += side.answers(token_ids).len();
        }
    }
    assert!(told > 200, "there was something to tell: {told}");
    let status = writer.status();
    assert!(status.lives > 20 && status.failures == 0 && status.blocks_removed > 20, "{status:?}");
    let asked = asker.status();
    assert!(
        asked.answered + asked.failures == asked.lookups && asked.hits > 0 && asked.is_answering,
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_is_told_decides_where_a_request_goes_and_shows_in_its_explanation() {
    let server = Server::start(&[]);
    let domain = domain("model");
    let (side, asker) = (Side::new(&domain, &PODS), Asker::new(&server, &domain, &PODS, patient()));
    let _writer = write(&server, &side);
    let token_ids = prompt(1, 50);
    side.store("c", &token_ids, 0, 40);
    asker.agrees(&side, &token_ids, "stored").await;
    let known = asker.reader.known(domain.fingerprint(), asker.side.hashes(&token_ids)).await.unwrap();
    let context = kvroute_core::HashContext::default();
    let request =
        Request { prompt: Prompt::TokenIds(&token_ids), known: &known, ..Request::new(&[], &context) };
    let (router, mut workspace) = (&asker.side.router, Workspace::default());
    let decision = router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((decision.pod, decision.matched_tokens), (asker.side.id("c"), 160));
    let explanation = router.explain(&workspace);
    assert_eq!((explanation.pods[2].known_blocks, explanation.pods[2].trust), (40, "degraded"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn domains_do_not_meet_and_pods_that_nobody_knows_are_passed_over() {
    let server = Server::start(&[]);
    let (one, other) = (domain("model"), domain("other"));
    let side = Side::new(&one, &["a", "unknown"]);
    let _writer = write(&server, &side);
    let token_ids = prompt(1, 20);
    side.store("a", &token_ids, 0, 5);
    side.store("unknown", &token_ids, 0, 20);
    let (asker, elsewhere) =
        (Asker::new(&server, &one, &["a"], patient()), Asker::new(&server, &other, &["a"], patient()));
    let alone = Side::new(&one, &["a"]);
    alone.store("a", &token_ids, 0, 5);
    asker.agrees(&alone, &token_ids, "one is known").await;
    assert!(elsewhere.ask(&token_ids).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_hybrid_pod_is_not_told_of() {
    let server = Server::start(&[]);
    let domain = domain("model");
    let (side, asker) =
        (Side::new(&domain, &["a", "b"]), Asker::new(&server, &domain, &["a", "b"], patient()));
    let writer = write(&server, &side);
    let token_ids = prompt(1, 10);
    side.store("a", &token_ids, 0, 10);
    side.store("b", &token_ids, 0, 10);
    asker.agrees(&side, &token_ids, "both are plain").await;
    side.become_hybrid("b", &token_ids);
    until(&writer, "it is noticed", |status| status.pods_not_plain == 1).await;
    let told = asker.ask(&token_ids).await.unwrap();
    assert_eq!(told.keys().collect::<Vec<_>>(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn each_pod_has_one_writer_and_the_next_takes_over() {
    let server = Server::start(&[]);
    let domain = domain("model");
    let (one, other) = (Side::new(&domain, &["a"]), Side::new(&domain, &["a"]));
    let asker = Asker::new(&server, &domain, &["a"], patient());
    let token_ids = prompt(1, 30);
    one.store("a", &token_ids, 0, 30);
    other.store("a", &token_ids, 0, 10);
    let first = write(&server, &one);
    asker.agrees(&one, &token_ids, "the first writes").await;
    let second = write(&server, &other);
    until(&second, "it finds another", |status| status.pods_of_others == 1).await;
    asker.agrees(&one, &token_ids, "still the first").await;
    first.stop().await;
    asker.agrees(&other, &token_ids, "it left its pod").await;
    // Without a word: its lease has to run out.
    let third = write(&server, &one);
    until(&third, "it finds another", |status| status.pods_of_others == 1).await;
    drop(second);
    asker.agrees(&one, &token_ids, "the lease ran out").await;
    assert_eq!(third.status().pods, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn members_of_dead_lives_are_swept_and_blocks_that_nobody_confirms_end() {
    let server = Server::start(&[]);
    let domain = domain("model");
    let (side, asker) =
        (Side::new(&domain, &["a", "b"]), Asker::new(&server, &domain, &["a", "b"], patient()));
    let ttl = Duration::from_secs(3);
    let quick = IndexOptions { ttl, ..options() };
    let writer = IndexWriter::start(connect(&server), std::sync::Arc::clone(&side.router), quick).unwrap();
    let token_ids = prompt(1, 600);
    side.store("a", &token_ids, 0, 600);
    side.store("b", &token_ids, 0, 600);
    asker.agrees(&side, &token_ids, "stored").await;
    side.apply("b", KvEvent::Cleared);
    asker.agrees(&side, &token_ids, "b was cleared").await;
    let block = Keys::new(&options().name).block(domain.fingerprint(), side.hashes(&token_ids)[7]);
    until(&writer, "swept", |status| status.members_swept >= 600).await;
    assert_eq!(server.ask(&["SCARD", &block]).await, Value::Int(1));
    // Confirmed again and again, they outlive their time by far.
    tokio::time::sleep(2 * ttl).await;
    asker.agrees(&side, &token_ids, "confirmed").await;
    assert_eq!(writer.status().lives, 3);
    writer.stop().await;
    let begun = std::time::Instant::now();
    while server.ask(&["DBSIZE"]).await != Value::Int(0) {
        assert!(begun.elapsed() < SOON, "nothing stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
