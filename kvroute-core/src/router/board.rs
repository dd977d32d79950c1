//! One profile's way from candidates to a pod, with everything an explanation will ask for.

use alloc::format;
use alloc::vec::Vec;
use core::ptr;

use crate::candidate::Candidates;
use crate::pick::Scored;
use crate::profile::Profile;
use crate::{CacheDomain, Error, ErrorKind};

/// Filled anew for every decision; allocates nothing once warm.
#[derive(Debug, Default)]
pub(super) struct Board {
    kept: Vec<bool>,
    /// Row -> position of the filter that dropped it.
    pub(super) dropped_by: Vec<Option<usize>>,
    /// One column a scorer; `[scorers][candidates]`.
    pub(super) columns: Vec<Vec<f64>>,
    pub(super) totals: Vec<f64>,
    pub(super) picked: Option<usize>,
    /// Whether the profile was asked at all.
    pub(super) used: bool,
}

/// Stands for the position of a filter that no profile needs to name: a prefill pod can only compute for pods
/// of its own cache domain.
const OTHER_DOMAIN: usize = usize::MAX;

/// Name of the filter at a position.
pub(super) fn filter_name(profile: &Profile, position: usize) -> &str {
    profile.filters.get(position).map_or("cache-domain", |filter| filter.name())
}

fn fill<T: Clone>(values: &mut Vec<T>, count: usize, value: T) {
    values.clear();
    values.resize(count, value);
}

impl Board {
    pub(super) fn clear(&mut self) {
        self.picked = None;
        self.used = false;
    }

    /// Filters, scores, picks; answers the row. Pods of other domains than `within` are dropped first.
    pub(super) fn choose(
        &mut self,
        profile: &Profile,
        candidates: &Candidates<'_>,
        within: Option<&CacheDomain>,
        draw: u64,
    ) -> Result<usize, Error> {
        let rows = candidates.len();
        (self.picked, self.used) = (None, true);
        fill(&mut self.kept, rows, true);
        fill(&mut self.dropped_by, rows, None);
        fill(&mut self.totals, rows, 0.0);
        self.columns.resize_with(profile.scorers.len(), Vec::new);
        self.columns.iter_mut().for_each(|column| fill(column, rows, 0.0));
        if let Some(domain) = within {
            let others = candidates.pods.iter().map(|pod| !ptr::eq(&*pod.domain, domain));
            for (row, _) in others.enumerate().filter(|(_, is_other)| *is_other) {
                (self.kept[row], self.dropped_by[row]) = (false, Some(OTHER_DOMAIN));
            }
        }
        self.filter(profile, candidates);
        self.score(profile, candidates)?;

        let Self { kept, totals, .. } = self;
        let mut pods = candidates
            .pods
            .iter()
            .enumerate()
            .filter(|&(row, _)| kept[row])
            .map(|(row, pod)| Scored { row, pod: pod.id, total: totals[row] });
        let Some(row) = profile.picker.pick(&mut pods, draw) else { return Err(self.no_candidate(profile)) };
        if kept.get(row) != Some(&true) {
            let (name, picker) = (&profile.name, profile.picker.name());
            return Err(Error::invalid(format!(
                "profile \"{name}\": picker \"{picker}\" picked row {row}, which it was not offered"
            )));
        }
        self.picked = Some(row);
        Ok(row)
    }

    fn filter(&mut self, profile: &Profile, candidates: &Candidates<'_>) {
        for (position, filter) in profile.filters.iter().enumerate() {
            filter.filter(candidates, &mut self.kept);
            for (kept, dropped_by) in self.kept.iter_mut().zip(&mut self.dropped_by) {
                *kept &= dropped_by.is_none();
                if !*kept {
                    dropped_by.get_or_insert(position);
                }
            }
        }
    }

    fn score(&mut self, profile: &Profile, candidates: &Candidates<'_>) -> Result<(), Error> {
        for ((scorer, weight), column) in profile.scorers.iter().zip(&mut self.columns) {
            scorer.score(candidates, column);
            for (row, &value) in column.iter().enumerate() {
                if !(0.0..=1.0).contains(&value) {
                    let (scorer, pod) = (scorer.name(), &candidates.pods[row].name);
                    return Err(Error::invalid(format!(
                        "scorer \"{scorer}\" gave pod \"{pod}\" {value}; scores are 0 to 1"
                    )));
                }
                self.totals[row] += weight * value;
            }
        }
        Ok(())
    }

    fn no_candidate(&self, profile: &Profile) -> Error {
        let pods = self.dropped_by.len();
        if pods == 0 {
            return Error::new(ErrorKind::NoCandidate, "this router has no pod");
        }
        let mut message = format!("every one of {pods} pods was dropped:");
        for position in (0..profile.filters.len()).chain([OTHER_DOMAIN]) {
            let dropped = self.dropped_by.iter().filter(|by| **by == Some(position)).count();
            if dropped > 0 {
                message += &format!(" {dropped} by filter \"{}\"", filter_name(profile, position));
            }
        }
        Error::new(ErrorKind::NoCandidate, message)
    }
}
