//! The fleet as a document, and pods from files.

use kvroute_io::fleet::{Fleet, FleetDocument, PodState};

use super::support::*;

#[test]
fn a_document_is_the_router_and_what_feeds_it() {
    let document = FleetDocument::parse(
        "
router:
  policy: {preset: cost}
  domains:
    tiny: {block_size: 32}
fleet:
  pods:
  - http://10.0.0.7:8000
  - {url: 'http://vllm.svc:8000', resolve: true, role: prefill, domain: tiny, known: {events_mode: connect}}
  file: {path: pods.yaml}
  known: {hash_seed: '0'}
  scrape: {interval_ms: 500}
  events: {threads: 1}
",
    )
    .unwrap();
    assert_eq!(document.fleet.pods.len(), 2);
    assert_eq!(document.fleet.pods[0].name(), "10.0.0.7:8000");
    assert!(document.fleet.pods[1].resolve);
    assert_eq!(document.fleet.scrape.interval_ms, 500);
    let again: FleetDocument = serde_json::from_str(&serde_json::to_string(&document).unwrap()).unwrap();
    assert_eq!(again, document);
    assert_eq!(FleetDocument::parse("{}").unwrap(), FleetDocument::default());
    assert!(FleetDocument::json_schema().to_string().contains("token_file"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (document, error) in [
        ("fleet:\n  scrap: {}\n", "fleet: unknown key `scrap`; did you mean `scrape`? (line 2, column 3)"),
        (
            "router:\n  index: {shrads: 1}\n",
            "router.index: unknown key `shrads`; did you mean `shards`? (line 2, column 11)",
        ),
        (
            "router:\n  index: {shards: 0}\n",
            "router.index.shards: found `0`, expected 1 to 4096 (line 2, column 19)",
        ),
        (
            "router:\n  pods: [{name: a, domain: d}]\n  domains: {d: {block_size: 16}}\n",
            "router.pods: pods come from `fleet` here; none may be named (line 2, column 9)",
        ),
        (
            "fleet:\n  pods: [nonsense]\n",
            "fleet.pods[0]: found no http:// or https:// in front, expected a URL such as http://10.0.0.7:8000 (line 2, column 10)",
        ),
        (
            "fleet:\n  pods:\n  - {url: 'http://a', domain: x}\n",
            "fleet.pods[0].domain: found `x`, expected one of the router's `domains` (line 3, column 31)",
        ),
        (
            "fleet:\n  pods: [http://a, http://a]\n",
            "fleet.pods[1]: pod `a:80` is there already, at [0] (line 2, column 20)",
        ),
        (
            "fleet:\n  pods: [{url: http://a, capacity: 0}]\n",
            "fleet.pods[0].capacity: found `0`, expected a finite number above 0 (line 2, column 36)",
        ),
        (
            "fleet:\n  known: {block_size: 0}\n",
            "fleet.known.block_size: found `0`, expected 1 to 65536 tokens (line 2, column 23)",
        ),
        (
            "fleet:\n  scrape: {interval_ms: 1000, stale_ms: 10}\n",
            "fleet.scrape.stale_ms: found `10`, expected 1000 or more (line 2, column 41)",
        ),
        (
            "{\"fleet\": {\"dns\": {\"interval_ms\": 1}}}",
            "fleet.dns.interval_ms: found `1`, expected 10 or more (line 1, column 35)",
        ),
    ] {
        assert_eq!(FleetDocument::parse(document).unwrap_err().to_string(), error);
    }
}

#[test]
fn the_session_key_is_not_repeated_wherever_the_router_stands() {
    let error = FleetDocument::parse("router: {sessions: {key: [secret]}}").unwrap_err().to_string();
    assert!(error.starts_with("router.sessions.key") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn pods_come_and_go_with_a_file() {
    let directory = directory("pods");
    let path = directory.join("pods.yaml");
    let (first, second) = (FakePod::vllm().await, FakePod::vllm().await);
    let write = |pods: &[&FakePod]| {
        let lines: String =
            pods.iter().map(|pod| format!("- {{url: '{}', domain: mine}}\n", pod.url)).collect();
        std::fs::write(&path, format!("pods:\n{lines}")).unwrap();
    };
    write(&[&first]);
    let document = FleetDocument::parse(&format!(
        "router: {{domains: {{mine: {{block_size: 16}}}}}}\nfleet: {{file: {{path: '{}', interval_ms: 50}}}}",
        path.display()
    ))
    .unwrap();
    let mut config = config(&[]);
    config.file = document.fleet.file.clone();
    let fleet = Fleet::start(document.router.build().unwrap().into(), config).unwrap();
    let pod_status = until_state(&fleet, &first.name(), PodState::Ready).await;
    assert_eq!(pod_status.domain.as_deref(), Some("mine"));
    let notes = pod_status.known.unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("its blocks have 32 tokens")), "{notes:?}");

    write(&[&first, &second]);
    until_state(&fleet, &second.name(), PodState::Ready).await;
    std::fs::write(&path, "pods: [").unwrap();
    until("the broken file is noticed", || fleet.status().sources[1].error.clone()).await;
    assert_eq!(fleet.status().pods.len(), 2);
    write(&[&second]);
    until("the first one is gone", || pod(&fleet, &first.name()).is_none().then_some(())).await;
    assert_eq!(chosen(&fleet), [second.name()]);
    std::fs::remove_dir_all(&directory).unwrap();
}
