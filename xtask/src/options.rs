//! Options of `cargo xtask test`, and the suggestion made when one is misspelt.

/// What the person asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Leave out the steps marked slow.
    pub(crate) quick: bool,
    /// Run the Miri step as well.
    pub(crate) miri: bool,
    /// Run just these steps, whatever else is said; empty is no restriction.
    pub(crate) only: Vec<String>,
    /// Print the steps and stop.
    pub(crate) list: bool,
    /// Print the usage and stop.
    pub(crate) help: bool,
    /// Seconds each fuzz target runs.
    pub(crate) fuzz_seconds: u32,
}

pub(crate) const USAGE: &str = "\
cargo xtask test [options]

  --quick            leave out benches, deny, fuzz and what instruments programs (valgrind, asan, tsan)
  --only <step>      run this step alone; may be repeated, and reaches steps that a plain run leaves out
  --list             print the steps and stop
  --fuzz-seconds <n> seconds each fuzz target runs (default 30)
  --miri             run the Miri step too (needs a nightly toolchain)

With CI set in the environment a missing tool is installed, and one that cannot be is a failure; otherwise
it is a SKIP that says how to install it.";

const NAMES: &[&str] = &["--quick", "--only", "--list", "--fuzz-seconds", "--miri", "--help"];

impl Options {
    /// Reads the arguments after `test`; `steps` are the names `--only` may take.
    ///
    /// # Errors
    /// One line that names the argument at fault.
    pub(crate) fn parse(arguments: &[String], steps: &[&str]) -> Result<Self, String> {
        let mut options =
            Self { quick: false, miri: false, only: Vec::new(), list: false, help: false, fuzz_seconds: 30 };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            match name {
                "--only" | "--fuzz-seconds" => {
                    let value = inline
                        .or_else(|| arguments.next().cloned())
                        .ok_or_else(|| format!("option {name} needs a value"))?;
                    options.set(name, value, steps)?;
                }
                _ if inline.is_some() && NAMES.contains(&name) => {
                    return Err(format!("option {name} takes no value"));
                }
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                "--miri" => options.miri = true,
                "--help" | "-h" => options.help = true,
                _ => return Err(unknown("option", argument, NAMES)),
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: String, steps: &[&str]) -> Result<(), String> {
        if name == "--only" {
            if !steps.contains(&value.as_str()) {
                return Err(unknown("step", &value, steps));
            }
            self.only.push(value);
        } else {
            self.fuzz_seconds = value
                .parse()
                .ok()
                .filter(|&seconds| seconds > 0)
                .ok_or_else(|| format!("option {name} wants a whole number of seconds, got `{value}`"))?;
        }
        Ok(())
    }
}

/// The message for a name that is none of `known`: with the nearest one, or else with all of them.
pub(crate) fn unknown(kind: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("unknown {kind} `{name}`; did you mean `{near}`?"),
        None => format!("unknown {kind} `{name}`; known: {}", known.join(", ")),
    }
}

/// The known name that `name` was probably meant to be: at most half of its letters off.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let (distance, near) = known.iter().map(|known| (edit_distance(&name, known), *known)).min()?;
    (distance <= name.chars().count() / 2).then_some(near)
}

/// Levenshtein distance, characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words, &["fmt", "clippy", "fuzz"])
    }

    #[test]
    fn only_may_be_repeated_and_values_may_follow_an_equals_sign() {
        let options = parse("--only fmt --only=fuzz --fuzz-seconds=5 --quick").unwrap();
        assert_eq!(options.only, ["fmt", "fuzz"]);
        assert_eq!((options.fuzz_seconds, options.quick, options.miri), (5, true, false));
    }

    #[test]
    fn mistakes_name_the_argument_and_the_nearest_known_one() {
        assert_eq!(parse("--qick").unwrap_err(), "unknown option `--qick`; did you mean `--quick`?");
        assert_eq!(parse("--only clipy").unwrap_err(), "unknown step `clipy`; did you mean `clippy`?");
        assert_eq!(unknown("command", "tset", &["test"]), "unknown command `tset`; did you mean `test`?");
        assert_eq!(parse("--only lint").unwrap_err(), "unknown step `lint`; known: fmt, clippy, fuzz");
        assert_eq!(parse("--only").unwrap_err(), "option --only needs a value");
        assert_eq!(parse("--quick=yes").unwrap_err(), "option --quick takes no value");
        assert!(parse("--fuzz-seconds 0").unwrap_err().contains("got `0`"));
        assert!(parse("fmt").unwrap_err().starts_with("unknown option `fmt`"));
    }

    #[test]
    fn edit_distance_counts_letters() {
        for (a, b, distance) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }
}
