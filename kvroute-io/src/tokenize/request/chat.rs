//! `/v1/chat/completions`.

use serde_json::{Map, Value, json};

use super::{Body, Error, Failure, array, exact, messages, object, required_text, text, tools};
use crate::tokenize::chat::{ChatTemplate, Conversation};
use crate::tokenize::{TokenizerOptions, Untokenized};

/// Names that a template gets by other ways, or not at all.
const NOT_FOR_TEMPLATES: [&str; 9] = [
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "tokenizer_kwargs",
    "tools",
    "documents",
    "add_generation_prompt",
];

/// What a chat completion is asked for.
#[derive(Debug)]
pub(in super::super) struct Chat {
    body: Body,
    /// A template that the request brings.
    pub(in super::super) template: Option<String>,
    /// The tools, if there are any.
    tools: Option<Vec<Value>>,
    arguments: Map<String, Value>,
}

impl Chat {
    /// Reads what decides about the template.
    pub(in super::super) fn read(mut body: Body, options: &TokenizerOptions) -> Result<Self, Failure> {
        if body.has("truncate_prompt_tokens") {
            return Err(Untokenized::NotReproducible.into());
        }
        let template = body.text("chat_template")?;
        let arguments = body.object("chat_template_kwargs")?;
        if !options.trust_request_chat_template
            && (template.is_some()
                || arguments.get("chat_template").is_some_and(|template| !template.is_null()))
        {
            return Err(
                Error::request("chat_template: the engines do not take templates from requests").into()
            );
        }
        let tools = body.array("tools")?.map(tools::of_chat).transpose()?;
        let tools =
            with_choice(tools, body.take("tool_choice"), options.exclude_tools_when_tool_choice_none)?;
        Ok(Self { body, template, tools, arguments })
    }

    /// Whether there are tools, which may have a template of their own.
    pub(in super::super) fn has_tools(&self) -> bool {
        self.tools.is_some()
    }

    /// The conversation for a template, and whether special tokens go around the rendered text.
    pub(in super::super) fn conversation(
        self,
        template: &ChatTemplate,
        options: &TokenizerOptions,
        now: std::time::SystemTime,
    ) -> Result<(Conversation, bool), Failure> {
        let Self { mut body, tools, mut arguments, .. } = self;
        let given = body.array("messages")?.ok_or_else(|| Error::request("messages: missing"))?;
        let given =
            given.into_iter().enumerate().map(|(at, message)| validated(message, &format!("messages[{at}]")));
        let given = given.collect::<Result<Vec<Value>, Error>>()?;
        let messages = messages::conversation(
            given,
            template.content_format(),
            template.knows_developers(),
            "messages",
        )?;
        let continue_final_message = body.flag("continue_final_message", false)?;
        let add_generation_prompt = body.flag("add_generation_prompt", true)?;
        let documents = body.take("documents").or_else(|| arguments.remove("documents"));
        if let Some(documents) = &documents {
            exact(documents)?;
        }
        let effort = body.text("reasoning_effort")?;
        let add_special_tokens = body.flag("add_special_tokens", false)?;
        let conversation = Conversation {
            messages,
            // Arguments of the request go before the request's own tools.
            tools: match arguments.remove("tools").filter(|tools| !tools.is_null()) {
                Some(tools) => Some(array(tools, "chat_template_kwargs.tools")?),
                None => tools,
            },
            documents,
            add_generation_prompt,
            continue_final_message,
            arguments: template_arguments(arguments, effort, options)?,
            now,
        };
        Ok((conversation, add_special_tokens))
    }
}

/// The tools that the template sees under a choice.
fn with_choice(
    tools: Option<Vec<Value>>,
    choice: Option<Value>,
    exclude_when_none: bool,
) -> Result<Option<Vec<Value>>, Error> {
    match choice {
        Some(choice) if choice == "none" => Ok(tools.filter(|_| !exclude_when_none)),
        Some(_) if tools.is_none() => Err(Error::request("tool_choice: there are no tools")),
        _ => Ok(tools),
    }
}

/// The variables of a template beside messages and tools: the engines' defaults, the request's arguments, and how hard
/// it is to think (vLLM 0.32, `build_chat_params` and `merge_kwargs`).
pub(super) fn template_arguments(
    mut given: Map<String, Value>,
    effort: Option<String>,
    options: &TokenizerOptions,
) -> Result<Map<String, Value>, Failure> {
    for name in ["messages", "conversation", "tokenize"] {
        if given.contains_key(name) {
            return Err(Error::request(format!(
                "chat_template_kwargs.{name}: not an argument of a template"
            ))
            .into());
        }
    }
    if ["sanitize_control_tokens", "return_assistant_tokens_mask", "chat_template"]
        .iter()
        .any(|n| given.contains_key(*n))
    {
        return Err(Untokenized::NotReproducible.into());
    }
    if let Some(effort) = effort {
        given.entry("enable_thinking").or_insert((effort != "none").into());
        given.insert("reasoning_effort".to_owned(), effort.into());
    }
    let mut arguments = options.chat_template_kwargs.clone();
    arguments.extend(given.into_iter().filter(|(_, value)| !(value.is_null() || value == "auto")));
    arguments
        .retain(|name, _| !NOT_FOR_TEMPLATES.contains(&name.as_str()) && name != "continue_final_message");
    arguments.values().try_for_each(exact)?;
    Ok(arguments)
}

/// A message with the fields that the engine's validation leaves, in its order: the types of OpenAI's client library
/// drop what they do not know.
fn validated(message: Value, place: &str) -> Result<Value, Error> {
    let mut message = object(message, place)?;
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    if role != "assistant" && message.get("content").is_some_and(Value::is_null) {
        return Err(Error::request(format!("{place}.content: null")));
    }
    if let Some(Value::Array(parts)) = message.get("content") {
        // Those of the responses API.
        let foreign =
            |part: &Value| part.get("type").is_some_and(|kind| kind == "input_text" || kind == "output_text");
        if let Some(at) = parts.iter().position(foreign) {
            return Err(Error::request(format!("{place}.content[{at}].type: not one of a chat completion")));
        }
    }
    if let Some(reasoning) = message.remove("reasoning_content").filter(|reasoning| !reasoning.is_null())
        && message.get("reasoning").is_none_or(Value::is_null)
    {
        message.insert("reasoning".to_owned(), reasoning);
    }
    if let Some(calls) = message.remove("tool_calls").filter(|calls| !calls.is_null()) {
        let place = format!("{place}.tool_calls");
        let calls = array(calls, &place)?.into_iter().enumerate();
        let calls = calls.map(|(at, call)| validated_call(call, &format!("{place}[{at}]")));
        message.insert("tool_calls".to_owned(), Value::Array(calls.collect::<Result<_, _>>()?));
    }
    Ok(Value::Object(message))
}

fn validated_call(call: Value, place: &str) -> Result<Value, Error> {
    let mut call = object(call, place)?;
    let id = required_text(&mut call, "id", place)?;
    let kind = required_text(&mut call, "type", place)?;
    let function =
        call.remove("function").ok_or_else(|| Error::request(format!("{place}.function: missing")))?;
    let place = format!("{place}.function");
    let mut function = object(function, &place)?;
    let name = required_text(&mut function, "name", &place)?;
    let arguments =
        function.remove("arguments").ok_or_else(|| Error::request(format!("{place}.arguments: missing")))?;
    let arguments = text(arguments, &format!("{place}.arguments"))?;
    Ok(json!({ "id": id, "function": { "arguments": arguments, "name": name }, "type": kind }))
}
