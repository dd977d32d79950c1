//! Every conversation of `tests/templates` with templates of published models, against what transformers made of them.
//! `cargo xtask test --only templates` gets the templates and renders them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{ChatTemplate, ContentFormat, Conversation, Message};

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    now: u64,
    special_tokens: Map<String, Json>,
    given: Given,
    rendered: Option<String>,
    refused: Option<String>,
}

#[derive(Deserialize)]
struct Given {
    messages: Vec<Message>,
    tools: Option<Vec<Json>>,
    documents: Option<Json>,
    add_generation_prompt: bool,
    #[serde(default)]
    continue_final_message: bool,
    #[serde(flatten)]
    arguments: Map<String, Json>,
}

#[test]
#[ignore = "needs templates of published models; cargo xtask test --only templates"]
fn templates_of_published_models_render_as_in_transformers() {
    let folder =
        PathBuf::from(std::env::var_os("KVROUTE_TEMPLATES").expect("KVROUTE_TEMPLATES names a folder"));
    let cases = std::fs::read_to_string(folder.join("rendered.jsonl")).unwrap();
    let mut templates: HashMap<String, Option<ChatTemplate>> = HashMap::new();
    let (mut equal, mut refused, mut not_rendered, mut different) = (0, 0, 0, Vec::new());
    for line in cases.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let template = templates.entry(case.template.clone()).or_insert_with(|| {
            let source = std::fs::read_to_string(folder.join("templates").join(&case.template)).unwrap();
            ChatTemplate::new(&source, case.special_tokens.clone(), 10_000_000, 1 << 20).ok()
        });
        if template.as_ref().is_some_and(|template| !template.is_reproducible()) {
            not_rendered += 1;
            continue;
        }
        let given = case.given;
        let conversation = Conversation {
            messages: given.messages,
            tools: given.tools,
            documents: given.documents,
            add_generation_prompt: given.add_generation_prompt,
            continue_final_message: given.continue_final_message,
            arguments: given.arguments,
            now: UNIX_EPOCH + Duration::from_secs(case.now),
        };
        let ours = template.as_ref().map(|template| template.render(conversation));
        let place = format!("{} / {}", case.template, case.conversation);
        match (ours, case.rendered) {
            (Some(Ok(ours)), Some(theirs)) if ours == theirs => equal += 1,
            (None | Some(Err(_)), None) => refused += 1,
            (Some(Ok(ours)), Some(theirs)) => {
                different.push(format!("{place}: {}", difference(&ours, &theirs)))
            }
            (None, Some(_)) => different.push(format!("{place}: does not compile here")),
            (Some(Err(error)), Some(_)) => different.push(format!("{place}: refused here: {error:?}")),
            (Some(Ok(_)), None) => {
                different.push(format!("{place}: refused there: {}", case.refused.unwrap_or_default()));
            }
        }
    }
    println!(
        "{} templates: {equal} conversations equal, {refused} refused by both, {not_rendered} not rendered here, {} different",
        templates.len(),
        different.len()
    );
    assert!(equal > 40 * templates.len() && not_rendered * 50 < equal);
    check_formats(&templates);
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// The formats that vLLM 0.32 detects for these templates.
fn check_formats(templates: &HashMap<String, Option<ChatTemplate>>) {
    let expected: HashMap<String, String> =
        serde_json::from_str(include_str!("../../../tests/templates/content_formats.json")).unwrap();
    for (name, template) in templates {
        let format = match template.as_ref().map(ChatTemplate::content_format) {
            Some(ContentFormat::Parts) => "parts",
            _ => "string",
        };
        assert_eq!(expected.get(name).map(String::as_str), Some(format), "{name}");
    }
}

/// Where two texts part.
fn difference(ours: &str, theirs: &str) -> String {
    let at = ours.chars().zip(theirs.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.chars().skip(at.saturating_sub(30)).take(80).collect::<String>();
    format!("character {at}: here {:?}, there {:?}", around(ours), around(theirs))
}
