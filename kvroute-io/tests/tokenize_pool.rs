//! The pool: same answers, off the caller's thread, and text instead of waiting.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use kvroute_io::tokenize::{
    Endpoint, ErrorKind, PoolOptions, TokenizedPrompt, Tokenizer, TokenizerOptions, TokenizerPool,
    Untokenized,
};

fn tokenizer() -> Arc<Tokenizer> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/tokenize");
    Arc::new(Tokenizer::from_dir(folder.as_ref(), &TokenizerOptions::default()).unwrap())
}

fn options(threads: usize, queue: usize, wait: Duration) -> PoolOptions {
    let mut options = PoolOptions::default();
    (options.threads, options.queue, options.wait) = (threads, queue, wait);
    options
}

/// No timers: the pool keeps the time itself.
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn completion(text: &str) -> Bytes {
    serde_json::to_vec(&serde_json::json!({ "prompt": text })).unwrap().into()
}

/// A prompt that takes long, and of which no part was seen.
fn long(number: usize) -> Bytes {
    completion(&(0..LONG_WORDS).map(|word| format!("{number}zebra{word} ")).collect::<String>())
}

const LONG_WORDS: usize = 60_000;

fn is_overloaded(prompts: &[TokenizedPrompt]) -> bool {
    matches!(prompts, [TokenizedPrompt::Text { reason: Untokenized::Overloaded, .. }])
}

fn eventually(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "it did not happen within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn answers_are_those_of_the_tokenizer() {
    let tokenizer = tokenizer();
    let pool =
        TokenizerPool::new(Arc::clone(&tokenizer), &options(3, 1000, Duration::from_secs(60))).unwrap();
    let bodies: Vec<Bytes> = (0..200).map(|n| completion(&"some words ".repeat(n + 1))).collect();
    let answers: Vec<_> =
        bodies.iter().map(|body| pool.submit(Endpoint::Completions, body.clone())).collect();
    for (body, answer) in bodies.iter().zip(answers) {
        let expected = tokenizer.prompts(Endpoint::Completions, body, SystemTime::now()).unwrap();
        assert_eq!(block_on(answer).unwrap(), expected);
    }
    let refused = block_on(pool.submit(Endpoint::Completions, Bytes::from_static(b"{}")));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Request);
    let counters = pool.counters();
    assert_eq!((counters.answered, counters.queue_full, counters.too_late, counters.waiting), (201, 0, 0, 0));
}

#[test]
fn a_thread_that_waits_gets_its_answer_or_text_in_time() {
    let (tokenizer, wait) = (tokenizer(), Duration::from_millis(50));
    let pool = TokenizerPool::new(Arc::clone(&tokenizer), &options(1, 10, wait)).unwrap();
    let body = completion("hello");
    let expected = tokenizer.prompts(Endpoint::Completions, &body, SystemTime::now()).unwrap();
    assert_eq!(pool.answer(Endpoint::Completions, body.clone()).unwrap(), expected);
    let refused = pool.answer(Endpoint::Completions, Bytes::from_static(b"{}"));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Request);

    let begun = Instant::now();
    assert!(is_overloaded(&pool.answer(Endpoint::Completions, long(1)).unwrap()));
    // As long as tokenizing takes here, several times over.
    assert!(begun.elapsed() >= wait && begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_full_queue_answers_at_once_with_text() {
    let pool = TokenizerPool::new(tokenizer(), &options(1, 1, Duration::from_secs(60))).unwrap();
    let running = pool.submit(Endpoint::Completions, long(1));
    eventually(|| pool.counters().waiting == 0);
    let waiting = pool.submit(Endpoint::Completions, long(2));
    let body = completion("third");
    let mut refused = std::pin::pin!(pool.submit(Endpoint::Completions, body.clone()));
    // Ready when it is first looked at.
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(prompts) = refused.as_mut().poll(&mut context) else { panic!("it waits") };
    let [TokenizedPrompt::Text { text, reason: Untokenized::Overloaded }] = &prompts.unwrap()[..] else {
        panic!("not text")
    };
    assert_eq!(**text, body[1..], "from the field that holds the prompt on");
    assert_eq!(pool.counters().queue_full, 1);
    for answer in [block_on(running), block_on(waiting)] {
        assert!(matches!(&answer.unwrap()[..], [TokenizedPrompt::TokenIds(_)]));
    }
}

#[test]
fn what_is_not_tokenized_in_time_is_answered_with_text_and_known_the_next_time() {
    let tokenizer = tokenizer();
    let pool =
        TokenizerPool::new(Arc::clone(&tokenizer), &options(1, 10, Duration::from_millis(20))).unwrap();
    // Until the thread was quick enough to begin with one.
    let mut submitted = 0;
    eventually(|| {
        submitted += 1;
        let answers = [submitted, submitted + 1_000].map(|n| pool.submit(Endpoint::Completions, long(n)));
        for answer in answers {
            assert!(is_overloaded(&block_on(answer).unwrap()));
        }
        tokenizer.cache_counters().miss_bytes > 0
    });
    assert_eq!(pool.counters().too_late, 2 * submitted as u64);
    assert_eq!(pool.counters().waiting, 0, "what nobody waits for is not worked on");
    // The thread finishes what it began.
    eventually(|| tokenizer.cache_counters().miss_bytes > 10 * LONG_WORDS as u64);
    assert_eq!(pool.counters().answered, 0);
}

#[test]
fn requests_that_are_given_up_are_not_worked_on() {
    let tokenizer = tokenizer();
    let pool = TokenizerPool::new(Arc::clone(&tokenizer), &options(1, 10, Duration::from_secs(60))).unwrap();
    let running = pool.submit(Endpoint::Completions, long(1));
    eventually(|| pool.counters().waiting == 0);
    drop(pool.submit(Endpoint::Completions, completion("never mind, never seen")));
    drop(block_on(running));
    eventually(|| pool.counters().waiting == 0);
    let last = block_on(pool.submit(Endpoint::Completions, completion("last"))).unwrap();
    assert!(matches!(&last[..], [TokenizedPrompt::TokenIds(_)]));
    assert_eq!(pool.counters().answered, 2);
}

#[test]
fn a_pool_that_goes_answers_what_it_has() {
    let pool = TokenizerPool::new(tokenizer(), &options(1, 10, Duration::from_secs(60))).unwrap();
    let answers: Vec<_> = (0..3).map(|n| pool.submit(Endpoint::Completions, long(n))).collect();
    drop(pool);
    let mut overloaded = 0;
    for answer in answers {
        overloaded += usize::from(is_overloaded(&block_on(answer).unwrap()));
    }
    assert!(overloaded >= 2);
}

#[test]
fn a_pool_without_threads_or_queue_or_with_too_many_threads_is_refused() {
    for (threads, queue) in [(0, 1), (1, 0), (TokenizerPool::MAX_THREADS + 1, 1)] {
        let refused = TokenizerPool::new(tokenizer(), &options(threads, queue, Duration::ZERO));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Tokenizer);
    }
}
