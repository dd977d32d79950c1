//! Threads that tokenize, with a bounded queue before them.
//!
//! A request is answered within [`PoolOptions::wait`] whatever happens: a further thread watches the time, and answers
//! with text what is not tokenized by then. A request that still stood in the queue is dropped from it; one that a thread
//! has begun is finished, because its segments are then known when the conversation goes on.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{Endpoint, Error, PoolOptions, TokenizedPrompt, Tokenizer, Untokenized};

/// What a pool has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolCounters {
    /// Requests that were answered by a thread, errors included.
    pub answered: u64,
    /// Requests answered with text because the queue was full.
    pub queue_full: u64,
    /// Requests answered with text because their time was over, in the queue or while a thread was at it.
    pub too_late: u64,
    /// Requests during which the tokenizer panicked, answered with text: a defect.
    pub panicked: u64,
    /// Requests that stand in the queue now.
    pub waiting: u64,
}

/// Tokenizes on threads of its own, never on the caller's.
pub struct TokenizerPool {
    shared: Arc<Shared>,
    queue: usize,
    wait: Duration,
}

type Answer = Result<Vec<TokenizedPrompt>, Error>;

struct Shared {
    tokenizer: Arc<Tokenizer>,
    state: Mutex<State>,
    /// There is work, or the pool is gone.
    work: Condvar,
    /// There is something to watch, or the pool is gone.
    watch: Condvar,
    counters: Counters,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<Job>>,
    /// All requests by the time they must be answered at, which is the order they came in. Those that are answered are
    /// gone.
    deadlines: VecDeque<(Instant, Weak<Job>)>,
    closed: bool,
}

#[derive(Default)]
struct Counters {
    answered: AtomicU64,
    queue_full: AtomicU64,
    too_late: AtomicU64,
    panicked: AtomicU64,
}

/// A request; whoever takes the sender answers it.
struct Job {
    endpoint: Endpoint,
    body: Bytes,
    sender: Mutex<Option<oneshot::Sender<Answer>>>,
}

/// Wakes a thread that waits for an answer.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Job {
    fn as_text(&self, reason: Untokenized) -> Answer {
        Ok(vec![TokenizedPrompt::text(self.endpoint, &self.body, reason)])
    }
}

impl TokenizerPool {
    /// Most threads of a pool.
    pub const MAX_THREADS: usize = 1024;

    /// A pool with its threads started. They end when it is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tokenizer`](super::ErrorKind::Tokenizer) if there would be no thread or no queue, or more than
    /// [`MAX_THREADS`](Self::MAX_THREADS) threads, or one cannot be started.
    pub fn new(tokenizer: Arc<Tokenizer>, options: &PoolOptions) -> Result<Self, Error> {
        let PoolOptions { threads, queue, wait } = *options;
        if threads == 0 || queue == 0 {
            return Err(Error::tokenizer("tokenizer pool: threads and queue must be at least 1"));
        }
        if threads > Self::MAX_THREADS {
            let most = Self::MAX_THREADS;
            return Err(Error::tokenizer(format!("tokenizer pool: {threads} threads, {most} are the most")));
        }
        let shared = Arc::new(Shared {
            tokenizer,
            state: Mutex::default(),
            work: Condvar::new(),
            watch: Condvar::new(),
            counters: Counters::default(),
        });
        // Dropped if a thread cannot be started, and with it those that were.
        let pool = Self { shared, queue, wait };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            start(format!("tokenize-{number}"), move || shared.tokenize())?;
        }
        let shared = Arc::clone(&pool.shared);
        start("tokenize-watch".to_owned(), move || shared.watch())?;
        Ok(pool)
    }

    /// Puts a request's body into the queue; the future is ready when its prompts are there, or with one text and
    /// [`Untokenized::Overloaded`] at once if the queue is full, and when [`PoolOptions::wait`] is over. Never blocks,
    /// and needs no particular runtime. Dropping the future gives the request up if no thread has begun it.
    ///
    /// # Errors
    ///
    /// The future's are those of [`Tokenizer::prompts`].
    pub fn submit(&self, endpoint: Endpoint, body: Bytes) -> impl Future<Output = Answer> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        let job = Arc::new(Job { endpoint, body: body.clone(), sender: Mutex::new(Some(sender)) });
        let accepted = self.shared.accept(job, self.queue, self.wait);
        async move {
            let overloaded = || Ok(vec![TokenizedPrompt::text(endpoint, &body, Untokenized::Overloaded)]);
            if !accepted {
                return overloaded();
            }
            // The sender is only dropped unused with the pool.
            receiver.await.unwrap_or_else(|_| overloaded())
        }
    }

    /// The same for callers that may wait: blocks this thread until the answer is there, for about
    /// [`PoolOptions::wait`] at most. Not for the threads of an event loop.
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::prompts`].
    pub fn answer(&self, endpoint: Endpoint, body: Bytes) -> Result<Vec<TokenizedPrompt>, Error> {
        let mut answer = pin!(self.submit(endpoint, body));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
                return answer;
            }
            thread::park();
        }
    }

    /// The tokenizer this pool uses.
    #[must_use]
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.shared.tokenizer
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> PoolCounters {
        let Counters { answered, queue_full, too_late, panicked } = &self.shared.counters;
        PoolCounters {
            answered: answered.load(Ordering::Relaxed),
            queue_full: queue_full.load(Ordering::Relaxed),
            too_late: too_late.load(Ordering::Relaxed),
            panicked: panicked.load(Ordering::Relaxed),
            waiting: self.shared.state.lock().queue.len() as u64,
        }
    }
}

impl Drop for TokenizerPool {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        self.shared.work.notify_all();
        self.shared.watch.notify_all();
        drop(queue);
    }
}

impl fmt::Debug for TokenizerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenizerPool")
            .field("queue", &self.queue)
            .field("wait", &self.wait)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn accept(&self, job: Arc<Job>, queue: usize, wait: Duration) -> bool {
        let mut state = self.state.lock();
        if state.queue.len() >= queue {
            drop(state);
            self.counters.queue_full.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let idle = state.deadlines.is_empty();
        state.deadlines.push_back((Instant::now() + wait, Arc::downgrade(&job)));
        state.queue.push_back(job);
        drop(state);
        self.work.notify_one();
        if idle {
            self.watch.notify_one();
        }
        true
    }

    /// A thread's work until the pool is gone.
    fn tokenize(&self) {
        while let Some(job) = self.next() {
            if job.sender.lock().as_ref().is_none_or(oneshot::Sender::is_closed) {
                continue;
            }
            let work = || self.tokenizer.prompts(job.endpoint, &job.body, SystemTime::now());
            let (answer, counter) = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(answer) => (answer, &self.counters.answered),
                Err(_) => (job.as_text(Untokenized::NotReproducible), &self.counters.panicked),
            };
            // Taken in a statement of its own: the lock must be free when the answer is sent.
            let sender = job.sender.lock().take();
            if let Some(sender) = sender {
                counter.fetch_add(1, Ordering::Relaxed);
                // The receiver may have gone meanwhile.
                let _ = sender.send(answer);
            }
        }
    }

    fn next(&self) -> Option<Arc<Job>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            self.work.wait(&mut state);
        }
    }

    /// Answers what is not answered in time, until the pool is gone.
    fn watch(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            let Some((deadline, job)) = state.deadlines.front() else {
                self.watch.wait(&mut state);
                continue;
            };
            let (deadline, job) = (*deadline, job.upgrade());
            if job.is_some() && Instant::now() < deadline {
                drop(job);
                self.watch.wait_until(&mut state, deadline);
                continue;
            }
            state.deadlines.pop_front();
            let Some(job) = job else { continue };
            state.queue.retain(|queued| !Arc::ptr_eq(queued, &job));
            // Answering needs no lock on the queue.
            parking_lot::MutexGuard::unlocked(&mut state, || {
                let sender = job.sender.lock().take();
                if let Some(sender) = sender {
                    self.counters.too_late.fetch_add(1, Ordering::Relaxed);
                    let _ = sender.send(job.as_text(Untokenized::Overloaded));
                }
            });
        }
    }
}

fn start(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let started = thread::Builder::new().name(name).spawn(work);
    started.map(drop).map_err(|error| Error::tokenizer(format!("tokenizer pool: no thread: {error}")))
}
