//! What a request asks for, as far as routing needs to know: read once, from its body and headers.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::COOKIE;
use kvroute_core::{KnownPrefix, Session};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::SessionConfig;
use crate::error::ApiError;

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/responses`.
    Responses,
    /// All else that pods answer: it goes where there is room.
    Other,
}

impl Endpoint {
    /// The endpoint of a path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            "/v1/completions" => Self::Completions,
            "/v1/chat/completions" => Self::Chat,
            "/v1/responses" => Self::Responses,
            _ => Self::Other,
        }
    }

    /// Name in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Other => "other",
        }
    }

    /// Whether an engine answers it by generating from a prompt.
    #[must_use]
    pub fn generates(self) -> bool {
        self != Self::Other
    }
}

/// A prompt, as the router takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PromptForm {
    /// There is none, or none that could be compared: it goes where there is room.
    #[default]
    None,
    /// Its token ids; `[n]`.
    TokenIds(Vec<u32>),
    /// Its text, where nobody tokenized it; `[n]` bytes.
    Text(Vec<u8>),
}

impl PromptForm {
    /// Name in logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TokenIds(_) => "token-ids",
            Self::Text(_) => "text",
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::TokenIds(token_ids) => token_ids.len(),
            Self::Text(text) => text.len(),
        }
    }
}

/// What a request asks for.
#[derive(Debug)]
pub struct Asked {
    /// Of this path.
    pub endpoint: Endpoint,
    /// The served model, or adapter, it names.
    pub model: Option<String>,
    /// Its cache salt.
    pub cache_salt: Option<String>,
    /// What it is routed by. Of a list of prompts the longest: what all begin with is in it as well, and it is most of the
    /// work.
    pub prompt: PromptForm,
    /// Whether the count of cached tokens in the engine's answer is that of this prompt. It is not for a list, for
    /// several samples (the second finds what the first stored) and where prompts' log probabilities are asked for (vLLM
    /// then computes all of it, 0.32).
    pub is_countable: bool,
    /// Why the prompt is known as text, where a tokenizer was asked.
    pub untokenized: Option<&'static str>,
    /// What others say that pods hold of the prompt.
    pub known: Vec<KnownPrefix>,
}

/// The fields that matter. Those whose types only the engine judges are kept as they are.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    model: Option<String>,
    cache_salt: Option<String>,
    prompt: Option<Prompts>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    n: Option<&'a RawValue>,
    #[serde(borrow)]
    best_of: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    echo: Option<&'a RawValue>,
}

impl Asked {
    /// Reads a request's body.
    ///
    /// # Errors
    ///
    /// 400 if it is no JSON object, or a field that is read has another type.
    pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, ApiError> {
        if !endpoint.generates() {
            return Ok(Self::without_prompt(body));
        }
        // Of a list Serde would take the fields in their order.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::bad_request("The request's body is no JSON object", None));
        }
        let mut body: Body<'_> = serde_json::from_slice(body).map_err(|error| {
            ApiError::bad_request(format!("The request's body cannot be read: {error}"), None)
        })?;
        let prompts = body.prompt.as_ref().map_or(1, |prompts| prompts.count);
        let is_countable = prompts == 1
            && is_absent_or(body.n, "1")
            && is_absent_or(body.best_of, "1")
            && is_absent_or(body.prompt_logprobs, "null")
            && is_absent_or(body.echo, "false");
        let prompt = match endpoint {
            Endpoint::Chat => growing_text(&[body.tools, body.messages]),
            Endpoint::Responses => growing_text(&[body.tools, body.instructions, body.input]),
            _ => body.prompt.take().map_or(PromptForm::None, |prompts| prompts.longest),
        };
        let Body { model, cache_salt, .. } = body;
        Ok(Self { endpoint, model, cache_salt, prompt, is_countable, untokenized: None, known: Vec::new() })
    }

    /// Of a request that is none of the gateway's to judge: it may name a model.
    fn without_prompt(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Named {
            model: Option<String>,
        }
        let named: Option<Named> = serde_json::from_slice(body).ok();
        Self {
            endpoint: Endpoint::Other,
            model: named.and_then(|named| named.model),
            cache_salt: None,
            prompt: PromptForm::None,
            is_countable: false,
            untokenized: None,
            known: Vec::new(),
        }
    }
}

fn is_absent_or(field: Option<&RawValue>, usual: &str) -> bool {
    field.is_none_or(|value| value.get() == usual)
}

/// Parts of a request as one text that grows with its conversation: their JSON without what closes the last of them,
/// so that the next turn's text begins with this one's.
fn growing_text(parts: &[Option<&RawValue>]) -> PromptForm {
    let mut text = Vec::new();
    for part in parts.iter().flatten() {
        text.extend_from_slice(part.get().as_bytes());
    }
    text.truncate(text.trim_ascii_end().len());
    if matches!(text.last(), Some(b']' | b'"')) {
        text.pop();
    }
    if text.is_empty() { PromptForm::None } else { PromptForm::Text(text) }
}

/// `prompt` of a completion: a text, token ids, or a list of either. Only the longest is kept, so that a list of
/// nothings costs no memory.
struct Prompts {
    count: usize,
    longest: PromptForm,
}

impl Prompts {
    fn one(prompt: PromptForm) -> Self {
        Self { count: 1, longest: prompt }
    }

    fn add(&mut self, prompt: PromptForm) {
        self.count += 1;
        if prompt.len() >= self.longest.len() {
            self.longest = prompt;
        }
    }
}

/// An item of a list: a token id, or a prompt.
enum Item {
    TokenId(u32),
    Prompt(PromptForm),
}

const EXPECTED: &str = "a text, a list of token ids (0 to 4294967295), or a list of either";

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Prompts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`prompt` as {EXPECTED}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prompts, E> {
                Ok(Prompts::one(PromptForm::Text(text.as_bytes().to_vec())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Prompts, A::Error> {
                let mut prompts = Prompts { count: 0, longest: PromptForm::None };
                match items.next_element()? {
                    None => return Ok(prompts),
                    Some(Item::TokenId(first)) => {
                        return Ok(Prompts::one(PromptForm::TokenIds(token_ids(Some(first), items)?)));
                    }
                    Some(Item::Prompt(first)) => prompts.add(first),
                }
                while let Some(item) = items.next_element()? {
                    let Item::Prompt(prompt) = item else {
                        let at = prompts.count;
                        return Err(de::Error::custom(format!("prompt[{at}] is a token id among prompts")));
                    };
                    prompts.add(prompt);
                }
                Ok(prompts)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an item of `prompt`, which is {EXPECTED}")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Item, E> {
                let token_id = u32::try_from(number);
                token_id
                    .map(Item::TokenId)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Prompt(PromptForm::Text(text.as_bytes().to_vec())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Item, A::Error> {
                token_ids(None, items).map(|token_ids| Item::Prompt(PromptForm::TokenIds(token_ids)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

fn token_ids<'de, A: SeqAccess<'de>>(first: Option<u32>, mut items: A) -> Result<Vec<u32>, A::Error> {
    let mut token_ids: Vec<u32> = first.into_iter().collect();
    while let Some(token_id) = items.next_element()? {
        token_ids.push(token_id);
    }
    Ok(token_ids)
}

/// How a request says which conversation it belongs to.
#[must_use]
pub fn session<'a>(headers: &'a HeaderMap, config: &SessionConfig) -> Option<Session<'a>> {
    let header = config.header.as_ref().and_then(|name| headers.get(name.as_str()));
    let id = header.and_then(|value| value.to_str().ok()).filter(|id| !id.is_empty());
    let id = id.or_else(|| cookie(headers, config.cookie.as_deref()?));
    id.map(Session::Id).or_else(|| cookie(headers, config.token_cookie.as_deref()?).map(Session::Token))
}

/// The value of a cookie (RFC 6265, section 4.2.1), if it has one.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, value)| *found == name && !value.is_empty()).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(prompt: &str) -> Result<Asked, ApiError> {
        let body = format!(r#"{{"model":"m","prompt":{prompt},"max_tokens":5,"unheard_of":[{{}}]}}"#);
        Asked::read(Endpoint::Completions, body.as_bytes())
    }

    fn text(text: &str) -> PromptForm {
        PromptForm::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn prompts_are_texts_token_ids_or_lists_of_either() {
        for (prompt, read, is_countable) in [
            (r#""a\nb""#, text("a\nb"), true),
            ("[1, 2, 4294967295]", PromptForm::TokenIds(vec![1, 2, u32::MAX]), true),
            (r#"["short", "the longest", "long"]"#, text("the longest"), false),
            ("[[1], [2, 3], []]", PromptForm::TokenIds(vec![2, 3]), false),
            (r#"["alone"]"#, text("alone"), true),
            ("[]", PromptForm::None, false),
            ("null", PromptForm::None, true),
        ] {
            let asked = completion(prompt).expect(prompt);
            assert_eq!((asked.prompt, asked.is_countable), (read, is_countable), "{prompt}");
            assert_eq!(asked.model.as_deref(), Some("m"));
        }
    }

    #[test]
    fn prompts_of_other_types_are_refused_and_say_what_was_expected() {
        for prompt in
            ["{}", "7", "[1, -1]", "[4294967296]", "[1, \"a\"]", "[\"a\", 1]", "[[1], 2]", "[1.5]", "[[[1]]]"]
        {
            let error = completion(prompt).map(|asked| asked.prompt).expect_err(prompt);
            assert_eq!(error.status(), 400, "{prompt}");
            assert!(error.to_string().contains("column"), "{error}");
        }
        for body in ["", "{", "[]", "\"a\"", "{\"model\":1}", "{\"prompt\":\"a\",\"prompt\":\"b\"}", "\u{0}"]
        {
            let error = Asked::read(Endpoint::Completions, body.as_bytes()).map(|asked| asked.prompt);
            assert_eq!(error.expect_err(body).status(), 400, "{body}");
        }
    }

    #[test]
    fn a_chats_text_begins_with_that_of_the_turn_before() {
        let read = |messages: &str| {
            let body = format!(r#"{{"messages":{messages},"tools":[{{"name":"t"}}],"stream":true}}"#);
            match Asked::read(Endpoint::Chat, body.as_bytes()).expect("it is well formed").prompt {
                PromptForm::Text(text) => text,
                other => panic!("{other:?}"),
            }
        };
        let first = read(r#"[{"role":"user","content":"a"}]"#);
        let second = read(r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"} ]"#);
        assert!(second.starts_with(&first) && second.len() > first.len());
        let other = Asked::read(Endpoint::Responses, br#"{"instructions":"be","input":"hello"}"#).unwrap();
        assert_eq!(other.prompt, text(r#""be""hello"#));
    }

    #[test]
    fn several_samples_and_log_probabilities_are_not_countable() {
        for (field, is_countable) in [
            (r#""n":1"#, true),
            (r#""n":2"#, false),
            (r#""best_of":3"#, false),
            (r#""prompt_logprobs":0"#, false),
            (r#""prompt_logprobs":null"#, true),
            (r#""echo":true"#, false),
            (r#""n":null"#, true),
        ] {
            let body = format!(r#"{{"prompt":[1,2],{field}}}"#);
            let asked = Asked::read(Endpoint::Completions, body.as_bytes()).expect(field);
            assert_eq!(asked.is_countable, is_countable, "{field}");
        }
    }

    #[test]
    fn other_endpoints_may_say_anything_and_name_a_model() {
        assert_eq!(Asked::read(Endpoint::Other, b"\xff{").unwrap().model, None);
        let embed = Asked::read(Endpoint::Other, br#"{"model":"e","prompt":{"any":1}}"#).unwrap();
        assert_eq!((embed.model.as_deref(), embed.prompt), (Some("e"), PromptForm::None));
    }

    #[test]
    fn sessions_come_from_the_header_then_the_cookie_then_the_token() {
        let config = SessionConfig {
            cookie: Some("sid".to_owned()),
            token_cookie: Some("kv".to_owned()),
            ..SessionConfig::default()
        };
        let mut headers = HeaderMap::new();
        assert_eq!(session(&headers, &config), None);
        headers.insert(COOKIE, "a=b; kv=sealed=; sid=".parse().unwrap());
        assert_eq!(session(&headers, &config), Some(Session::Token("sealed=")));
        headers.append(COOKIE, "sid=7".parse().unwrap());
        assert_eq!(session(&headers, &config), Some(Session::Id("7")));
        headers.insert("X-Session-Id", "42".parse().unwrap());
        assert_eq!(session(&headers, &config), Some(Session::Id("42")));
        let none = SessionConfig { header: None, ..SessionConfig::default() };
        assert_eq!(session(&headers, &none), None);
    }
}
