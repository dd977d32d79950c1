//! A model's tokenizer and chat template.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::chat::ChatTemplate;
use super::encoder::Encoder;
use super::error::Failure;
use super::files::{Files, Settings};
use super::request::Body;
use super::request::chat::Chat;
use super::request::completions::{Completions, Prompt};
use super::request::responses::Responses;
use super::{Endpoint, Error, ErrorKind, TokenizedPrompt, TokenizerOptions, Untokenized};

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
    /// `additional_chat_templates/tool_use.jinja`; in place of the other where there are tools.
    pub tool_use_template: Option<&'a [u8]>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<&'a [u8]>,
    /// `config.json`, the model's: whether the engine renders its chats by code of its own.
    pub model_config: Option<&'a [u8]>,
    /// Whether there is a `tekken.json`: Mistral's own tokenizer, which the engine prefers.
    pub tekken: bool,
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

impl fmt::Display for Segmentation {
    /// "pieces", "added-tokens", or "full: " and the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pieces => f.write_str("pieces"),
            Self::AddedTokens => f.write_str("added-tokens"),
            Self::Full { reason } => write!(f, "full: {reason}"),
        }
    }
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
    encoder: Encoder,
    template: Option<ChatTemplate>,
    /// In place of the other where there are tools.
    tool_use_template: Option<ChatTemplate>,
    special_tokens: Map<String, Value>,
    /// Whether the engine renders chats by code of its own.
    own_renderer: bool,
    options: TokenizerOptions,
}

impl Tokenizer {
    /// Reads a model's folder: `tokenizer.json`, and where they are there `tokenizer_config.json`,
    /// `chat_template.jinja`, `additional_chat_templates/tool_use.jinja`, `special_tokens_map.json` and `config.json`;
    /// whether there is a `tekken.json`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Tokenizer`] with the file's name if one cannot be read, is not what it should be, or is larger than
    /// a tokenizer can be; [`ErrorKind::Template`] if a chat template does not compile.
    pub fn from_dir(folder: &Path, options: &TokenizerOptions) -> Result<Self, Error> {
        let files = Files::read(folder)?;
        Self::from_parts(files.parts(), options)
            .map_err(|error| Error::new(error.kind(), format!("{}: {error}", folder.display())))
    }

    /// Makes a tokenizer from the bytes of those files.
    ///
    /// # Errors
    ///
    /// As [`Self::from_dir`].
    pub fn from_parts(parts: Parts<'_>, options: &TokenizerOptions) -> Result<Self, Error> {
        let Settings { templates: (template, tool_use), special_tokens, configuration, own_renderer } =
            Settings::read(&parts)?;
        let encoder = Encoder::new(parts.tokenizer, &configuration, options.cache_bytes)?;
        let (template, tool_use) = match &options.chat_template {
            Some(given) => (Some(given.clone()), None),
            None => (template, tool_use),
        };
        let mut tokenizer = Self {
            encoder,
            template: None,
            tool_use_template: None,
            special_tokens,
            own_renderer,
            options: options.clone(),
        };
        tokenizer.template = template.map(|source| tokenizer.compiled(&source)).transpose()?;
        tokenizer.tool_use_template = tool_use.map(|source| tokenizer.compiled(&source)).transpose()?;
        Ok(tokenizer)
    }

    /// The ids of a text; `add_special_tokens` puts those around it that the tokenizer's post-processor has for a
    /// single text (a BOS token, mostly). Special tokens in the text are read as such, as engines do.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if it is longer than [`TokenizerOptions::max_text_bytes`], [`ErrorKind::Tokenizer`] if the
    /// tokenizer fails on it.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Error> {
        self.within_bounds("text", text.len())?;
        self.encoder.encode(text, add_special_tokens)
    }

    /// The same ids, by the library alone: nothing is cut, and the cache is not asked. For comparisons.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    pub fn encode_in_full(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Error> {
        self.within_bounds("text", text.len())?;
        self.encoder.encode_in_full(text, add_special_tokens)
    }

    /// The prompts of a request: one, or as many as a list of prompts has. `now` is what a template that asks for the
    /// date gets, in UTC.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Request`] and [`ErrorKind::Template`] for what an engine would refuse too, [`ErrorKind::Limit`] for
    /// a bound of [`TokenizerOptions`].
    pub fn prompts(
        &self,
        endpoint: Endpoint,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Vec<TokenizedPrompt>, Error> {
        self.within_bounds("body", body.len())?;
        match self.token_ids(endpoint, body, now) {
            Ok(prompts) => Ok(prompts.into_iter().map(TokenizedPrompt::TokenIds).collect()),
            Err(Failure::Untokenized(reason)) => Ok(vec![TokenizedPrompt::text(endpoint, body, reason)]),
            Err(Failure::Error(error)) => Err(error),
        }
    }

    /// The text that a chat's messages are rendered to; `None` if that is not known here.
    ///
    /// # Errors
    ///
    /// As [`Self::prompts`], and [`ErrorKind::Request`] for completions, which are not rendered.
    pub fn rendered(
        &self,
        endpoint: Endpoint,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Option<String>, Error> {
        self.within_bounds("body", body.len())?;
        match self.chat(endpoint, Body::read(body)?, now) {
            Ok((text, _)) => Ok(Some(text)),
            Err(Failure::Untokenized(_)) => Ok(None),
            Err(Failure::Error(error)) => Err(error),
        }
    }

    /// Whether text that was seen before is encoded again.
    #[must_use]
    pub fn segmentation(&self) -> &Segmentation {
        self.encoder.segmentation()
    }

    /// What the cache of segments has done so far.
    #[must_use]
    pub fn cache_counters(&self) -> CacheCounters {
        self.encoder.cache_counters()
    }

    fn token_ids(&self, endpoint: Endpoint, body: &[u8], now: SystemTime) -> Result<Vec<Vec<u32>>, Failure> {
        let body = Body::read(body)?;
        if endpoint != Endpoint::Completions {
            let (text, add_special_tokens) = self.chat(endpoint, body, now)?;
            return Ok(vec![self.encoder.encode(&text, add_special_tokens)?]);
        }
        let Completions { prompts, add_special_tokens } = Completions::read(body)?;
        let one = |prompt| match prompt {
            Prompt::Text(text) => Ok(self.encoder.encode(&text, add_special_tokens)?),
            Prompt::TokenIds(token_ids) => Ok(token_ids),
        };
        prompts.into_iter().map(one).collect()
    }

    /// The text of a chat, and whether special tokens go around it.
    fn chat(&self, endpoint: Endpoint, body: Body, now: SystemTime) -> Result<(String, bool), Failure> {
        if self.own_renderer {
            return Err(Untokenized::OwnRenderer.into());
        }
        let (text, add_special_tokens) = match endpoint {
            Endpoint::Completions => return Err(Error::request("a completion has no messages").into()),
            Endpoint::ChatCompletions => {
                let chat = Chat::read(body, &self.options)?;
                let own = chat.template.as_deref().map(|source| self.compiled(source)).transpose()?;
                let template =
                    own.as_ref().map_or_else(|| self.template_for(chat.has_tools()), reproducible)?;
                let (conversation, add_special_tokens) = chat.conversation(template, &self.options, now)?;
                (template.render(conversation)?, add_special_tokens)
            }
            Endpoint::Responses => {
                let responses = Responses::read(body, &self.options)?;
                let template = self.template_for(responses.has_tools())?;
                (template.render(responses.conversation(template, now)?)?, true)
            }
        };
        Ok((text, add_special_tokens))
    }

    fn template_for(&self, tools: bool) -> Result<&ChatTemplate, Failure> {
        let tool_use = self.tool_use_template.as_ref().filter(|_| tools);
        reproducible(tool_use.or(self.template.as_ref()).ok_or(Untokenized::NoChatTemplate)?)
    }

    fn compiled(&self, source: &str) -> Result<ChatTemplate, Error> {
        let TokenizerOptions { max_template_steps, max_text_bytes, .. } = self.options;
        ChatTemplate::new(source, self.special_tokens.clone(), max_template_steps, max_text_bytes)
    }

    fn within_bounds(&self, what: &str, bytes: usize) -> Result<(), Error> {
        if bytes <= self.options.max_text_bytes {
            return Ok(());
        }
        let allowed = self.options.max_text_bytes;
        Err(Error::new(ErrorKind::Limit, format!("{what}: {bytes} bytes, {allowed} are allowed")))
    }
}

fn reproducible(template: &ChatTemplate) -> Result<&ChatTemplate, Failure> {
    if template.is_reproducible() { Ok(template) } else { Err(Untokenized::NotReproducible.into()) }
}
