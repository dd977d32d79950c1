//! One profile's way from candidates to a pod, with everything an explanation will ask for.

use alloc::format;
use alloc::vec::Vec;
use core::ptr;

use crate::candidate::Candidates;
use crate::decision::Reason;
use crate::pick::Scored;
use crate::profile::Profile;
use crate::{CacheDomain, Error, ErrorKind};

/// Filled anew for every decision; allocates nothing once warm. *Places* are those in the facts, *rows* those of
/// the pods that the filters kept.
#[derive(Debug, Default)]
pub(super) struct Board {
    all: Vec<u32>,
    kept: Vec<bool>,
    /// Place -> position of the filter that dropped it.
    pub(super) dropped_by: Vec<Option<usize>>,
    /// Row -> place.
    pub(super) rows: Vec<u32>,
    /// One column a scorer; `[scorers][rows]`.
    pub(super) columns: Vec<Vec<f64>>,
    pub(super) totals: Vec<f64>,
    scored: Vec<Scored>,
    /// Place of the pod that is taken.
    pub(super) picked: Option<usize>,
    /// Place of the pod that the picker took, where that was overruled.
    pub(super) overruled: Option<usize>,
    pub(super) reason: Reason,
    /// Why the pod is not used after all.
    pub(super) unused: Option<&'static str>,
    /// Places of the next best.
    pub(super) fallbacks: Vec<usize>,
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
        (self.picked, self.overruled, self.reason) = (None, None, Reason::default());
        self.unused = None;
        self.fallbacks.clear();
        self.used = false;
    }

    /// Weighted sum of a pod's scores, and its row; `None` if a filter dropped it.
    pub(super) fn total(&self, place: usize) -> Option<(usize, f64)> {
        let row = self.rows.binary_search(&(place as u32)).ok()?;
        Some((row, self.totals[row]))
    }

    /// Filters, scores, picks; answers the place, `None` if the filters kept nobody. `candidates` bring facts; their rows
    /// are this board's. Pods of other domains than `within` are dropped first.
    pub(super) fn choose(
        &mut self,
        profile: &Profile,
        candidates: &Candidates<'_>,
        within: Option<&CacheDomain>,
        draw: u64,
    ) -> Result<Option<usize>, Error> {
        self.clear();
        self.used = true;
        self.filter(profile, candidates, within);
        if self.rows.is_empty() {
            return Ok(None);
        }
        self.score(profile, candidates)?;
        let row = self.ask_picker(profile, draw)?;
        let taken = self.overrule(profile, candidates, row, draw);
        while self.fallbacks.len() < profile.fallbacks && self.scored.len() > 1 {
            let last = self.fallbacks.last().copied().unwrap_or(taken);
            let rows = &self.rows;
            self.scored.retain(|pod| rows[pod.row] as usize != last);
            let next = self.ask_picker(profile, draw)?;
            self.fallbacks.push(self.rows[next] as usize);
        }
        Ok(Some(taken))
    }

    fn filter(&mut self, profile: &Profile, candidates: &Candidates<'_>, within: Option<&CacheDomain>) {
        let Self { all, kept, dropped_by, rows, .. } = self;
        let places = candidates.facts.len();
        all.clear();
        all.extend(0..places as u32);
        fill(kept, places, true);
        fill(dropped_by, places, None);
        let everyone = Candidates { rows: all, ..*candidates };
        if let Some(domain) = within {
            let others = everyone.iter().map(|candidate| !ptr::eq(candidate.pod().domain(), domain));
            for (place, _) in others.enumerate().filter(|(_, is_other)| *is_other) {
                (kept[place], dropped_by[place]) = (false, Some(OTHER_DOMAIN));
            }
        }
        for (position, filter) in profile.filters.iter().enumerate() {
            filter.filter(&everyone, kept);
            for (kept, dropped_by) in kept.iter_mut().zip(&mut *dropped_by) {
                *kept &= dropped_by.is_none();
                if !*kept {
                    dropped_by.get_or_insert(position);
                }
            }
        }
        rows.clear();
        rows.extend((0..places as u32).filter(|&place| kept[place as usize]));
    }

    fn score(&mut self, profile: &Profile, candidates: &Candidates<'_>) -> Result<(), Error> {
        let Self { rows, columns, totals, scored, .. } = self;
        let candidates = Candidates { rows, ..*candidates };
        fill(totals, rows.len(), 0.0);
        columns.resize_with(profile.scorers.len(), Vec::new);
        let mut weights = 0.0;
        for ((scorer, weight), column) in profile.scorers.iter().zip(columns) {
            fill(column, rows.len(), 0.0);
            scorer.score(&candidates, column);
            for ((&value, total), candidate) in column.iter().zip(&mut *totals).zip(candidates.iter()) {
                if !(0.0..=1.0).contains(&value) {
                    let (scorer, pod) = (scorer.name(), candidate.pod().name());
                    return Err(Error::invalid(format!(
                        "scorer \"{scorer}\" gave pod \"{pod}\" {value}; scores are 0 to 1"
                    )));
                }
                *total += weight * value;
            }
            weights += weight;
        }
        scored.clear();
        scored.extend(candidates.iter().zip(&*totals).enumerate().map(|(row, (candidate, &total))| Scored {
            row,
            pod: candidate.pod().id(),
            total,
            share: if weights > 0.0 { (total / weights).min(1.0) } else { 0.0 },
        }));
        Ok(())
    }

    fn ask_picker(&self, profile: &Profile, draw: u64) -> Result<usize, Error> {
        let fail = |what: &str| {
            let (name, picker) = (&profile.name, profile.picker.name());
            Err(Error::invalid(format!("profile \"{name}\": picker \"{picker}\" {what}")))
        };
        match profile.picker.pick(&self.scored, draw) {
            Some(row) if self.scored.iter().any(|pod| pod.row == row) => Ok(row),
            Some(row) => fail(&format!("picked row {row}, which it was not offered")),
            None => fail("picked none of the pods it was offered"),
        }
    }

    /// Lets what may overrule the picker do so; answers the place of the pod that is taken.
    fn overrule(&mut self, profile: &Profile, candidates: &Candidates<'_>, row: usize, draw: u64) -> usize {
        let candidates = Candidates { rows: &self.rows, ..*candidates };
        let warm_up = profile.warm_up.and_then(|warm_up| warm_up.divert(&candidates, row, draw));
        let instead = warm_up.map(|row| (row, Reason::WarmUp)).or_else(|| {
            let spill = profile.guard.and_then(|guard| guard.spill(&candidates, row, draw));
            spill.map(|row| (row, Reason::Spilled))
        });
        let place = |row: usize| self.rows[row] as usize;
        let taken = match instead {
            None => place(row),
            Some((other, reason)) => {
                (self.overruled, self.reason) = (Some(place(row)), reason);
                place(other)
            }
        };
        self.picked = Some(taken);
        taken
    }

    /// Difference between the best total and the next; `None` if there are not two.
    pub(super) fn margin(&self) -> Option<f64> {
        let totals = self.totals.iter().filter(|_| self.picked.is_some());
        let (mut best, mut next) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        for &total in totals {
            next = next.max(total.min(best));
            best = best.max(total);
        }
        (next > f64::NEG_INFINITY).then_some(best - next)
    }

    /// Why there is nobody.
    pub(super) fn no_candidate(&self, profile: &Profile) -> Error {
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
