//! The file of decisions and outcomes, written beside the requests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use kvroute_core::Error;
use parking_lot::Mutex;

use crate::config::{DecisionLogConfig, invalid};

/// Lines that may wait to be written. At some ten kB each that is 40 MB at most.
const WAITING: usize = 4096;

/// Writes lines to a file on a thread of its own. A line that finds no room to wait is dropped and counted, so that a
/// slow disk holds up no request.
#[derive(Debug)]
pub struct DecisionLog {
    lines: Mutex<Option<SyncSender<String>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dropped: Arc<AtomicU64>,
}

impl DecisionLog {
    /// Opens the file, to go on behind what is in it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it cannot be opened.
    pub fn open(config: &DecisionLogConfig) -> Result<Self, Error> {
        let fail = |error: io::Error| invalid(format!("decision log {}: {error}", config.path.display()));
        let file = LogFile::open(&config.path, config.max_bytes).map_err(fail)?;
        let (lines, received) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let thread = thread::Builder::new().name("decision-log".into());
        let thread = thread.spawn(move || write_all(file, &received, &counter)).map_err(fail)?;
        Ok(Self { lines: Mutex::new(Some(lines)), thread: Mutex::new(Some(thread)), dropped })
    }

    /// Writes a line, soon.
    pub fn write(&self, line: String) {
        let is_sent = self.lines.lock().as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        if !is_sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were not written: no room, or the file could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what waits, and ends. Later lines are dropped.
    pub fn close(&self) {
        drop(self.lines.lock().take());
        if let Some(thread) = self.thread.lock().take() {
            // A thread that panicked has written nothing more, and there is nobody to tell.
            let _ = thread.join();
        }
    }
}

impl Drop for DecisionLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_all(mut file: LogFile, lines: &Receiver<String>, dropped: &AtomicU64) {
    let mut said = false;
    while let Ok(line) = lines.recv() {
        let mut next = Some(line);
        let mut written = Ok(());
        // All that waits, then to the disk at once.
        while let Some(line) = next {
            let result = file.write(&line);
            if result.is_err() {
                dropped.fetch_add(1, Ordering::Relaxed);
                written = result;
            }
            next = lines.try_recv().ok();
        }
        match written.and_then(|()| file.flush()) {
            Ok(()) => said = false,
            Err(error) if !said => {
                tracing::error!(path = %file.path.display(), %error, "the decision log cannot be written");
                said = true;
            }
            Err(_) => {}
        }
    }
}

/// A file that is renamed when it is full.
struct LogFile {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    max_bytes: u64,
}

impl LogFile {
    fn open(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), bytes, max_bytes })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let bytes = line.len() as u64 + 1;
        if self.bytes > 0 && self.bytes + bytes > self.max_bytes {
            self.file.flush()?;
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            fs::rename(&self.path, before)?;
            *self = Self::open(&self.path, self.max_bytes)?;
        }
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.bytes += bytes;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_makes_room_and_two_are_kept() {
        let folder = std::env::temp_dir().join(format!("kvroute-decision-log-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log.jsonl");
        let log = DecisionLog::open(&DecisionLogConfig { path: path.clone(), max_bytes: 30 }).unwrap();
        (0..8).for_each(|number| log.write(format!("{{\"n\":{number:04}}}")));
        log.close();
        log.write("too late".into());
        assert_eq!(log.dropped(), 1);
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(read(path), "{\"n\":0006}\n{\"n\":0007}\n");
        assert_eq!(read(folder.join("log.jsonl.1")), "{\"n\":0004}\n{\"n\":0005}\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let config = DecisionLogConfig { path: "/nowhere/at/all".into(), max_bytes: 1 };
        let error = DecisionLog::open(&config).map(drop).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
