//! Files, templates and requests that are not what they should be: errors that say what and where, and bounds that hold.

use std::time::{Duration, Instant, SystemTime};

use kvroute_io::tokenize::{
    Endpoint, Error, ErrorKind, Parts, TokenizedPrompt, Tokenizer, TokenizerOptions, Untokenized,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/tokenize");

fn file() -> Vec<u8> {
    std::fs::read(format!("{FOLDER}/tokenizer.json")).unwrap()
}

fn load(tokenizer: &[u8], config: &[u8], template: &[u8]) -> Result<Tokenizer, Error> {
    let mut parts = Parts::default();
    (parts.tokenizer, parts.config, parts.chat_template) = (tokenizer, Some(config), Some(template));
    Tokenizer::from_parts(parts, &TokenizerOptions::default())
}

fn with_template(template: &str) -> Tokenizer {
    load(&file(), b"{}", template.as_bytes()).unwrap()
}

fn prompts(tokenizer: &Tokenizer, endpoint: Endpoint, body: &Value) -> Result<Vec<TokenizedPrompt>, Error> {
    tokenizer.prompts(endpoint, &serde_json::to_vec(body).unwrap(), SystemTime::UNIX_EPOCH)
}

fn chat(tokenizer: &Tokenizer, body: &Value) -> Result<Vec<TokenizedPrompt>, Error> {
    prompts(tokenizer, Endpoint::ChatCompletions, body)
}

const PLAIN: &str = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}";

#[test]
fn files_that_cannot_be_read_are_named() {
    let file = file();
    let half = &file[..file.len() / 2];
    for (tokenizer, config, template, expected) in [
        (&b""[..], &b"{}"[..], &b""[..], "tokenizer.json"),
        (b"not JSON", b"{}", b"", "tokenizer.json"),
        (half, b"{}", b"", "tokenizer.json"),
        (b"{}", b"{}", b"", "tokenizer.json"),
        (&file, b"[]", b"", "tokenizer_config.json: not a JSON object"),
        (&file, b"{", b"", "tokenizer_config.json"),
        (&file, br#"{"chat_template": 1}"#, b"", "chat_template"),
        (&file, br#"{"added_tokens_decoder": {"x": {}}}"#, b"", "added_tokens_decoder: \"x\""),
        (&file, br#"{"added_tokens_decoder": {"1": {}}}"#, b"", "added_tokens_decoder.1"),
        (&file, b"{}", b"\xff", "chat_template.jinja: not UTF-8"),
    ] {
        let error = load(tokenizer, config, template).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tokenizer, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let error = Tokenizer::from_dir("/nowhere".as_ref(), &TokenizerOptions::default()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/tokenizer.json"), "{error}");
}

#[test]
fn templates_that_do_not_compile_are_refused_with_their_line() {
    for template in ["{% for %}", "\n{{ x", "{% if a %}", "{{ a b }}", "{% unknown %}"] {
        let error = load(&file(), b"{}", template.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Template, "{template}: {error}");
        assert!(error.to_string().contains("line"), "{template}: {error}");
    }
}

#[test]
fn templates_that_would_not_end_do() {
    let body = json!({ "messages": [{ "role": "user", "content": "x" }] });
    let begun = Instant::now();
    for template in [
        "{% for i in range(1000000000) %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}a{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% set ns = namespace(x='a') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'a' * 1000000000 }}",
        "{{ '%1000000000s' | format('a') }}",
        "{% for i in range(90000) %}{{ 'aaaaaaaaaa' * 100 }}{% endfor %}",
    ] {
        let error = chat(&with_template(template), &body).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Limit | ErrorKind::Template), "{template}: {error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_template_may_refuse_a_conversation() {
    let tokenizer = with_template("\n{{ raise_exception('no ' ~ messages[0].role) }}");
    let error = chat(&tokenizer, &json!({ "messages": [{ "role": "user", "content": "x" }] })).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Template);
    assert!(error.to_string().contains("line 2") && error.to_string().contains("no user"), "{error}");
}

#[test]
fn malformed_requests_are_refused_with_the_place() {
    let tokenizer = with_template(PLAIN);
    let user = json!({ "role": "user", "content": "x" });
    let calls =
        |call: Value| json!({ "messages": [{ "role": "assistant", "content": "", "tool_calls": [call] }] });
    for (endpoint, body, expected) in [
        (Endpoint::Completions, json!([]), "body: not a JSON object"),
        (Endpoint::Completions, json!({}), "prompt: missing"),
        (Endpoint::Completions, json!({ "prompt": "" }), "prompt: empty"),
        (Endpoint::Completions, json!({ "prompt": [] }), "prompt: empty"),
        (Endpoint::Completions, json!({ "prompt": 1 }), "prompt: neither"),
        (Endpoint::Completions, json!({ "prompt": [1, -2] }), "prompt[1]: not a token id"),
        (Endpoint::Completions, json!({ "prompt": [1, 4_294_967_296u64] }), "prompt[1]: not a token id"),
        (Endpoint::Completions, json!({ "prompt": [[1], [2, "x"]] }), "prompt[1][1]: not a token id"),
        (Endpoint::Completions, json!({ "prompt": ["a", [1]] }), "prompt[1]: neither"),
        (
            Endpoint::Completions,
            json!({ "prompt": "a", "add_special_tokens": "yes" }),
            "add_special_tokens: not true",
        ),
        (Endpoint::ChatCompletions, json!({}), "messages: missing"),
        (Endpoint::ChatCompletions, json!({ "messages": [] }), "messages: empty"),
        (Endpoint::ChatCompletions, json!({ "messages": "x" }), "messages: not an array"),
        (Endpoint::ChatCompletions, json!({ "messages": [user, 1] }), "messages[1]: not an object"),
        (Endpoint::ChatCompletions, json!({ "messages": [{ "content": "x" }] }), "messages[0].role: missing"),
        (
            Endpoint::ChatCompletions,
            json!({ "messages": [{ "role": "user", "content": null }] }),
            "messages[0].content: null",
        ),
        (
            Endpoint::ChatCompletions,
            json!({ "messages": [{ "role": "user", "content": [{ "type": "text" }] }] }),
            "messages[0].content[0].text: missing",
        ),
        (
            Endpoint::ChatCompletions,
            json!({ "messages": [{ "role": "user", "content": [{ "type": "smell" }] }] }),
            "messages[0].content[0].type: \"smell\"",
        ),
        (Endpoint::ChatCompletions, calls(json!({ "id": "1" })), "messages[0].tool_calls[0].type: missing"),
        (
            Endpoint::ChatCompletions,
            calls(json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": {} } })),
            "messages[0].tool_calls[0].function.arguments: not a string",
        ),
        (Endpoint::ChatCompletions, json!({ "messages": [user], "tools": [] }), "tools: empty"),
        (
            Endpoint::ChatCompletions,
            json!({ "messages": [user], "tools": [{ "type": "function" }] }),
            "tools[0].function: missing",
        ),
        (
            Endpoint::ChatCompletions,
            json!({ "messages": [user], "tool_choice": "auto" }),
            "tool_choice: there are no tools",
        ),
        (Endpoint::ChatCompletions, json!({ "messages": [user], "chat_template": "x" }), "chat_template"),
        (
            Endpoint::ChatCompletions,
            json!({ "messages": [user], "chat_template_kwargs": { "messages": [] } }),
            "chat_template_kwargs.messages",
        ),
        (Endpoint::Responses, json!({}), "input: missing"),
        (
            Endpoint::Responses,
            json!({ "input": [{ "type": "web_search_call" }] }),
            "input[0].type: \"web_search_call\"",
        ),
        (
            Endpoint::Responses,
            json!({ "input": [{ "type": "function_call", "name": "f" }] }),
            "input[0].arguments: missing",
        ),
    ] {
        let error = prompts(&tokenizer, endpoint, &body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request, "{body}: {error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn what_cannot_be_known_here_is_text_with_the_reason() {
    let tokenizer = with_template(PLAIN);
    let image = json!({ "type": "image_url", "image_url": { "url": "data:," } });
    let tool = |default: Value| {
        let parameters = json!({ "type": "object", "properties": { "n": { "default": default } } });
        json!({ "messages": [{ "role": "user", "content": "x" }], "tools": [{ "type": "function", "function": { "name": "f", "parameters": parameters } }] })
    };
    for (endpoint, body, expected) in [
        (
            Endpoint::ChatCompletions,
            json!({ "messages": [{ "role": "user", "content": [image] }] }),
            Untokenized::Media,
        ),
        (
            Endpoint::ChatCompletions,
            json!({ "messages": [{ "role": "user", "content": [{ "image_url": "x" }] }] }),
            Untokenized::Media,
        ),
        (Endpoint::Completions, json!({ "prompt_embeds": "AAAA" }), Untokenized::Media),
        (Endpoint::Completions, json!({ "prompt": "a", "suffix": "b" }), Untokenized::NotReproducible),
        (Endpoint::ChatCompletions, tool(json!(1e30)), Untokenized::NotReproducible),
        (Endpoint::ChatCompletions, tool(json!(-0.0)), Untokenized::NotReproducible),
        (
            Endpoint::Responses,
            json!({ "input": "x", "previous_response_id": "resp_1" }),
            Untokenized::StoredConversation,
        ),
        (Endpoint::Responses, json!({ "input": "x", "truncation": "auto" }), Untokenized::NotReproducible),
    ] {
        let found = prompts(&tokenizer, endpoint, &body).unwrap();
        let [TokenizedPrompt::Text { text, reason }] = &found[..] else { panic!("{body}: {found:?}") };
        assert_eq!(*reason, expected, "{body}");
        assert!(!text.is_empty());
    }
    // Jinja2 has this filter.
    let found = chat(
        &with_template("{{ 'x' | center(3) }}"),
        &json!({ "messages": [{ "role": "user", "content": "x" }] }),
    );
    assert!(matches!(
        &found.unwrap()[..],
        [TokenizedPrompt::Text { reason: Untokenized::NotReproducible, .. }]
    ));
    let mut parts = Parts::default();
    let file = file();
    parts.tokenizer = &file;
    for config in [r#"{"model_type": "gpt_oss"}"#, r#"{"architectures": ["DeepseekV32ForCausalLM"]}"#] {
        parts.model_config = Some(config.as_bytes());
        let own = Tokenizer::from_parts(parts, &TokenizerOptions::default()).unwrap();
        let found = chat(&own, &json!({ "messages": [{ "role": "user", "content": "x" }] })).unwrap();
        assert!(matches!(&found[..], [TokenizedPrompt::Text { reason: Untokenized::OwnRenderer, .. }]));
    }
    parts.model_config = Some(br#"{"architectures": ["LlamaForCausalLM"]}"#);
    let without = Tokenizer::from_parts(parts, &TokenizerOptions::default()).unwrap();
    let found = chat(&without, &json!({ "messages": [{ "role": "user", "content": "x" }] })).unwrap();
    assert!(matches!(&found[..], [TokenizedPrompt::Text { reason: Untokenized::NoChatTemplate, .. }]));
}

#[test]
fn bodies_nested_too_deeply_or_too_large_are_refused() {
    let tokenizer = with_template(PLAIN);
    let deep = format!("{{\"messages\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let error =
        tokenizer.prompts(Endpoint::ChatCompletions, deep.as_bytes(), SystemTime::UNIX_EPOCH).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    let mut options = TokenizerOptions::default();
    options.max_text_bytes = 100;
    let small = Tokenizer::from_dir(FOLDER.as_ref(), &options).unwrap();
    let large = json!({ "prompt": "x".repeat(100) });
    assert_eq!(prompts(&small, Endpoint::Completions, &large).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(small.encode(&"x".repeat(101), true).unwrap_err().kind(), ErrorKind::Limit);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_tokenizer_files_never_panic(at in 0usize..120_000, bytes in proptest::collection::vec(any::<u8>(), 1..4)) {
        let mut file = file();
        let end = (at + bytes.len()).min(file.len());
        file.splice(at.min(end)..end, bytes);
        if let Ok(tokenizer) = load(&file, b"{}", PLAIN.as_bytes()) {
            let _ = tokenizer.encode("some <|im_start|> text 1234", true);
        }
    }

    #[test]
    fn any_body_is_answered(body in "\\PC{0,60}", role in "(user|assistant|tool|system|developer)", content in "\\PC{0,20}") {
        thread_local!(static TOKENIZER: Tokenizer = with_template(PLAIN));
        TOKENIZER.with(|tokenizer| {
            for endpoint in [Endpoint::Completions, Endpoint::ChatCompletions, Endpoint::Responses] {
                let _ = tokenizer.prompts(endpoint, body.as_bytes(), SystemTime::UNIX_EPOCH);
            }
            let body = json!({ "messages": [{ "role": role, "content": content }] });
            let found = chat(tokenizer, &body).unwrap();
            let expected = tokenizer.encode_in_full(&format!("{}: {content}\n", if role == "developer" { "system" } else { &role }), false);
            prop_assert_eq!(&found[..], &[TokenizedPrompt::TokenIds(expected.unwrap())]);
            Ok(())
        })?;
    }
}
