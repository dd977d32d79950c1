//! Prints the demos on simulated pods: at most 100 columns, colour only on a terminal.

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};

use kvroute_examples::capture::Result;
use kvroute_examples::simulated::{
    self, BLOCK_SIZE, BLOCKS, MAX_UNCACHED_TOKENS, Outcome, Row, Scaled, Size, WithKvroute,
};
use kvroute_sim::fleet::{Row as Measurement, Strategy};
use kvroute_sim::workload::{MooncakeTrace, Phase};

/// The founding demo's phases.
pub(super) fn phases(size: Size, seed: u64, log: Option<&OsStr>, json: bool) -> Result<()> {
    let (rows, outcome) = simulated::phases(size, seed)?;
    write(log, &outcome.log)?;
    if json {
        return print_json(&outcome);
    }
    let screen = Screen::new();
    // Whoever closes the pipe (`| head`) has seen enough.
    let _ = screen.phases(size, &rows, &outcome);
    Ok(())
}

/// A published trace.
pub(super) fn trace(
    size: Size,
    text: &str,
    requests: usize,
    seed: u64,
    log: Option<&OsStr>,
    json: bool,
) -> Result<()> {
    let requests = MooncakeTrace::parse(text)?.requests(1.0, requests).collect();
    let (_, outcome) = simulated::trace(size, requests, seed)?;
    write(log, &outcome.log)?;
    if json {
        return print_json(&outcome);
    }
    let _ = Screen::new().trace(size, &outcome);
    Ok(())
}

/// A measured experiment beside its simulation.
pub(super) fn three_pods() -> Result<()> {
    let (rows, with_kvroute) = simulated::three_pods()?;
    let _ = Screen::new().three_pods(&rows, &with_kvroute);
    Ok(())
}

/// Pods that come and go.
pub(super) fn scale(from: usize, to: usize, seed: u64, log: Option<&OsStr>, json: bool) -> Result<()> {
    let scaled = simulated::scale(from, to, seed)?;
    write(log, &scaled.log)?;
    if json {
        return print_json(&scaled);
    }
    let _ = Screen::new().scaled(&scaled);
    Ok(())
}

/// Writes the decision log, if it was asked for.
fn write(file: Option<&OsStr>, log: &str) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, log).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

struct Screen {
    colour: bool,
}

impl Screen {
    fn new() -> Self {
        Self { colour: std::io::stdout().is_terminal() }
    }

    fn paint(&self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn phases(&self, size: Size, rows: &[Row], outcome: &Outcome) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        self.head(&mut out, size)?;
        for phase in Phase::ALL {
            writeln!(out, "\n{}  {}", self.paint(1, phase.name()), about(phase))?;
            let head = format!(
                "{:>4} {:>6}  {:<20} {:>8} {:>7}   {:>5} {:>5}{:>7}{:>8}{:>6}{:>7} {:>7}",
                "req",
                "tokens",
                "pods",
                "expected",
                "engine",
                "drift",
                "kv",
                "prefix",
                "session",
                "load",
                "total",
                "ttft ms"
            );
            writeln!(out, "{}", self.paint(2, &head))?;
            for row in rows.iter().filter(|row| row.asked.phase == phase) {
                self.row(&mut out, row, &outcome.pods)?;
            }
        }
        writeln!(out)?;
        self.outcome(&mut out, outcome)?;
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        writeln!(out, "\n{}", self.paint(1, "what the phases show"))?;
        for (what, value) in [
            ("requests on a pod with their prefix, hit phase", percent(outcome.hit_phase_on_right_pod)),
            ("follow-ups on the pod of the turn before", percent(outcome.follow_up_on_same_pod)),
            ("median time to first token, hits against misses", percent(-outcome.ttft_reduction_hit_vs_miss)),
        ] {
            writeln!(out, "  {what:<52}{value:>9}")?;
        }
        Ok(())
    }

    fn trace(&self, size: Size, outcome: &Outcome) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        self.head(&mut out, size)?;
        writeln!(out, "{} requests of the trace, at the trace's times.\n", outcome.requests)?;
        self.outcome(&mut out, outcome)
    }

    fn head(&self, out: &mut impl Write, size: Size) -> std::io::Result<()> {
        let Size { decode, prefill } = size;
        writeln!(
            out,
            "{decode} decode and {prefill} prefill pods in virtual time: vLLM's block manager, scheduler and event \
             stream, with\ntimings of an 8B model on H200s and room for {}k tokens of KV each. kvroute sees what a \
             gateway sees\nand routes by the preset llm-d-demo (kv-cache 5, prefix 3, session 2, load 1).",
            BLOCKS as usize * BLOCK_SIZE / 1000
        )?;
        if prefill > 0 {
            writeln!(
                out,
                "Prompts with more than {MAX_UNCACHED_TOKENS} uncached tokens are computed by a prefill pod first."
            )?;
        }
        Ok(())
    }

    fn row(&self, out: &mut impl Write, row: &Row, pods: &[simulated::PodOutcome]) -> std::io::Result<()> {
        let name = |pod: usize| pods.get(pod).map_or("?", |pod| pod.pod.as_str());
        let decode = row.pod().map_or("none", name);
        let route = match row.record.prefill {
            Some(prefill) => format!("{} > {decode}", name(prefill.pod)),
            None => decode.to_owned(),
        };
        let mark = if row.is_exact() { self.paint(32, "=") } else { self.paint(31, "!") };
        let explanation = row.routed.explanation.as_ref();
        let scores = explanation.and_then(|e| Some(&e.pods.get(e.picked?)?.scores));
        let score = |at: usize| scores.and_then(|s| s.get(at)).map_or(0.0, |score| score.value);
        let drift = match row.drift() {
            0 => String::new(),
            drift => format!("{drift:+}"),
        };
        let expected = format!("{:>8}", row.expected());
        writeln!(
            out,
            "{:>4} {:>6}  {route:<20} {} {:>7} {mark} {drift:>5} {:>5.2}{:>7.2}{:>8.2}{:>6.2}{:>7.2} {:>7.1}",
            row.asked.request.id,
            row.record.prompt_tokens,
            if row.expected() > 0 { self.paint(32, &expected) } else { expected },
            row.actual(),
            score(0),
            score(1),
            score(2),
            score(3),
            row.routed.decision.total,
            row.record.time_to_first_token().unwrap_or(f64::NAN) * 1e3,
        )
    }

    fn outcome(&self, out: &mut impl Write, outcome: &Outcome) -> std::io::Result<()> {
        writeln!(
            out,
            "{}  {} of {} requests: what kvroute expected to be cached is what the engines had at that\ninstant, on \
             every pod of the decision. For {} it changed until the engine admitted the request.",
            self.paint(1, "exactness"),
            outcome.requests - outcome.expected_cached_mismatches,
            outcome.requests,
            outcome.drifted_until_admission,
        )?;
        writeln!(
            out,
            "{}  p50 {:.1} us, p99 {:.1} us a whole dispatch: hash, look up, score, pick, book, record",
            self.paint(1, "overhead"),
            outcome.overhead_us_p50,
            outcome.overhead_us_p99
        )?;
        writeln!(out, "\n{}", self.paint(1, &format!("{:<12}{:>9}{:>12}", "pod", "requests", "hit rate")))?;
        for pod in &outcome.pods {
            writeln!(out, "{:<12}{:>9}{:>10.1} %", pod.pod, pod.requests, pod.hit_rate * 100.0)?;
        }
        let phases: Vec<_> = outcome.policies[0].ttft_ms_p50_by_phase.keys().copied().collect();
        let phases: Vec<_> = Phase::ALL
            .into_iter()
            .map(Phase::name)
            .filter(|name| phases.len() > 1 && phases.contains(name))
            .collect();
        let columns: String = phases.iter().map(|name| format!("{name:>10}")).collect();
        let head = format!(
            "{:<13}{:>9}  {:>8}{:>8}{:>9}{columns}{:>10}",
            "same requests", "hit rate", "ttft p50", "p90", "p99", "imbalance"
        );
        writeln!(out, "\n{}", self.paint(1, &head))?;
        for policy in &outcome.policies {
            let by_phase: String =
                phases.iter().map(|name| format!("{:>10.0}", policy.ttft_ms_p50_by_phase[name])).collect();
            writeln!(
                out,
                "{:<13}{:>7.1} %  {:>8.0}{:>8.0}{:>9.0}{by_phase}{:>10.2}",
                policy.policy,
                policy.hit_rate * 100.0,
                policy.ttft_ms_p50,
                policy.ttft_ms_p90,
                policy.ttft_ms_p99,
                policy.imbalance
            )?;
        }
        writeln!(
            out,
            "{}",
            self.paint(2, "times in ms; imbalance: the busiest decode pod's share against an even one")
        )
    }

    fn three_pods(&self, rows: &[Measurement], with_kvroute: &[WithKvroute]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "Three 8B pods on H200s under load, as measured and as simulated (mean of 16 runs). Times in ms.\n"
        )?;
        let head = format!(
            "{:<6}{:<14}{:>8}{:>10}{:>6}  {:>8}{:>10}  {:>8}{:>10}  {:>6}{:>6}",
            "req/s",
            "policy",
            "ttft p50",
            "simulated",
            "ratio",
            "ttft p90",
            "simulated",
            "e2e p50",
            "simulated",
            "cached",
            "sim."
        );
        writeln!(out, "{}", self.paint(1, &head))?;
        for Measurement { measured, simulated, .. } in rows {
            let (is, was) = (simulated, &measured.summary);
            writeln!(
                out,
                "{:<6}{:<14}{:>8.0}{:>10.0}{:>6.2}  {:>8.0}{:>10.0}  {:>8.0}{:>10.0}  {:>6.2}{:>6.2}",
                measured.rate,
                format!("{:?}", measured.strategy),
                was.ttft_p50 * 1e3,
                is.ttft_p50 * 1e3,
                is.ttft_p50 / was.ttft_p50,
                was.ttft_p90 * 1e3,
                is.ttft_p90 * 1e3,
                was.end_to_end_p50 * 1e3,
                is.end_to_end_p50 * 1e3,
                was.cached_share,
                is.cached_share
            )?;
            let last = measured.strategy == Strategy::Sticky;
            for WithKvroute { summary, .. } in
                with_kvroute.iter().filter(|row| last && row.rate == measured.rate)
            {
                let line = format!(
                    "{:<6}{:<14}{:>18.0}{:>26.0}{:>20.0}{:>14.2}",
                    measured.rate,
                    "kvroute",
                    summary.ttft_p50 * 1e3,
                    summary.ttft_p90 * 1e3,
                    summary.end_to_end_p50 * 1e3,
                    summary.cached_share
                );
                writeln!(out, "{}", self.paint(32, &line))?;
            }
        }
        writeln!(out, "\nWhat fits and what does not: the documentation of kvroute_sim::fleet::ThreePods.")
    }

    fn scaled(&self, scaled: &Scaled) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "Pods that come and go under one load, in virtual time: 6000-token prefixes, timings of an 8B\nmodel \
             on H200s. Of {} requests, kvroute expected other tokens to be cached than the engine had\nfor {}. \
             A dispatch took p50 {:.1} us, p99 {:.1} us. Times below in ms.\n",
            scaled.requests,
            scaled.expected_cached_mismatches,
            scaled.overhead_us_p50,
            scaled.overhead_us_p99
        )?;
        let head = format!(
            "{:<25}{:>9}{:>9}{:>10}{:>10}{:>7}{:>10}{:>7}{:>7}",
            "", "seconds", "requests", "hit rate", "ttft p50", "p99", "imbalance", "again", "failed"
        );
        writeln!(out, "{}", self.paint(1, &head))?;
        for window in &scaled.windows {
            writeln!(
                out,
                "{:<25}{:>9}{:>9}{:>8.1} %{:>10.0}{:>7.0}{:>10.2}{:>7}{:>7}",
                window.what,
                format!("{:.0}-{:.0}", window.seconds.0, window.seconds.1),
                window.requests,
                window.hit_rate * 100.0,
                window.ttft_ms_p50,
                window.ttft_ms_p99,
                window.imbalance,
                window.sent_again,
                window.failed
            )?;
        }
        writeln!(out, "\n{}", self.paint(1, "hit rate and median time to first token, window by window"))?;
        for (policy, windows) in &scaled.policies {
            let cells: String =
                windows.iter().map(|(hits, ttft)| format!("{:>7.0} % {ttft:>5.0}", hits * 100.0)).collect();
            writeln!(out, "{policy:<13}{cells}")?;
        }
        Ok(())
    }
}

fn about(phase: Phase) -> &'static str {
    match phase {
        Phase::Populate => "topics that nobody asked about before",
        Phase::Hit => "the same topics, other questions, many at a time",
        Phase::Miss => "new topics: the least loaded pod",
        Phase::FollowUp => "conversations go on: prompt, answer, next question",
    }
}
