//! `cargo demo --live`: the phases on a running gateway, each expectation beside the engine's own count.

use std::io::{IsTerminal, Write};

use kvroute_examples::capture::Result;
use kvroute_examples::live::{Audience, Loss, Options, Outcome, Phase, Row, play};

/// Plays and prints it; answers whether all was as it should be.
///
/// # Errors
///
/// A gateway that does not answer, or does not answer a request.
pub(super) fn run(options: &Options, json: bool) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut screen = Screen { colour: std::io::stdout().is_terminal(), json, requests: 0 };
    let outcome = runtime.block_on(play(options, &mut screen))?;
    let failures = outcome.failures();
    if json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        screen.outcome(&outcome, &failures)?;
    }
    Ok(failures.is_empty())
}

/// Prints for people: at most 100 columns, colour only on a terminal.
struct Screen {
    colour: bool,
    json: bool,
    requests: usize,
}

impl Screen {
    fn paint(&self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.paint(1, text)
    }

    /// Waits until a person, or who plays one, has done something.
    fn wait_for(&self, what: &str) -> Result<()> {
        let mut err = std::io::stderr().lock();
        writeln!(err, "\n> {what}, then press Enter")?;
        err.flush()?;
        match std::io::stdin().read_line(&mut String::new())? {
            0 => Err(format!("nobody is there to {what}").into()),
            _ => Ok(()),
        }
    }

    fn row(&self, row: &Row) -> String {
        let mark = match (row.is_exact(), row.exempt) {
            (true, _) => self.paint(32, "="),
            (false, Some(_)) => self.paint(33, "~"),
            (false, None) => self.paint(31, "!"),
        };
        let place = match (row.is_on_same_pod.or(row.is_on_right_pod), row.phase) {
            (Some(true), _) => "same",
            (Some(false), Phase::Gone | Phase::Back | Phase::Overfill) => "other",
            (Some(false), _) => "OTHER",
            (None, _) => "new",
        };
        let expected = format!("{:>8}", row.expected);
        format!(
            "{:>4}  {:<9} {:>6}  {:<22} {place:<5} {} {:>7} {mark}  {:<9}{:>8.0} {:>9.1}",
            self.requests,
            row.form.name(),
            row.prompt_tokens,
            row.pod,
            if row.expected > 0 { self.paint(32, &expected) } else { expected },
            row.cached.map_or_else(|| "?".to_owned(), |cached| cached.to_string()),
            row.reason,
            row.overhead_us,
            row.ttft_ms,
        )
    }

    fn outcome(&self, outcome: &Outcome, failures: &[String]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "\n{}  {} of {} requests: what the gateway expected to be cached is what the engine counted, to\n\
             the token; {} of them had something cached. {} differ.",
            self.bold("exactness"),
            outcome.exact,
            outcome.requests,
            outcome.exact_hits,
            outcome.requests - outcome.exact,
        )?;
        for (why, count) in &outcome.exempt {
            writeln!(out, "           {count} of those {}", why.about())?;
        }
        writeln!(
            out,
            "{}   p50 {:.0} us, p99 {:.0} us in the gateway: read, tokenize, hash, look up, score, pick, book",
            self.bold("overhead"),
            outcome.overhead_us_p50,
            outcome.overhead_us_p99
        )?;
        writeln!(out, "\n{}", self.bold(&format!("{:<24}{:>9}{:>12}", "pod", "requests", "hit rate")))?;
        for (pod, figures) in &outcome.pods {
            let rate = 100.0 * figures.cached_tokens as f64 / figures.prompt_tokens.max(1) as f64;
            writeln!(out, "{pod:<24}{:>9}{rate:>10.1} %", figures.requests)?;
        }
        let phases = || {
            let of = |phase: Phase| Some((phase.name(), outcome.ttft_ms_p50_by_phase.get(phase.name())?));
            Phase::ALL.into_iter().filter_map(of)
        };
        let head: String = phases().map(|(name, _)| format!("{name:>11}")).collect();
        let times: String = phases().map(|(_, ms)| format!("{ms:>11.1}")).collect();
        writeln!(out, "\n{}\n{head}\n{times}\n", self.bold("median time to first token, ms"))?;

        writeln!(out, "{}", self.bold("what the phases show"))?;
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let mut show = |what: &str, value: String| writeln!(out, "  {what:<62}{value:>10}");
        show("requests on a pod with their prefix, hit phase", percent(outcome.hit_phase_on_right_pod))?;
        show("follow-ups on the pod of the turn before", percent(outcome.follow_up_on_same_pod))?;
        let reduction = percent(-outcome.ttft_reduction_hit_vs_miss);
        show("median time to first token, hits against misses", reduction)?;
        if let Some(loss) = &outcome.loss {
            let Loss { pod, first_answer_by, blocks_before, .. } = loss;
            show(
                &format!("{pod} stopped: the next request for it was answered by"),
                first_answer_by.clone(),
            )?;
            let back = format!("{:.0} s", loss.back_after_seconds);
            show(&format!("{pod} started again: takes requests after"), back)?;
            let known = if loss.is_emptied { "empty" } else { "full" };
            show(
                &format!("its cache, {blocks_before} blocks before, is then known to be"),
                known.to_owned(),
            )?;
            show("hits that it had since, each as expected", loss.hits_after.to_string())?;
        }
        if let Some((evicted, asked)) = outcome.evicted {
            let value = format!("{evicted} of {asked}");
            show("topics that overfilled caches had evicted in part or whole", value)?;
        }
        if failures.is_empty() {
            return writeln!(out, "\n{}", self.paint(32, "all as it should be"));
        }
        writeln!(out)?;
        failures.iter().try_for_each(|failure| writeln!(out, "{} {failure}", self.paint(31, "FAILED")))
    }
}

impl Audience for Screen {
    fn begins(&mut self, gateway: &str, engines: &[String], pods: &[String]) {
        if !self.json {
            println!("{gateway}, before {} pods of {}: {}", pods.len(), engines.join(", "), pods.join(", "));
            println!(
                "'expected' is what the gateway said it expects to be cached, 'engine' what the pod that \
                 answered\ncounted; '=' marks that they agree, '!' that they do not, '~' that they need not. Events \
                 settle\nbefore each request."
            );
        }
    }

    fn phase(&mut self, phase: Phase) {
        if self.json {
            return;
        }
        println!("\n{}  {}", self.bold(phase.name()), about(phase));
        let head = format!(
            "{:>4}  {:<9} {:>6}  {:<22} {:<5} {:>8} {:>7}    {:<9}{:>8} {:>9}",
            "req", "sent as", "tokens", "pod", "", "expected", "engine", "reason", "over us", "ttft ms"
        );
        println!("{}", self.paint(2, &head));
    }

    fn request(&mut self, row: &Row) {
        self.requests += 1;
        if !self.json {
            println!("{}", self.row(row));
        }
    }

    fn stop(&mut self, pod: &str, url: &str) -> Result<()> {
        self.wait_for(&format!("stop {pod} ({url})"))
    }

    fn start(&mut self, pod: &str, url: &str) -> Result<()> {
        self.wait_for(&format!("start {pod} ({url}) again"))
    }
}

fn about(phase: Phase) -> &'static str {
    match phase {
        Phase::Populate => "topics that nobody asked about before",
        Phase::Hit => "the same topics, other questions",
        Phase::Miss => "new topics",
        Phase::FollowUp => "conversations go on: prompt, answer, next question",
        Phase::Gone => "a pod was stopped; what it held, and what others hold",
        Phase::Back => "it was started again, with an empty cache",
        Phase::Overfill => {
            "more new topics than caches have room for, then every second one again, newest first"
        }
    }
}
