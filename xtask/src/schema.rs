//! `cargo xtask schema`: writes the JSON Schema of the configuration anew. A test of the core compares it.

use std::fs;
use std::process::ExitCode;

use crate::steps::Context;
use crate::tool;

/// The file, relative to the root of the repository.
const FILE: &str = "kvroute-core/config.schema.json";

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let written = match arguments {
        [] => write(),
        [argument, ..] => Err(format!("unknown option `{argument}`; `schema` has none")),
    };
    match written {
        Ok(()) => {
            println!("{FILE} is up to date");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<(), String> {
    Context::new(0)?;
    let run = "run --quiet --package kvroute-core --example config-schema --locked";
    let schema = tool::output(&mut tool::cargo(run))?;
    fs::write(FILE, schema).map_err(|error| format!("{FILE}: {error}"))
}
