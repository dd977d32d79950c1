//! `tokenize/{what}/{tokens}`: a chat of so many tokens, of which all but the last message was seen before, against one
//! that is encoded in full. The tokenizer is byte-level BPE of 32768 entries, trained on this repository's own text; with
//! `KVROUTE_TOKENIZER` set to a model's folder, it is that model's.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use kvroute_io::tokenize::{Endpoint, Parts, Tokenizer, TokenizerOptions};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

const TEMPLATE: &str = "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

fn tokenize(c: &mut Criterion) {
    let text = repository();
    let tokenizer = std::env::var_os("KVROUTE_TOKENIZER").map_or_else(
        || trained(&text),
        |folder| Tokenizer::from_dir(Path::new(&folder), &options()).expect("a model's folder"),
    );
    let mut group = c.benchmark_group("tokenize");
    for tokens in [2048, 32_768] {
        let history = history(&tokenizer, &text, tokens);
        let now = SystemTime::UNIX_EPOCH;
        let mut turn = 0;
        // A message that was never seen.
        let mut body = || {
            turn += 1;
            let mut messages = history.clone();
            messages.push(
                json!({ "role": "user", "content": format!("{turn} is the number; {}", &text[..512]) }),
            );
            serde_json::to_vec(&json!({ "model": "m", "messages": messages })).expect("JSON")
        };
        let seen = body();
        tokenizer.prompts(Endpoint::ChatCompletions, &seen, now).expect("a chat");
        let chat =
            tokenizer.rendered(Endpoint::ChatCompletions, &seen, now).expect("a chat").expect("only text");
        group.bench_function(BenchmarkId::new("history-seen", tokens), |b| {
            b.iter_batched_ref(
                &mut body,
                |body| tokenizer.prompts(Endpoint::ChatCompletions, body, now),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("history-seen/reading", tokens), |b| {
            b.iter(|| serde_json::from_slice::<Value>(&seen));
        });
        // Reading included.
        group.bench_function(BenchmarkId::new("history-seen/rendering", tokens), |b| {
            b.iter(|| tokenizer.rendered(Endpoint::ChatCompletions, &seen, now));
        });
        group.bench_function(BenchmarkId::new("history-seen/encoding", tokens), |b| {
            b.iter(|| tokenizer.encode(&chat, false))
        });
        group.bench_function(BenchmarkId::new("in-full/encoding", tokens), |b| {
            b.iter(|| tokenizer.encode_in_full(&chat, false))
        });
    }
    group.finish();
}

fn options() -> TokenizerOptions {
    let mut options = TokenizerOptions::default();
    options.chat_template = Some(TEMPLATE.to_owned());
    options
}

/// Messages of about so many tokens.
fn history(tokenizer: &Tokenizer, text: &str, tokens: usize) -> Vec<Value> {
    let mut messages = Vec::new();
    let (mut from, mut length) = (4096, 0);
    while length < tokens {
        let mut to = (from + 4000).min(text.len());
        while !text.is_char_boundary(to) {
            to += 1;
        }
        let content = &text[from..to];
        length += tokenizer.encode_in_full(content, false).expect("text").len();
        let role = ["user", "assistant"][messages.len() % 2];
        messages.push(json!({ "role": role, "content": content }));
        from = to;
    }
    messages
}

/// The repository's sources and texts.
fn repository() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> =
        ["kvroute-core", "kvroute-io", "kvroute-sim", "go"].map(|name| root.join(name)).to_vec();
    let mut files = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs" || e == "go" || e == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}

fn trained(text: &str) -> Tokenizer {
    let mut tokenizer =
        TokenizerBuilder::<BPE, tokenizers::normalizers::NFC, ByteLevel, ByteLevel, ByteLevel>::new()
            .with_model(BPE::default())
            .with_normalizer(None)
            .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
            .with_post_processor(None)
            .with_decoder(None)
            .build()
            .expect("a model is given");
    let special = ["<|im_start|>", "<|im_end|>"].map(|token| AddedToken::from(token, true)).to_vec();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(32_768)
        .special_tokens(special)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer.train(&mut trainer, text.lines()).map(drop).expect("text to train on");
    let json = tokenizer.to_string(false).expect("JSON");
    let mut parts = Parts::default();
    parts.tokenizer = json.as_bytes();
    Tokenizer::from_parts(parts, &options()).expect("what was trained")
}

criterion_group!(benches, tokenize);
criterion_main!(benches);
