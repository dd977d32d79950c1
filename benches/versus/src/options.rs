//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::subject::Kind;

/// The help text.
pub const USAGE: &str = "\
cargo versus [options]

kvroute beside other prefix indexes, on the same work: one process a repetition, subjects in turn.

  --quick             smaller sizes and 3 repetitions: a minute or two
  --only NAME         only workloads whose name contains this, or is this after a `=`; may be given more than once
  --subjects A,B      only these besides kvroute: chain-index, radix-tree, crtc, dynamo-tree, dashmap, oracle
  --repetitions N     processes for each workload and subject (5)
  --threads N         most threads of the workloads with several (this machine's)
  --trace FILE        another Mooncake trace than the committed part
  --instructions      counts instructions a lookup, too (with valgrind; small sizes)
  --json              one JSON object a row instead of the table
  --record DIR        writes the rows, the table, a picture and what machine it was to this folder
  --redraw DIR        runs nothing: makes table and picture of that record anew
  --readme FILE       puts the recorded or redrawn headlines into FILE, between <!-- versus --> and <!-- /versus -->
  --list              names the workloads
  --help              this text";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Smaller sizes.
    pub quick: bool,
    /// Parts of workloads' names; none means all.
    pub only: Vec<String>,
    /// Who takes part.
    pub subjects: Vec<Kind>,
    /// Processes for each workload and subject.
    pub repetitions: usize,
    /// Most threads.
    pub threads: usize,
    /// Another trace.
    pub trace: Option<PathBuf>,
    /// Counts instructions.
    pub instructions: bool,
    /// Rows as JSON.
    pub json: bool,
    /// Where the record goes.
    pub record: Option<PathBuf>,
    /// The record that is shown anew.
    pub redraw: Option<PathBuf>,
    /// Where the headlines go.
    pub readme: Option<PathBuf>,
    /// Only the workloads' names.
    pub list: bool,
    /// Only the help.
    pub help: bool,
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    ///
    /// What is wrong, in a line.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let mut options = Self {
            quick: false,
            only: Vec::new(),
            subjects: Kind::ALL.to_vec(),
            repetitions: 0,
            threads,
            trace: None,
            instructions: false,
            json: false,
            record: None,
            redraw: None,
            readme: None,
            list: false,
            help: false,
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(text)? {
            match argument {
                Long("quick") => options.quick = true,
                Long("only") => options.only.push(string(&mut parser)?),
                Long("subjects") => options.subjects = subjects(&string(&mut parser)?)?,
                Long("repetitions") => options.repetitions = number(&mut parser)?,
                Long("threads") => options.threads = number(&mut parser)?,
                Long("trace") => options.trace = Some(parser.value().map_err(text)?.into()),
                Long("instructions") => options.instructions = true,
                Long("json") => options.json = true,
                Long("record") => options.record = Some(parser.value().map_err(text)?.into()),
                Long("redraw") => options.redraw = Some(parser.value().map_err(text)?.into()),
                Long("readme") => options.readme = Some(parser.value().map_err(text)?.into()),
                Long("list") => options.list = true,
                Long("help") | Short('h') => options.help = true,
                other => return Err(other.unexpected().to_string()),
            }
        }
        if options.repetitions == 0 {
            options.repetitions = if options.quick { 3 } else { 5 };
        }
        if options.readme.is_some() && options.record.is_none() && options.redraw.is_none() {
            return Err("--readme shows a record: --record or --redraw says which".to_owned());
        }
        Ok(options)
    }
}

fn text(error: lexopt::Error) -> String {
    error.to_string()
}

fn string(parser: &mut lexopt::Parser) -> Result<String, String> {
    parser.value().and_then(ValueExt::string).map_err(text)
}

fn number(parser: &mut lexopt::Parser) -> Result<usize, String> {
    match parser.value().and_then(|value| value.parse()).map_err(text)? {
        0 => Err("0 is too few".to_owned()),
        number => Ok(number),
    }
}

/// kvroute, and those that are named.
fn subjects(names: &str) -> Result<Vec<Kind>, String> {
    let mut subjects = vec![Kind::Kvroute];
    for name in names.split(',') {
        let kind = Kind::parse(name).ok_or_else(|| format!("no subject is called \"{name}\""))?;
        if !subjects.contains(&kind) {
            subjects.push(kind);
        }
    }
    subjects.sort_unstable();
    Ok(subjects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Options, String> {
        Options::parse(arguments.split_whitespace().map(OsString::from))
    }

    #[test]
    fn quick_runs_have_fewer_repetitions_unless_they_are_told() {
        assert_eq!(parse("").unwrap().repetitions, 5);
        assert_eq!(parse("--quick").unwrap().repetitions, 3);
        assert_eq!(parse("--quick --repetitions 7").unwrap().repetitions, 7);
    }

    #[test]
    fn kvroute_is_always_there() {
        assert_eq!(parse("--subjects crtc,kvroute").unwrap().subjects, [Kind::Kvroute, Kind::Crtc]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse("--subjects redis").unwrap_err(), "no subject is called \"redis\"");
        assert_eq!(parse("--repetitions 0").unwrap_err(), "0 is too few");
        assert!(parse("--readme README.md").unwrap_err().contains("--redraw"));
        assert!(parse("--fast").unwrap_err().contains("--fast"));
    }
}
