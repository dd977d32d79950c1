//! `cargo demo --live`, through a gateway in front of simulated engines that publish real events.

use std::net::SocketAddr;
use std::time::Duration;

use kvroute_core::Finish;
use kvroute_examples::capture::Result;
use kvroute_examples::live::{Audience, Exempt, Form, Options, Phase, Row, play};

use crate::pod::{Pod, completion};
use crate::setup::{Running, quoted};
use crate::watch::{SimPod, fleet};

/// A pod while it is there.
struct Place {
    name: String,
    at: (SocketAddr, String),
    pod: Option<SimPod>,
}

/// Sees to the pods that are to be stopped, and keeps what was shown.
struct Stage {
    places: Vec<Place>,
    phases: Vec<Phase>,
    rows: Vec<Row>,
}

impl Stage {
    fn of(pods: Vec<SimPod>) -> Self {
        let place = |pod: SimPod| Place { name: pod.name(), at: pod.place(), pod: Some(pod) };
        Self { places: pods.into_iter().map(place).collect(), phases: Vec::new(), rows: Vec::new() }
    }

    fn place(&mut self, name: &str) -> &mut Place {
        self.places.iter_mut().find(|place| place.name == name).expect("one of the pods")
    }
}

impl Audience for Stage {
    fn begins(&mut self, gateway: &str, engines: &[String], pods: &[String]) {
        assert!(
            gateway.starts_with("kvroute-gateway ") && engines == ["vllm 0.32.0"],
            "{gateway} {engines:?}"
        );
        assert_eq!(pods.len(), self.places.len());
    }

    fn phase(&mut self, phase: Phase) {
        self.phases.push(phase);
    }

    fn request(&mut self, row: &Row) {
        self.rows.push(row.clone());
    }

    fn stop(&mut self, pod: &str, _: &str) -> Result<()> {
        assert!(self.place(pod).pod.take().is_some());
        Ok(())
    }

    fn start(&mut self, pod: &str, _: &str) -> Result<()> {
        let place = self.place(pod);
        assert!(place.pod.is_none());
        place.pod = Some(SimPod::at(place.at.0, &place.at.1));
        Ok(())
    }
}

fn options(running: &Running) -> Options {
    Options {
        url: format!("http://{}", running.address),
        topics: 6,
        prefix_tokens: 200,
        quiet: Duration::from_millis(60),
        ..Options::default()
    }
}

#[tokio::test]
async fn all_that_is_expected_is_what_the_engines_count_while_a_pod_dies_and_returns() {
    let (pods, running) = fleet(3, "answer_headers: true").await;
    let mut stage = Stage::of(pods);
    let options = Options { loses_a_pod: true, ..options(&running) };
    let outcome = play(&options, &mut stage).await.expect("it plays");
    assert_eq!(outcome.failures(), [""; 0], "{outcome:#?}");
    assert_eq!((outcome.exact, outcome.wrong, outcome.exempt.len()), (outcome.requests, 0, 0));
    assert_eq!(stage.phases, Phase::ALL[..6]);
    assert_eq!(stage.rows.len(), outcome.requests);
    for form in Form::ALL {
        let hit = |row: &&Row| row.form == form && row.phase == Phase::FollowUp && row.expected >= 192;
        assert_eq!(stage.rows.iter().filter(hit).count(), 6, "{form:?}");
    }
    let loss = outcome.loss.expect("a pod was lost");
    assert!(loss.blocks_before > 0 && loss.hits_after == 2, "{loss:?}");
    // Clients noticed nothing of it.
    let ended = running.outcomes();
    assert!(ended.iter().all(|outcome| outcome.end == Finish::Completed));
    assert!(ended.iter().any(|outcome| outcome.retries > 0), "nobody asked the dead pod");
}

#[tokio::test]
async fn a_gateway_that_renders_chats_as_its_engines_do_not_fails_the_demo() {
    let pods: Vec<_> = (0..2).map(|_| SimPod::start()).collect();
    let urls: Vec<_> = pods.iter().map(SimPod::url).collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/tokenize");
    let document = format!(
        "gateway: {{answer_headers: true}}\nfleet: {{pods: [{}]}}\n\
         tokenizers: {{m: {{path: '{folder}', chat_template: '{folder}/chat_template_parts.jinja'}}}}\n",
        quoted(&urls)
    );
    let running = Running::with_document(&document, pods.len()).await;
    let mut stage = Stage::of(pods);
    let outcome = play(&Options { topics: 3, ..options(&running) }, &mut stage).await.expect("it plays");
    assert!(outcome.wrong > 0 && outcome.exempt.is_empty(), "{outcome:#?}");
    assert!(stage.rows.iter().all(|row| row.is_wrong() == (row.form == Form::Chat)));
    let failures = outcome.failures();
    assert!(failures[0].contains("are not the engine's own count"), "{failures:?}");
}

#[tokio::test]
async fn what_is_known_as_text_or_guessed_is_exempt_and_counted() {
    let pods: Vec<_> = (0..2).map(|_| SimPod::start()).collect();
    let urls: Vec<_> = pods.iter().map(SimPod::url).collect();
    let running = Running::start(&urls, "answer_headers: true").await;
    let mut stage = Stage::of(pods);
    let outcome = play(&Options { topics: 3, ..options(&running) }, &mut stage).await.expect("it plays");
    assert_eq!(outcome.exempt.keys().collect::<Vec<_>>(), [&Exempt::KnownAsText], "{outcome:#?}");
    assert_eq!(outcome.failures(), [""; 0]);
    assert!(stage.rows.iter().all(|row| row.exempt.is_some() == (row.form != Form::TokenIds)));
}

#[tokio::test]
async fn what_is_no_gateway_or_says_too_little_is_an_error_that_names_it() {
    let pod = Pod::answering(completion(0)).await;
    let mut stage = Stage::of(Vec::new());
    let patience = Duration::from_millis(100);
    let at = |url: String| Options { url, patience, ..Options::default() };
    let error = play(&at(pod.url()), &mut stage).await.expect_err("a pod is no gateway").to_string();
    assert!(error.contains("/status.json"), "{error}");
    let pods = vec![SimPod::start()];
    let running = Running::start(&[pods[0].url()], "").await;
    let mut stage = Stage::of(pods);
    let error = play(&at(options(&running).url), &mut stage).await.expect_err("no headers").to_string();
    assert!(error.contains("answer_headers"), "{error}");
}
