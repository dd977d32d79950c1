//! `cargo lab`: routing policies compared on simulated pods, on workloads of many kinds at several loads.

mod options;
mod table;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use kvroute_examples::capture::Result;
use kvroute_examples::lab::{Lab, Plan, Verdict, WORKLOADS, report};
use options::{Options, USAGE};

fn main() -> ExitCode {
    match Options::parse().and_then(|options| options.map_or_else(help, run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::from(2)
        }
    }
}

fn help() -> Result<()> {
    println!("{USAGE}");
    Ok(())
}

fn run(options: Options) -> Result<()> {
    let Options { plan, list, html, png, verdict, json } = options;
    if list {
        return print_names(&plan);
    }
    let start = Instant::now();
    let lab = with_progress(&plan)?;
    let seconds = start.elapsed().as_secs_f64();
    let mut out = std::io::stdout().lock();
    let on_stdout = json.as_ref().is_some_and(|file| file == "-");
    if on_stdout {
        writeln!(out, "{}", serde_json::to_string(&lab)?)?;
    } else {
        // Whoever closes the pipe (`| head`) has seen enough.
        let _ = table::print(&mut out, &lab, plan.work(), seconds);
    }
    if let Some(file) = json.filter(|_| !on_stdout) {
        let text = serde_json::to_string(&lab)?;
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(file) = html {
        let page = report::html(&lab, &about(&plan, seconds))?;
        std::fs::write(&file, page).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if let Some(folder) = png {
        report::pictures(&lab, folder.as_ref())?;
    }
    if verdict {
        writeln!(out, "{}", serde_json::to_string(&Verdict::of(&lab))?)?;
    }
    Ok(())
}

/// How the results came about.
fn about(plan: &Plan, seconds: f64) -> String {
    format!(
        "Simulated pods: vLLM's block manager, scheduler and event stream, with timings of an 8B model on H200s. {} runs \
         in {seconds:.0} s, {} seeds.",
        plan.work(),
        plan.seeds
    )
}

/// Runs the plan, with a bar on standard error if that is a terminal.
fn with_progress(plan: &Plan) -> Result<Lab> {
    if !std::io::stderr().is_terminal() {
        return plan.run(|| {});
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} runs, {eta} left")?;
    let bar = ProgressBar::new(plan.work() as u64).with_style(style);
    let lab = plan.run(|| bar.inc(1));
    bar.finish_and_clear();
    lab
}

fn print_names(plan: &Plan) -> Result<()> {
    println!("workloads");
    for workload in &WORKLOADS {
        let rates: Vec<String> = workload.rates.iter().map(f64::to_string).collect();
        println!("  {:<12} {:<52} {} arrivals/s", workload.name, workload.what, rates.join(", "));
    }
    println!("policies");
    for candidate in &plan.candidates {
        println!("  {}", candidate.name);
    }
    Ok(())
}
