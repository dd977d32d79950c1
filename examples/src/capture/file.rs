//! Lines of plain and gzipped files.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use super::Result;

/// The lines of a file, unpacked if its name ends in `.gz`.
pub(super) fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<String>>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    Ok(BufReader::with_capacity(1 << 16, reader).lines())
}

/// The JSON values of a file's lines.
pub(super) fn json_lines<T: DeserializeOwned>(path: &Path) -> Result<impl Iterator<Item = Result<T>>> {
    let name = path.display().to_string();
    Ok(lines(path)?.enumerate().map(move |(number, line)| {
        let parsed = line
            .map_err(|e| e.to_string())
            .and_then(|line| serde_json::from_str(&line).map_err(|e| e.to_string()));
        parsed.map_err(|error| format!("{name}:{}: {error}", number + 1).into())
    }))
}

pub(super) fn decode_base64(text: &str) -> Result<Vec<u8>> {
    Ok(STANDARD.decode(text)?)
}
