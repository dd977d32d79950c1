//! What a request asked for, as far as a log may tell.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{RecordOptions, is_default};
use crate::request::{Prompt, Session};
use crate::session::SessionKey;

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PromptRecord<'a> {
    /// Its length; tokens, of a text estimated.
    pub tokens: usize,
    /// Whether it was only known as text. Left out if not.
    #[serde(default, skip_serializing_if = "is_default")]
    pub is_text: bool,
    /// Its token ids, if they were asked for ([`RecordOptions::prompt`]).
    #[serde(default, skip_serializing_if = "is_default")]
    pub token_ids: Option<Cow<'a, [u32]>>,
    /// Its text in base64, if it was asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub text_base64: Option<String>,
}

impl<'a> PromptRecord<'a> {
    pub(crate) fn new(prompt: Prompt<'a>, options: RecordOptions) -> Self {
        let (token_ids, text) = match prompt {
            Prompt::TokenIds(token_ids) => (Some(Cow::Borrowed(token_ids)), None),
            Prompt::Text(text) => (None, Some(text)),
        };
        Self {
            tokens: prompt.tokens(),
            is_text: text.is_some(),
            token_ids: token_ids.filter(|_| options.prompt),
            text_base64: text.filter(|_| options.prompt).map(|text| STANDARD.encode(text)),
        }
    }
}

/// A conversation, and where it was at home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct SessionRecord<'a> {
    /// Of a session's id: 32 hexadecimal digits, the same for the same id and the same session key of the router.
    /// Left out where the client brought a token.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash: Option<String>,
    /// Place of the pod that answered last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decode: Option<u32>,
    /// Place of the pod that prefilled last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prefill: Option<u32>,
    /// Why there is no pod that answered last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missing: Option<Cow<'a, str>>,
}

impl<'a> SessionRecord<'a> {
    /// `None` for a request without a session.
    pub(crate) fn new(
        session: Option<Session<'_>>,
        key: Option<&SessionKey>,
        places: [Option<usize>; 2],
        missing: Option<&'a str>,
    ) -> Option<Self> {
        let hash = match session? {
            Session::Id("") => return None,
            Session::Id(id) => Some(hash(id, key)),
            Session::Token(_) => None,
        };
        let [decode, prefill] = places.map(|place| place.map(|place| place as u32));
        Some(Self { hash, decode, prefill, missing: missing.map(Cow::Borrowed) })
    }
}

/// Keyed, where there is a key, so that nobody without it can try ids until one fits.
fn hash(id: &str, key: Option<&SessionKey>) -> String {
    let mut hash = Sha256::new_with_prefix(b"kvroute session id");
    hash.update(key.map_or([0; 32], |key| *key.bytes()));
    hash.update(id);
    let half = hash.finalize().iter().take(16).fold(0, |n: u128, &byte| n << 8 | u128::from(byte));
    format!("{half:032x}")
}
