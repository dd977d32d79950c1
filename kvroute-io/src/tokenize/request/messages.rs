//! Messages of a request to messages of a template (vLLM 0.32, `renderers/chat_utils.py`).

use serde_json::{Map, Value, json};

use super::{Error, Failure, array, exact, object, required_text, text};
use crate::tokenize::Untokenized;
use crate::tokenize::chat::{ContentFormat, Message};

/// Content parts whose tokens are the business of the engine's processor.
const MEDIA: [&str; 12] = [
    "image_url",
    "input_image",
    "image_embeds",
    "image_pil",
    "audio_url",
    "input_audio",
    "audio_embeds",
    "video_url",
    "video_embeds",
    "prompt_embeds",
    "file",
    "input_file",
];

/// A line that one client puts first into system messages and that changes with every request; the engine drops it.
const BILLING_HEADER: &str = "x-anthropic-billing-header";

/// The messages as a template gets them; `field` is where they came from.
pub(super) fn conversation(
    messages: Vec<Value>,
    format: ContentFormat,
    knows_developers: bool,
    field: &str,
) -> Result<Vec<Message>, Failure> {
    if messages.is_empty() {
        return Err(Error::request(format!("{field}: empty")).into());
    }
    let one = |(at, message)| {
        let place = format!("{field}[{at}]");
        self::message(object(message, &place)?, format, &place)
    };
    let mut messages =
        messages.into_iter().enumerate().map(one).collect::<Result<Vec<Message>, Failure>>()?;
    if !knows_developers && messages.iter().any(|message| is(message, "developer")) {
        for message in messages.iter_mut().filter(|message| is(message, "developer")) {
            message.insert("role".to_owned(), "system".into());
            message.shift_remove("tools");
        }
        messages = one_system_message(messages);
    }
    Ok(messages)
}

fn is(message: &Message, role: &str) -> bool {
    message.get("role").is_some_and(|is| is == role)
}

fn message(mut given: Map<String, Value>, format: ContentFormat, place: &str) -> Result<Message, Failure> {
    let role = required_text(&mut given, "role", place)?;
    let mut parts = match given.remove("content") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => vec![Part::Text(text)],
        Some(content) => parts(content, &format!("{place}.content"))?,
    };
    if role == "system" {
        parts.retain_mut(strip_billing_header);
    }
    let only_text = parts.iter().all(|part| matches!(part, Part::Text(_)));
    let as_parts = format == ContentFormat::Parts && !(role == "tool" && only_text);
    let content = if as_parts { parts.into_iter().map(Part::into_value).collect() } else { joined(parts) };

    let mut message = Message::new();
    message.insert("content".to_owned(), content);
    match role.as_str() {
        "assistant" => {
            if let Some(calls) = given.remove("tool_calls").filter(|calls| !calls.is_null()) {
                let calls = tool_calls(calls, &format!("{place}.tool_calls"))?;
                if !calls.is_empty() {
                    message.insert("tool_calls".to_owned(), Value::Array(calls));
                }
            }
            if let Some(reasoning) = given.remove("reasoning").filter(|reasoning| !reasoning.is_null()) {
                let reasoning = text(reasoning, &format!("{place}.reasoning"))?;
                message.insert("reasoning".to_owned(), reasoning.clone().into());
                message.insert("reasoning_content".to_owned(), reasoning.into());
            }
        }
        "tool" => drop(given.remove("tool_call_id").map(|id| message.insert("tool_call_id".to_owned(), id))),
        _ => {}
    }
    for name in ["name", "task"] {
        if let Some(value @ Value::String(_)) = given.remove(name) {
            message.insert(name.to_owned(), value);
        }
    }
    if let ("developer", Some(tools)) = (role.as_str(), given.remove("tools")) {
        exact(&tools)?;
        message.insert("tools".to_owned(), tools);
    }
    message.shift_insert(0, "role".to_owned(), role.into());
    Ok(message)
}

enum Part {
    Text(String),
    /// A tool that the template is to show in full; its name.
    ToolReference(String),
}

impl Part {
    fn into_value(self) -> Value {
        match self {
            Self::Text(text) => json!({ "type": "text", "text": text }),
            Self::ToolReference(name) => json!({ "type": "tool_reference", "name": name }),
        }
    }
}

fn parts(content: Value, place: &str) -> Result<Vec<Part>, Failure> {
    let one = |(at, part)| part_of(part, &format!("{place}[{at}]"));
    array(content, place)?.into_iter().enumerate().map(one).collect()
}

fn part_of(part: Value, place: &str) -> Result<Part, Failure> {
    if let Value::String(text) = part {
        return Ok(Part::Text(text));
    }
    let mut part = object(part, place)?;
    let kind = match part.remove("type") {
        None if MEDIA.iter().any(|name| part.contains_key(*name)) => return Err(Untokenized::Media.into()),
        None => return Err(Error::request(format!("{place}.type: missing")).into()),
        Some(kind) => text(kind, &format!("{place}.type"))?,
    };
    Ok(match kind.as_str() {
        "text" | "input_text" | "output_text" => Part::Text(required_text(&mut part, "text", place)?),
        "refusal" | "thinking" => Part::Text(required_text(&mut part, &kind, place)?),
        "tool_reference" => Part::ToolReference(required_text(&mut part, "name", place)?),
        kind if MEDIA.contains(&kind) => return Err(Untokenized::Media.into()),
        _ => return Err(Error::request(format!("{place}.type: {kind:?} is not known")).into()),
    })
}

fn joined(parts: Vec<Part>) -> Value {
    let mut texts = parts.into_iter().map(|part| match part {
        Part::Text(text) | Part::ToolReference(text) => text,
    });
    let mut joined = texts.next().unwrap_or_default();
    for text in texts {
        joined.push('\n');
        joined.push_str(&text);
    }
    joined.into()
}

/// Drops the header's line; `false` if nothing is left.
fn strip_billing_header(part: &mut Part) -> bool {
    let Part::Text(text) = part else { return true };
    if !text.starts_with(BILLING_HEADER) {
        return true;
    }
    *text = text.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned());
    !text.is_empty()
}

/// Tool calls with their arguments as objects. What is no object becomes an empty one, as in the engine.
fn tool_calls(calls: Value, place: &str) -> Result<Vec<Value>, Failure> {
    let one = |(at, call)| {
        let place = format!("{place}[{at}]");
        let mut call = object(call, &place)?;
        let is_call = call.get("type").is_none_or(|kind| kind == "function");
        let Some(Value::Object(function)) = call.get_mut("function").filter(|_| is_call) else {
            return Err(Error::request(format!("{place}: not a call of a function")).into());
        };
        let arguments = function.get_mut("arguments").map(Value::take).unwrap_or_default();
        let arguments = match arguments {
            Value::String(text) => parsed(&text)?,
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let arguments = Value::Object(arguments);
        exact(&arguments)?;
        function.insert("arguments".to_owned(), arguments);
        Ok(Value::Object(call))
    };
    array(calls, place)?.into_iter().enumerate().map(one).collect()
}

fn parsed(arguments: &str) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_str(arguments) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Ok(Map::new()),
        // Python's parser takes some texts that the one here does not: these names, halves of surrogate pairs, and
        // deeper nesting.
        Err(error) => {
            let lenient = ["NaN", "Infinity", "\\u"].iter().any(|name| arguments.contains(name));
            if lenient || error.to_string().contains("recursion limit") {
                Err(Untokenized::NotReproducible.into())
            } else {
                Ok(Map::new())
            }
        }
    }
}

/// All system messages as one at the beginning, if there is one elsewhere (`_consolidate_system_messages`).
fn one_system_message(messages: Vec<Message>) -> Vec<Message> {
    if !messages.iter().skip(1).any(|message| is(message, "system")) {
        return messages;
    }
    let (system, others): (Vec<Message>, Vec<Message>) =
        messages.into_iter().partition(|message| is(message, "system"));
    let contents: Vec<String> = system.iter().filter_map(|message| plain(message.get("content"))).collect();
    let mut merged = Message::new();
    merged.insert("role".to_owned(), "system".into());
    merged.insert("content".to_owned(), contents.join("\n\n").into());
    std::iter::once(merged).chain(others).collect()
}

/// A content as one text, if there is any.
fn plain(content: Option<&Value>) -> Option<String> {
    let text = match content? {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join("\n")
        }
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}
