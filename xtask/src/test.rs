//! `cargo xtask test`: runs the steps, all of them whatever fails, and sums up.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::options::{self, Options};
use crate::steps::{Context, Run, STEPS, Step, Verdict};

/// Runs the command; the exit code is 0 only when no step failed.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    let options = match Options::parse(arguments, &names) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("error: {message}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    if options.list {
        list();
        return ExitCode::SUCCESS;
    }
    let context = match Context::new(options.fuzz_seconds) {
        Ok(context) => context,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };

    let chosen: Vec<&Step> = STEPS.iter().filter(|step| is_chosen(step, &options)).collect();
    let results: Vec<Finished> = chosen
        .iter()
        .enumerate()
        .map(|(done, step)| run(step, &context, &format!("{}/{}", done + 1, chosen.len())))
        .collect();
    let summary = summary(&results);
    println!("\n{summary}");
    if results.iter().any(|result| matches!(result.verdict, Verdict::Failed(_))) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn is_chosen(step: &Step, options: &Options) -> bool {
    if !options.only.is_empty() {
        return options.only.iter().any(|name| name == step.name);
    }
    match step.run {
        Run::Always => true,
        Run::NotQuick => !options.quick,
        Run::OnRequest => options.miri,
    }
}

fn list() {
    for step in STEPS {
        let mut remark = match step.run {
            Run::Always => String::new(),
            Run::NotQuick => " (not with --quick)".to_owned(),
            Run::OnRequest => format!(" (only with --{})", step.name),
        };
        for tool in step.needs {
            remark.push_str(&format!(" [{}]", tool.name));
        }
        println!("{:<10}{}{remark}", step.name, step.what);
    }
}

/// A step that ran.
struct Finished {
    name: &'static str,
    verdict: Verdict,
    elapsed: Duration,
}

fn run(step: &Step, context: &Context, position: &str) -> Finished {
    println!("\n== {position} {}: {}", step.name, step.what);
    let start = Instant::now();
    let missing = step.needs.iter().find_map(|tool| tool.ensure(context.ci).err());
    let verdict = match missing {
        Some(why) if context.ci => Verdict::Failed(why),
        Some(why) => Verdict::Skipped(why),
        None => (step.check)(context),
    };
    let elapsed = start.elapsed();
    println!("{}", line(verdict.word(), step.name, elapsed, verdict.remark()));
    Finished { name: step.name, verdict, elapsed }
}

/// One aligned line about one step.
fn line(word: &str, name: &str, elapsed: Duration, remark: &str) -> String {
    let line = format!("{word:<5} {:>7.1} s  {name}", elapsed.as_secs_f64());
    if remark.is_empty() { line } else { format!("{line}: {remark}") }
}

/// The closing text: a line in plain words, a line for each step, and the counts alone on the last line.
fn summary(results: &[Finished]) -> String {
    let count = |word: &str| results.iter().filter(|result| result.verdict.word() == word).count();
    let (passed, failed, skipped) = (count("ok"), count("FAIL"), count("SKIP"));
    let failures: Vec<&str> =
        results.iter().filter(|result| result.verdict.word() == "FAIL").map(|result| result.name).collect();
    let total: Duration = results.iter().map(|result| result.elapsed).sum();

    let mut text = if failed > 0 {
        format!("{failed} of {} steps failed: {}.", results.len(), failures.join(", "))
    } else if skipped > 0 {
        format!("Nothing failed, but {skipped} of {} steps did not run.", results.len())
    } else {
        format!("All {} steps passed.", results.len())
    };
    text.push_str(&format!(" {:.0} s in all.\n\n", total.as_secs_f64()));
    for result in results {
        // The rest of a long remark stands at the step itself.
        let remark = result.verdict.remark().lines().next().unwrap_or("");
        text.push_str(&line(result.verdict.word(), result.name, result.elapsed, remark));
        text.push('\n');
    }
    text.push_str(&format!("\n{passed} passed, {failed} failed, {skipped} skipped"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_failures_first_and_counts_last() {
        let finished = |name, verdict| Finished { name, verdict, elapsed: Duration::from_millis(1_500) };
        let text = summary(&[
            finished("fmt", Verdict::Passed(String::new())),
            finished("deny", Verdict::Skipped("cargo-deny is not installed".to_owned())),
            finished("clippy", Verdict::Failed("2 warnings".to_owned())),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1 of 3 steps failed: clippy. 4 s in all.");
        assert_eq!(lines[3], "SKIP      1.5 s  deny: cargo-deny is not installed");
        assert_eq!(lines[lines.len() - 1], "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn only_wins_over_quick_and_reaches_steps_on_request() {
        let chosen = |words: &[&str]| -> Vec<&str> {
            let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            let options = Options::parse(&words, &names).unwrap();
            STEPS.iter().filter(|step| is_chosen(step, &options)).map(|step| step.name).collect()
        };
        assert_eq!(chosen(&["--quick", "--only", "deny", "--only", "miri"]), ["deny", "miri"]);
        assert!(!chosen(&[]).contains(&"miri") && chosen(&["--miri"]).contains(&"miri"));
        assert!(!chosen(&["--quick"]).contains(&"fuzz") && chosen(&[]).contains(&"fuzz"));
    }
}
