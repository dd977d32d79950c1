//! Developer commands: `cargo xtask <command>`. Plain std Rust, no dependencies: this is the first thing
//! built in a fresh clone.
//!
//! A step of `cargo xtask test` is one row of [`steps::STEPS`]; the check behind it is a function there or in
//! the module named after what it checks.

mod c;
mod chaos;
mod costs;
mod crossing;
mod dependencies;
mod events;
mod fuzz;
mod golang;
mod library;
mod live;
mod modules;
mod options;
mod python;
mod redis;
mod schema;
mod source;
mod steps;
mod symbols;
mod templates;
mod test;
mod tool;
mod versions;
mod versus;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <command>

  test      every check of this repository; `cargo xtask test --help` names the options
  schema    writes kvroute-core/config.schema.json anew
  header    writes include/kvroute.h and kvroute_io.h anew
  install   builds libkvroute and installs it below a folder: `cargo xtask install --prefix <folder>`
  costs     what it costs to take kvroute in: build time, size, dependencies, start, a router that is idle
  crossing  what one decision costs from Rust, C, Go and Python
  versus    kvroute beside other prefix indexes: `cargo versus --help` names the options
  chaos     gateways, Redis and simulated pods killed, stopped and slowed; `cargo xtask chaos --help`
  live      the gateway in front of three real vLLM pods; `cargo xtask live --help` names the options
  help      this text";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    match command {
        "test" => test::main(rest),
        "schema" => schema::main(rest),
        "header" => library::header_main(rest),
        "install" => library::install_main(rest),
        "costs" => costs::main(rest),
        "crossing" => crossing::main(rest),
        "versus" => versus::main(rest),
        "chaos" => chaos::main(rest),
        "live" => live::main(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        unknown => {
            eprintln!(
                "error: {}",
                options::unknown(
                    "command",
                    unknown,
                    &[
                        "test", "schema", "header", "install", "costs", "crossing", "versus", "chaos",
                        "live", "help"
                    ]
                )
            );
            eprintln!("\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
