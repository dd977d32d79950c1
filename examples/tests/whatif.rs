//! A demo's decision log under its own policy and under others.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use kvroute_core::record::LogLine;
use kvroute_core::{Config, Policy};
use kvroute_examples::simulated::{self, Size};
use kvroute_examples::whatif::{Report, WhatIf};

/// That of the demo.
const WAS: &str = "policy: {preset: llm-d-demo, prefill: {max_uncached_tokens: 512}}";
const NO_PREFIXES: &str = "policy: {preset: llm-d-demo, decode: {scorers: {load: {weight: 1}}}, prefill: {max_uncached_tokens: 512}}";

static LOG: LazyLock<String> =
    LazyLock::new(|| simulated::phases(Size { decode: 3, prefill: 2 }, 1).unwrap().1.log);

fn policy(document: &str) -> Policy {
    Config::parse(document).unwrap().policy().unwrap()
}

fn report(log: &[u8], config: &str) -> Report {
    WhatIf::new(policy(config), Some(policy(WAS))).read(log).unwrap()
}

#[test]
fn under_its_own_policy_a_log_is_made_again_bit_for_bit() {
    let report = report(LOG.as_bytes(), WAS);
    let reproduced = report.reproduced.unwrap();
    assert_eq!((reproduced.same, reproduced.other), (report.decisions, 0));
    assert_eq!((report.compared, report.outcomes), (report.decisions, report.decisions));
    assert!(report.decisions > 50, "{}", report.decisions);
    assert_eq!((report.elsewhere, report.bad_lines, report.failed_then), (0, 0, 0));
    assert_eq!(report.uncached_tokens.then, report.uncached_tokens.now);
    assert_eq!(report.spread.requests.then, report.spread.requests.now);
    let expectations = report.expectations;
    assert!(expectations.agreed > 0 && expectations.over == 0, "{expectations:?}");
    assert!(expectations.not_comparable > 0, "prompts that come from a prefill pod");
    assert_eq!(expectations.without_decision, 0);
}

#[test]
fn a_policy_without_caches_sends_hits_elsewhere_and_is_told_what_that_costs() {
    let report = report(LOG.as_bytes(), NO_PREFIXES);
    assert!(report.elsewhere * 5 > report.compared, "{} of {}", report.elsewhere, report.compared);
    assert!(report.uncached_tokens.now > report.uncached_tokens.then, "{:?}", report.uncached_tokens);
    assert_eq!(report.why.values().sum::<u64>(), report.elsewhere);
    assert_eq!(report.moves.iter().map(|one| one.requests).sum::<u64>(), report.elsewhere);
    assert!(report.why.contains_key("score: load"), "{:?}", report.why);
    assert_eq!(report.largest.len(), 10);
    let size = |n: usize| {
        let tokens = report.largest[n].uncached_tokens;
        tokens.then.abs_diff(tokens.now)
    };
    assert!((1..10).all(|n| size(n) <= size(n - 1)) && size(0) > 500);
    assert_eq!(report.pods.values().map(|pod| pod.requests.now).sum::<u64>(), report.compared);
    assert!(report.spread.in_flight.now <= report.spread.in_flight.then, "{:?}", report.spread);
}

#[test]
fn a_policy_that_is_not_the_logs_is_found_out() {
    let report = WhatIf::new(policy(WAS), Some(policy(NO_PREFIXES))).read(LOG.as_bytes()).unwrap();
    let reproduced = report.reproduced.unwrap();
    assert_eq!(reproduced.same, 0, "its scores are others");
    assert_eq!(reproduced.first_others[..2], [1, 2]);
}

#[test]
fn no_prompt_and_no_session_is_in_the_log() {
    for line in LOG.lines() {
        let LogLine::Decision(record) = LogLine::parse(line).unwrap() else { continue };
        assert!(record.prompt.token_ids.is_none() && record.prompt.text_base64.is_none());
        assert_eq!(record.session.and_then(|session| session.hash).map(|hash| hash.len()), Some(32));
    }
}

#[test]
fn bad_lines_are_counted_with_their_numbers_and_end_nothing() {
    let lines: Vec<_> = LOG.lines().collect();
    let other_version = lines[1].replacen("\"kvroute_log\":1", "\"kvroute_log\":9", 1);
    let out_of_range = lines[0].replacen("\"capacity\":1.0", "\"capacity\":-1.0", 1);
    let mut log = format!("{}\n\nnonsense\n{other_version}\n{out_of_range}\n", lines[0]).into_bytes();
    log.extend(b"\xff\xfe\n");
    log.extend(lines[1..].join("\n").into_bytes());
    let report = report(&log, WAS);
    let bad: Vec<_> = report.bad.iter().map(|bad| bad.line).collect();
    assert_eq!((report.bad_lines, bad), (4, vec![3, 4, 5, 6]));
    for (bad, said) in report.bad.iter().zip(["expected", "version 9", "capacity", "UTF-8"]) {
        assert!(bad.error.contains(said), "{bad:?}");
    }
    assert_eq!(report.decisions as usize + report.outcomes as usize, lines.len());
}

#[test]
fn a_log_without_a_good_line_is_an_error() {
    for (log, said) in [("", "the log has no good line"), ("{}\n", "line 1: not a line of a decision log")] {
        let error = WhatIf::new(policy(WAS), None).read(log.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Runs the program with the log on standard input; answers whether it went well, and what it printed.
fn run(arguments: &[&str], log: &str) -> (bool, String, String) {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let (was, other) = (format!("{folder}/whatif-was.yaml"), format!("{folder}/whatif-other.yaml"));
    std::fs::write(&was, WAS).unwrap();
    std::fs::write(&other, NO_PREFIXES).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_whatif"))
        .args(["-", "--config", &other, "--was", &was])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that has seen enough closes its end.
    let _ = program.stdin.take().unwrap().write_all(log.as_bytes());
    let output = program.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_prints_what_fits_in_a_hundred_columns_and_says_what_it_cannot_know() {
    let (is_well, text, errors) = run(&[], &LOG);
    assert!(is_well && errors.is_empty(), "{errors}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    for said in ["would have gone elsewhere", "bit for bit", "score: load", "largest changes", "cargo lab"] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
    let (is_well, text, _) = run(&["--json"], &LOG);
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(is_well && object["elsewhere"].as_u64() > Some(0) && object["largest"].is_array(), "{object}");
    let (is_well, text, errors) = run(&[], "nothing\n");
    assert!(!is_well && text.is_empty() && errors.contains("-: the log has no good line"), "{errors}");
}
