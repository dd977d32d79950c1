//! Text to token ids, without encoding again what was encoded before.
//!
//! # Why pieces of a text can be encoded by themselves
//!
//! `tokenizers` 0.23 encodes a text in steps (`tokenizer/mod.rs`, `tokenizer/added_vocabulary.rs`):
//!
//! 1. The added tokens that are not normalized are found in the text, leftmost first, the longest of those that begin
//!    at one place; each takes white space along as its `lstrip` and `rstrip` say. What lies between them are *pieces*.
//! 2. Each piece is normalized by itself, and the normalized added tokens are found in the result.
//! 3. The pre-tokenizer splits each of these by itself into pre-tokens. No pre-tokenizer looks at neighbours. One looks
//!    at where in the text it is: Metaspace with the scheme `first` treats what begins at 0 apart.
//! 4. The model turns each pre-token into ids by itself.
//! 5. The post-processor puts special tokens around the ids of the whole.
//!
//! So the ids of a piece are a function of the piece and of whether it begins the text, and the ids of a text are the
//! post-processor's frame around the ids of its added tokens and pieces. [`added`] does step 1 (and 2, if there is no
//! normalizer) as the library does, and pieces are handed to the library one by one. A piece that does not begin the
//! text is handed over behind an added token, whose id is dropped, if the pre-tokenizer looks at the place.
//!
//! Handing a piece over by itself must not find an added token in it that was passed over in the text. Between two
//! leftmost matches there is none; but a `single_word` token can be passed over because of what stands before the
//! piece. Where there is such a token, nothing is cut. Nor is it where encoding is random (BPE dropout) or where special
//! tokens are read as text.
//!
//! [`cuts`] cuts pieces further, at places where a byte-level pre-tokenizer cuts whatever stands around; the argument is
//! there.
//!
//! [`cache`] keeps the ids of pieces. It compares texts, not only hashes, so the ids are those of a full encoding
//! whatever the texts are.

mod added;
mod cache;
mod cuts;
mod load;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokenizers::{Encoding, Token};

use super::{CacheCounters, Error, Segmentation};
use added::{AddedTokens, Segment};
use cache::Cache;
use cuts::Cuts;
pub(super) use load::Configuration;

/// A model's tokenizer and the ids of segments it has encoded.
pub(super) struct Encoder {
    tokenizer: tokenizers::Tokenizer,
    segmenter: Option<Segmenter>,
    segmentation: Segmentation,
    /// Ids that the post-processor puts before and behind a text.
    frame: (Vec<u32>, Vec<u32>),
    cache: Cache,
}

/// How texts are cut.
#[derive(Debug)]
struct Segmenter {
    added: AddedTokens,
    cuts: Option<Cuts>,
    /// An added token to put before a piece that does not begin the text, if that makes a difference.
    sentinel: Option<String>,
}

impl Encoder {
    /// Makes an encoder of `tokenizer.json` and what the configuration adds to it.
    pub(super) fn new(
        tokenizer_json: &[u8],
        configuration: &Configuration,
        cache_bytes: usize,
    ) -> Result<Self, Error> {
        let tokenizer = load::tokenizer(tokenizer_json, configuration)?;
        let (segmenter, segmentation) = match load::segmenter(&tokenizer) {
            Ok(segmenter) => {
                let cut = segmenter.cuts.is_some();
                (Some(segmenter), if cut { Segmentation::Pieces } else { Segmentation::AddedTokens })
            }
            Err(reason) => (None, Segmentation::Full { reason }),
        };
        let frame = frame(&tokenizer)?;
        Ok(Self { tokenizer, segmenter, segmentation, frame, cache: Cache::new(cache_bytes) })
    }

    pub(super) fn segmentation(&self) -> &Segmentation {
        &self.segmentation
    }

    pub(super) fn cache_counters(&self) -> CacheCounters {
        self.cache.counters()
    }

    /// The ids of a text, by segments if that is proven.
    pub(super) fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Error> {
        let Some(segmenter) = &self.segmenter else { return self.encode_in_full(text, add_special_tokens) };
        let mut ids = Vec::with_capacity(text.len() / 4 + 16);
        let (before, behind) =
            if add_special_tokens { (&*self.frame.0, &*self.frame.1) } else { (&[][..], &[][..]) };
        ids.extend_from_slice(before);
        for segment in segmenter.added.segments(text) {
            match segment {
                Segment::Token(id) => ids.push(id),
                Segment::Piece { start, text } => match &segmenter.cuts {
                    Some(cuts) => {
                        let mut start = start;
                        for chunk in cuts.chunks(text) {
                            self.piece(segmenter, start, chunk, &mut ids)?;
                            start += chunk.len();
                        }
                    }
                    None => self.piece(segmenter, start, text, &mut ids)?,
                },
            }
        }
        ids.extend_from_slice(behind);
        Ok(ids)
    }

    /// The ids of a text, by the library alone.
    pub(super) fn encode_in_full(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Error> {
        guarded("encoding", || Ok(self.tokenizer.encode_fast(text, add_special_tokens)?.get_ids().to_vec()))
    }

    fn piece(
        &self,
        segmenter: &Segmenter,
        start: usize,
        text: &str,
        ids: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let sentinel = segmenter.sentinel.as_deref().filter(|_| start > 0);
        let key = Cache::key(text, sentinel.is_some());
        if self.cache.append(key, text, ids) {
            return Ok(());
        }
        let found: Arc<[u32]> = match sentinel {
            None => self.encode_in_full(text, false)?.into(),
            Some(sentinel) => {
                let behind_sentinel = self.encode_in_full(&format!("{sentinel}{text}"), false)?;
                behind_sentinel.get(1..).unwrap_or_default().into()
            }
        };
        ids.extend_from_slice(&found);
        self.cache.insert(key, text, found);
        Ok(())
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("segmentation", &self.segmentation)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// What the post-processor puts around a text: around one token that no vocabulary has.
fn frame(tokenizer: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let framed = guarded("tokenizer.json: its post-processor", || {
        let inner = Encoding::from_tokens(vec![Token::new(u32::MAX, "text".to_owned(), (0, 4))], 0);
        tokenizer.post_process(inner, None, true)
    })?;
    let mut parts = framed.get_ids().splitn(2, |&id| id == u32::MAX);
    match (parts.next(), parts.next()) {
        (Some(before), Some(behind)) => Ok((before.to_vec(), behind.to_vec())),
        _ => Err(Error::tokenizer("tokenizer.json: its post-processor drops the text")),
    }
}

/// Calls the library. It panics on some files that are not sound; that is an error like any other.
fn guarded<T>(what: &str, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::tokenizer(format!("{what}: {error}"))),
        Err(_) => Err(Error::tokenizer(format!("{what}: the tokenizers library panicked"))),
    }
}
