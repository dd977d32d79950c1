//! Lines of plain and gzipped files, on disk or built into the program.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use super::Result;

/// A file of a capture.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Its content, if it is built in.
    pub(super) embedded: Option<&'static [u8]>,
}

impl Source {
    pub(super) fn on_disk(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), embedded: None }
    }

    pub(super) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or("")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its content, unpacked if its name ends in `.gz`.
    pub(super) fn open(&self) -> Result<impl BufRead + use<>> {
        let packed: Box<dyn Read> = match self.embedded {
            Some(bytes) => Box::new(bytes),
            None => {
                let file = File::open(&self.path);
                Box::new(file.map_err(|error| format!("{}: {error}", self.path.display()))?)
            }
        };
        let reader: Box<dyn Read> = if self.name().ends_with(".gz") {
            // Files that were put together by concatenation have several members.
            Box::new(flate2::read::MultiGzDecoder::new(packed))
        } else {
            packed
        };
        Ok(BufReader::with_capacity(1 << 16, reader))
    }
}

/// Reads the JSON value of each line; an error, `each`'s own too, names the file and the line.
pub(super) fn each_json_line<T: DeserializeOwned>(
    source: &Source,
    mut each: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    for (number, line) in source.open()?.lines().enumerate() {
        let read = line.map_err(Into::into).and_then(|line| each(serde_json::from_str(&line)?));
        read.map_err(|error| format!("{}:{}: {error}", source.path().display(), number + 1))?;
    }
    Ok(())
}

pub(super) fn decode_base64(text: &str) -> Result<Vec<u8>> {
    Ok(STANDARD.decode(text)?)
}
