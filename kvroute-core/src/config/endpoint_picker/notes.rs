//! What does not map, or means something else here.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::problem::Path;

/// Notes by the place they are about, each once.
#[derive(Debug, Default)]
pub(super) struct Notes {
    notes: BTreeMap<Path, Vec<String>>,
}

impl Notes {
    /// `what` is a part of the line between the path and the note.
    pub(super) fn add(&mut self, path: &Path, what: &str, note: &str) {
        let (notes, note) = (self.notes.entry(path.clone()).or_default(), format!("{what}: {note}"));
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// One line each, in the order of the document's keys by name and of lists.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(path, notes): (&Path, &Vec<String>)| {
            let path = path.to_string();
            notes.iter().map(|note| format!("{path}{note}")).collect::<Vec<_>>()
        };
        self.notes.iter().flat_map(line).collect()
    }
}
