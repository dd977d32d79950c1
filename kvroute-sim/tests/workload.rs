//! Loads come out as they are described, and the same every time.

use kvroute_sim::workload::{FleetRequest, MooncakeTrace, SharedPrefixLoad};

const TRACE: &str = r#"
{"timestamp": 3000, "input_length": 1100, "output_length": 3, "hash_ids": [0, 7, 9]}
{"timestamp": 0, "input_length": 600, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 3000, "input_length": 1024, "output_length": 8, "hash_ids": [0, 7]}
{"timestamp": 4500, "input_length": 512, "output_length": 1, "hash_ids": [0]}
"#;

#[test]
fn a_traces_hash_ids_become_512_tokens_each() {
    let trace = MooncakeTrace::parse(TRACE).expect("the trace is well formed");
    let requests: Vec<FleetRequest> = trace.requests(0.5, 10).collect();
    let arrivals: Vec<f64> = requests.iter().map(|request| request.arrival).collect();
    assert_eq!(arrivals, [0.0, 1.5, 1.5, 2.25]);
    let lengths: Vec<usize> = requests.iter().map(|request| request.token_ids.len()).collect();
    assert_eq!(lengths, [600, 1100, 1024, 512], "in order of time, then of lines");
    let sessions: Vec<u64> = requests.iter().map(|request| request.session).collect();
    assert_eq!(sessions, [1, 7, 7, 0]);
    let tokens = |place: usize| &requests[place].token_ids[..];
    assert_eq!(tokens(1)[..1024], *tokens(2));
    assert_eq!(tokens(0)[..512], *tokens(3));
    assert_ne!(tokens(0)[512..600], tokens(1)[512..600]);
    assert_eq!(trace.requests(1.0, 2).count(), 2);
    assert_eq!(trace.requests(1.0, 2).last(), trace.requests(1.0, 9).nth(1));
}

#[test]
fn a_bad_line_is_named() {
    let cases = [
        ("{\"timestamp\": 0}", "missing field `input_length`"),
        (
            r#"{"timestamp": 0, "input_length": 513, "output_length": 1, "hash_ids": [1]}"#,
            "1 hash ids for a prompt of 513",
        ),
        (
            r#"{"timestamp": 0, "input_length": 0, "output_length": 1, "hash_ids": [1]}"#,
            "an empty prompt or answer",
        ),
    ];
    for (line, problem) in cases {
        let error = MooncakeTrace::parse(&format!("\n{line}\n")).expect_err("the line is bad");
        assert_eq!(error.line(), 2);
        assert!(error.to_string().starts_with(&format!("trace line 2: {problem}")), "{error}");
    }
}

#[test]
fn a_group_shares_its_prefix_and_nothing_else() {
    let load = SharedPrefixLoad {
        groups: 4,
        prefix_tokens: 160,
        own_tokens: 20..=50,
        output_tokens: 8,
        rate: 10.0,
        count: 2000,
        seed: 1,
    };
    let requests: Vec<FleetRequest> = load.requests().collect();
    assert!(requests.iter().eq(load.requests().collect::<Vec<_>>().iter()), "the same every time");
    assert!(requests.is_sorted_by(|one, next| one.arrival < next.arrival && one.id < next.id));
    let rate = 2000.0 / requests[1999].arrival;
    assert!((rate / 10.0 - 1.0).abs() < 0.1, "{rate}");
    let first = &requests[0];
    for request in &requests[1..] {
        assert!((180..=210).contains(&request.token_ids.len()));
        let shared = first
            .token_ids
            .iter()
            .zip(request.token_ids.iter())
            .take_while(|(one, other)| one == other)
            .count();
        let expected = if request.session == first.session { 160 } else { 0 };
        assert_eq!(shared, expected);
    }
    for group in 0..4 {
        let count = requests.iter().filter(|request| request.session == group).count();
        assert!((400..600).contains(&count), "group {group}: {count}");
    }
    let other = SharedPrefixLoad { seed: 2, ..load };
    assert_ne!(other.requests().next().map(|request| request.token_ids[0]), Some(first.token_ids[0]));
}

#[test]
fn an_excerpt_of_a_trace_has_the_rate_that_is_asked_for() {
    let line = |n: u64| {
        format!(
            "{{\"timestamp\": {}, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, {n}]}}\n",
            n / 8 * 3000
        )
    };
    let trace = MooncakeTrace::parse(&(0..400).map(line).collect::<String>()).expect("it is well formed");
    let excerpt = |seed| trace.excerpt(16.0, 160, seed).collect::<Vec<FleetRequest>>();
    let requests = excerpt(1);
    assert_eq!(requests, excerpt(1));
    assert_ne!(requests[0].session, excerpt(2)[0].session, "another place");
    assert!(requests.is_sorted_by(|one, next| one.arrival < next.arrival && one.id < next.id));
    let last = requests.last().expect("160 requests").arrival;
    assert_eq!(requests.len(), 160);
    assert!((8.0..=10.0).contains(&last), "{last}");
    assert_eq!(trace.excerpt(16.0, 1000, 3).count(), 400, "as many as there are");
}
