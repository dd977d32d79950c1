//! What an engine does, in small. That it does what vLLM does is tested in `tests/engine_*.rs`.

use kvroute_core::HashContext;
use kvroute_core::event::{KvEvent, decode_batch};
use kvroute_core::hash::{HashSeed, VllmAlgorithm, VllmEra, VllmScheme};

use super::*;

/// An engine with blocks of four tokens, `blocks` of which can be used.
fn engine(blocks: u32) -> Engine {
    Engine::new(EngineOptions { block_size: 4, num_blocks: blocks + 1, ..EngineOptions::default() })
        .expect("good options")
}

fn tokens(from: u32, count: u32) -> Vec<u32> {
    (from..from + count).collect()
}

fn ask(id: u64, token_ids: Vec<u32>, max_tokens: u32) -> EngineRequest {
    EngineRequest { id, token_ids: token_ids.into(), max_tokens, ..EngineRequest::default() }
}

fn add(engine: &mut Engine, id: u64, token_ids: Vec<u32>, max_tokens: u32) {
    engine.add_request(ask(id, token_ids, max_tokens)).expect("a good request");
}

fn cached(engine: &Engine, token_ids: &[u32]) -> (usize, usize) {
    let context = HashContext::default();
    let cached = engine.cached_tokens(token_ids, &context).expect("hashes");
    (cached, engine.announced_tokens(token_ids, &context).expect("hashes"))
}

/// What the batch tells: stores and removals by their numbers of blocks.
fn told(result: &StepResult) -> String {
    let Some((_, payload)) = &result.batch else { return String::new() };
    let batch = decode_batch(payload).expect("a batch");
    assert!(batch.skipped.is_empty());
    let told = batch.events.iter().map(|event| match event {
        KvEvent::Stored(stored) => format!("+{}", stored.block_hashes.len()),
        KvEvent::Removed(removed) => format!("-{}", removed.block_hashes.len()),
        KvEvent::Cleared => "cleared".into(),
    });
    told.collect::<Vec<_>>().join(" ")
}

/// Takes one step; every sampled token is 1000.
fn step(engine: &mut Engine) -> (Step, StepResult) {
    let step = engine.begin_step().expect("something to do").clone();
    (step, engine.end_step(0.0, |_| 1000))
}

/// Steps until nothing is left to do; what the batches told.
fn run(engine: &mut Engine) -> String {
    let mut all = Vec::new();
    while engine.begin_step().is_some() {
        all.push(told(&engine.end_step(0.0, |_| 1000)));
    }
    all.retain(|told| !told.is_empty());
    all.join(" ")
}

#[test]
fn a_prompt_is_cached_when_its_step_is_planned_and_announced_when_it_ends() {
    let mut engine = engine(10);
    add(&mut engine, 1, tokens(0, 10), 1);
    assert_eq!(cached(&engine, &tokens(0, 10)), (0, 0));
    engine.begin_step().expect("something to do");
    assert_eq!(cached(&engine, &tokens(0, 10)), (8, 0));
    let result = engine.end_step(12.5, |_| 7);
    assert_eq!(cached(&engine, &tokens(0, 10)), (8, 8));
    let (sequence, payload) = result.batch.expect("a batch");
    let batch = decode_batch(&payload).expect("a batch");
    assert_eq!((sequence, batch.timestamp, batch.dp_rank), (0, 12.5, Some(0)));
    assert_eq!(result.produced, [Token { id: 1, token: 7, is_first: true, is_last: true }]);
}

#[test]
fn the_last_token_is_always_computed() {
    let mut engine = engine(10);
    add(&mut engine, 1, tokens(0, 8), 1);
    run(&mut engine);
    assert_eq!(cached(&engine, &tokens(0, 8)), (4, 4));
    assert_eq!(cached(&engine, &tokens(0, 9)), (8, 8));
    assert_eq!(cached(&engine, &[]), (0, 0));
    // The last block is computed, and so stored, a second time: evicting one copy leaves the other.
    add(&mut engine, 2, tokens(0, 8), 1);
    assert_eq!(run(&mut engine), "+1");
    add(&mut engine, 3, tokens(100, 36), 1);
    assert_eq!(run(&mut engine), "-1 -1 +9");
    assert_eq!(cached(&engine, &tokens(0, 9)), (4, 4));
}

#[test]
fn blocks_that_cache_nothing_are_used_first_and_a_prompt_is_evicted_from_its_tail() {
    let mut engine = engine(5);
    add(&mut engine, 1, tokens(0, 9), 1);
    assert_eq!(run(&mut engine), "+2");
    // Each of these takes the block that the one before left half full, and one that was never used.
    for (id, told) in [(2, "+1"), (3, "+1"), (4, "-1 +1")] {
        add(&mut engine, id, tokens(100 * id as u32, 5), 1);
        assert_eq!(run(&mut engine), told);
    }
    assert_eq!(cached(&engine, &tokens(0, 9)), (4, 4));
}

#[test]
fn decoding_announces_blocks_as_they_fill() {
    let mut engine = engine(10);
    add(&mut engine, 1, tokens(0, 6), 4);
    let decodes = (0..4).map(|_| {
        let (step, result) = step(&mut engine);
        (step.scheduled[0].is_decode, step.scheduled[0].computed_tokens, told(&result))
    });
    let expected = [(false, 0, "+1"), (true, 6, ""), (true, 7, "+1"), (true, 8, "")];
    assert!(decodes.eq(expected.map(|(is_decode, computed, told)| (is_decode, computed, told.into()))));
    assert!(engine.has_work(), "vLLM takes one step more");
    assert!(engine.begin_step().is_none());
    assert!(!engine.has_work());
}

#[test]
fn the_youngest_is_preempted_and_finds_its_blocks_when_it_comes_back() {
    let mut engine = engine(4);
    add(&mut engine, 1, tokens(0, 8), 8);
    add(&mut engine, 2, tokens(100, 7), 8);
    step(&mut engine);
    assert_eq!((engine.running(), engine.waiting(), engine.kv_usage()), (2, 0, 1.0));
    let (step, _) = step(&mut engine);
    assert_eq!(step.scheduled.iter().map(|scheduled| scheduled.id).collect::<Vec<_>>(), [1]);
    assert_eq!((engine.running(), engine.waiting(), engine.counters().preemptions), (1, 1, 1));
    let mut produced = 0;
    while let Some(step) = engine.begin_step() {
        assert!(step.admitted.is_empty(), "it was admitted before");
        produced += engine.end_step(0.0, |_| 1000).produced.len();
    }
    assert_eq!(produced, 16 - 3);
    assert_eq!(engine.counters().prefix_queries, 15, "a preempted request is counted once");
}

#[test]
fn a_long_prompt_is_computed_in_chunks_within_the_budget() {
    let options = EngineOptions { block_size: 4, max_num_batched_tokens: 10, ..EngineOptions::default() };
    let mut engine = Engine::new(options).expect("good options");
    add(&mut engine, 1, tokens(0, 3), 9);
    step(&mut engine);
    add(&mut engine, 2, tokens(100, 20), 1);
    for expected in [[1, 9], [1, 9], [1, 2]] {
        let (step, _) = step(&mut engine);
        assert!(step.scheduled.iter().map(|scheduled| scheduled.new_tokens).eq(expected));
    }
}

#[test]
fn the_watermark_holds_back_only_what_would_run_beside_others() {
    let options = EngineOptions { block_size: 4, num_blocks: 11, watermark: 0.5, ..EngineOptions::default() };
    let mut engine = Engine::new(options).expect("good options");
    add(&mut engine, 1, tokens(0, 28), 2);
    add(&mut engine, 2, tokens(100, 4), 1);
    let scheduled = (0..3).map(|_| step(&mut engine).0.scheduled.iter().map(|s| s.id).collect::<Vec<_>>());
    assert!(scheduled.eq([[1], [1], [2]]), "7 of 10 blocks are taken and 5 are to stay free");
}

#[test]
fn a_reset_is_refused_while_blocks_are_held_and_announced_with_the_next_step() {
    let mut engine = engine(10);
    add(&mut engine, 1, tokens(0, 9), 2);
    step(&mut engine);
    assert!(!engine.reset_prefix_cache());
    run(&mut engine);
    assert!(engine.reset_prefix_cache());
    assert_eq!(cached(&engine, &tokens(0, 9)), (0, 8));
    assert!(engine.begin_step().is_none(), "nobody is there to step for");
    add(&mut engine, 2, tokens(0, 9), 1);
    assert_eq!(run(&mut engine), "cleared +2");
    assert_eq!(cached(&engine, &tokens(0, 9)), (8, 8));
}

/// `Scheduler.schedule` from `load_kv_async` on and `_update_waiting_for_remote_kv`, vLLM 0.32.
#[test]
fn a_transferred_prompt_is_cached_when_it_has_come_and_computes_its_last_token() {
    let mut engine = engine(12);
    add(&mut engine, 1, tokens(0, 5), 1);
    run(&mut engine);
    engine
        .add_request(EngineRequest { transferred: true, ..ask(2, tokens(0, 12), 2) })
        .expect("a good request");
    let (step, result) = step(&mut engine);
    assert_eq!(step.loading, [Loading { id: 2, cached_tokens: 4, transferred_tokens: 8 }]);
    assert!(step.scheduled.is_empty() && result == StepResult::default());
    assert_eq!((engine.running(), engine.waiting(), engine.kv_usage()), (0, 1, 0.25));
    assert!(engine.begin_step().is_none() && engine.has_work(), "all wait for the transfer");
    assert_eq!(cached(&engine, &tokens(0, 12)), (4, 4));
    engine.transfer_finished(2);
    assert_eq!(cached(&engine, &tokens(0, 12)), (4, 4), "not before the next step is planned");
    let step = engine.begin_step().expect("something to do");
    assert_eq!(step.admitted, [Admitted { id: 2, cached_tokens: 4, transferred_tokens: 8 }]);
    let last = Scheduled { id: 2, new_tokens: 1, computed_tokens: 11, is_decode: false };
    assert_eq!(step.scheduled, [last]);
    assert_eq!(cached(&engine, &tokens(0, 13)), (12, 4));
    assert_eq!(told(&engine.end_step(0.0, |_| 1000)), "+2");
    assert_eq!(engine.counters(), Counters { prefix_queries: 17, prefix_hits: 4, preemptions: 0 });
}

/// `Scheduler.finish_requests` and `_update_from_kv_xfer_finished`, vLLM 0.32.
#[test]
fn an_aborted_transfer_holds_its_blocks_until_it_is_done() {
    let mut engine = engine(12);
    engine
        .add_request(EngineRequest { transferred: true, ..ask(1, tokens(0, 12), 2) })
        .expect("a good request");
    step(&mut engine);
    engine.abort(1);
    engine.abort(1);
    assert_eq!((engine.waiting(), engine.kv_usage()), (0, 0.25));
    assert!(engine.add_request(ask(1, tokens(0, 4), 1)).is_err(), "its id is in use");
    engine.transfer_finished(1);
    assert_eq!(engine.kv_usage(), 0.0);
    assert!(engine.add_request(ask(1, tokens(0, 4), 1)).is_ok());
}

#[test]
fn an_abort_takes_a_request_from_wherever_it_is() {
    let mut engine = engine(4);
    add(&mut engine, 1, tokens(0, 8), 5);
    add(&mut engine, 2, tokens(100, 12), 5);
    engine.begin_step().expect("something to do");
    engine.abort(2);
    engine.abort(1);
    engine.abort(77);
    let result = engine.end_step(0.0, |_| 1000);
    assert_eq!((result.produced.len(), told(&result).as_str()), (0, "+2"));
    assert_eq!((engine.running(), engine.waiting(), engine.kv_usage()), (0, 0, 0.0));
    assert!(engine.begin_step().is_none() && !engine.has_work());
}

#[test]
fn contexts_keep_prompts_apart() {
    let mut engine = engine(10);
    add(&mut engine, 1, tokens(0, 9), 1);
    run(&mut engine);
    let salted = HashContext { cache_salt: Some("tenant".into()), ..HashContext::default() };
    assert_eq!(engine.cached_tokens(&tokens(0, 9), &salted), Ok(0));
}

#[test]
fn calls_out_of_turn_change_nothing() {
    let mut engine = engine(4);
    assert_eq!(engine.end_step(0.0, |_| 1), StepResult::default());
    add(&mut engine, 1, tokens(0, 4), 1);
    assert!(engine.begin_step().is_some());
    assert!(engine.begin_step().is_none(), "a step is under way");
    engine.transfer_finished(1);
    assert_eq!(engine.end_step(0.0, |_| 1).produced.len(), 1);
}

#[test]
fn requests_that_cannot_be_served_are_refused_with_a_reason() {
    let mut engine = engine(4);
    add(&mut engine, 1, tokens(0, 15), 1);
    let no_path = HashContext {
        lora: Some(kvroute_core::hash::Lora { name: "a".into(), ..Default::default() }),
        ..HashContext::default()
    };
    let refused = [
        (ask(2, vec![], 1), "request: 2 has an empty prompt"),
        (ask(2, tokens(0, 16), 1), "request: 2 has a prompt of 16 tokens; 15 fit"),
        (ask(2, tokens(0, 4), 0), "request: 2 asks for no tokens"),
        (ask(1, tokens(0, 4), 1), "request: 1 is there already"),
        (EngineRequest { context: no_path, ..ask(2, tokens(0, 4), 1) }, "LoRA adapter \"a\" has no path"),
    ];
    for (request, reason) in refused {
        let error = engine.add_request(request).expect_err("refused").to_string();
        assert!(error.starts_with(reason), "{error}");
    }
    assert_eq!(engine.waiting(), 1);
}

#[test]
fn options_that_no_engine_can_run_with_are_refused_with_a_reason() {
    let old = VllmScheme::for_era(VllmAlgorithm::Sha256, VllmEra::IntLora, &HashSeed::Value("0".into()));
    let good = EngineOptions::default;
    let refused = [
        (EngineOptions { block_size: 0, ..good() }, "block_size 0"),
        (EngineOptions { num_blocks: 1, ..good() }, "num_blocks 1"),
        (EngineOptions { max_num_batched_tokens: 0, ..good() }, "max_num_batched_tokens"),
        (EngineOptions { max_num_seqs: 0, ..good() }, "max_num_seqs"),
        (EngineOptions { max_model_len: Some(200_000), ..good() }, "max_model_len 200000"),
        (EngineOptions { block_size: 1, num_blocks: 2, ..good() }, "a pool of 1 tokens"),
        (EngineOptions { watermark: f64::NAN, ..good() }, "watermark NaN"),
        (EngineOptions { scheme: old.expect("a scheme"), ..good() }, "the hash scheme"),
    ];
    for (options, reason) in refused {
        let error = Engine::new(options).expect_err("refused").to_string();
        assert!(error.starts_with(&format!("engine options: {reason}")), "{error}");
    }
    assert_eq!(good().check(), Ok(()));
}
