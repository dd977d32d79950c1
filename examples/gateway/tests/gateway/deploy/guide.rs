//! The operator's guide: what it names exists, and what it shows is what a gateway says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kvroute_core::index::IgnoreReason;
use kvroute_gateway::config::Document;
use serde_json::Value;

use super::{file, sizes};
use crate::client::{post, post_with};
use crate::watch::fleet;

const GUIDE: &str = "README.md";

/// A file of the repository.
fn repository(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What stands between each pair of marks, `<!-- name -->` and `<!-- /end -->`.
pub(super) fn marked<'a>(text: &'a str, name: &str, end: &str) -> &'a str {
    let start = format!("<!-- {name} -->");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("no {start}"));
    rest.split_once(&format!("<!-- /{end} -->")).unwrap_or_else(|| panic!("no end of {start}")).0
}

/// What is set in backticks outside of blocks.
fn code(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// The blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let all = text.split("```").skip(1).step_by(2);
    all.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_metric_exists_and_so_do_the_reasons_for_what_was_ignored() {
    // What that list says is what a gateway tells: watch::metrics.
    let listed = repository("examples/gateway/README.md");
    let rows = listed.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<&str> = rows.filter(|name| name.starts_with("kvroute_")).collect();
    let guide = file(GUIDE);
    let named: BTreeSet<&str> =
        words(&guide).into_iter().filter(|word| word.starts_with("kvroute_")).collect();
    assert!(named.len() > 25 && named.is_subset(&listed), "{:?}", named.difference(&listed));
    let reasons: BTreeSet<&str> = IgnoreReason::ALL.map(IgnoreReason::name).into();
    for rest in guide.split("kvroute_events_ignored_total{reason=\"").skip(1) {
        let reason = rest.split('"').next().expect("a first part");
        assert!(reasons.contains(reason), "{reason}");
    }
}

#[test]
fn every_key_of_the_configuration_exists() {
    let schema = Document::json_schema();
    let guide = file(GUIDE);
    let sections = ["gateway.", "router.", "fleet."];
    let keys = code(&guide).into_iter().filter(|text| {
        sections.iter().any(|section| text.starts_with(section))
            && text.chars().all(|c| c.is_ascii_lowercase() || "._".contains(c))
            && !text.ends_with(".yaml")
    });
    let keys: BTreeSet<&str> = keys.collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        let mut at = vec![&schema];
        for part in key.split('.') {
            at = at.iter().flat_map(|place| property(&schema, place, part)).collect();
            assert!(!at.is_empty(), "{key}: no `{part}`");
        }
    }
    // Those that need a restart are those that the program says need one.
    let reload = repository("examples/gateway/src/reload.rs");
    let fixed: BTreeSet<&str> = reload
        .lines()
        .filter_map(|line| line.trim().strip_prefix("(\"")?.split_once("\", json!").map(|(key, _)| key))
        .collect();
    let named = code(marked(&guide, "restart", "restart")).into_iter();
    let is_section = |key: &&str| schema["properties"].get(key.split('.').next().expect("a part")).is_some();
    assert_eq!(named.filter(is_section).collect::<BTreeSet<_>>(), fixed);
}

/// The schemas of a property, through references and alternatives.
fn property<'a>(schema: &'a Value, place: &'a Value, name: &str) -> Vec<&'a Value> {
    let mut found: Vec<&Value> = place["properties"].get(name).into_iter().collect();
    if let Some(reference) = place["$ref"].as_str() {
        let target = schema.pointer(reference.trim_start_matches('#')).expect(reference);
        found.extend(property(schema, target, name));
    }
    for alternatives in ["anyOf", "oneOf", "allOf"] {
        let parts = place[alternatives].as_array().into_iter().flatten();
        found.extend(parts.flat_map(|part| property(schema, part, name)));
    }
    found
}

#[test]
fn every_alert_and_command_exists() {
    let guide = file(GUIDE);
    let rules = repository("examples/grafana/kvroute-alerts.yml");
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let named: BTreeSet<&str> =
        words(&guide).into_iter().filter(|word| word.starts_with("Kvroute")).collect();
    assert_eq!(named, alerts, "all of them, and nothing else");

    let steps = repository("xtask/src/steps.rs");
    let aliases = repository(".cargo/config.toml");
    let usage = repository("examples/gateway/src/main.rs");
    let mut commands: Vec<&str> = code(&guide);
    commands.extend(blocks(&guide, "sh").into_iter().flat_map(str::lines));
    let mut checked = 0;
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let after = |flag: &str| {
            words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied()
        };
        match *words {
            ["cargo", "xtask", "test", "--only", step] => {
                assert!(steps.contains(&format!("name: \"{step}\"")), "{command}");
            }
            ["cargo", "run", ..] => {
                let (package, program) = (after("-p").expect(command), after("--bin").expect(command));
                let folder = package.strip_prefix("kvroute-").expect(command);
                assert!(root().join(folder).join(format!("src/bin/{program}.rs")).exists(), "{command}");
            }
            ["cargo", "bench", "--", group] => {
                let path = format!("benches/benches/{group}.rs");
                assert!(root().join(path).exists(), "{command}");
            }
            ["cargo", alias, ..] => assert!(aliases.contains(&format!("\n{alias} = ")), "{command}"),
            ["kvroute-gateway", "--config", "FILE", flag] => assert!(usage.contains(flag), "{command}"),
            ["kubectl" | "docker", _, "-f", path, ..] => assert!(root().join(path).exists(), "{command}"),
            ["kubectl", "patch", .., path] => assert!(root().join(path).exists(), "{command}"),
            _ => continue,
        }
        checked += 1;
    }
    assert!(checked >= 8, "{checked}");
}

#[test]
fn the_tables_of_sizes_are_those_that_the_program_prints() {
    let guide = file(GUIDE);
    let program = repository("benches/src/bin/sizing.rs");
    let rows = sizes(&guide);
    let heads = rows.iter().zip(rows.iter().skip(1)).filter(|(_, next)| next[0] == "---");
    let heads: Vec<&str> = heads.map(|(head, _)| head[0]).collect();
    assert_eq!(heads.len(), 4, "{heads:?}");
    assert!(heads.iter().all(|head| program.contains(&format!("| {head} |"))), "{heads:?}");
    assert_eq!(rows.iter().filter(|row| row[0].ends_with(" blocks")).count(), 3, "fleets: {rows:?}");
}

#[test]
fn every_file_and_heading_that_is_linked_exists() {
    let guide = file(GUIDE);
    let headings: BTreeSet<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace('/', "").replace(' ', "-"))
        .collect();
    let links: Vec<&str> = guide.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 10);
    for link in links {
        match link.strip_prefix('#') {
            Some(heading) => assert!(headings.contains(heading), "{link}"),
            None => assert!(root().join("examples/deploy").join(link).exists(), "{link}"),
        }
    }
}

/// What `/explain` says to people.
async fn explained(address: SocketAddr, body: &str) -> String {
    let got = post_with(address, "/explain?endpoint=/v1/completions", "accept: text/plain\r\n", body).await;
    assert_eq!(got.status, 200, "{got:?}");
    String::from_utf8(got.body).expect("text")
}

/// Lines without what differs from run to run: numbers, which pod is marked, how columns are filled up.
fn shapes(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(|line| line.trim_start_matches('>'));
    let lines = lines.map(|line| {
        let words = line.split_whitespace().map(|word| {
            let mut shape = String::new();
            for c in word.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }) {
                if !(c == '#' && shape.ends_with('#')) {
                    shape.push(c);
                }
            }
            shape
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.filter(|line| !line.is_empty()).collect()
}

#[tokio::test]
async fn what_explain_is_shown_to_say_is_what_it_says() {
    let (_pods, running) = fleet(3, "").await;
    let prompt = |ids: std::ops::Range<u32>| {
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        format!(r#"{{"model": "m", "prompt": [{}]}}"#, ids.join(","))
    };
    assert_eq!(post(running.address, "/v1/completions", &prompt(0..322)).await.status, 200);
    running.until("its events arrive", |running| running.gateway.router().status().index.blocks >= 20).await;

    let guide = file(GUIDE);
    for (name, body) in [("hit", prompt(0..322)), ("short", prompt(0..8)), ("miss", prompt(500..800))] {
        let said = shapes(&explained(running.address, &body).await);
        let shown = marked(&guide, &format!("explain {name}"), "explain");
        let shown = shapes(blocks(shown, "text").first().expect("a block"));
        assert!(!shown.is_empty() && shown.is_subset(&said), "{name}: {shown:#?}\nof {said:#?}");
    }
}

#[test]
fn what_explain_is_quoted_with_is_in_its_source() {
    let source = repository("kvroute-core/src/router/explain.rs").replace("\\\n", "\n");
    // As one line, and numbers as the guide has them.
    let source = source.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_place = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || "_.".contains(c));
    let parts = source.split('{').map(|part| match part.split_once('}') {
        Some((place, rest)) if is_place(place) => format!("…{rest}"),
        _ => part.to_owned(),
    });
    let source = parts.collect::<String>();
    let guide = file(GUIDE);
    let quoted = guide.split("/explain: `").skip(1).filter_map(|rest| rest.split('`').next());
    let quoted: Vec<&str> = quoted.collect();
    assert!(quoted.len() >= 4, "{quoted:?}");
    for quote in quoted {
        assert!(source.contains(quote), "{quote}");
    }
}
