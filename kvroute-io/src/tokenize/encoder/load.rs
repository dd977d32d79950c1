//! `tokenizer.json`, as transformers 5.23 loads it, and what can be proven about it.

use std::collections::BTreeSet;

use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer};

use super::added::AddedTokens;
use super::cuts::{self, Cuts};
use super::{Error, Segmenter, guarded};

/// The pattern that is built into ByteLevel (tokenizers 0.23, `pre_tokenizers/byte_level.rs`).
const BYTE_LEVEL: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// What `tokenizer_config.json` and `special_tokens_map.json` add to `tokenizer.json`.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Configuration {
    /// Added tokens with their flags, by id; they replace those of `tokenizer.json`.
    pub(in super::super) added_tokens: Vec<AddedToken>,
    /// Special tokens by content; added where they are not there.
    pub(in super::super) special_tokens: Vec<String>,
    /// Whether special tokens in a text are read as text.
    pub(in super::super) split_special_tokens: bool,
}

/// Loads a tokenizer.
pub(super) fn tokenizer(json: &[u8], configuration: &Configuration) -> Result<Tokenizer, Error> {
    guarded("tokenizer.json", || {
        let mut tokenizer = Tokenizer::from_bytes(json)?;
        // Requests are neither truncated nor padded, whatever the file says.
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(configuration.split_special_tokens);
        let tokens = tokens_to_add(&tokenizer, configuration);
        if !tokens.is_empty() {
            tokenizer.add_tokens(tokens)?;
        }
        Ok(tokenizer)
    })
}

/// What the configuration adds or changes.
fn tokens_to_add(tokenizer: &Tokenizer, configuration: &Configuration) -> Vec<AddedToken> {
    let known = tokenizer.get_added_tokens_decoder();
    let contents: BTreeSet<&str> = known.values().map(|token| token.content.as_str()).collect();
    let mut tokens: Vec<AddedToken> = configuration
        .added_tokens
        .iter()
        .filter(|token| !known.values().any(|k| same(k, token)))
        .cloned()
        .collect();
    for special in &configuration.special_tokens {
        if !contents.contains(special.as_str()) && !tokens.iter().any(|token| token.content == *special) {
            tokens.push(AddedToken::from(special.as_str(), true));
        }
    }
    tokens
}

/// Equal in all that matters; equality of tokens in the library is that of contents.
fn same(one: &AddedToken, other: &AddedToken) -> bool {
    let flags =
        |token: &AddedToken| (token.single_word, token.lstrip, token.rstrip, token.normalized, token.special);
    one.content == other.content && flags(one) == flags(other)
}

/// How this tokenizer's texts can be cut, or why they cannot.
pub(super) fn segmenter(tokenizer: &Tokenizer) -> Result<Segmenter, String> {
    if tokenizer.get_encode_special_tokens() {
        return Err("special tokens are read as text (split_special_tokens)".to_owned());
    }
    if let ModelWrapper::BPE(model) = tokenizer.get_model()
        && model.dropout.is_some_and(|dropout| dropout > 0.0)
    {
        return Err("BPE with dropout is random".to_owned());
    }
    let mut tokens: Vec<(u32, AddedToken)> =
        tokenizer.get_added_tokens_decoder().iter().map(|(id, token)| (*id, token.clone())).collect();
    tokens.sort_unstable_by_key(|(id, _)| *id);
    if let Some((_, token)) = tokens.iter().find(|(_, token)| token.single_word) {
        return Err(format!("the added token {:?} is looked for as a single word", token.content));
    }
    let (normalized, not_normalized): (Vec<_>, Vec<_>) =
        tokens.into_iter().partition(|(_, token)| token.normalized);

    let sentinel = if looks_at_place(tokenizer.get_pre_tokenizer()) {
        Some(
            sentinel(&not_normalized)
                .ok_or("Metaspace looks at the place, and no added token can stand before")?,
        )
    } else {
        None
    };
    let normalizer = Normalizer::of(tokenizer.get_normalizer());
    let cuts = match tokenizer.get_model() {
        ModelWrapper::BPE(_) if normalizer == Normalizer::None || normalized.is_empty() => {
            cuts_of(tokenizer.get_pre_tokenizer()).filter(|_| normalizer != Normalizer::Other)
        }
        _ => None,
    };
    // Behind a normalizer, normalized tokens are looked for in what it makes, by the library.
    let normalized = if normalizer == Normalizer::None { normalized } else { Vec::new() };
    Ok(Segmenter { added: AddedTokens::new(not_normalized, normalized)?, cuts, sentinel })
}

/// An added token that nothing changes that stands behind it: it takes no white space along and begins no longer one.
fn sentinel(not_normalized: &[(u32, AddedToken)]) -> Option<String> {
    let alone = |content: &str| {
        !not_normalized
            .iter()
            .any(|(_, other)| other.content.len() > content.len() && other.content.starts_with(content))
    };
    let found =
        not_normalized.iter().find(|(_, token)| !token.lstrip && !token.rstrip && alone(&token.content));
    found.map(|(_, token)| token.content.clone())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Normalizer {
    None,
    /// One of Unicode's forms, or several.
    Unicode,
    Other,
}

impl Normalizer {
    fn of(normalizer: Option<&NormalizerWrapper>) -> Self {
        match normalizer {
            None => Self::None,
            Some(
                NormalizerWrapper::NFC(_)
                | NormalizerWrapper::NFD(_)
                | NormalizerWrapper::NFKC(_)
                | NormalizerWrapper::NFKD(_),
            ) => Self::Unicode,
            Some(NormalizerWrapper::Sequence(sequence)) => sequence
                .as_ref()
                .iter()
                .map(|part| Self::of(Some(part)))
                .fold(Self::None, |all, part| match (all, part) {
                    (Self::None, part) => part,
                    (all, Self::None) => all,
                    (Self::Unicode, Self::Unicode) => Self::Unicode,
                    _ => Self::Other,
                }),
            Some(_) => Self::Other,
        }
    }
}

/// Whether a pre-tokenizer looks where in the text it is.
fn looks_at_place(pre_tokenizer: Option<&PreTokenizerWrapper>) -> bool {
    match pre_tokenizer {
        Some(PreTokenizerWrapper::Metaspace(metaspace)) => metaspace.prepend_scheme == PrependScheme::First,
        Some(PreTokenizerWrapper::Sequence(sequence)) => {
            sequence.as_ref().iter().any(|part| looks_at_place(Some(part)))
        }
        _ => false,
    }
}

/// The cuts that are sound for a pre-tokenizer, if the argument of [`cuts`] holds for it.
fn cuts_of(pre_tokenizer: Option<&PreTokenizerWrapper>) -> Option<Cuts> {
    let mut parts = Vec::new();
    flatten(pre_tokenizer?, &mut parts);
    let mut before_spaces_only = false;
    let mut cuts_letters = false;
    for (at, part) in parts.iter().enumerate() {
        let expression = match part {
            PreTokenizerWrapper::Split(split)
                if split.behavior == SplitDelimiterBehavior::Isolated && !split.invert =>
            {
                match &split.pattern {
                    SplitPattern::Regex(expression) => expression.as_str(),
                    SplitPattern::String(_) => return None,
                }
            }
            PreTokenizerWrapper::ByteLevel(byte_level) => {
                if at + 1 < parts.len() {
                    // What follows would see mapped bytes, in which a space is a letter.
                    return None;
                }
                before_spaces_only |= byte_level.add_prefix_space;
                if !byte_level.use_regex {
                    continue;
                }
                BYTE_LEVEL
            }
            // Digits are neither letters nor what stands behind a cut.
            PreTokenizerWrapper::Digits(_) => continue,
            _ => return None,
        };
        cuts_letters |= cuts::look(expression)?.matches_letters;
    }
    cuts_letters.then_some(Cuts { before_spaces_only })
}

fn flatten<'a>(pre_tokenizer: &'a PreTokenizerWrapper, parts: &mut Vec<&'a PreTokenizerWrapper>) {
    match pre_tokenizer {
        PreTokenizerWrapper::Sequence(sequence) => {
            sequence.as_ref().iter().for_each(|part| flatten(part, parts))
        }
        part => parts.push(part),
    }
}
