//! `/v1/completions`.

use serde_json::Value;

use super::{Body, Error, Failure};
use crate::tokenize::Untokenized;

/// What a completion is asked for.
#[derive(Debug)]
pub(in super::super) struct Completions {
    /// The prompts; `[n]`, at least one.
    pub(in super::super) prompts: Vec<Prompt>,
    /// Whether special tokens go around those that are text.
    pub(in super::super) add_special_tokens: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Prompt {
    Text(String),
    TokenIds(Vec<u32>),
}

impl Completions {
    pub(in super::super) fn read(mut body: Body) -> Result<Self, Failure> {
        if body.has("prompt_embeds") {
            return Err(Untokenized::Media.into());
        }
        if body.has("suffix") || body.has("truncate_prompt_tokens") {
            return Err(Untokenized::NotReproducible.into());
        }
        let add_special_tokens = body.flag("add_special_tokens", true)?;
        let prompts = match body.take("prompt") {
            None => return Err(Error::request("prompt: missing").into()),
            Some(Value::String(text)) if text.is_empty() => {
                return Err(Error::request("prompt: empty").into());
            }
            Some(Value::String(text)) => vec![Prompt::Text(text)],
            Some(Value::Array(items)) if items.is_empty() => {
                return Err(Error::request("prompt: empty").into());
            }
            Some(Value::Array(items)) if items[0].is_number() => {
                vec![Prompt::TokenIds(token_ids(&items, "prompt")?)]
            }
            Some(Value::Array(items)) => several(items)?,
            Some(_) => return Err(Error::request("prompt: neither a string nor an array").into()),
        };
        Ok(Self { prompts, add_special_tokens })
    }
}

fn several(items: Vec<Value>) -> Result<Vec<Prompt>, Error> {
    let texts = items[0].is_string();
    let one = |(at, item): (usize, Value)| match item {
        Value::String(text) if texts => Ok(Prompt::Text(text)),
        Value::Array(ids) if !texts => token_ids(&ids, &format!("prompt[{at}]")).map(Prompt::TokenIds),
        _ => Err(Error::request(format!("prompt[{at}]: neither all strings nor all arrays of token ids"))),
    };
    items.into_iter().enumerate().map(one).collect()
}

fn token_ids(items: &[Value], place: &str) -> Result<Vec<u32>, Error> {
    if items.is_empty() {
        return Err(Error::request(format!("{place}: empty")));
    }
    let id = |(at, item): (usize, &Value)| {
        let id = item.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| Error::request(format!("{place}[{at}]: not a token id")))
    };
    items.iter().enumerate().map(id).collect()
}
