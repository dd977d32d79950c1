//! `cargo demo --recorded`: requests that three real vLLM pods served, routed by kvroute and checked against the
//! engine.

use std::io::{IsTerminal, Write};

use kvroute_examples::capture::{self, Mode, Result};
use kvroute_examples::recorded::{Outcome, Routed, play};

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../../testdata/captures/live-3pods/", $name)))),+]
    };
}

/// Recorded from vLLM 0.32.0; see testdata/captures/README.md.
const CAPTURE: &[(&str, &[u8])] = files![
    "pods.json",
    "events-scenario.jsonl.gz",
    "events-workload.jsonl.gz",
    "http-pod-0.jsonl.gz",
    "http-pod-1.jsonl.gz",
    "http-pod-2.jsonl.gz",
    "workload.jsonl.gz",
];

/// Plays the recording and prints it.
///
/// # Errors
///
/// A capture that cannot be read, or a request that cannot be decided.
pub(super) fn run(mode: Mode, json: bool) -> Result<()> {
    let capture = capture::embedded(CAPTURE)?;
    if json {
        let mut requests = Vec::new();
        let outcome = play(&capture, mode, "workload", |routed| requests.push(routed.clone()))?;
        let mut object = serde_json::to_value(&outcome)?;
        object["routed"] = serde_json::to_value(&requests)?;
        println!("{object}");
        return Ok(());
    }
    let screen = Screen { colour: std::io::stdout().is_terminal() };
    screen.head(capture.pods.len());
    let mut lines = Ok(());
    let outcome = play(&capture, mode, "workload", |routed| {
        if lines.is_ok() {
            lines = screen.request(routed);
        }
    })?;
    // Whoever closes the pipe (`| head`) has seen enough.
    if lines.is_ok() {
        screen.foot(&outcome);
    }
    Ok(())
}

/// Prints for people: at most 100 columns, colour only on a terminal.
struct Screen {
    colour: bool,
}

impl Screen {
    fn paint(&self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn head(&self, pods: usize) {
        println!(
            "Requests recorded from {pods} real vLLM 0.32 pods, each decided by kvroute from the KV events seen so\n\
             far. 'engine' is what the pod that served the request said it took from its cache; 'index' is what\n\
             kvroute expected on that pod, and '=' marks that they agree. score = 5 x kv + 1 x load.\n"
        );
        let pods: String = (0..pods).map(|pod| format!("{:>6}", format!("pod-{pod}"))).collect();
        let head = format!(
            "{:>4} {:>6}  {pods}  {:<6}{:>6}{:>6}{:>7}{:>6}   {:<6}{:>7}{:>6}",
            "req", "tokens", "choice", "kv", "load", "score", "us", "served", "engine", "index"
        );
        println!("{:13}{}", "", self.paint(1, "tokens expected on"));
        println!("{}", self.paint(1, &head));
    }

    fn request(&self, routed: &Routed) -> std::io::Result<()> {
        let number = routed.request.trim_start_matches("workload ");
        let mut pods = String::new();
        for pod in &routed.pods {
            let cell = format!("{:>6}", pod.expected);
            let is_choice = pod.pod == routed.chosen && pod.expected > 0;
            pods += &if is_choice { self.paint(32, &cell) } else { cell };
        }
        let verdict = match (routed.is_exact(), routed.exception) {
            (true, _) => self.paint(32, "="),
            (false, Some(_)) => self.paint(33, "*"),
            (false, None) => self.paint(31, "!"),
        };
        let chosen = routed.pods.iter().find(|pod| pod.pod == routed.chosen);
        let score = |name: &str| {
            let value = chosen.and_then(|pod| pod.scores.iter().find(|score| score.0 == name));
            value.map_or(String::new(), |score| format!("{:.2}", score.1))
        };
        writeln!(
            std::io::stdout(),
            "{number:>4} {:>6}  {pods}  {:<6}{:>6}{:>6}{:>7.2}{:>6.1}   {:<6}{:>7}{:>6} {verdict}",
            routed.prompt_tokens,
            routed.chosen,
            score("kv-cache"),
            score("load"),
            routed.score,
            routed.microseconds,
            routed.served_by,
            routed.engine_cached,
            routed.expected_there,
        )
    }

    fn foot(&self, outcome: &Outcome) {
        let differ = outcome.requests - outcome.expectations_equal;
        println!(
            "\n{} {} of {} expectations are the engine's own count ({:.1} %)",
            self.paint(1, "exactness"),
            outcome.expectations_equal,
            outcome.requests,
            100.0 * outcome.expectations_equal as f64 / outcome.requests.max(1) as f64
        );
        println!(
            "          {differ} differ, {} of them marked *: the first request after a prefix-cache reset, which the\n\
             \x20         engine announces only together with that request's own blocks",
            outcome.expectations_explained
        );
        println!(
            "{}  recorded placement {:.1} % of prompt tokens cached, kvroute's choices {:.1} %",
            self.paint(1, "hit rate"),
            100.0 * outcome.recorded_hit_rate,
            100.0 * outcome.kvroute_hit_rate
        );
        println!(
            "          (in the caches as the recording left them; {} requests went to a pod with less than\n\
             \x20         another one had)",
            outcome.recorded_missed_better_pod
        );
        println!(
            "{}  p50 {:.1} us, p99 {:.1} us a decision: hash, look up, score, pick",
            self.paint(1, "overhead"),
            outcome.overhead_us_p50,
            outcome.overhead_us_p99
        );
    }
}
