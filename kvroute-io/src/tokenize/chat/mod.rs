//! Chat templates, rendered as transformers 5.23 renders them (`apply_chat_template`), with minijinja.
//!
//! minijinja follows Python's semantics closely; what is left is done here: transformers' own filters and functions
//! ([`environment`], [`python`], [`json`], [`date`]), its `generation` tag ([`source`]), and what it does to the messages
//! before and after ([`final_message`]). [`inspection`] is vLLM's look into a template: whether it wants contents as lists.
//!
//! Known differences, none of which was seen in seventy templates of published models: a mapping's method that is not
//! called (`x.items` for `x["items"]`) is an item here and a method in Python; a float beyond 1e16 or below 1e-4 cannot
//! be calculated with; a generator can be gone through twice; text that was marked as safe, given a name, and then added
//! to text with `&<>'"` is escaped by Python. Where it is added at once, the template is not rendered
//! ([`ChatTemplate::is_reproducible`]).

mod date;
mod environment;
mod final_message;
mod inspection;
mod json;
mod python;
#[cfg(test)]
mod reference;
mod source;

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use minijinja::Environment;
use minijinja::value::Value;
use serde_json::{Map, Value as Json};

use super::error::Failure;
use super::{Error, ErrorKind, Untokenized};
use final_message::FinalMessage;
pub(super) use inspection::ContentFormat;
use inspection::Inspection;

/// A message as the template sees it.
pub(super) type Message = Map<String, Json>;

/// What a template is given.
#[derive(Debug)]
pub(super) struct Conversation {
    /// The messages; `[n]`, at least one.
    pub(super) messages: Vec<Message>,
    /// The tools, as the engine lists them.
    pub(super) tools: Option<Vec<Json>>,
    /// Documents for retrieval.
    pub(super) documents: Option<Json>,
    /// Whether the header of the next message is wanted.
    pub(super) add_generation_prompt: bool,
    /// Whether the last message is left open.
    pub(super) continue_final_message: bool,
    /// Further variables.
    pub(super) arguments: Map<String, Json>,
    /// The time that `strftime_now` tells.
    pub(super) now: SystemTime,
}

/// A chat template, compiled.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    inspection: Inspection,
    special_tokens: Map<String, Json>,
    max_bytes: usize,
}

const NAME: &str = "chat_template";
/// Where the time of this rendering is found; no template can name it.
const NOW: &str = "now for strftime_now";

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables for all its renderings (`bos_token`...), `max_steps` and
    /// `max_bytes` bound one.
    pub(super) fn new(
        source: &str,
        special_tokens: Map<String, Json>,
        max_steps: u64,
        max_bytes: usize,
    ) -> Result<Self, Error> {
        let compiled = source::prepared(source).map_err(|error| template_error(&error))?;
        let mut environment = environment::new().map_err(|error| template_error(&error))?;
        environment.set_fuel(Some(max_steps));
        let inspection = inspection::inspect(&compiled);
        environment
            .add_template_owned(NAME, compiled.into_owned())
            .map_err(|error| template_error(&error))?;
        Ok(Self { environment, source: source.to_owned(), inspection, special_tokens, max_bytes })
    }

    /// Whether the engine gives this template contents as lists of parts or as strings.
    pub(super) fn content_format(&self) -> ContentFormat {
        self.inspection.content_format
    }

    /// Whether what it renders can be known here.
    pub(super) fn is_reproducible(&self) -> bool {
        !self.inspection.adds_to_safe
    }

    /// Whether it knows the role `developer` (vLLM 0.32, `renderers/hf.py`: the name stands in its source).
    pub(super) fn knows_developers(&self) -> bool {
        self.source.contains("\"developer\"") || self.source.contains("'developer'")
    }

    /// The text of a conversation.
    pub(super) fn render(&self, conversation: Conversation) -> Result<String, Failure> {
        let Conversation {
            mut messages,
            tools,
            documents,
            add_generation_prompt,
            continue_final_message,
            ..
        } = conversation;
        let mut final_message = None;
        prepare(&mut messages);
        if continue_final_message {
            if add_generation_prompt {
                return Err(
                    refused("continue_final_message and add_generation_prompt exclude each other").into()
                );
            }
            let last = messages.last_mut().ok_or_else(|| refused("messages: empty"))?;
            final_message = Some(FinalMessage::mark(last, &self.source)?);
        }
        let mut variables: Vec<(Cow<'_, str>, Value)> = Vec::with_capacity(8 + conversation.arguments.len());
        let own = self.special_tokens.iter().filter(|(name, _)| !conversation.arguments.contains_key(*name));
        variables.extend(own.map(|(name, value)| (name.as_str().into(), json::to_value(value.clone()))));
        variables.extend(
            conversation.arguments.into_iter().map(|(name, value)| (name.into(), json::to_value(value))),
        );
        variables.push((
            "messages".into(),
            messages.into_iter().map(|m| json::to_value(Json::Object(m))).collect(),
        ));
        variables.push(("tools".into(), json::to_value(tools.map_or(Json::Null, Json::Array))));
        variables.push(("documents".into(), json::to_value(documents.unwrap_or(Json::Null))));
        variables.push(("add_generation_prompt".into(), add_generation_prompt.into()));
        variables.push((NOW.into(), date::seconds(conversation.now).into()));
        let context = Value::from_pairs(variables.iter().map(|(name, value)| (name.as_ref(), value.clone())));

        let template = self.environment.get_template(NAME).map_err(|error| template_error(&error))?;
        let mut rendered = Bounded { text: Vec::new(), max_bytes: self.max_bytes };
        template.render_captured_to(context, &mut rendered).map_err(|error| failure(&error))?;
        let rendered = String::from_utf8(rendered.text).map_err(|_| refused("output that is not UTF-8"))?;
        match final_message {
            Some(final_message) => Ok(final_message.cut(rendered)?),
            None => Ok(rendered),
        }
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("bytes", &self.source.len())
            .field("inspection", &self.inspection)
            .finish_non_exhaustive()
    }
}

/// What `apply_chat_template` does to messages first: what is none is left out, and reasoning is there under all names
/// that templates use (transformers 5.23, `utils/chat_template_utils.py`).
fn prepare(messages: &mut [Message]) {
    const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
    for message in messages {
        message.retain(|_, value| !value.is_null());
        let Some(reasoning) = REASONING.iter().find_map(|name| message.get(*name)).cloned() else { continue };
        if !message.contains_key("thinking") {
            message.shift_insert(0, "thinking".to_owned(), reasoning.clone());
        }
        message.insert("reasoning_content".to_owned(), reasoning);
    }
}

fn refused(message: &str) -> Error {
    Error::new(ErrorKind::Template, format!("chat template: {message}"))
}

/// A name that is not known here may be known to Jinja2.
fn failure(error: &minijinja::Error) -> Failure {
    use minijinja::ErrorKind::{UnknownFilter, UnknownFunction, UnknownMethod, UnknownTest};
    match error.kind() {
        UnknownFilter | UnknownFunction | UnknownMethod | UnknownTest => Untokenized::NotReproducible.into(),
        _ => template_error(error).into(),
    }
}

fn template_error(error: &minijinja::Error) -> Error {
    let kind = match error.kind() {
        minijinja::ErrorKind::OutOfFuel | minijinja::ErrorKind::WriteFailure => ErrorKind::Limit,
        _ => ErrorKind::Template,
    };
    let place = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let detail = match error.kind() {
        minijinja::ErrorKind::OutOfFuel => "takes more steps than allowed".to_owned(),
        minijinja::ErrorKind::WriteFailure => "its output is longer than allowed".to_owned(),
        kind => error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
    };
    Error::new(kind, format!("chat template{place}: {detail}"))
}

/// Output that fails beyond a bound.
struct Bounded {
    text: Vec<u8>,
    max_bytes: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() > self.max_bytes - self.text.len() {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
