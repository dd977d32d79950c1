//! The files of a model's folder.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::encoder::Configuration;
use super::{Error, Parts};

/// Bytes a file may have: many times the largest known `tokenizer.json` (about 35 MB).
const MAX_BYTES: u64 = 256 << 20;
/// Names of special tokens that templates may use (transformers 5.23, `SPECIAL_TOKENS_ATTRIBUTES`).
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Architectures with a renderer of their own (vLLM 0.32, `config/model.py`).
const OWN_RENDERERS: [&str; 8] = [
    "DeepseekV32ForCausalLM",
    "DeepseekV41ForCausalLM",
    "DeepseekV4ForCausalLM",
    "DeepseekV4ForConditionalGeneration",
    "InklingForCausalLM",
    "InklingForConditionalGeneration",
    "KimiK3ForConditionalGeneration",
    "MoonshotKimiaForCausalLM",
];

/// The files of a folder, in memory.
#[derive(Debug)]
pub(super) struct Files {
    tokenizer: Vec<u8>,
    config: Option<Vec<u8>>,
    chat_template: Option<Vec<u8>>,
    tool_use_template: Option<Vec<u8>>,
    special_tokens_map: Option<Vec<u8>>,
    model_config: Option<Vec<u8>>,
    tekken: bool,
}

impl Files {
    /// Reads those of a folder that there are.
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let tokenizer = folder.join("tokenizer.json");
        Ok(Self {
            tokenizer: read(&tokenizer)?
                .ok_or_else(|| Error::tokenizer(format!("{}: not there", tokenizer.display())))?,
            config: read(&folder.join("tokenizer_config.json"))?,
            chat_template: read(&folder.join("chat_template.jinja"))?,
            tool_use_template: read(&folder.join("additional_chat_templates/tool_use.jinja"))?,
            special_tokens_map: read(&folder.join("special_tokens_map.json"))?,
            model_config: read(&folder.join("config.json"))?,
            tekken: folder.join("tekken.json").exists(),
        })
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        Parts {
            tokenizer: &self.tokenizer,
            config: self.config.as_deref(),
            chat_template: self.chat_template.as_deref(),
            tool_use_template: self.tool_use_template.as_deref(),
            special_tokens_map: self.special_tokens_map.as_deref(),
            model_config: self.model_config.as_deref(),
            tekken: self.tekken,
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::tokenizer(format!("{}: {error}", path.display()))),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::tokenizer(format!("{}: {error}", path.display())))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::tokenizer(format!("{}: more than {MAX_BYTES} bytes", path.display())));
    }
    Ok(Some(bytes))
}

/// What `tokenizer_config.json` and its neighbours say.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The template, and the one for conversations with tools.
    pub(super) templates: (Option<String>, Option<String>),
    /// Special tokens by name, as variables of templates.
    pub(super) special_tokens: Map<String, Value>,
    /// What it adds to the tokenizer.
    pub(super) configuration: Configuration,
    /// Whether the engine renders chats by code of its own.
    pub(super) own_renderer: bool,
}

impl Settings {
    /// Reads them as transformers 5.23 does: the template's own file goes before the configuration, and
    /// `special_tokens_map.json` counts only where the configuration does not list the added tokens.
    pub(super) fn read(parts: &Parts<'_>) -> Result<Self, Error> {
        let mut config =
            parts.config.map_or_else(|| Ok(Map::new()), |bytes| object(bytes, "tokenizer_config.json"))?;
        let mut settings = Self::default();
        let listed = config.remove("added_tokens_decoder").filter(|tokens| !tokens.is_null());
        match (&listed, parts.special_tokens_map) {
            (None, Some(bytes)) => config.extend(object(bytes, "special_tokens_map.json")?),
            (Some(listed), _) => settings.configuration.added_tokens = added_tokens(listed)?,
            (None, None) => {}
        }
        settings.own_renderer = parts.tekken || parts.model_config.map_or(Ok(false), has_own_renderer)?;
        settings.configuration.split_special_tokens =
            config.get("split_special_tokens") == Some(&Value::Bool(true));
        settings.read_special_tokens(&config);
        settings.templates = match config.remove("chat_template") {
            None | Some(Value::Null) => (None, None),
            Some(Value::String(template)) => (Some(template), None),
            Some(Value::Array(templates)) => (named(&templates, "default"), named(&templates, "tool_use")),
            Some(_) => {
                return Err(Error::tokenizer(
                    "tokenizer_config.json: chat_template: neither a string nor a list",
                ));
            }
        };
        if let Some(bytes) = parts.chat_template {
            settings.templates = (Some(utf8(bytes, "chat_template.jinja")?), None);
        }
        if let Some(bytes) = parts.tool_use_template {
            settings.templates.1 = Some(utf8(bytes, "additional_chat_templates/tool_use.jinja")?);
        }
        Ok(settings)
    }

    fn read_special_tokens(&mut self, config: &Map<String, Value>) {
        let named =
            SPECIAL_TOKENS.iter().filter_map(|name| Some(((*name).to_owned(), content(config.get(*name)?)?)));
        self.special_tokens = named.map(|(name, token)| (name, token.into())).collect();
        match config.get("extra_special_tokens") {
            Some(Value::Object(tokens)) => {
                let tokens =
                    tokens.iter().filter_map(|(name, token)| Some((name.clone(), content(token)?.into())));
                self.special_tokens.extend(tokens);
            }
            Some(Value::Array(tokens)) => {
                self.configuration.special_tokens.extend(tokens.iter().filter_map(content))
            }
            _ => {}
        }
        if let Some(Value::Array(tokens)) = config.get("additional_special_tokens") {
            self.configuration.special_tokens.extend(tokens.iter().filter_map(content));
        }
        let named = self.special_tokens.values().filter_map(|token| token.as_str().map(str::to_owned));
        self.configuration.special_tokens.splice(0..0, named);
    }
}

fn has_own_renderer(model_config: &[u8]) -> Result<bool, Error> {
    let config = object(model_config, "config.json")?;
    let architectures = config.get("architectures").and_then(Value::as_array);
    let mut architectures = architectures.into_iter().flatten().filter_map(Value::as_str);
    let harmony = config.get("model_type").is_some_and(|kind| kind == "gpt_oss");
    Ok(harmony || architectures.any(|architecture| OWN_RENDERERS.contains(&architecture)))
}

/// A special token is its content, or an object with it.
fn content(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

fn named(templates: &[Value], name: &str) -> Option<String> {
    let found = templates.iter().find(|template| template.get("name").is_some_and(|is| is == name))?;
    found.get("template")?.as_str().map(str::to_owned)
}

fn added_tokens(listed: &Value) -> Result<Vec<AddedToken>, Error> {
    const PLACE: &str = "tokenizer_config.json: added_tokens_decoder";
    let listed = listed.as_object().ok_or_else(|| Error::tokenizer(format!("{PLACE}: not an object")))?;
    let one = |(id, token): (&String, &Value)| {
        let number: u32 =
            id.parse().map_err(|_| Error::tokenizer(format!("{PLACE}: {id:?} is not a token id")))?;
        let text = content(token).ok_or_else(|| Error::tokenizer(format!("{PLACE}.{id}: no content")))?;
        let flag = |name: &str| token.get(name) == Some(&Value::Bool(true));
        let token = AddedToken::from(text, flag("special"))
            .single_word(flag("single_word"))
            .lstrip(flag("lstrip"))
            .rstrip(flag("rstrip"))
            .normalized(token.get("normalized").and_then(Value::as_bool).unwrap_or(!flag("special")));
        Ok((number, token))
    };
    let mut tokens = listed.iter().map(one).collect::<Result<Vec<_>, Error>>()?;
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens.into_iter().map(|(_, token)| token).collect())
}

fn object(bytes: &[u8], file: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::tokenizer(format!("{file}: not a JSON object"))),
        Err(error) => Err(Error::tokenizer(format!("{file}: {error}"))),
    }
}

fn utf8(bytes: &[u8], file: &str) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::tokenizer(format!("{file}: not UTF-8")))
}
