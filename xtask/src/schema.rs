//! `cargo xtask schema`: writes the JSON Schemas of the configuration and of the decision log anew. Tests of the core
//! compare them.

use std::fs;
use std::process::ExitCode;

use crate::steps::Context;
use crate::tool;

/// The files, relative to the root of the repository, and the examples of the core that print them.
const FILES: [(&str, &str); 2] =
    [("kvroute-core/config.schema.json", "config-schema"), ("kvroute-core/log.schema.json", "log-schema")];

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let written = match arguments {
        [] => write(),
        [argument, ..] => Err(format!("unknown option `{argument}`; `schema` has none")),
    };
    match written {
        Ok(()) => {
            FILES.iter().for_each(|(file, _)| println!("{file} is up to date"));
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
    for (file, example) in FILES {
        let run = format!("run --quiet --package kvroute-core --example {example} --locked");
        let schema = tool::output(&mut tool::cargo(&run))?;
        fs::write(file, schema).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(())
}
