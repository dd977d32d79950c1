//! Lines of the decision log: what is in them, what never is, and what is refused.

use kvroute_core::hash::Lora;
use kvroute_core::record::{DecisionRecord, LogLine, OutcomeRecord, RecordOptions};
use kvroute_core::router::Replay;
use kvroute_core::{AdapterReport, ErrorKind, Prompt};

use super::*;

const SECRETS: [&str; 4] = ["alice@example.org", "tenant-42", "/srv/adapters", "987654"];

/// Dispatches a request that is full of what nobody shall read, and records it.
fn recorded(prompt: Prompt<'_>, options: RecordOptions, key: Option<SessionKey>) -> String {
    let (router, pods) =
        router_with(RouterOptions { session_key: key, ..RouterOptions::default() }, &["a", "b"]);
    router.report_adapters(pods[0], &AdapterReport { max: 2, running: &["sql"], waiting: &[] }).unwrap();
    let lora = Lora { name: "sql".into(), path: SECRETS[2].into(), id: 7 };
    let context =
        HashContext { lora: Some(lora), cache_salt: Some(SECRETS[1].into()), ..HashContext::default() };
    let request = Request {
        prompt,
        model: Some("llama"),
        session: Some(Session::Id(SECRETS[0])),
        ..Request::new(&[], &context)
    };
    let mut workspace = Workspace::default();
    let dispatch = router.dispatch(&request, seconds(7), &mut workspace).unwrap();
    router.record(&request, &workspace, Some(&dispatch), options).unwrap().to_json()
}

fn decision(line: &str) -> DecisionRecord<'static> {
    match LogLine::parse(line).unwrap() {
        LogLine::Decision(record) => *record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_line_says_neither_prompt_nor_salt_nor_session() {
    let token_ids: Vec<u32> = (0..20).map(|n| 987_654_000 + n).collect();
    let text = SECRETS[0].repeat(40);
    for prompt in [Prompt::TokenIds(&token_ids), Prompt::Text(text.as_bytes())] {
        let line = recorded(prompt, RecordOptions::default(), None);
        for secret in SECRETS {
            assert!(!line.contains(secret), "{secret} is in {line}");
        }
        assert!(
            !line.contains("token_ids") && !line.contains("text_base64") && !line.contains('\n'),
            "{line}"
        );
        let record = decision(&line);
        assert_eq!((record.model.as_deref(), record.adapter.as_deref()), (Some("llama"), Some("sql")));
        assert_eq!(record.prompt.tokens, prompt.tokens());
    }
}

#[test]
fn the_prompt_is_in_it_if_that_is_asked_for_and_nothing_else_is() {
    let token_ids: Vec<u32> = (0..20).map(|n| 987_654_000 + n).collect();
    let options = RecordOptions { prompt: true };
    let line = recorded(Prompt::TokenIds(&token_ids), options, None);
    assert_eq!(decision(&line).prompt.token_ids.as_deref(), Some(&*token_ids));
    let of_text = recorded(Prompt::Text(b"\xff no UTF-8"), options, None);
    assert_eq!(decision(&of_text).prompt.text_base64.as_deref(), Some("/yBubyBVVEYtOA=="));
    for secret in &SECRETS[..3] {
        assert!(!line.contains(secret) && !of_text.contains(secret), "{secret}");
    }
    for line in [line, of_text] {
        let record = decision(&line);
        assert!(Replay::new(&record).unwrap().choose(&demo_policy()).unwrap().is_as_recorded(&record));
    }
}

#[test]
fn a_session_is_recognized_by_its_hash_which_depends_on_the_routers_key() {
    let hash = |key: Option<u8>| {
        let key = key.map(|byte| SessionKey::new([byte; 32]));
        decision(&recorded(Prompt::TokenIds(&[1]), RecordOptions::default(), key))
            .session
            .unwrap()
            .hash
            .unwrap()
    };
    assert_eq!((hash(None), hash(Some(1))), (hash(None), hash(Some(1))));
    assert!(hash(None) != hash(Some(1)) && hash(Some(1)) != hash(Some(2)));
    assert_eq!(hash(Some(1)).len(), 32);
}

#[test]
fn what_was_decided_by_another_router_or_not_at_all_is_not_recorded() {
    let (router, _) = router_of(&["a"]);
    let (other, _) = router_of(&["a"]);
    let context = HashContext::default();
    let request = Request::new(&[1, 2, 3], &context);
    let mut workspace = Workspace::default();
    let options = RecordOptions::default();
    assert!(router.record(&request, &workspace, None, options).is_none());
    other.decide(&request, seconds(0), &mut workspace).unwrap();
    assert!(router.record(&request, &workspace, None, options).is_none());
    assert!(other.record(&request, &workspace, None, options).is_some());
    let column = [kvroute_core::ScoreColumn { scorer: "none", pods: &[], values: &[] }];
    let refused = Request { scores: &column, ..request };
    other.decide(&refused, seconds(0), &mut workspace).unwrap_err();
    assert!(other.record(&refused, &workspace, None, options).is_none());
}

#[test]
fn an_outcome_is_read_back() {
    for how in [Finish::Completed, Finish::Failed, Finish::Cancelled] {
        for cached in [None, Some(0), Some(4096)] {
            let outcome = OutcomeRecord::new(Ticket::from_u64(u64::MAX), how, cached, Duration::MAX);
            assert_eq!(LogLine::parse(&outcome.to_json()).unwrap(), LogLine::Outcome(outcome));
        }
    }
}

#[test]
fn another_version_is_named_and_fields_of_later_ones_are_passed_over() {
    let line = recorded(Prompt::TokenIds(&[1]), RecordOptions::default(), None);
    let later = line.replacen("\"now\"", "\"from_later\":[{\"a\":1}],\"now\"", 1);
    assert_eq!(decision(&later), decision(&line));
    let error = |line: &str| LogLine::parse(line).unwrap_err();
    for other in [line.replacen(":1,", ":2,", 1), r#"{"kvroute_log":2,"kind":"batch"}"#.into()] {
        let error = error(&other);
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(error.to_string(), "a decision log of version 2; this library reads version 1");
    }
    for (bad, said) in [
        ("", "EOF"),
        ("nothing", "expected"),
        ("[]", "invalid length"),
        ("{}", "missing field `kvroute_log`"),
        (r#"{"kvroute_log":1,"kind":"weather"}"#, "unknown variant `weather`"),
        (r#"{"kvroute_log":1,"kind":"outcome"}"#, "missing field `now`"),
        (&line[..line.len() / 2], "at column"),
    ] {
        let error = error(bad).to_string();
        assert!(
            error.starts_with("not a line of a decision log: ") && error.contains(said),
            "{bad}: {error}"
        );
    }
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let line = recorded(Prompt::TokenIds(&[1; 50]), RecordOptions::default(), None);
    for (from, to, said) in [
        ("\"domain\":0", "\"domain\":7", "there is no domain 7"),
        ("\"searchable_blocks\":12", "\"searchable_blocks\":4000000000", "more than the prompt has"),
        ("\"predicted_blocks\":12", "\"predicted_blocks\":13", "more than could be matched"),
        ("\"capacity\":1.0", "\"capacity\":0.0", "capacity is finite and above 0"),
        ("\"tokens\":50", "\"tokens\":5000000000", "at most 268435456"),
        ("\"block_size\":4", "\"block_size\":0", "block size 0"),
        ("\"session\":{", "\"session\":{\"decode\":9,", "none of those"),
    ] {
        // Zeros are left out.
        let line = line.replace("\"role\"", "\"domain\":0,\"predicted_blocks\":12,\"role\"");
        assert!(line.contains(from), "{from} is not in {line}");
        let record = decision(&line.replacen(from, to, 1));
        let error = Replay::new(&record).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let mut record = decision(&line);
    record.pods.reverse();
    assert!(Replay::new(&record).unwrap_err().to_string().contains("order of their slots"));
}

#[test]
fn what_can_be_compared_with_the_engines_count_is_what_the_router_compares() {
    let (router, pods) = router_of(&["a"]);
    let context = HashContext::default();
    let token_ids = prompt(1);
    let request = Request::new(&token_ids, &context);
    let mut workspace = Workspace::default();
    let mut expected = || {
        router.decide(&request, seconds(0), &mut workspace).unwrap();
        let record = router.record(&request, &workspace, None, RecordOptions::default()).unwrap();
        record.expected_cached_tokens()
    };
    assert_eq!(expected(), None, "no event came yet");
    store(&router, pods[0], &token_ids, 3, Tier::Gpu);
    assert!(router.pod_by_id(pods[0]).unwrap().trust() >= TrustLevel::Degraded);
    assert_eq!(expected(), Some(12));
}
