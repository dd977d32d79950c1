//! Programs that end when whoever started them does, however that ends.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tool::command;

/// How long a program may take to end: `hold.py` gives it 15 seconds to do so by itself.
const END: Duration = Duration::from_secs(25);

/// A program, with all that it starts, held by a pipe (`hold.py`): when this is dropped, or this process ends by a
/// signal, the program is ended.
#[derive(Debug)]
pub(super) struct Held {
    name: String,
    log: PathBuf,
    holder: Child,
    pipe: Option<ChildStdin>,
}

impl Held {
    /// Starts a program whose output goes to `log`.
    ///
    /// # Errors
    /// That Python could not be started.
    pub(super) fn start(python: &Path, name: &str, log: PathBuf, program: &Command) -> Result<Self, String> {
        let mut holder = command(&[python]);
        holder.arg("xtask/live/hold.py").arg(&log).arg(program.get_program()).args(program.get_args());
        holder.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let mut holder =
            holder.stdin(Stdio::piped()).spawn().map_err(|error| format!("{}: {error}", python.display()))?;
        let pipe = holder.stdin.take();
        Ok(Self { name: name.to_owned(), log, holder, pipe })
    }

    /// Fails if it has ended, with the last lines of its log.
    ///
    /// # Errors
    /// How it ended.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let Ok(Some(status)) = self.holder.try_wait() else { return Ok(()) };
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        Err(format!("{} ended with {status}; the end of {}:\n{last}", self.name, self.log.display()))
    }

    /// Ends it at once, as a machine that is lost would; it has ended when this returns.
    ///
    /// # Errors
    /// That it did not end.
    pub(super) fn kill(mut self) -> Result<(), String> {
        if let Some(pipe) = &mut self.pipe {
            // If nobody reads, it has ended.
            let _ = pipe.write_all(b"kill\n");
        }
        if self.ended() { Ok(()) } else { Err(format!("{} does not end", self.name)) }
    }

    fn ended(&mut self) -> bool {
        let end = Instant::now() + END;
        while Instant::now() < end {
            match self.holder.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(50)),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if !self.ended() {
            eprintln!("{} does not end", self.name);
        }
    }
}
