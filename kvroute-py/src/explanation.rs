//! `Explanation`: the core's, as text, as a dict, and as a table in a notebook.

use std::fmt::Write as _;

use kvroute_core::decision;
use pyo3::prelude::*;

use crate::output::to_python;

/// Why a request went where it went: every pod with what was known of it.
///
/// `print` it, show it in a notebook, or take it apart with `to_dict()`.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Debug, PartialEq)]
pub(crate) struct Explanation(pub(crate) decision::Explanation);

#[pymethods]
impl Explanation {
    /// The profile that decided.
    #[getter]
    fn profile(&self) -> &str {
        &self.0.profile
    }

    /// Its picker.
    #[getter]
    fn picker(&self) -> &str {
        &self.0.picker
    }

    /// Length of the prompt, tokens; of a text, an estimate.
    #[getter]
    fn prompt_tokens(&self) -> usize {
        self.0.prompt_tokens
    }

    /// Why the request's session named no pod, where it has a session and did not. Else None.
    #[getter]
    fn session(&self) -> Option<&'static str> {
        self.0.session
    }

    /// Why the pod that was taken: "picked", "spilled" or "warm-up".
    #[getter]
    fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// Why it is not used after all, of a pod that would prefill. Else None.
    #[getter]
    fn unused(&self) -> Option<&'static str> {
        self.0.unused
    }

    /// Number of pods that were not considered.
    #[getter]
    fn not_sampled(&self) -> usize {
        self.0.not_sampled
    }

    /// The same for the pod that prefills, where one was looked for. Else None.
    #[getter]
    fn prefill(&self) -> Option<Self> {
        self.0.prefill.as_deref().cloned().map(Self)
    }

    /// All of it: `pods` (a list of dicts, one a pod), `picked` (the row of the one that was taken) and the rest, as in
    /// `kvroute.status.ExplanationDict`.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.0)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        let decision::Explanation { profile, prompt_tokens, pods, picked, .. } = &self.0;
        let picked = picked.map_or("None".into(), |row| format!("{:?}", pods[row].pod));
        let (profile, pods) = (format!("{profile:?}"), pods.len());
        format!(
            "Explanation(profile={profile}, prompt_tokens={prompt_tokens}, pods=[{pods}], picked={picked})"
        )
    }

    /// A table, a row a pod, the picked one bold; for notebooks.
    fn _repr_html_(&self) -> String {
        let mut html = String::new();
        table(&self.0, &mut html);
        html
    }
}

fn table(explanation: &decision::Explanation, html: &mut String) {
    let decision::Explanation { profile, picker, prompt_tokens, picked, pods, prefill, .. } = explanation;
    let _ = write!(
        html,
        "<table><caption>prompt of {prompt_tokens} tokens, profile {}, picker {}</caption>\
         <tr><th>pod</th><th>total</th><th>blocks</th><th>predicted</th><th>scores</th><th>trust</th>\
         <th>remarks</th></tr>",
        escaped(profile),
        escaped(picker),
    );
    for (row, pod) in pods.iter().enumerate() {
        let style = if *picked == Some(row) { " style=\"font-weight: bold\"" } else { "" };
        let tiers: Vec<String> =
            pod.matched_blocks.iter().map(|(tier, blocks)| format!("{tier} {blocks}")).collect();
        let scores: Vec<String> = pod
            .scores
            .iter()
            .map(|score| format!("{} {:.3} × {}", escaped(&score.scorer), score.value, score.weight))
            .collect();
        let dropped = pod.dropped_by.as_ref().map(|filter| format!("dropped by {filter}"));
        let overruled = match row {
            row if explanation.overruled == Some(row) => Some("overruled".to_owned()),
            row if *picked == Some(row) && explanation.overruled.is_some() => {
                Some(explanation.reason.to_owned())
            }
            _ => None,
        };
        let remarks = overruled.iter().chain(&dropped).chain(&pod.note).map(|text| escaped(text));
        let remarks: Vec<String> = remarks.collect();
        let rank = if pod.dp_rank == 0 { String::new() } else { format!("/{}", pod.dp_rank) };
        let _ = write!(
            html,
            "<tr{style}><td>{}{rank}</td><td>{:.3}</td><td>{} of {}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            escaped(&pod.pod),
            pod.total,
            if tiers.is_empty() { "0".into() } else { tiers.join(", ") },
            pod.searchable_blocks,
            pod.predicted_blocks,
            scores.join("<br>"),
            pod.trust,
            remarks.join("<br>"),
        );
    }
    html.push_str("</table>");
    let not_sampled = Some(explanation.not_sampled).filter(|count| *count > 0);
    let below = [
        not_sampled.map(|count| format!("{count} pods were not looked at")),
        explanation.unused.map(|why| format!("not used: {why}")),
        explanation.session.map(|why| format!("session: {why}")),
    ];
    for line in below.iter().flatten() {
        let _ = write!(html, "<p>{}</p>", escaped(line));
    }
    if let Some(prefill) = prefill {
        table(prefill, html);
    }
}

/// Names come from configurations and requests: none of them may be taken for markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
