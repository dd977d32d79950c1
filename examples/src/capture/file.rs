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
        // Files that were put together by concatenation have several members.
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    Ok(BufReader::with_capacity(1 << 16, reader).lines())
}

/// Reads the JSON value of each line; an error, `each`'s own too, names the file and the line.
pub(super) fn each_json_line<T: DeserializeOwned>(
    path: &Path,
    mut each: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    for (number, line) in lines(path)?.enumerate() {
        let read = line.map_err(Into::into).and_then(|line| each(serde_json::from_str(&line)?));
        read.map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))?;
    }
    Ok(())
}

pub(super) fn decode_base64(text: &str) -> Result<Vec<u8>> {
    Ok(STANDARD.decode(text)?)
}
