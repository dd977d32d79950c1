//! Tools as the engine lists them to the template: fields in its order, with those that are missing as null
//! (vLLM 0.32, `ChatCompletionToolsParam` and `FunctionDefinition`).

use serde_json::{Map, Value, json};

use super::{Error, Failure, exact, object, required_text};
use crate::tokenize::Untokenized;

/// The tools of a chat completion.
pub(super) fn of_chat(tools: Vec<Value>) -> Result<Vec<Value>, Failure> {
    if tools.is_empty() {
        return Err(Error::request("tools: empty").into());
    }
    let one = |(at, tool): (usize, Value)| {
        let place = format!("tools[{at}]");
        let mut tool = object(tool, &place)?;
        if tool.get("type").is_some_and(|kind| kind != "function") {
            return Err(Error::request(format!("{place}.type: not \"function\"")).into());
        }
        let place = format!("{place}.function");
        let given = tool.remove("function").ok_or_else(|| Error::request(format!("{place}: missing")))?;
        let mut given = object(given, &place)?;
        let defer_loading = tool.remove("defer_loading").filter(|value| !value.is_null());
        if let (Some(defer), true) = (&defer_loading, given.get("defer_loading").is_none_or(Value::is_null)) {
            given.insert("defer_loading".to_owned(), defer.clone());
        }
        let mut listed = Map::new();
        listed.insert("type".to_owned(), "function".into());
        listed.insert("function".to_owned(), function(given, &place)?);
        if let Some(defer) = defer_loading {
            listed.insert("defer_loading".to_owned(), defer);
        }
        Ok(Value::Object(listed))
    };
    tools.into_iter().enumerate().map(one).collect()
}

/// The tools of a response: functions are flat there, those of a namespace get its name in front, and those that the
/// engine runs itself are not listed.
pub(super) fn of_responses(tools: Vec<Value>) -> Result<Vec<Value>, Failure> {
    let mut listed = Vec::with_capacity(tools.len());
    for (at, tool) in tools.into_iter().enumerate() {
        let place = format!("tools[{at}]");
        let mut tool = object(tool, &place)?;
        let kind = required_text(&mut tool, "type", &place)?;
        match kind.as_str() {
            "function" => listed.push(json!({ "type": "function", "function": function(tool, &place)? })),
            // Their shape as a function is the engine's own text.
            "namespace" | "custom" => return Err(Untokenized::NotReproducible.into()),
            _ => {}
        }
    }
    Ok(listed)
}

fn function(mut given: Map<String, Value>, place: &str) -> Result<Value, Failure> {
    let mut listed = Map::new();
    listed.insert("name".to_owned(), required_text(&mut given, "name", place)?.into());
    let description = given.remove("description").unwrap_or_default();
    if !(description.is_null() || description.is_string()) {
        return Err(Error::request(format!("{place}.description: not a string")).into());
    }
    listed.insert("description".to_owned(), description);
    let parameters = given.remove("parameters").unwrap_or_default();
    if !(parameters.is_null() || parameters.is_object()) {
        return Err(Error::request(format!("{place}.parameters: not an object")).into());
    }
    exact(&parameters)?;
    listed.insert("parameters".to_owned(), parameters);
    for name in ["strict", "defer_loading"] {
        match given.remove(name) {
            None | Some(Value::Null) => {}
            Some(value @ Value::Bool(_)) => drop(listed.insert(name.to_owned(), value)),
            Some(_) => return Err(Error::request(format!("{place}.{name}: not true or false")).into()),
        }
    }
    Ok(Value::Object(listed))
}
