//! The C ABI from outside: programs in C and C++, compiled against the installed library and run; plainly, under
//! valgrind, and with everything instrumented by AddressSanitizer or ThreadSanitizer.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::library::{install, install_io, target_folder};
use crate::tool::{cargo, command, output, run};

const C: &[&str] = &["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wredundant-decls"];
const CPP: &[&str] =
    &["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wredundant-decls", "-Wshadow"];

/// A program, and what it is run with; `{}` there is the folder of what `flatten` wrote, `{pod}` the URL of a pod that
/// answers meanwhile.
struct Program {
    name: &'static str,
    sources: &'static [&'static str],
    arguments: &'static [&'static str],
}

const fn c(name: &'static str, sources: &'static [&'static str]) -> Program {
    Program { name, sources, arguments: &[] }
}

/// In the order of a reader: small and telling ones first.
const PROGRAMS: &[Program] = &[
    c("abi", &["kvroute-ffi/tests/c/abi.c"]),
    c("lifecycle", &["kvroute-ffi/tests/c/lifecycle.c"]),
    Program { arguments: &["testdata/bindings/cases.txt"], ..c("table", &["kvroute-ffi/tests/c/table.c"]) },
    Program { arguments: &["{}/golden.txt"], ..c("golden", &["kvroute-ffi/tests/c/golden.c"]) },
    Program { arguments: &["{}/capture.txt"], ..c("capture", &["kvroute-ffi/tests/c/capture.c"]) },
    c("bad_pointers", &["kvroute-ffi/tests/c/bad_pointers.c"]),
    c("bad_structs", &["kvroute-ffi/tests/c/bad_structs.c"]),
    c("bad_values", &["kvroute-ffi/tests/c/bad_values.c"]),
    c("bad_lengths", &["kvroute-ffi/tests/c/bad_lengths.c"]),
    c("bad_documents", &["kvroute-ffi/tests/c/bad_documents.c"]),
    c("short_buffers", &["kvroute-ffi/tests/c/short_buffers.c"]),
    c("snapshots", &["kvroute-ffi/tests/c/snapshots.c"]),
    c("threads", &["kvroute-ffi/tests/c/threads.c"]),
    // Two translation units: what is not `inline` in the header does not link.
    c("wrapper", &["kvroute-ffi/tests/cpp/wrapper.cpp", "kvroute-ffi/tests/cpp/include_again.cpp"]),
    c("route", &["examples/c/route.c"]),
    c("route_cpp", &["examples/cpp/route.cpp"]),
];

/// Those of them that use all of libkvroute, which is all in libkvroute_io.
const OF_BOTH: &[&str] = &["abi", "lifecycle", "table"];

/// The programs of libkvroute_io alone.
const IO_PROGRAMS: &[Program] = &[
    Program { arguments: &["{pod}"], ..c("fleet", &["kvroute-ffi/io/tests/c/fleet.c"]) },
    Program {
        arguments: &["{}/requests.txt", TOKENIZER],
        ..c("tokenizer", &["kvroute-ffi/io/tests/c/tokenizer.c"])
    },
    Program { arguments: &[TOKENIZER], ..c("bad_io", &["kvroute-ffi/io/tests/c/bad_io.c"]) },
    Program {
        arguments: &["{pod}", TOKENIZER],
        ..c(
            "wrapper_io",
            &["kvroute-ffi/io/tests/cpp/wrapper_io.cpp", "kvroute-ffi/io/tests/cpp/include_again.cpp"],
        )
    },
    Program { arguments: &["{pod}", TOKENIZER], ..c("route_fleet", &["examples/c/fleet.c"]) },
];

const TOKENIZER: &str = "testdata/tokenize";

/// What answers as a pod for programs that need one.
const POD: Program =
    Program { arguments: &["testdata/pods/vllm-connect-0"], ..c("pod", &["kvroute-ffi/io/tests/c/pod.c"]) };

/// A pod that answers until this is dropped.
struct Pod {
    child: Child,
    url: String,
}

impl Drop for Pod {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How programs are compiled and run.
struct Build<'a> {
    root: &'a Path,
    /// Where programs and their data are put.
    folder: PathBuf,
    /// For the compiler, besides warnings.
    flags: &'a [&'a str],
    /// For the linker, behind the sources.
    libraries: Vec<String>,
    /// What runs a program; nothing: it runs itself.
    runner: &'a [&'a str],
}

impl Build<'_> {
    /// Compiles programs and runs them; answers how many checks they made.
    fn check(&self, programs: &[&Program]) -> Result<u64, String> {
        let mut checks = 0;
        for program in programs {
            let binary = self.compile(program)?;
            let data = self.folder.with_file_name("data").display().to_string();
            let needs_pod = program.arguments.contains(&"{pod}");
            let pod = if needs_pod { Some(self.pod()?) } else { None };
            let url = pod.as_ref().map_or("", |pod| &pod.url);
            let arguments = program.arguments.iter();
            let arguments = arguments.map(|argument| argument.replace("{}", &data).replace("{pod}", url));
            let mut words: Vec<String> = self.runner.iter().map(|&word| word.to_owned()).collect();
            words.push(binary.display().to_string());
            words.extend(arguments);
            let said = output(command(&words).current_dir(self.root))?;
            println!("{}: {}", program.name, said.lines().last().unwrap_or(""));
            checks += match said.lines().find_map(checks_made) {
                Some(made) => made,
                None if program.name.starts_with("route") => 0,
                None => return Err(format!("{} checked nothing", program.name)),
            };
        }
        Ok(checks)
    }

    /// Starts a pod and waits until it answers.
    fn pod(&self) -> Result<Pod, String> {
        let mut pod = command(&[self.compile(&POD)?]);
        pod.args(POD.arguments).current_dir(self.root).stdout(Stdio::piped());
        let child = pod.spawn().map_err(|error| format!("{pod:?}: {error}"))?;
        let mut pod = Pod { child, url: String::new() };
        let said = pod.child.stdout.take().map(|said| BufReader::new(said).read_line(&mut pod.url));
        pod.url.truncate(pod.url.trim_end().len());
        match said {
            Some(Ok(1..)) => Ok(pod),
            _ => Err("the pod of the tests does not start".into()),
        }
    }

    fn compile(&self, program: &Program) -> Result<PathBuf, String> {
        let is_cpp = program.sources[0].ends_with(".cpp");
        let (variable, otherwise, warnings) = if is_cpp { ("CXX", "c++", CPP) } else { ("CC", "cc", C) };
        let compiler = env::var(variable).unwrap_or_else(|_| otherwise.to_owned());
        fs::create_dir_all(&self.folder).map_err(|error| format!("{}: {error}", self.folder.display()))?;
        let binary = self.folder.join(program.name);
        let mut compile = command(&[compiler]);
        compile.args(warnings).args(["-g", "-O1", "-pthread"]).args(self.flags).args(program.sources);
        compile.arg("-o").arg(&binary).args(&self.libraries).current_dir(self.root);
        run(&mut compile)?;
        Ok(binary)
    }
}

/// Reads a program's last line, `ok 12 checks`.
fn checks_made(line: &str) -> Option<u64> {
    line.strip_prefix("ok ")?.strip_suffix(" checks")?.parse().ok()
}

/// Every program, with the shared library and with the static one.
///
/// # Errors
/// What could not be built, or the check that failed.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let (folder, prefix) = prepare(root)?;
    let mut checks = 0;
    for (how, package) in [("shared", "kvroute"), ("static", "kvroute-static")] {
        let mut libraries = pkg_config(&prefix, package)?;
        libraries.push(format!("-Wl,-rpath,{}/lib", prefix.display()));
        let build = Build { root, folder: folder.join(how), flags: &[], libraries, runner: &[] };
        checks += build.check(&PROGRAMS.iter().collect::<Vec<_>>())?;
        // Reads memory that was freed, which only a plain build lets pass.
        let sources = &["kvroute-ffi/tests/c/bad_pointers.c"];
        checks += build.check(&[&Program { arguments: &["freed"], ..c("bad_pointers_freed", sources) }])?;
    }
    Ok(format!("{} programs, {checks} checks", PROGRAMS.len()))
}

/// The programs of libkvroute_io, with the shared library and with the static one.
///
/// # Errors
/// As [`check`].
pub(crate) fn io(root: &Path) -> Result<String, String> {
    let (folder, prefix) = prepare_io(root)?;
    let of_both = PROGRAMS.iter().filter(|program| OF_BOTH.contains(&program.name));
    let programs: Vec<&Program> = of_both.chain(IO_PROGRAMS).collect();
    let mut checks = 0;
    for (how, package) in [("shared", "kvroute_io"), ("static", "kvroute_io-static")] {
        let mut libraries = pkg_config(&prefix, package)?;
        libraries.push(format!("-Wl,-rpath,{}/lib", prefix.display()));
        let build = Build { root, folder: folder.join(how), flags: &[], libraries, runner: &[] };
        checks += build.check(&programs)?;
    }
    Ok(format!("{} programs, {checks} checks", programs.len()))
}

/// Every program under valgrind: no access to memory that is none, and no leak.
///
/// # Errors
/// As [`check`].
pub(crate) fn valgrind(root: &Path) -> Result<String, String> {
    let build = |folder: &Path, libraries, runner| Build {
        root,
        folder: folder.join("valgrind"),
        flags: &[],
        libraries,
        runner,
    };
    let (folder, prefix) = prepare(root)?;
    let core = build(&folder, pkg_config(&prefix, "kvroute-static")?, MEMCHECK);
    let mut checks = core.check(&PROGRAMS.iter().collect::<Vec<_>>())?;
    let (folder, prefix) = prepare_io(root)?;
    // What threads and statics of others hold to the end is pointed to in ways that valgrind does not see.
    let runner = [MEMCHECK, &["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]].concat();
    let io = build(&folder, pkg_config(&prefix, "kvroute_io-static")?, &runner);
    checks += io.check(&IO_PROGRAMS.iter().collect::<Vec<_>>())?;
    Ok(format!("{} programs, {checks} checks", PROGRAMS.len() + IO_PROGRAMS.len()))
}

const MEMCHECK: &[&str] = &[
    "valgrind",
    "--quiet",
    "--error-exitcode=9",
    "--leak-check=full",
    "--fair-sched=yes",
    "--suppressions=kvroute-ffi/tests/c/valgrind.supp",
];

/// Every program and the library with AddressSanitizer, the programs with UndefinedBehaviorSanitizer too.
///
/// # Errors
/// As [`check`].
pub(crate) fn address(root: &Path) -> Result<String, String> {
    let (folder, prefix) = prepare(root)?;
    let build = Build {
        root,
        folder: folder.join("asan"),
        flags: &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
        libraries: instrumented(root, &prefix, "address", &[])?,
        runner: &[],
    };
    let checks = build.check(&PROGRAMS.iter().collect::<Vec<_>>())?;
    Ok(format!("{} programs, {checks} checks", PROGRAMS.len()))
}

/// The program with many threads, and the library down to its standard library, with ThreadSanitizer.
///
/// # Errors
/// As [`check`].
pub(crate) fn thread(root: &Path) -> Result<String, String> {
    let (folder, prefix) = prepare(root)?;
    let build = Build {
        root,
        folder: folder.join("tsan"),
        flags: &["-fsanitize=thread", "kvroute-ffi/tests/c/tsan_memory.c"],
        libraries: instrumented(root, &prefix, "thread", &["-Zbuild-std=std,panic_unwind"])?,
        runner: &[],
    };
    let threads: Vec<&Program> = PROGRAMS.iter().filter(|program| program.name == "threads").collect();
    Ok(format!("{} checks", build.check(&threads)?))
}

/// Builds the static library with a sanitizer; answers what a program is compiled and linked with.
fn instrumented(root: &Path, prefix: &Path, sanitizer: &str, more: &[&str]) -> Result<Vec<String>, String> {
    let target = target_folder(root).join("c").join(sanitizer);
    let host = output(&mut command(&["rustc", "-vV"]))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc -vV names no host")?;
    let mut build = cargo("rustc --package kvroute-ffi --lib --crate-type staticlib --locked");
    // With the checks of a debug build; the core optimised, so that threads do more than wait for a slow one.
    build.args(["--config", "profile.dev.package.kvroute-core.opt-level=1"]);
    build.args(["--target", host]).args(more).current_dir(root);
    // The flags are unstable; this lets the stable compiler take them.
    build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", format!("-Zsanitizer={sanitizer}"));
    run(build.env("CARGO_TARGET_DIR", &target))?;
    let archive = target.join(host).join("debug/libkvroute.a").display().to_string();
    let mut flags = pkg_config(prefix, "kvroute-static")?;
    let plain = flags.iter_mut().find(|flag| flag.ends_with("/libkvroute.a"));
    *plain.ok_or("kvroute-static.pc names no libkvroute.a")? = archive;
    Ok(flags)
}

/// Splits what pkg-config says; a backslash keeps the space behind it.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => words.last_mut().expect("there is one").extend(letters.next()),
            letter if letter.is_whitespace() => words.push(String::new()),
            letter => words.last_mut().expect("there is one").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Installs libkvroute, and writes what C cannot read by itself as lines into `data`; answers where programs go, and the
/// prefix.
fn prepare(root: &Path) -> Result<(PathBuf, PathBuf), String> {
    let folder = data_folder(
        root,
        "c",
        &[("golden", "testdata/hashes"), ("capture", "testdata/captures/sim-cbor-small.jsonl.gz")],
    )?;
    let prefix = install(root, &folder.join("prefix"))?;
    Ok((folder, prefix))
}

/// The same for libkvroute_io.
fn prepare_io(root: &Path) -> Result<(PathBuf, PathBuf), String> {
    let folder = data_folder(root, "c-io", &[("requests", "testdata/tokenize/requests.jsonl")])?;
    let prefix = install_io(root, &folder.join("prefix"))?;
    Ok((folder, prefix))
}

/// A folder below cargo's with what `flatten` makes of test data in `data`.
fn data_folder(root: &Path, name: &str, sources: &[(&str, &str)]) -> Result<PathBuf, String> {
    let folder = target_folder(root).join(name);
    let data = folder.join("data");
    fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
    for (what, source) in sources {
        let mut flatten = cargo("run --quiet --package kvroute-ffi --example flatten --locked --");
        let lines = output(flatten.args([what, source]).current_dir(root))?;
        let path = data.join(format!("{what}.txt"));
        fs::write(&path, lines).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))
}

/// What a program is compiled and linked with, as the installed pkg-config file says.
fn pkg_config(prefix: &Path, package: &str) -> Result<Vec<String>, String> {
    let mut ask = command(&["pkg-config", "--cflags", "--libs", package]);
    Ok(words(&output(ask.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read_from_a_programs_last_line() {
        assert_eq!(checks_made("ok 12 checks"), Some(12));
        assert_eq!(checks_made("pod-b has 64 of 80 tokens in its cache"), None);
    }

    #[test]
    fn flags_are_split_at_spaces_that_are_not_escaped() {
        assert_eq!(words("-I/a\\ b/include  -L/p/lib -lx\n"), ["-I/a b/include", "-L/p/lib", "-lx"]);
    }
}
