//! A report as text: at most 100 columns.

use std::collections::BTreeMap;
use std::io::{Result, Write};

use kvroute_examples::whatif::{Change, Expectations, Move, Pair, Report};

const CAVEAT: &str = "\
Every decision is made again as it was: with the caches, loads and bookings of its moment. Had a
request gone elsewhere, those of later ones would have been others; so read this as what would have
changed first, not as what would have come of it. `cargo lab --policy NAME=FILE` plays a policy out.";

/// Moves that are shown.
const MOVES: usize = 12;

pub(super) fn print(out: &mut impl Write, report: &Report) -> Result<()> {
    heads(out, report)?;
    let Report { compared, elsewhere, another_pod_answers, .. } = report;
    if *compared == 0 {
        return writeln!(out, "\nNo decision can be compared.");
    }
    writeln!(
        out,
        "\n{elsewhere} of {compared} decisions would have gone elsewhere ({}), {another_pod_answers} of them to \
         another pod that answers.",
        percent(*elsewhere, *compared)
    )?;
    if *elsewhere > 0 {
        writeln!(out)?;
        for (why, count) in most_first(&report.why) {
            writeln!(out, "{count:>9}  {why}")?;
        }
        moves(out, &report.moves)?;
    }
    figures(out, report)?;
    expectations(out, &report.expectations)?;
    if !report.largest.is_empty() {
        largest(out, &report.largest)?;
    }
    writeln!(out, "\n{CAVEAT}")?;
    if report.sampled > 0 {
        writeln!(
            out,
            "{} decisions looked at a sample of the pods; here the other policy chooses among the same.",
            report.sampled
        )?;
    }
    Ok(())
}

/// What was read, and how far it can be compared.
fn heads(out: &mut impl Write, report: &Report) -> Result<()> {
    let Report { decisions, outcomes, bad_lines, .. } = report;
    writeln!(out, "{decisions} decisions and {outcomes} ends of requests; {bad_lines} lines are no good.")?;
    for bad in &report.bad {
        writeln!(out, "  line {}: {}", bad.line, clipped(&bad.error, 80))?;
    }
    if let Some(reproduced) = &report.reproduced {
        let all = reproduced.same + reproduced.other;
        writeln!(
            out,
            "The policy it is said to be of makes {} of {all} again, bit for bit.",
            reproduced.same
        )?;
        if reproduced.other > 0 {
            let lines: Vec<_> = reproduced.first_others.iter().map(usize::to_string).collect();
            writeln!(out, "  It is not the policy of this log. Others: lines {}", lines.join(", "))?;
        }
    }
    for (count, what) in [
        (report.failed_then, "found no pod then"),
        (report.failed_then_only, "of these would have found one"),
        (report.failed_now, "would have found no pod"),
        (report.beyond_record, "cannot be told: the policy would have looked at pods that are not on record"),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}.")?;
        }
    }
    match &report.first_failure {
        Some(failure) => writeln!(out, "  {}", clipped(failure, 96)),
        None => Ok(()),
    }
}

fn moves(out: &mut impl Write, moves: &[Move]) -> Result<()> {
    writeln!(out, "\n{:>9}  {:<24}{:<24}why", "requests", "from", "to")?;
    for one in moves.iter().take(MOVES) {
        let why: Vec<_> =
            most_first(&one.why).into_iter().map(|(why, count)| format!("{why} {count}")).collect();
        let Pair { then, now } = &one.route;
        let (then, now) = (clipped(then, 22), clipped(now, 22));
        writeln!(out, "{:>9}  {then:<24}{now:<24}{}", one.requests, clipped(&why.join(", "), 40))?;
    }
    let rest = moves.iter().skip(MOVES);
    match rest.clone().count() {
        0 => Ok(()),
        count => {
            let requests: u64 = rest.map(|one| one.requests).sum();
            writeln!(out, "{requests:>9}  between {count} other pairs")
        }
    }
}

fn figures(out: &mut impl Write, report: &Report) -> Result<()> {
    let Pair { then, now } = report.uncached_tokens;
    let all = report.prompt_tokens;
    writeln!(out, "\n{:<44}{:>16}{:>16}", "expected when each was decided", "then", "now")?;
    writeln!(out, "{:<44}{then:>16}{now:>16}", "tokens to compute")?;
    let (then, now) = (percent(then, all), percent(now, all));
    writeln!(out, "{:<44}{then:>16}{now:>16}", "  share of the prompts' tokens")?;
    let spread = &report.spread;
    for (what, Pair { then, now }) in [
        ("requests the chosen pod had, mean", spread.in_flight),
        ("busiest pod against the mean: requests", spread.requests),
        ("                              tokens to compute", spread.uncached_tokens),
    ] {
        let width = 44.max(what.len());
        writeln!(out, "{what:<width$}{then:>rest$.2}{now:>16.2}", rest = 60 - width)?;
    }
    Ok(())
}

fn expectations(out: &mut impl Write, expectations: &Expectations) -> Result<()> {
    let Expectations { agreed, over, under, nothing, not_comparable, without_decision } = expectations;
    if agreed + over + under + nothing + not_comparable + without_decision == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "\nexpected to be cached, beside the engines' counts: {agreed} agree, {over} too high, {under} too low;\n\
         {nothing} with nothing on either side, {not_comparable} not comparable, {without_decision} without their \
         decision"
    )
}

fn largest(out: &mut impl Write, changes: &[Change]) -> Result<()> {
    writeln!(out, "\nlargest changes in tokens to compute")?;
    writeln!(out, "{:>7}{:>9}  {:<22}{:<22}{:>15}  why", "line", "seconds", "from", "to", "to compute")?;
    for change in changes {
        let Pair { then, now } = &change.route;
        let tokens = format!("{} > {}", change.uncached_tokens.then, change.uncached_tokens.now);
        writeln!(
            out,
            "{:>7}{:>9.2}  {:<22}{:<22}{tokens:>15}  {}",
            change.line,
            change.seconds,
            clipped(then, 20),
            clipped(now, 20),
            clipped(&change.why, 22)
        )?;
    }
    Ok(())
}

fn most_first(counts: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    let mut counts: Vec<_> = counts.iter().map(|(what, &count)| (what.as_str(), count)).collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts
}

fn percent(part: u64, all: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / (all as f64).max(1.0))
}

/// At most so many characters.
fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
