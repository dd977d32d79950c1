//! Lines of a log, one at a time, however long somebody made them.

use std::io::{BufRead, Read};

use crate::capture::Result;

/// Bytes of a line beyond which it is not read: far more than a decision with its prompt.
const MOST_BYTES: usize = 256 << 20;

/// A log, line by line.
pub(super) struct Lines<R> {
    log: R,
    number: usize,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(log: R) -> Self {
        Self { log, number: 0, line: Vec::new() }
    }

    /// The next line that is not empty with its number, from 1 on, or what is wrong with it.
    pub(super) fn next(&mut self) -> Result<Option<(usize, std::result::Result<&str, String>)>> {
        let is_too_long = loop {
            self.line.clear();
            self.number += 1;
            if (&mut self.log).take(MOST_BYTES as u64 + 1).read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            if self.line.len() > MOST_BYTES && !self.line.ends_with(b"\n") {
                self.log.skip_until(b'\n')?;
                break true;
            }
            if !self.line.trim_ascii().is_empty() {
                break false;
            }
        };
        let text = match std::str::from_utf8(&self.line) {
            _ if is_too_long => Err(format!("more than {MOST_BYTES} bytes")),
            Ok(text) => Ok(text.trim_ascii()),
            Err(error) => Err(format!("not UTF-8: {error}")),
        };
        Ok(Some((self.number, text)))
    }
}
