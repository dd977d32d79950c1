//! Writes test data, which is JSON, as lines that the C tests read: `flatten golden <testdata/hashes>`,
//! `flatten capture <testdata/captures/....jsonl.gz>` or `flatten requests <testdata/tokenize/requests.jsonl>`. A line is a verb and `key=value` words separated by spaces;
//! texts and bytes are hexadecimal, lists are separated by commas. A key that is missing was not given.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let lines = match &*arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        ["golden", folder] => golden(Path::new(folder))?,
        ["capture", file] => capture(Path::new(file))?,
        ["requests", file] => requests(Path::new(file))?,
        _ => {
            return Err(
                "usage: flatten golden <folder> | flatten capture <file> | flatten requests <file>".into()
            );
        }
    };
    print!("{lines}");
    Ok(())
}

/// One line in the making.
struct Line(String);

impl Line {
    fn new(verb: &str) -> Self {
        Self(verb.to_owned())
    }

    fn raw(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        write!(self.0, " {key}={value}").expect("memory");
        self
    }

    fn text(self, key: &str, value: &Value) -> Self {
        match value.as_str() {
            Some(text) => self.raw(key, hex_of(text)),
            None => self,
        }
    }

    fn list(self, key: &str, values: impl IntoIterator<Item = impl ToString>) -> Self {
        let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
        self.raw(key, values.join(","))
    }

    /// Adapter, salt and multimodal items; vectors call an item's start `start` or `offset`.
    fn context(self, vector: &Value) -> Self {
        let item = |item: &Value| {
            let start = item.get("start").unwrap_or(&item["offset"]);
            format!("{}:{start}:{}", hex_of(text(&item["identifier"])), item["length"])
        };
        let lora = &vector["lora"];
        self.text("lora", &lora["name"])
            .text("path", &lora["path"])
            .text("salt", &vector["cache_salt"])
            .list("mm", list(&vector["mm"]).iter().map(item))
    }

    fn end(self, lines: &mut String) {
        lines.push_str(&self.0);
        lines.push('\n');
    }
}

fn hex_of(text: &str) -> String {
    hex(text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Token ids in full, or a list to repeat until a count is reached.
fn tokens(value: &Value) -> Vec<u64> {
    let count = value["count"].as_u64().map(|count| count as usize);
    let ids = list(value.get("repeat").unwrap_or(value)).iter().map(|id| id.as_u64().expect("a token id"));
    match count {
        Some(count) => ids.collect::<Vec<_>>().into_iter().cycle().take(count).collect(),
        None => ids.collect(),
    }
}

/// The last 8 bytes of a hexadecimal digest, big-endian.
fn low64(digest: &Value) -> u64 {
    let digits = text(digest);
    u64::from_str_radix(&digits[digits.len() - 16..], 16).expect("a digest")
}

fn numbered(hashes: impl IntoIterator<Item = u64>) -> Vec<String> {
    hashes.into_iter().enumerate().map(|(at, hash)| format!("{at}:{hash}")).collect()
}

fn golden(folder: &Path) -> Result<String, Box<dyn Error>> {
    let read = |name: &str| -> Result<Value, Box<dyn Error>> {
        Ok(serde_json::from_str(&fs::read_to_string(folder.join(name))?)?)
    };
    let mut lines = String::new();
    vllm(&read("vllm.json")?, &mut lines);
    pickle(&read("pickle.json")?, &mut lines);
    llmd(&read("llm-d.json")?, &mut lines);
    own(&read("own-scheme.json")?, &mut lines);
    Ok(lines)
}

fn vllm(document: &Value, lines: &mut String) {
    for root in list(&document["none_hashes"]) {
        let line = Line::new(if root["none_hash"].is_null() { "refuse" } else { "root" });
        let line = line.raw("scheme", 1).raw("block_size", 16).text("algorithm", &root["algo"]);
        let line = line.raw("version", hex_of("0.32.0")).text("seed", &root["pythonhashseed"]);
        let line =
            if root["none_hash"].is_null() { line } else { line.raw("none_hash", text(&root["none_hash"])) };
        line.end(lines);
    }
    for vector in list(&document["vectors"]) {
        let blocks = list(&vector["blocks"]);
        let family = text(&vector["family"]);
        let line = Line::new("hash").raw("scheme", 1).raw("block_size", &vector["block_size"]);
        let line = line.text("algorithm", &vector["algo"]);
        // The last version of each form. Its algorithms may have come later: only the root, not the seed, is asked.
        let version = match family {
            "current" => "0.32.0",
            "untagged" => "0.30.0",
            "untagged_mm_str" => "0.18.0",
            "cbor_64bit" => "0.11.0",
            other => panic!("unknown family {other}"),
        };
        let line = line.raw("version", hex_of(version));
        let line = match vector["none_hash"].as_str() {
            Some(root) if family != "current" => line.raw("none_hash", root),
            _ => line.text("seed", &vector["pythonhashseed"]),
        };
        let line = match family {
            "current" => {
                let of_block = |block: &Value| {
                    let keys = list(&block["extra_keys"]).iter();
                    keys.filter(|key| key[0] == "prompt_embeds")
                        .map(|key| text(&key[1]["bytes_hex"]).to_owned())
                        .next()
                };
                line.context(vector).list("embeds", blocks.iter().filter_map(of_block))
            }
            "cbor_64bit" => line,
            _ => untagged(line, vector),
        };
        // A block in the middle of two vectors has an adapter, which no request would bring about.
        let same = blocks.iter().take_while(|block| family != "cbor_64bit" || block["extra_keys"].is_null());
        let hashes = same.map(|block| block["u64"].as_u64().expect("a hash"));
        line.list("tokens", tokens(&vector["token_ids"])).list("hashes", numbered(hashes)).end(lines);
    }
}

/// The context of a vector that gives extra keys only, in an older version's form.
fn untagged(line: Line, vector: &Value) -> Line {
    let line = line.raw("salt", hex_of("tenant-a"));
    if text(&vector["id"]).ends_with("salt_only") {
        return line;
    }
    let key = &vector["blocks"][0]["extra_keys"][1];
    let identifier = key.as_str().or(key[0].as_str()).expect("an item's identifier");
    line.raw("lora", hex_of("lora-a")).raw("mm", format!("{}:3:20", hex_of(identifier)))
}

fn pickle(document: &Value, lines: &mut String) {
    for vector in list(&document["vectors"]) {
        let line = Line::new("hash").raw("scheme", 1).raw("block_size", &vector["block_size"]);
        let line = line.raw("algorithm", hex_of("sha256")).raw("version", hex_of("0.31.0"));
        let line = line.raw("none_hash", text(&vector["none_hash"])).context(vector);
        let line = line.list("embeds", list(&vector["prompt_embeds"]).iter().map(text));
        let hashes = list(&vector["hashes"]).iter().map(low64);
        let hashes: Vec<String> = match vector.get("hash_indices") {
            Some(at) => list(at).iter().zip(hashes).map(|(at, hash)| format!("{at}:{hash}")).collect(),
            None => numbered(hashes),
        };
        line.list("tokens", tokens(&vector["token_ids"])).list("hashes", hashes).end(lines);
    }
}

fn llmd(document: &Value, lines: &mut String) {
    for vector in list(document) {
        let scheme = match text(&vector["algorithm"]) {
            "cbor-fnv" => 2,
            "xxh64" => 3,
            // Keys of releases before, and of its approximate index: not schemes here.
            _ => continue,
        };
        let line = Line::new("hash").raw("scheme", scheme).raw("block_size", &vector["block_size"]);
        let line = line.text("seed", &vector["seed"]);
        // Its keys take the adapter's name for the model's.
        let line = if text(&vector["name"]).starts_with("LoRA") {
            line.raw("model", hex_of("some-base-model")).text("lora", &vector["model"])
        } else {
            line.text("model", &vector["model"])
        };
        let line = match vector.get("extras") {
            // Items that fall into the blocks as the vector lists them.
            Some(_) => {
                let items = [("img-hash-a", 4, 20), ("img-hash-b", 24, 8), ("salt-x", 50, 100)];
                line.list("mm", items.map(|(id, start, length)| format!("{}:{start}:{length}", hex_of(id))))
            }
            None => line,
        };
        let keys = list(&vector["keys"]).iter().map(|key| text(key).parse().expect("a key"));
        line.list("tokens", tokens(&vector["tokens"])).list("hashes", numbered(keys)).end(lines);
    }
}

fn own(document: &Value, lines: &mut String) {
    for vector in list(&document["vectors"]) {
        let line = Line::new("hash").raw("scheme", 0).raw("block_size", &vector["block_size"]);
        let line = line.raw("seed", hex_of(&document["seed"].to_string()));
        let hashes = list(&vector["hashes"]).iter().map(|hash| text(hash).parse().expect("a hash"));
        line.list("tokens", tokens(&vector["token_ids"])).list("hashes", numbered(hashes)).end(lines);
    }
}

fn capture(file: &Path) -> Result<String, Box<dyn Error>> {
    let mut lines = String::new();
    for line in BufReader::new(flate2::read::MultiGzDecoder::new(fs::File::open(file)?)).lines() {
        let value: Value = serde_json::from_str(&line?)?;
        let line = if value.get("kvsim").is_some() {
            let line = Line::new("engines").raw("pods", list(&value["pods"]).len()).raw("scheme", 1);
            let line = line.raw("block_size", &value["block_size"]).text("algorithm", &value["hash_algo"]);
            line.text("version", &value["vllm"]).raw("none_hash", text(&value["none_hash"]))
        } else if let Some(payload) = value.get("p") {
            let line = Line::new("batch").raw("pod", &value["b"]).raw("sequence", &value["s"]);
            line.raw("payload", hex(&STANDARD.decode(text(payload)).map_err(|error| error.to_string())?))
        } else {
            let line = Line::new("query").text("lora", &value["lora"][0]).text("path", &value["lora"][1]);
            let line = line.text("salt", &value["salt"]).list("tokens", tokens(&value["t"]));
            line.list("cached", tokens(&value["cached"])).list("full", tokens(&value["full"]))
        };
        line.end(&mut lines);
    }
    Ok(lines)
}

/// Requests that an engine was asked to tokenize: `endpoint` by its number in kvroute_io.h, whether the template is the one
/// that loops over `parts`, and the prompts' `ids`, separated by colons; no `ids` of one that it refused.
fn requests(file: &Path) -> Result<String, Box<dyn Error>> {
    let mut lines = String::new();
    for line in fs::read_to_string(file)?.lines() {
        let request: Value = serde_json::from_str(line)?;
        // Byte for byte: the order of keys is in the prompt.
        let body = serde_json::from_str::<BTreeMap<&str, &RawValue>>(line)?["body"];
        let endpoint = match text(&request["endpoint"]) {
            "completions" => 0,
            "chat" => 1,
            _ => 2,
        };
        let prompts = list(&request["token_ids"]);
        let is_refused = request["error"].as_str().is_some_and(|error| error.contains("unknown role"));
        // What is left of a prompt that is cut depends on the model's length.
        let is_cut = request["body"].get("truncate_prompt_tokens").is_some();
        if is_cut || (prompts.is_empty() && !is_refused) {
            continue;
        }
        let parts = request["template"].as_str() == Some("chat_template_parts.jinja");
        let line = Line::new("request")
            .raw("endpoint", endpoint)
            .raw("parts", u8::from(parts))
            .raw("body", hex_of(body.get()));
        let ids = |prompt: &Value| list(prompt).iter().map(Value::to_string).collect::<Vec<_>>().join(",");
        let ids: Vec<String> = prompts.iter().map(ids).collect();
        let line = if is_refused { line } else { line.raw("ids", ids.join(":")) };
        line.end(&mut lines);
    }
    Ok(lines)
}
