//! Requests that a real vLLM 0.32 answered: the same token ids, and the same refusals.

use std::path::PathBuf;
use std::time::SystemTime;

use kvroute_io::tokenize::{
    Endpoint, ErrorKind, Segmentation, TokenizedPrompt, Tokenizer, TokenizerOptions, Untokenized,
};
use serde_json::Value;

fn testdata() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/tokenize")
}

fn tokenizer(template: &str) -> Tokenizer {
    let mut options = TokenizerOptions::default();
    options.chat_template = Some(std::fs::read_to_string(testdata().join(template)).unwrap());
    Tokenizer::from_dir(&testdata(), &options).unwrap()
}

fn token_ids(prompts: Vec<TokenizedPrompt>) -> Vec<Vec<u32>> {
    let ids = |prompt| match prompt {
        TokenizedPrompt::TokenIds(token_ids) => token_ids,
        TokenizedPrompt::Text { reason, .. } => panic!("no token ids: {reason:?}"),
    };
    prompts.into_iter().map(ids).collect()
}

#[test]
fn token_ids_are_those_of_the_engine() {
    let tokenizers = ["chat_template.jinja", "chat_template_parts.jinja"].map(|name| (name, tokenizer(name)));
    let lines = std::fs::read_to_string(testdata().join("requests.jsonl")).unwrap();
    let mut compared = 0;
    for (number, line) in lines.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let endpoint = match line["endpoint"].as_str().unwrap() {
            "completions" => Endpoint::Completions,
            "chat" => Endpoint::ChatCompletions,
            _ => Endpoint::Responses,
        };
        let name = line["template"].as_str().unwrap_or("chat_template.jinja");
        let tokenizer = &tokenizers.iter().find(|(template, _)| *template == name).unwrap().1;
        let body = serde_json::to_vec(&line["body"]).unwrap();
        let prompts = tokenizer.prompts(endpoint, &body, SystemTime::UNIX_EPOCH);
        if line["body"].get("truncate_prompt_tokens").is_some() {
            // What is kept depends on the model's length.
            let reason = Untokenized::NotReproducible;
            assert!(
                matches!(&prompts.unwrap()[..], [TokenizedPrompt::Text { reason: r, .. }] if *r == reason)
            );
        } else if line["status"] == 200 {
            let found = token_ids(prompts.unwrap_or_else(|error| panic!("line {}: {error}", number + 1)));
            match line["token_ids"].as_array() {
                Some(expected) => assert_eq!(
                    serde_json::json!(found),
                    Value::Array(expected.clone()),
                    "line {}",
                    number + 1
                ),
                None => {
                    assert_eq!(found[0].len() as u64, line["tokens"].as_u64().unwrap(), "line {}", number + 1)
                }
            }
            compared += 1;
        } else if line["error"].as_str().unwrap().contains("unknown role") {
            let error = prompts.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Template);
            assert!(error.to_string().contains("unknown role: alien"), "{error}");
            compared += 1;
        }
    }
    assert_eq!(compared, 123);
    // The same again, from the cache.
    for (_, tokenizer) in &tokenizers {
        assert_eq!(*tokenizer.segmentation(), Segmentation::Pieces);
        assert!(tokenizer.cache_counters().hit_bytes > 0);
    }
}

/// Shows all that a template is given.
const SHOWS_ALL: &str = "{{ messages | tojson }}\n{{ tools | tojson }}\n{{ add_generation_prompt }} {{ enable_thinking }} {{ reasoning_effort }} {{ documents | tojson }} {{ mood }}";
/// Makes the engine hand contents over as parts.
const LOOPS_OVER_PARTS: &str =
    "{% for message in messages %}{% for part in message.content %}{% endfor %}{% endfor %}";

#[test]
fn messages_and_tools_are_those_that_the_engine_gives_to_a_template() {
    let [strings, parts] = [SHOWS_ALL.to_owned(), format!("{SHOWS_ALL}{LOOPS_OVER_PARTS}")].map(|template| {
        let mut options = TokenizerOptions::default();
        options.chat_template = Some(template);
        Tokenizer::from_dir(&testdata(), &options).unwrap()
    });
    let lines = std::fs::read_to_string(testdata().join("conversations.jsonl")).unwrap();
    for (number, line) in lines.lines().enumerate() {
        let place = format!("line {}", number + 1);
        let line: Value = serde_json::from_str(line).unwrap();
        let tokenizer = if line["parts"] == true { &parts } else { &strings };
        let endpoint =
            if line["endpoint"] == "chat" { Endpoint::ChatCompletions } else { Endpoint::Responses };
        let body = serde_json::to_vec(&line["body"]).unwrap();
        let rendered = tokenizer.rendered(endpoint, &body, SystemTime::UNIX_EPOCH);
        match line["rendered"].as_str() {
            Some(expected) => assert_eq!(rendered.unwrap().as_deref(), Some(expected), "{place}"),
            None => assert!(rendered.is_err(), "{place}: {} there, here {rendered:?}", line["refused"]),
        }
    }
    assert_eq!(lines.lines().count(), 116);
}
