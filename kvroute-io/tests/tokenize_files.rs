//! A tokenizer's files are read as transformers 5.23 reads them; all expected ids are its own.

use std::time::SystemTime;

use kvroute_io::tokenize::{Endpoint, Parts, Tokenizer, TokenizerOptions};
use serde_json::{Value, json};

const TEXT: &str = "a  <|bos|>  b<img> isn't";

fn tokenizer_json() -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/tokenize/tokenizer.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn bytes(json: &Value) -> Vec<u8> {
    serde_json::to_vec(json).unwrap()
}

fn with_config(mut config: Value) -> Tokenizer {
    config["bos_token"] = "<|bos|>".into();
    config["eos_token"] = "<|im_end|>".into();
    let (tokenizer, config) = (bytes(&tokenizer_json()), bytes(&config));
    let mut parts = Parts::default();
    (parts.tokenizer, parts.config) = (&tokenizer, Some(&config[..]));
    Tokenizer::from_parts(parts, &TokenizerOptions::default()).unwrap()
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let ids = tokenizer.encode(text, true).unwrap();
    assert_eq!(ids, tokenizer.encode_in_full(text, true).unwrap());
    ids
}

#[test]
fn the_configuration_adds_tokens_and_replaces_their_flags() {
    let token = |content: &str, rstrip: bool, special: bool| json!({ "content": content, "lstrip": false, "rstrip": rstrip, "normalized": false, "single_word": false, "special": special });
    let tail = [33, 771, 76, 35, 319, 83, 801];
    for (config, head) in [
        (json!({}), vec![0, 70, 262, 0, 226, 304]),
        // The post-processor is the file's, whatever these say.
        (json!({ "add_bos_token": false, "add_eos_token": true }), vec![0, 70, 262, 0, 226, 304]),
        (json!({ "added_tokens_decoder": { "0": token("<|bos|>", true, true) } }), vec![0, 70, 262, 0, 71]),
        (json!({ "split_special_tokens": true }), vec![0, 70, 226, 552, 97, 71, 533, 97, 35, 226, 304]),
    ] {
        assert_eq!(ids(&with_config(config.clone()), TEXT), [&head[..], &tail].concat(), "{config}");
    }
    let added = [0, 70, 262, 0, 226, 304, 2048, 319, 83, 801];
    for config in [
        json!({ "extra_special_tokens": { "image_token": "<img>" } }),
        json!({ "extra_special_tokens": ["<img>"] }),
        json!({ "additional_special_tokens": ["<img>"] }),
        json!({ "pad_token": "<img>" }),
        json!({ "pad_token": { "content": "<img>", "__type": "AddedToken" } }),
        json!({ "added_tokens_decoder": { "2048": token("<img>", false, false) } }),
    ] {
        assert_eq!(ids(&with_config(config.clone()), TEXT), added, "{config}");
    }
}

#[test]
fn flags_of_the_file_hold() {
    let mut file = tokenizer_json();
    file["added_tokens"][0]["lstrip"] = true.into();
    file["added_tokens"][0]["normalized"] = true.into();
    let file = bytes(&file);
    let mut parts = Parts::default();
    parts.tokenizer = &file;
    let tokenizer = Tokenizer::from_parts(parts, &TokenizerOptions::default()).unwrap();
    assert_eq!(ids(&tokenizer, TEXT), [0, 70, 0, 226, 304, 33, 771, 76, 35, 319, 83, 801]);
}

#[test]
fn without_a_post_processor_nothing_goes_around_a_text() {
    let mut file = tokenizer_json();
    file["post_processor"] = Value::Null;
    let file = bytes(&file);
    let mut parts = Parts::default();
    (parts.tokenizer, parts.config) =
        (&file, Some(&br#"{"bos_token": "<|bos|>", "add_bos_token": true}"#[..]));
    let tokenizer = Tokenizer::from_parts(parts, &TokenizerOptions::default()).unwrap();
    assert_eq!(ids(&tokenizer, "a"), [70]);
}

/// What a template shows of the files.
fn shown(parts: impl FnOnce(&mut Parts<'_>), tools: bool) -> String {
    let tokenizer = bytes(&tokenizer_json());
    let mut given = Parts::default();
    given.tokenizer = &tokenizer;
    parts(&mut given);
    let tokenizer = Tokenizer::from_parts(given, &TokenizerOptions::default()).unwrap();
    let mut body = json!({ "messages": [{ "role": "user", "content": "x" }] });
    if tools {
        body["tools"] = json!([{ "type": "function", "function": { "name": "f" } }]);
    }
    tokenizer.rendered(Endpoint::ChatCompletions, &bytes(&body), SystemTime::UNIX_EPOCH).unwrap().unwrap()
}

#[test]
fn special_tokens_are_variables_of_the_template() {
    const TEMPLATE: &[u8] = b"{{ bos_token }} {{ image_token }} {{ pad_token is defined }}";
    const CONFIG: &[u8] = br#"{"bos_token": "<|pad|>", "extra_special_tokens": {"image_token": "<img>"}}"#;
    const MAP: &[u8] = br#"{"bos_token": {"content": "<|bos|>"}}"#;
    const LISTED: &[u8] = br#"{"bos_token": "<|pad|>", "added_tokens_decoder": {}}"#;
    let with = |config: &'static [u8], map: Option<&'static [u8]>| {
        shown(
            |parts| {
                (parts.config, parts.special_tokens_map, parts.chat_template) =
                    (Some(config), map, Some(TEMPLATE))
            },
            false,
        )
    };
    assert_eq!(with(CONFIG, None), "<|pad|> <img> False");
    assert_eq!(with(CONFIG, Some(MAP)), "<|bos|> <img> False");
    // The map does not count where the configuration lists the added tokens.
    assert_eq!(with(LISTED, Some(MAP)), "<|pad|>  False");
}

#[test]
fn the_template_is_the_files_or_else_the_configurations() {
    const CONFIG: &[u8] = br#"{"chat_template": "config"}"#;
    const SEVERAL: &[u8] = br#"{"chat_template": [{"name": "default", "template": "default"}, {"name": "tool_use", "template": "tools"}]}"#;
    assert_eq!(shown(|parts| parts.config = Some(CONFIG), false), "config");
    assert_eq!(
        shown(|parts| (parts.config, parts.chat_template) = (Some(CONFIG), Some(&b"file"[..])), true),
        "file"
    );
    assert_eq!(shown(|parts| parts.config = Some(SEVERAL), false), "default");
    assert_eq!(shown(|parts| parts.config = Some(SEVERAL), true), "tools");
    let both = |parts: &mut Parts<'_>| {
        (parts.chat_template, parts.tool_use_template) = (Some(&b"file"[..]), Some(&b"tools"[..]))
    };
    assert_eq!(shown(both, false), "file");
    assert_eq!(shown(both, true), "tools");
}
