//! What is to be routed.

use serde::{Deserialize, Serialize};

use crate::index::PodId;
use crate::{HashContext, Tier};

/// A prompt, as far as the gateway knows it.
#[derive(Clone, Copy, Debug)]
pub enum Prompt<'a> {
    /// Its token ids; `[n]`.
    TokenIds(&'a [u32]),
    /// Its text, where nobody tokenized it; `[n]` bytes. Only what this router itself sent where can be
    /// matched with it, in blocks of `RouterOptions::text_block_bytes`, and lengths in tokens are
    /// estimated at four bytes each (llm-d-router ebab687 does the same where it has no tokenizer).
    Text(&'a [u8]),
}

impl Prompt<'_> {
    /// Bytes of text that count as one token.
    pub const BYTES_PER_TOKEN: usize = 4;

    /// Length in tokens; of a text, the estimate.
    #[must_use]
    pub fn tokens(&self) -> usize {
        match self {
            Self::TokenIds(token_ids) => token_ids.len(),
            Self::Text(text) => text.len().div_ceil(Self::BYTES_PER_TOKEN),
        }
    }
}

/// How a request says which conversation it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session<'a> {
    /// By an id of the client's choice; the router remembers where it sent it. Ids are those of all clients
    /// together: make them unique. An empty one is none.
    Id(&'a str),
    /// By a token that [`Router::session_token`](crate::Router::session_token) made; the router remembers nothing.
    Token(&'a str),
}

/// What a scorer outside of this library says of the pods for one request, to every profile that has a scorer of the
/// name.
#[derive(Clone, Copy, Debug)]
pub struct ScoreColumn<'a> {
    /// Name of the profile's [`ExternalScorer`](crate::score::ExternalScorer).
    pub scorer: &'a str,
    /// The pods it is about; `[n]`. Those that are gone are passed over, those left out score 0, and of one that is
    /// there twice the last score counts.
    pub pods: &'a [PodId],
    /// Their scores, 0..=1; `[n]`.
    pub values: &'a [f64],
}

/// What the embedder found out elsewhere about a pod's cache, from an index that others write, say: that the pod has the
/// first `blocks` blocks of the prompt, in `tier` or nearer.
///
/// It is hearsay: it adds to what the pod's own events tell and never takes away from it, and a match that comes of it
/// is believed like a degraded view's. Several about one pod may each name a tier; of each tier the largest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KnownPrefix {
    /// The pod. One that is gone is passed over.
    pub pod: PodId,
    /// The farthest tier that any of them lies in.
    pub tier: Tier,
    /// Leading blocks of the prompt as the pod's cache domain hashes it. What goes beyond those that an engine can take
    /// from its cache ([`CacheDomain::searchable_blocks`](crate::CacheDomain::searchable_blocks)) does not count.
    pub blocks: u32,
}

/// A request to be routed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The prompt.
    pub prompt: Prompt<'a>,
    /// What else decides whether KV can be shared.
    pub context: &'a HashContext,
    /// The served model it asks for; `None` is content with any.
    pub model: Option<&'a str>,
    /// The conversation it belongs to.
    pub session: Option<Session<'a>>,
    /// Names of the pods it may go to, all ranks of each; `None` is content with any.
    pub subset: Option<&'a [&'a str]>,
    /// What external scorers say of the pods ([`ExternalScorer`](crate::score::ExternalScorer)).
    pub scores: &'a [ScoreColumn<'a>],
    /// What pods are said to hold of the prompt, by others than their events; of a prompt of token ids only.
    pub known: &'a [KnownPrefix],
    /// Distinguishes requests where a choice is otherwise even. `None`: taken from the prompt, so that
    /// equal prompts are decided equally.
    pub nonce: Option<u64>,
}

impl<'a> Request<'a> {
    /// A request for a tokenized prompt.
    #[must_use]
    pub fn new(token_ids: &'a [u32], context: &'a HashContext) -> Self {
        Self {
            prompt: Prompt::TokenIds(token_ids),
            context,
            model: None,
            session: None,
            subset: None,
            scores: &[],
            known: &[],
            nonce: None,
        }
    }

    /// A request for a prompt that is only known as text.
    #[must_use]
    pub fn from_text(text: &'a [u8], context: &'a HashContext) -> Self {
        Self { prompt: Prompt::Text(text), ..Self::new(&[], context) }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
pub enum Finish {
    /// The engine answered it.
    Completed,
    /// The engine did not: what was predicted to be cached by it is taken back.
    Failed,
    /// The client went away. What was predicted stays if a first token had come.
    Cancelled,
}
