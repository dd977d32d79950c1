//! llm-d's `EndpointPickerConfig`: its sample configurations, every plugin that maps, every mistake, and documents that
//! somebody made to hurt.

mod hostile;
mod mistakes;
mod plugins;
mod profiles;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use kvroute_core::{Config, Error};
use serde_json::{Map, Value};

fn read(document: &str) -> Result<(Config, Vec<String>), Error> {
    Config::from_endpoint_picker(document)
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/epp-config")
}

/// The names of the sample configurations.
fn names() -> Vec<String> {
    let entries = fs::read_dir(samples()).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".yaml")).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_samples_give_what_is_expected() {
    let names = names();
    assert_eq!(names.len(), 19);
    for name in names {
        let document = fs::read_to_string(samples().join(&name)).unwrap();
        let (config, notes) = read(&document).unwrap_or_else(|error| panic!("{name}: {error}"));
        let notes: String = notes.iter().map(|note| format!("# {note}\n")).collect();
        let mut answer = format!("{notes}\n");
        block(&changed(&serde_json::to_value(&config).unwrap(), &default()), 0, &mut answer);

        let path = samples().join("expected").join(&name);
        if env::var_os("BLESS").is_some() {
            fs::write(&path, &answer).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(answer, expected, "{name}: to accept it, run with BLESS=1");
        assert_eq!(Config::from_yaml(&expected).unwrap(), config, "{name}");
        config.build().unwrap();
    }
}

#[test]
fn json_means_the_same() {
    let yaml = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: load-aware-scorer, name: load, parameters: {threshold: 64.0}}
- {type: openai-parser, parameters: }
schedulingProfiles:
- {name: default, plugins: [{pluginRef: load, weight: 2}]}
flowControl: ~
";
    let json = "{\"apiVersion\": \"llm-d.ai/v1alpha1\", \"kind\": \"EndpointPickerConfig\", \"plugins\": [{\"type\": \
                \"load-aware-scorer\", \"name\": \"load\", \"parameters\": {\"threshold\": 64}}, {\"type\": \
                \"openai-parser\", \"parameters\": null}], \"schedulingProfiles\": [{\"name\": \"default\", \
                \"plugins\": [{\"pluginRef\": \"load\", \"weight\": 2.0}]}]}";
    let (config, notes) = read(yaml).unwrap();
    assert_eq!(read(json).unwrap(), (config.clone(), notes));
    let load = config.policy.decode.scorers.unwrap().load.unwrap();
    assert_eq!((load.weight, load.limit), (1.0, 64));
}

fn default() -> Value {
    serde_json::to_value(Config::default()).unwrap()
}

/// What of a configuration differs from the default.
fn changed(value: &Value, default: &Value) -> Value {
    let (Value::Object(entries), Value::Object(defaults)) = (value, default) else { return value.clone() };
    let differ = entries.iter().filter(|(key, value)| defaults.get(*key) != Some(value));
    let entry = |(key, value): (&String, &Value)| {
        (key.clone(), changed(value, defaults.get(key).unwrap_or(&Value::Null)))
    };
    Value::Object(differ.map(entry).collect::<Map<_, _>>())
}

/// Writes a mapping as YAML: what fits into a line is one.
fn block(value: &Value, depth: usize, yaml: &mut String) {
    let indent = "  ".repeat(depth);
    for (key, value) in sorted(value.as_object().unwrap()) {
        let line = format!("{indent}{}: {}\n", flow(&key.as_str().into()), flow(value));
        match value {
            Value::Object(entries) if line.len() > 100 || depth < 2 && !entries.is_empty() => {
                yaml.push_str(&format!("{indent}{}:\n", flow(&key.as_str().into())));
                block(value, depth + 1, yaml);
            }
            Value::Array(items) if line.len() > 100 => {
                yaml.push_str(&format!("{indent}{key}:\n"));
                yaml.extend(items.iter().map(|item| format!("{indent}  - {}\n", flow(item))));
            }
            _ => yaml.push_str(&line),
        }
    }
}

/// Whether serde_json keeps the order of insertion hangs on what else is built.
fn sorted(entries: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    entries.iter().collect()
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let entry =
                |(key, value): (&String, &Value)| format!("{}: {}", flow(&key.as_str().into()), flow(value));
            let entries = sorted(entries).into_iter().map(entry);
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) if text.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
            if is_plain { text.clone() } else { value.to_string() }
        }
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{float}"),
            _ => number.to_string(),
        },
        value => value.to_string(),
    }
}
