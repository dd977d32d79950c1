//! A model's tokenizer and chat template.

use std::path::Path;
use std::time::SystemTime;

use super::{Endpoint, Error, TokenizedPrompt, TokenizerOptions};

/// The files of a model's tokenizer, as bytes.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Parts<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`: special tokens, a chat template.
    pub config: Option<&'a [u8]>,
    /// `chat_template.jinja`; goes before the one in the configuration.
    pub chat_template: Option<&'a [u8]>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<&'a [u8]>,
}

/// Whether text that was seen before need not be encoded again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Segmentation {
    /// Texts are cut at added tokens, and within the pieces between them where no pre-token can reach across.
    Pieces,
    /// Texts are cut at added tokens only.
    AddedTokens,
    /// Nothing is proven about this tokenizer, so every text is encoded in full.
    Full {
        /// What stands in the way.
        reason: String,
    },
}

/// What the cache of segments has done since the tokenizer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCounters {
    /// Bytes of text whose ids were found.
    pub hit_bytes: u64,
    /// Bytes of text that were encoded.
    pub miss_bytes: u64,
    /// Segments that are kept now.
    pub segments: u64,
    /// Bytes of memory they take now.
    pub bytes: u64,
    /// Segments that made room for others.
    pub evictions: u64,
}

/// Turns requests into the token ids that the engine will compute. Shared by threads; see the module's documentation.
#[derive(Debug)]
pub struct Tokenizer {
    segmentation: Segmentation,
}

impl Tokenizer {
    /// Reads a model's folder: `tokenizer.json`, and where they are there `tokenizer_config.json`,
    /// `chat_template.jinja` and `special_tokens_map.json`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tokenizer`](super::ErrorKind::Tokenizer) with the file's name if one cannot be read, is not what
    /// it should be, or is larger than a tokenizer can be;
    /// [`ErrorKind::Template`](super::ErrorKind::Template) if the chat template does not compile.
    pub fn from_dir(folder: &Path, options: &TokenizerOptions) -> Result<Self, Error> {
        let _ = options;
        Err(Error::tokenizer(format!("{}: not implemented yet", folder.display())))
    }

    /// Makes a tokenizer from the bytes of those files.
    ///
    /// # Errors
    ///
    /// As [`Self::from_dir`].
    pub fn from_parts(parts: Parts<'_>, options: &TokenizerOptions) -> Result<Self, Error> {
        let _ = (parts, options);
        Err(Error::tokenizer("not implemented yet"))
    }

    /// The ids of a text; `add_special_tokens` puts those around it that the tokenizer's post-processor has for a
    /// single text (a BOS token, mostly). Special tokens in the text are read as such, as engines do.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`](super::ErrorKind::Limit) if it is longer than
    /// [`TokenizerOptions::max_text_bytes`], [`ErrorKind::Tokenizer`](super::ErrorKind::Tokenizer) if the tokenizer
    /// fails on it.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Error> {
        let _ = (text, add_special_tokens);
        Err(Error::tokenizer("not implemented yet"))
    }

    /// The prompts of a request: one, or as many as a list of prompts has. `now` is what a template that asks for the
    /// date gets, in UTC.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Request`](super::ErrorKind::Request) and [`ErrorKind::Template`](super::ErrorKind::Template) for
    /// what an engine would refuse too, [`ErrorKind::Limit`](super::ErrorKind::Limit) for a bound of
    /// [`TokenizerOptions`].
    pub fn prompts(
        &self,
        endpoint: Endpoint,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Vec<TokenizedPrompt>, Error> {
        let _ = (endpoint, body, now);
        Err(Error::tokenizer("not implemented yet"))
    }

    /// Whether text that was seen before is encoded again.
    #[must_use]
    pub fn segmentation(&self) -> &Segmentation {
        &self.segmentation
    }

    /// What the cache of segments has done so far.
    #[must_use]
    pub fn cache_counters(&self) -> CacheCounters {
        CacheCounters::default()
    }
}
