//! Texts that are encoded by segments have the ids that they have when encoded in full, with tokenizers of every kind.

use kvroute_io::tokenize::{Parts, Segmentation, Tokenizer, TokenizerOptions};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What texts are made of: what pre-tokenizers tell apart.
const FRAGMENTS: [&str; 42] = [
    "a",
    "The",
    " quick",
    " brown fox",
    "jumps over",
    " the lazy dog",
    "isn't",
    "WE'LL",
    "'s",
    " ",
    "  ",
    "\n",
    "\n\n ",
    "\t",
    "\r\n",
    "1",
    "23",
    "4567",
    " 3.14",
    ".",
    ", ",
    "!?",
    "...",
    "—",
    "(x)",
    "{\"k\": [1, 2]}",
    "é",
    "e\u{301}",
    "\u{301}",
    "ﬁ",
    "你好",
    "，",
    "世界。",
    "カタカナ",
    "한국어",
    "🙂",
    "👩\u{200d}🚀",
    "\u{a0}",
    "\u{feff}",
    "\u{1c}",
    "▁",
    "word",
];
/// Added tokens, whole and in part.
const TOKENS: [&str; 8] = ["<|x|>", "<|x", "|>", "<|xy|>", "</s>", "[MASK]", "<|im_end|>", ""];

/// Texts long enough for cuts between added tokens.
fn text() -> impl Strategy<Value = String> {
    let between = proptest::collection::vec(proptest::sample::select(&FRAGMENTS[..]), 0..900);
    let token = proptest::sample::select(&TOKENS[..]);
    let parts = proptest::collection::vec((between, token), 1..4);
    parts.prop_map(|parts| parts.into_iter().map(|(between, token)| between.concat() + token).collect())
}

fn captured() -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/tokenize/tokenizer.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// An added token; flags are some of "lstrip", "rstrip", "single_word", "normalized".
fn added(id: u32, content: &str, flags: &[&str]) -> Value {
    let mut token = json!({ "id": id, "content": content, "special": !flags.contains(&"normalized") });
    for flag in ["lstrip", "rstrip", "single_word", "normalized"] {
        token[flag] = flags.contains(&flag).into();
    }
    token
}

/// Byte-level BPE with the captured vocabulary.
fn byte_level(normalizer: Value, pre_tokenizer: Value) -> Value {
    let mut tokenizer = captured();
    tokenizer["normalizer"] = normalizer;
    tokenizer["pre_tokenizer"] = pre_tokenizer;
    tokenizer["added_tokens"].as_array_mut().unwrap().push(added(2048, "<|x|>", &[]));
    tokenizer["added_tokens"].as_array_mut().unwrap().push(added(2049, "<|xy|>", &["rstrip"]));
    tokenizer
}

/// The same tokenizer with a model that has one id for every pre-token, so that ids tell where pre-tokens end. Merges of
/// real vocabularies seldom would.
fn revealing(mut tokenizer: Value) -> Value {
    tokenizer["model"]["vocab"] = json!({ "<unk>": 3000 });
    tokenizer["model"]["merges"] = json!([]);
    tokenizer["model"]["unk_token"] = "<unk>".into();
    tokenizer["model"]["fuse_unk"] = true.into();
    tokenizer
}

fn split(expression: &str) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false })
}

fn sequence(parts: &[Value]) -> Value {
    json!({ "type": "Sequence", "pretokenizers": parts })
}

fn bytes(add_prefix_space: bool, use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex })
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK: [&str; 3] = [
    r"\p{N}{1,3}",
    "[一-龥\u{3040}-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];

/// BPE over characters, with the words of SentencePiece.
fn characters(normalizer: Value, pre_tokenizer: Value, added_tokens: &[Value]) -> Value {
    let mut vocabulary = serde_json::Map::new();
    for token in ["<unk>", "<s>", "</s>"] {
        vocabulary.insert(token.to_owned(), vocabulary.len().into());
    }
    for byte in 0..=255 {
        vocabulary.insert(format!("<0x{byte:02X}>"), vocabulary.len().into());
    }
    for c in ('a'..='z').chain(['▁', '.', ',', '你', '好', 'T', '1', '2']) {
        vocabulary.insert(c.to_string(), vocabulary.len().into());
    }
    let merges = [
        "▁ t", "▁ ▁", "t h", "h e", "▁t he", "o v", "e r", "ov er", "▁ q", "a ▁", "x ▁", "y ▁", "o g",
        "你 好",
    ];
    for merge in merges {
        vocabulary.entry(merge.replace(' ', "")).or_insert(Value::Null);
    }
    for (id, (_, value)) in vocabulary.iter_mut().enumerate() {
        *value = id.into();
    }
    let mut tokens = vec![added(1, "<s>", &[]), added(2, "</s>", &[])];
    tokens.extend_from_slice(added_tokens);
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": tokens, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "decoder": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    })
}

fn metaspace(scheme: &str, split: bool) -> Value {
    json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split })
}

fn legacy_llama() -> Value {
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, replace] })
}

fn word_piece(added_tokens: &[Value]) -> Value {
    let words = [
        "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "fox", "##s", "is", "##n", "a", "t", "##t", ".",
        ",", "'", "1", "##2",
    ];
    let vocabulary: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    json!({
        "version": "1.0", "truncation": { "max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right" },
        "padding": { "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]" },
        "added_tokens": added_tokens,
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1] },
        "decoder": null,
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary },
    })
}

fn unigram() -> Value {
    let pieces = [
        ("<unk>", 0.0),
        ("▁", -2.0),
        ("▁the", -3.0),
        ("a", -4.0),
        ("▁a", -4.5),
        ("quick", -5.0),
        ("t", -6.0),
        ("h", -6.0),
        ("e", -6.0),
        ("s", -6.0),
        ("▁▁", -7.0),
    ];
    let mut tokenizer =
        characters(Value::Null, metaspace("always", true), &[added(11, "<|x|>", &["lstrip"])]);
    tokenizer["added_tokens"] = json!([added(0, "<unk>", &[]), added(11, "<|x|>", &["lstrip"])]);
    tokenizer["post_processor"] = Value::Null;
    tokenizer["model"] = json!({ "type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": false });
    tokenizer
}

fn tokenizer(json: &Value) -> Tokenizer {
    let bytes = serde_json::to_vec(json).unwrap();
    let mut parts = Parts::default();
    parts.tokenizer = &bytes;
    Tokenizer::from_parts(parts, &TokenizerOptions::default()).unwrap()
}

/// Tokenizers of every kind, and how far their texts are cut.
fn kinds() -> Vec<(&'static str, Tokenizer, Segmentation)> {
    let pieces = Segmentation::Pieces;
    let tokens = Segmentation::AddedTokens;
    let deepseek: Vec<Value> = DEEPSEEK.iter().map(|e| split(e)).chain([bytes(false, false)]).collect();
    let flags = [
        added(2048, "<|x|>", &["lstrip"]),
        added(2049, "<|xy|>", &["rstrip"]),
        added(2050, "\n", &[]),
        added(2051, "word", &["normalized"]),
        added(2052, "The", &["normalized", "rstrip"]),
        added(2053, "</s>", &["lstrip", "rstrip"]),
    ];
    let mut all_flags = byte_level(Value::Null, sequence(&[split(LLAMA3), bytes(false, false)]));
    all_flags["added_tokens"] = Value::Array(flags.to_vec());
    all_flags["post_processor"] = Value::Null;
    let mut normalized =
        byte_level(json!({ "type": "NFC" }), sequence(&[split(LLAMA3), bytes(false, false)]));
    normalized["added_tokens"].as_array_mut().unwrap().push(added(2050, "é", &["normalized"]));
    let kinds = [
        ("Llama 3", byte_level(Value::Null, sequence(&[split(LLAMA3), bytes(false, false)])), pieces.clone()),
        (
            "Qwen 2",
            byte_level(
                json!({ "type": "NFC" }),
                sequence(&[split(&LLAMA3.replace("{1,3}", "")), bytes(false, false)]),
            ),
            pieces.clone(),
        ),
        ("o200k", byte_level(Value::Null, sequence(&[split(O200K), bytes(false, false)])), pieces.clone()),
        (
            "DeepSeek",
            byte_level(json!({ "type": "Sequence", "normalizers": [] }), sequence(&deepseek)),
            pieces.clone(),
        ),
        ("GPT-2", byte_level(Value::Null, bytes(false, true)), pieces.clone()),
        ("GPT-2 with a space in front", byte_level(Value::Null, bytes(true, true)), pieces.clone()),
        (
            "digits first",
            byte_level(
                json!({ "type": "NFKC" }),
                sequence(&[json!({ "type": "Digits", "individual_digits": true }), bytes(false, true)]),
            ),
            pieces.clone(),
        ),
        ("all flags of added tokens", all_flags, pieces.clone()),
        ("a normalized token behind a normalizer", normalized, tokens.clone()),
        ("byte level without a pattern", byte_level(Value::Null, bytes(false, false)), tokens.clone()),
        (
            "a pattern that reaches across",
            byte_level(Value::Null, sequence(&[split(r"\S+\s?|\s+"), bytes(false, false)])),
            tokens.clone(),
        ),
        ("lower case", byte_level(json!({ "type": "Lowercase" }), bytes(false, true)), tokens.clone()),
        ("Metaspace, first", characters(Value::Null, metaspace("first", true), &[]), tokens.clone()),
        (
            "Metaspace, first, unsplit",
            characters(Value::Null, metaspace("first", false), &[added(400, "<|x|>", &["lstrip"])]),
            tokens.clone(),
        ),
        (
            "Metaspace, always",
            characters(Value::Null, metaspace("always", true), &[added(400, "<|x|>", &["rstrip"])]),
            tokens.clone(),
        ),
        ("Metaspace, never", characters(Value::Null, metaspace("never", false), &[]), tokens.clone()),
        (
            "legacy Llama",
            characters(
                legacy_llama(),
                Value::Null,
                &[added(400, "<|x|>", &[]), added(401, "word", &["normalized"])],
            ),
            tokens.clone(),
        ),
        (
            "WordPiece",
            word_piece(&[
                added(1, "[CLS]", &[]),
                added(3, "[MASK]", &["lstrip"]),
                added(30, "The", &["normalized"]),
            ]),
            tokens.clone(),
        ),
        ("Unigram", unigram(), tokens),
    ];
    let mut all = Vec::new();
    for (name, json, segmentation) in kinds {
        if json["pre_tokenizer"].to_string().contains("ByteLevel") {
            all.push((name, tokenizer(&revealing(json.clone())), segmentation.clone()));
        }
        all.push((name, tokenizer(&json), segmentation));
    }
    all
}

#[test]
fn texts_are_cut_as_far_as_is_proven() {
    for (name, tokenizer, segmentation) in kinds() {
        assert_eq!(*tokenizer.segmentation(), segmentation, "{name}");
    }
}

#[test]
fn tokenizers_that_cannot_be_proven_encode_in_full_and_say_why() {
    let mut dropout = captured();
    dropout["model"]["dropout"] = json!(0.1);
    let mut single_word = captured();
    single_word["added_tokens"].as_array_mut().unwrap().push(added(2048, "word", &["single_word"]));
    let mut no_sentinel = characters(Value::Null, metaspace("first", true), &[]);
    no_sentinel["added_tokens"] = json!([added(1, "<s>", &["rstrip"])]);
    for (json, expected) in [(dropout, "dropout"), (single_word, "\"word\""), (no_sentinel, "Metaspace")] {
        match tokenizer(&json).segmentation() {
            Segmentation::Full { reason } => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let mut parts = Parts::default();
    let bytes = serde_json::to_vec(&captured()).unwrap();
    parts.tokenizer = &bytes;
    parts.config = Some(br#"{"split_special_tokens": true}"#);
    let tokenizer = Tokenizer::from_parts(parts, &TokenizerOptions::default()).unwrap();
    assert!(matches!(tokenizer.segmentation(), Segmentation::Full { .. }));
    assert_eq!(tokenizer.encode("<|im_end|>", false), tokenizer.encode_in_full("<|im_end|>", false));
    assert!(tokenizer.encode("<|im_end|>", false).unwrap().len() > 1);
}

#[test]
fn a_space_taken_along_by_one_token_can_be_the_next_one() {
    let mut json = captured();
    json["added_tokens"] =
        json!([added(2048, "<|x|>", &["rstrip"]), added(2049, "\n", &[]), added(2050, "ab", &["lstrip"])]);
    let tokenizer = tokenizer(&json);
    for text in ["<|x|>\n\n ab", "<|x|> \n ab\n", "a <|x|>\n", "ab<|x|>\nab ab  ab", " ab", "\n<|x|> "] {
        assert_eq!(tokenizer.encode(text, true), tokenizer.encode_in_full(text, true), "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ids_are_those_of_a_full_encoding(texts in proptest::collection::vec(text(), 1..3)) {
        thread_local!(static KINDS: Vec<(&'static str, Tokenizer, Segmentation)> = kinds());
        KINDS.with(|kinds| {
            for (name, tokenizer, _) in kinds {
                let mut growing = String::new();
                for text in &texts {
                    growing.push_str(text);
                    for add_special_tokens in [false, true] {
                        let full = tokenizer.encode_in_full(&growing, add_special_tokens).unwrap();
                        prop_assert_eq!(tokenizer.encode(&growing, add_special_tokens).unwrap(), full, "{}: {:?}", name, &growing);
                    }
                }
            }
            Ok(())
        })?;
    }
}
