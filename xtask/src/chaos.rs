//! `cargo xtask chaos`: gateways, Redis and simulated pods that are killed, stopped and slowed while requests flow, for
//! longer than in `cargo xtask test`.

use std::process::ExitCode;

use crate::tool::{cargo, run_tests};

const USAGE: &str = "\
cargo xtask chaos [options]

  --seconds <n>   how long things go wrong (default 300)
  --seed <n>      what happens (default 1)

Needs redis-server (apt-get install redis-server). The last line but a few says what came of it.";

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    match read(arguments) {
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Some(Options { seconds, seed })) => match play(seconds, seed) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("error: {message}");
                ExitCode::FAILURE
            }
        },
        Err(message) => {
            eprintln!("error: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    seconds: u64,
    seed: u64,
}

/// `None`: the usage is asked for.
fn read(arguments: &[String]) -> Result<Option<Options>, String> {
    let (mut options, mut arguments) = (Options { seconds: 300, seed: 1 }, arguments.iter());
    while let Some(name) = arguments.next() {
        let to = match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--seconds" => &mut options.seconds,
            "--seed" => &mut options.seed,
            other => return Err(format!("unknown option `{other}`")),
        };
        let value = arguments.next().ok_or_else(|| format!("option {name} needs a value"))?;
        *to = value.parse().map_err(|_| format!("option {name}: `{value}` is no number"))?;
    }
    Ok(Some(options))
}

fn play(seconds: u64, seed: u64) -> Result<(), String> {
    let arguments = "test --package kvroute-gateway --test gateway --locked -- --ignored --nocapture chaos::";
    let mut command = cargo(arguments);
    command.env("KVROUTE_CHAOS_SECONDS", seconds.to_string()).env("KVROUTE_CHAOS_SEED", seed.to_string());
    match run_tests(&mut command)? {
        0 => Err(format!("`cargo {arguments}` runs no test")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_mistakes_named() {
        let read = |text: &str| read(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(read(""), Ok(Some(Options { seconds: 300, seed: 1 })));
        assert_eq!(read("--seed 7 --seconds 60"), Ok(Some(Options { seconds: 60, seed: 7 })));
        assert_eq!(read("--help"), Ok(None));
        assert_eq!(read("--seconds"), Err("option --seconds needs a value".to_owned()));
        assert_eq!(read("--seconds soon"), Err("option --seconds: `soon` is no number".to_owned()));
        assert_eq!(read("--hours 1"), Err("unknown option `--hours`".to_owned()));
    }
}
