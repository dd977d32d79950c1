//! `/v1/responses`: items to messages (vLLM 0.32, `entrypoints/openai/responses/utils.py`).

use serde_json::{Map, Value, json};

use super::chat::template_arguments;
use super::{Body, Error, Failure, array, messages, object, required_text, text, tools};
use crate::tokenize::chat::{ChatTemplate, Conversation};
use crate::tokenize::{TokenizerOptions, Untokenized};

/// What a response is asked for.
#[derive(Debug)]
pub(in super::super) struct Responses {
    messages: Vec<Value>,
    continue_final_message: bool,
    tools: Option<Vec<Value>>,
    arguments: Map<String, Value>,
}

impl Responses {
    pub(in super::super) fn read(mut body: Body, options: &TokenizerOptions) -> Result<Self, Failure> {
        if body.has("previous_response_id") || body.has("previous_input_messages") {
            return Err(Untokenized::StoredConversation.into());
        }
        if body.text("truncation")?.is_some_and(|truncation| truncation != "disabled") {
            return Err(Untokenized::NotReproducible.into());
        }
        if body.has("prompt") {
            return Err(Error::request("prompt: prompts stored in the engine are not supported").into());
        }
        let mut messages = Vec::new();
        if let Some(instructions) = body.text("instructions")?.filter(|instructions| !instructions.is_empty())
        {
            messages.push(json!({ "role": "system", "content": instructions }));
        }
        let mut continue_final_message = false;
        match body.take("input") {
            None => return Err(Error::request("input: missing").into()),
            Some(Value::String(input)) => messages.push(json!({ "role": "user", "content": input })),
            Some(input) => {
                let items = array(input, "input")?;
                continue_final_message = items.last().is_some_and(is_open);
                let first = messages.len();
                for (at, item) in items.into_iter().enumerate() {
                    let place = format!("input[{at}]");
                    self::item(object(item, &place)?, &mut messages, first, &place)?;
                }
            }
        }
        let tools = body.array("tools")?.filter(|tools| !tools.is_empty());
        let hidden = options.exclude_tools_when_tool_choice_none
            && body.fields.get("tool_choice").is_some_and(|c| c == "none");
        let tools = tools.filter(|_| !hidden).map(tools::of_responses).transpose()?;
        let effort = body.object("reasoning")?.remove("effort").filter(|effort| !effort.is_null());
        let effort = effort.map(|effort| text(effort, "reasoning.effort")).transpose()?;
        let arguments = template_arguments(body.object("chat_template_kwargs")?, effort, options)?;
        Ok(Self { messages, continue_final_message, tools, arguments })
    }

    /// Whether there are tools, which may have a template of their own.
    pub(in super::super) fn has_tools(&self) -> bool {
        self.tools.is_some()
    }

    /// The conversation for a template. Special tokens go around the rendered text: unlike for chat completions, the
    /// engine leaves this at its default.
    pub(in super::super) fn conversation(
        self,
        template: &ChatTemplate,
        now: std::time::SystemTime,
    ) -> Result<Conversation, Failure> {
        let Self { messages, continue_final_message, tools, arguments } = self;
        let messages = messages::conversation(
            messages,
            template.content_format(),
            template.knows_developers(),
            "input",
        )?;
        Ok(Conversation {
            messages,
            tools,
            documents: None,
            add_generation_prompt: !continue_final_message,
            continue_final_message,
            arguments,
            now,
        })
    }
}

/// Whether the last item is a message that is to be continued.
fn is_open(item: &Value) -> bool {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message");
    let status = item.get("status").and_then(Value::as_str);
    matches!(kind, "message" | "reasoning") && matches!(status, Some("in_progress" | "incomplete"))
}

/// Adds an item to the messages; some belong to the assistant's message before them. Messages before `first` are not
/// touched.
fn item(
    mut item: Map<String, Value>,
    messages: &mut Vec<Value>,
    first: usize,
    place: &str,
) -> Result<(), Failure> {
    let kind = item.get("type").and_then(Value::as_str).map(str::to_owned);
    let assistant = item.get("role").is_some_and(|role| role == "assistant");
    match kind.as_deref() {
        Some("function_call") => {
            if item.get("namespace").is_some_and(|namespace| !namespace.is_null()) {
                return Err(Untokenized::NotReproducible.into());
            }
            let name = required_text(&mut item, "name", place)?;
            let arguments = required_text(&mut item, "arguments", place)?;
            let id = required_text(&mut item, "call_id", place)?;
            let call =
                json!({ "id": id, "function": { "name": name, "arguments": arguments }, "type": "function" });
            match open_assistant(messages, first) {
                Some(message) => {
                    match message.entry("tool_calls").or_insert_with(|| Value::Array(Vec::new())) {
                        Value::Array(calls) => calls.push(call),
                        other => *other = Value::Array(vec![call]),
                    }
                }
                None => messages.push(json!({ "role": "assistant", "tool_calls": [call] })),
            }
        }
        Some("function_call_output") => {
            let output = item.remove("output").unwrap_or_default();
            let id = item.remove("call_id").unwrap_or_default();
            messages.push(json!({ "role": "tool", "content": output, "tool_call_id": id }));
        }
        Some("reasoning") => {
            if item
                .get("encrypted_content")
                .and_then(Value::as_str)
                .is_some_and(|content| !content.is_empty())
            {
                return Err(Error::request(format!("{place}.encrypted_content: not supported")).into());
            }
            let reasoning = ["content", "summary"].iter().find_map(|name| first_text(item.get(*name)?));
            append(messages, first, "reasoning", reasoning.unwrap_or_default());
        }
        Some("custom_tool_call" | "custom_tool_call_output") => {
            return Err(Untokenized::NotReproducible.into());
        }
        None | Some("message") if assistant => {
            let content = item.get_mut("content").map(Value::take).unwrap_or_default();
            let content = match content {
                Value::String(text) => text,
                parts => match first_text(&parts) {
                    Some(text) => text,
                    None => return Err(Error::request(format!("{place}.content: no text")).into()),
                },
            };
            append(messages, first, "content", content);
        }
        None | Some("message") if item.contains_key("role") => messages.push(Value::Object(item)),
        other => {
            let kind = other.unwrap_or("none");
            return Err(Error::request(format!("{place}.type: {kind:?} is not supported as input")).into());
        }
    }
    Ok(())
}

/// Sets a field of the assistant's message before, or begins a new one if that has it already.
fn append(messages: &mut Vec<Value>, first: usize, field: &str, text: String) {
    match open_assistant(messages, first).filter(|message| message.get(field).is_none_or(Value::is_null)) {
        Some(message) => drop(message.insert(field.to_owned(), text.into())),
        None => messages.push(json!({ "role": "assistant", field: text })),
    }
}

/// The last message of the input, if it is the assistant's.
fn open_assistant(messages: &mut [Value], first: usize) -> Option<&mut Map<String, Value>> {
    let message = messages.get_mut(first..)?.last_mut()?.as_object_mut()?;
    message.get("role").is_some_and(|role| role == "assistant").then_some(message)
}

/// The text of the first part.
fn first_text(parts: &Value) -> Option<String> {
    Some(parts.get(0)?.get("text")?.as_str()?.to_owned())
}
