//! `cargo xtask crossing`: what one decision costs from each language, in one run.

use std::path::Path;
use std::process::ExitCode;

use crate::library;
use crate::steps::Context;
use crate::tool::{cargo, command, output};

/// A figure: nanoseconds a call for a prompt of so many tokens.
struct Figure {
    language: String,
    tokens: u64,
    nanoseconds: f64,
}

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    if let Some(argument) = arguments.first() {
        eprintln!("error: unknown option `{argument}`; `cargo xtask crossing` takes none");
        return ExitCode::from(2);
    }
    match measure() {
        Ok(figures) => {
            print!("{}", table(&figures));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<Vec<Figure>, String> {
    let context = Context::new(0)?;
    let target = library::target_folder(context.root());
    let prefix = library::install(context.root(), &target.join("crossing"))?;
    let mut text =
        output(&mut cargo("run --quiet --release --package kvroute-benches --example crossing --locked"))?;
    text += &c(&prefix)?;
    let pkg_config = prefix.join("lib/pkgconfig");
    // Go does not look whether the library changed: everything is built anew (golang.org/issue/24355).
    let program = prefix.join("crossing-go");
    let mut build = command(&["go", "build", "-a", "-o"]);
    build.arg(&program).arg("./internal/crossing").current_dir("go").env("PKG_CONFIG_PATH", &pkg_config);
    text += &optional("Go", || output(&mut build).and_then(|_| output(&mut command(&[program]))));
    // An interpreter that has the package and NumPy.
    let python = std::env::var("KVROUTE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    text += &optional("Python", || output(&mut command(&[&*python, "kvroute-py/benches/crossing.py"])));
    Ok(text.lines().filter_map(figure).collect())
}

fn c(prefix: &Path) -> Result<String, String> {
    let program = prefix.join("crossing");
    let mut compile = command(&["cc", "-O2", "-std=c99", "benches/crossing/crossing.c", "-o"]);
    compile.arg(&program).arg("-I").arg(prefix.join("include")).arg(prefix.join("lib/libkvroute.a"));
    output(compile.args(library::native_libraries().split_whitespace()))?;
    output(&mut command(&[program]))
}

/// A language that this machine may lack.
fn optional(language: &str, figures: impl FnOnce() -> Result<String, String>) -> String {
    figures().unwrap_or_else(|why| {
        println!("{language} is left out: {why}");
        String::new()
    })
}

/// Reads `crossing <language> <tokens> <nanoseconds>`.
fn figure(line: &str) -> Option<Figure> {
    let mut words = line.strip_prefix("crossing ")?.split_whitespace();
    let (language, tokens, nanoseconds) = (words.next()?.to_owned(), words.next()?, words.next()?);
    Some(Figure { language, tokens: tokens.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? })
}

/// A line a language, a column a length, each beside Rust's.
fn table(figures: &[Figure]) -> String {
    let mut lengths: Vec<u64> = figures.iter().map(|figure| figure.tokens).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let mut languages: Vec<&str> = Vec::new();
    for figure in figures {
        if !languages.contains(&&*figure.language) {
            languages.push(&figure.language);
        }
    }
    let find = |language: &str, tokens: u64| {
        figures.iter().find(|f| f.language == language && f.tokens == tokens).map(|f| f.nanoseconds)
    };
    let mut text = format!("{:<14}", "decide, ns");
    lengths.iter().for_each(|tokens| text.push_str(&format!("{:>22}", format!("{tokens} tokens"))));
    text.push('\n');
    for language in languages {
        text.push_str(&format!("{language:<14}"));
        for &tokens in &lengths {
            let cell = match (find(language, tokens), find("rust", tokens)) {
                (Some(here), Some(rust)) => format!("{here:.0} (x{:.2}, {:+.0})", here / rust, here - rust),
                _ => "-".to_owned(),
            };
            text.push_str(&format!("{cell:>22}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_puts_every_figure_beside_rusts() {
        let lines = "noise\ncrossing rust 16 1000\ncrossing c 16 1100\ncrossing c 32 5\ncrossing bad x 1";
        let figures: Vec<Figure> = lines.lines().filter_map(figure).collect();
        let text = table(&figures);
        assert!(text.contains("1100 (x1.10, +100)"), "{text}");
        assert_eq!(text.lines().count(), 3);
    }
}
