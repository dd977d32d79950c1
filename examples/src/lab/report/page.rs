//! The HTML.

use std::fmt::Write;

use kvroute_plot::{Brush, PAGE, svg};

use super::{highest, overview, plots, theme};
use crate::capture::Result;
use crate::lab::{Cell, Figure, Lab, Metric, Row, Verdict};

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fff; --text: #212529; --soft: #6c757d; --grid: #dee2e6; --mark: #e7f1ff }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15181c; --text: #dee2e6; --soft: #98a0a8; --grid: #343a40; --mark: #1b2a3d }
}
body { background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1180px; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin: 3rem 0 0 } h3 { font-size: 1rem; margin: 1.5rem 0 .5rem }
p { max-width: 75ch } .soft { color: var(--soft) }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: .5rem }
svg { width: 100%; height: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; width: 100% }
.table { overflow-x: auto }
th, td { padding: .15rem .6rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } tr + tr td { border-top: 1px solid var(--grid) }
td.best { background: var(--mark); font-weight: 600 } td.tied { background: var(--mark) }
.legend { background: var(--ground); display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: .5rem 0; position: sticky;
  top: 0 }
.legend i { border-radius: 50%; box-sizing: border-box; display: inline-block; height: .7em; margin-right: .4em;
  width: .7em }
nav a { color: inherit; margin-right: 1rem } summary { cursor: pointer }
";

const HOW_TO_READ: &str = "Means over seeds with 95 % confidence intervals (Student's t); the first fifth of the requests is \
left out as warm-up. All policies of a cell get the same requests. Marked cells: the best of the column, and those whose \
distance from it could be chance (paired differences, 95 %). Hits: share of prompt tokens that were cached. Requests and \
busy: the pod with most requests, or whose engine was busy longest, against the mean. Front: no other policy is better in \
hits and busy at once. In plots, solid lines and discs are kvroute, dashed lines and rings are policies that know no \
caches; the fine dashed line is what one unlimited cache would hit. Wrong: requests for which the router expected other \
tokens to be cached than the engine had.";

/// Columns of a table: a figure, its name, what it is multiplied by, digits.
const COLUMNS: [(Metric, &str, f64, usize); 8] = [
    (Metric::HitRate, "hits %", 100.0, 1),
    (Metric::TtftP50, "ttft p50 ms", 1.0, 0),
    (Metric::TtftP90, "p90", 1.0, 0),
    (Metric::TtftP99, "p99", 1.0, 0),
    (Metric::EndToEndP50, "end to end p50", 1.0, 0),
    (Metric::InterTokenP50, "between tokens", 1.0, 1),
    (Metric::RequestSpread, "requests", 1.0, 2),
    (Metric::BusySpread, "busy", 1.0, 2),
];

pub(super) fn page(lab: &Lab, about: &str) -> Result<String> {
    let Some(first) = lab.cells.first() else { return Err("no results".into()) };
    let brushes = theme::brushes(&first.rows);
    let cells = highest(lab);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>kvroute: policies compared</title><style>{STYLE}</style></head><body>\n\
         <h1>kvroute: policies compared</h1>\n<p>{}</p>\n<p class=\"soft\">{HOW_TO_READ}</p>\n",
        escaped(about)
    );
    verdict(&mut out, lab)?;
    out.push_str("<nav>");
    for cell in &cells {
        write!(out, "<a href=\"#{0}\">{0}</a>", escaped(&cell.workload))?;
    }
    out.push_str("</nav>\n");
    legend(&mut out, &first.rows, &brushes)?;
    out.push_str("<h2>All workloads at their highest load</h2>\n<div class=\"plots\">");
    for metric in [Metric::TtftP50, Metric::TtftP99] {
        let height = 90 + 30 * cells.len() as u32;
        out.push_str(&svg(700, height, |canvas| {
            overview::multiples(canvas, &cells, metric, &brushes, PAGE)
        })?);
    }
    out.push_str("</div>\n");
    let mut last = "";
    for cell in &lab.cells {
        if cell.workload != last {
            let (name, what) = (escaped(&cell.workload), escaped(&cell.what));
            write!(out, "<h2 id=\"{name}\">{name}</h2>\n<p>{what}</p>\n")?;
            last = &cell.workload;
        }
        section(&mut out, cell, &brushes)?;
    }
    out.push_str("</body></html>\n");
    Ok(out)
}

/// How the default policy compares.
fn verdict(out: &mut String, lab: &Lab) -> Result<()> {
    let verdict = Verdict::of(lab);
    let number = |value: Option<f64>| value.map_or("not run".to_owned(), |value| format!("{value:.3}"));
    let yes = |value: Option<bool>| match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not run",
    };
    let lines = [
        ("default policy", escaped(verdict.default_preset)),
        ("most that its hit rate is below the best policy's", number(verdict.worst_hit_rate_gap_to_best)),
        ("median time to first token, times the best: worst", number(verdict.worst_ttft_p50_ratio_to_best)),
        ("99th percentile, times the best: worst", number(verdict.worst_ttft_p99_ratio_to_best)),
        (
            "never slower than least loaded where nothing is shared",
            yes(verdict.never_worse_than_least_loaded).into(),
        ),
        ("largest error of the simulated experiment", number(verdict.h200_table_max_error)),
    ];
    out.push_str("<div class=\"table\"><table style=\"width: auto\">");
    for (what, value) in lines {
        write!(out, "<tr><td>{what}</td><td>{value}</td></tr>")?;
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn legend(out: &mut String, rows: &[Row], brushes: &[Brush]) -> Result<()> {
    out.push_str("<div class=\"legend\">");
    for (row, brush) in rows.iter().zip(brushes) {
        let plotters::style::RGBColor(r, g, b) = brush.color;
        let ground = if brush.is_strong { format!("rgb({r} {g} {b})") } else { "none".into() };
        write!(
            out,
            "<span><i style=\"background: {ground}; border: 2px solid rgb({r} {g} {b})\"></i>{}</span>",
            escaped(&row.policy)
        )?;
    }
    out.push_str("</div>\n");
    Ok(())
}

fn section(out: &mut String, cell: &Cell, brushes: &[Brush]) -> Result<()> {
    let front: Vec<String> =
        cell.rows.iter().filter(|row| row.is_on_front).map(|row| escaped(&row.policy)).collect();
    write!(
        out,
        "<details open><summary><b>{}</b>: {} arrivals/s; an unlimited cache would hit {:.1} %; front: {}</summary>\n\
         <div class=\"plots\">",
        escaped(&cell.load),
        cell.rate,
        cell.bound.mean * 100.0,
        front.join(", ")
    )?;
    for plot in plots(cell, brushes)? {
        out.push_str(&plot);
    }
    out.push_str("</div>\n<div class=\"table\"><table><tr><th></th>");
    for (_, name, ..) in COLUMNS {
        write!(out, "<th>{name}</th>")?;
    }
    out.push_str("<th>failed</th><th>dispatch p50, p99 us</th><th>wrong</th></tr>\n");
    for row in &cell.rows {
        line(out, row)?;
    }
    out.push_str("</table></div></details>\n");
    Ok(())
}

fn line(out: &mut String, row: &Row) -> Result<()> {
    write!(out, "<tr><td>{}</td>", escaped(&row.policy))?;
    for (metric, _, scale, digits) in COLUMNS {
        let Figure { value, is_best, is_tied } = row.figure(metric);
        let class = if is_best {
            " class=\"best\""
        } else if is_tied {
            " class=\"tied\""
        } else {
            ""
        };
        let (mean, half) = (value.mean * scale, value.half * scale);
        write!(out, "<td{class}>{mean:.digits$} <span class=\"soft\">±{half:.digits$}</span></td>")?;
    }
    let (overhead, wrong) = match row.routing() {
        Some(routing) => (
            format!("{:.0}, {:.0}", routing.overhead_us_p50, routing.overhead_us_p99),
            routing.mismatches.to_string(),
        ),
        None => Default::default(),
    };
    writeln!(out, "<td>{}</td><td>{overhead}</td><td>{wrong}</td></tr>", row.failed)?;
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
