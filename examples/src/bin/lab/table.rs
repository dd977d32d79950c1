//! The results as text: at most 120 columns.

use std::io::{Result, Write};

use kvroute_examples::lab::{Cell, Figure, Lab, Metric, Row};

const LEGEND: &str = "\
Means over seeds and 95 % intervals, a fifth of the requests left out as warm-up. Times in ms. * the best of the
cell; = not told apart from it (paired, 95 %). hits: share of prompt tokens that were cached. requests, busy: the
pod with most of them, or whose engine was busy longest, against the mean. front: nobody is better in hits and busy
at once. overhead: real time of a dispatch, us, p50 and p99; wrong: requests for which the router expected other
tokens to be cached than the engine had.";

/// Prints all cells.
pub(super) fn print(out: &mut impl Write, lab: &Lab, runs: usize, seconds: f64) -> Result<()> {
    writeln!(out, "{LEGEND}")?;
    let mut last = "";
    for cell in &lab.cells {
        if cell.workload != last {
            writeln!(out, "\n{}: {}", cell.workload, cell.what)?;
            last = &cell.workload;
        }
        print_cell(out, cell)?;
    }
    writeln!(
        out,
        "\n{runs} runs in {seconds:.1} s; {} seeds; default policy: {}",
        lab.seeds, lab.default_preset
    )
}

fn print_cell(out: &mut impl Write, cell: &Cell) -> Result<()> {
    let front: Vec<&str> =
        cell.rows.iter().filter(|row| row.is_on_front).map(|row| row.policy.as_str()).collect();
    writeln!(
        out,
        "\n  {}, {} arrivals/s; an unlimited cache would hit {:.1} %; front: {}",
        cell.load,
        cell.rate,
        cell.bound.mean * 100.0,
        front.join(", ")
    )?;
    writeln!(
        out,
        "  {:<14}{:>14}{:>17}{:>10}{:>19}{:>9}{:>7}{:>9}{:>7}{:>6}{:>12}{:>6}",
        "",
        "hits %",
        "ttft p50",
        "p90",
        "p99",
        "e2e p50",
        "itl",
        "requests",
        "busy",
        "fail",
        "overhead",
        "wrong"
    )?;
    for row in &cell.rows {
        print_row(out, row)?;
    }
    Ok(())
}

fn print_row(out: &mut impl Write, row: &Row) -> Result<()> {
    let cell = |metric: Metric, scale: f64, digits: usize, width: usize| {
        let Figure { value, is_best, is_tied } = row.figure(metric);
        let mark = if is_best {
            '*'
        } else if is_tied {
            '='
        } else {
            ' '
        };
        let text = format!("{:.digits$} ±{:.digits$}{mark}", value.mean * scale, value.half * scale);
        format!("{text:>width$}")
    };
    let mean = |metric: Metric| row.mean(metric);
    let (overhead, wrong) = match row.routing() {
        Some(routing) => (
            format!("{:.0}/{:.0}", routing.overhead_us_p50, routing.overhead_us_p99),
            routing.mismatches.to_string(),
        ),
        None => Default::default(),
    };
    writeln!(
        out,
        "  {:<14}{}{}{:>10.0}{}{:>9.0}{:>7.1}{:>9.2}{:>7.2}{:>6}{overhead:>12}{wrong:>6}",
        row.policy,
        cell(Metric::HitRate, 100.0, 1, 14),
        cell(Metric::TtftP50, 1.0, 0, 17),
        mean(Metric::TtftP90),
        cell(Metric::TtftP99, 1.0, 0, 19),
        mean(Metric::EndToEndP50),
        mean(Metric::InterTokenP50),
        mean(Metric::RequestSpread),
        mean(Metric::BusySpread),
        row.failed,
    )
}
