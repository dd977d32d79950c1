//! Threads that tokenize, with a bounded queue before them.

use std::sync::Arc;

use bytes::Bytes;

use super::{Endpoint, Error, PoolOptions, TokenizedPrompt, Tokenizer};

/// What a pool has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolCounters {
    /// Requests that were answered by a thread.
    pub tokenized: u64,
    /// Requests answered with text because the queue was full.
    pub queue_full: u64,
    /// Requests answered with text because they had waited too long.
    pub waited_too_long: u64,
    /// Requests during which a thread panicked, answered with text. A defect: please report it.
    pub panicked: u64,
    /// Requests that wait now.
    pub waiting: u64,
}

/// Tokenizes on threads of its own, never on the caller's.
#[derive(Debug)]
pub struct TokenizerPool {
    tokenizer: Arc<Tokenizer>,
}

impl TokenizerPool {
    /// A pool with its threads started. They end when it is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tokenizer`](super::ErrorKind::Tokenizer) if an option is out of range or a thread cannot be started.
    pub fn new(tokenizer: Arc<Tokenizer>, options: &PoolOptions) -> Result<Self, Error> {
        if options.threads == 0 {
            return Err(Error::tokenizer("threads of a tokenizer pool: 0, needs at least 1"));
        }
        Ok(Self { tokenizer })
    }

    /// Puts a request's body into the queue; the future is ready when its prompts are there. Never blocks. If the
    /// queue is full, or its turn does not come in time, the answer is one text with
    /// [`Untokenized::Overloaded`](super::Untokenized::Overloaded). Dropping the future gives the request up.
    ///
    /// # Errors
    ///
    /// The future's are those of [`Tokenizer::prompts`].
    pub fn submit(
        &self,
        endpoint: Endpoint,
        body: Bytes,
    ) -> impl Future<Output = Result<Vec<TokenizedPrompt>, Error>> + Send + 'static {
        let tokenizer = Arc::clone(&self.tokenizer);
        async move { tokenizer.prompts(endpoint, &body, std::time::SystemTime::now()) }
    }

    /// The tokenizer this pool uses.
    #[must_use]
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> PoolCounters {
        PoolCounters::default()
    }
}
