//! The list of what was skipped, kept short.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{SkipReason, Skipped};

/// Entries listed one by one. A hostile batch can hold a bad event in every byte; a list of them all,
/// with their texts, would be a hundred times its size.
const LISTED: usize = 1024;

/// Collects skipped events: the first ones in full, the others as one count.
#[derive(Default)]
pub(super) struct SkipLog {
    listed: Vec<Skipped>,
    /// How many came after the list was full, and where and why the first of them was skipped.
    unlisted: Option<(usize, usize, SkipReason)>,
}

impl SkipLog {
    pub(super) fn note(&mut self, position: usize, reason: SkipReason, detail: impl FnOnce() -> String) {
        if self.listed.len() < LISTED {
            self.listed.push(Skipped { position, reason, detail: detail() });
            return;
        }
        let (count, _, _) = self.unlisted.get_or_insert((0, position, reason));
        *count += 1;
    }

    pub(super) fn finish(mut self) -> Vec<Skipped> {
        if let Some((count, position, reason)) = self.unlisted {
            let detail = format!("{count} more from here on, not listed");
            self.listed.push(Skipped { position, reason, detail });
        }
        self.listed
    }
}

/// The head of a text from the wire, for messages. Long enough to recognise, short enough to log.
pub(super) fn excerpt(text: &[u8]) -> String {
    const BYTES: usize = 64;
    match text.get(..BYTES) {
        Some(head) if head.len() < text.len() => format!("{}...", String::from_utf8_lossy(head)),
        _ => String::from_utf8_lossy(text).into_owned(),
    }
}
