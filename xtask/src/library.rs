//! libkvroute and libkvroute_io: their headers, and installing them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::options;
use crate::steps::Context;
use crate::tool::{cargo, output, run};

/// A library that C programs link.
#[derive(Debug)]
pub(crate) struct Library {
    /// As programs know it.
    pub(crate) name: &'static str,
    package: &'static str,
    /// As cargo knows it.
    built: &'static str,
    /// The argument of kvroute-ffi's example `header`.
    example: &'static str,
    /// The committed header, made of the package's source.
    pub(crate) header: &'static str,
    /// What else of `include/` is installed.
    wrapper: &'static str,
    /// What parts of it are in C++.
    has_cpp: bool,
    about: &'static str,
}

/// The core.
pub(crate) const KVROUTE: Library = Library {
    name: "kvroute",
    package: "kvroute-ffi",
    built: "kvroute",
    example: "",
    header: "include/kvroute.h",
    wrapper: "include/kvroute.hpp",
    has_cpp: false,
    about: "Routes LLM requests to the pod that holds their prefix in its KV cache",
};

/// The core, and what feeds it.
pub(crate) const KVROUTE_IO: Library = Library {
    name: "kvroute_io",
    package: "kvroute-ffi-io",
    built: "kvroute_ffi_io",
    example: "io",
    header: "include/kvroute_io.h",
    wrapper: "include/kvroute_io.hpp",
    // libzmq.
    has_cpp: true,
    about: "kvroute, and what feeds it from real engines: KV events, load, pods, token ids",
};

const INSTALL_USAGE: &str = "\
cargo xtask install --prefix <folder> [--io] [--target <triple>] [--zig]

Builds libkvroute and puts it below the folder: include/kvroute.h and kvroute.hpp, the shared and the static library
in lib/, and lib/pkgconfig/kvroute.pc and kvroute-static.pc.

  --io               libkvroute_io too: the same and what feeds a router from real engines, with kvroute_io.h,
                     kvroute_io.hpp, kvroute_io.pc and kvroute_io-static.pc
  --target <triple>  builds for another machine; with --zig a glibc version may follow, as in
                     aarch64-unknown-linux-gnu.2.17
  --zig              links with Zig (cargo-zigbuild), which knows other machines' C libraries";

/// `cargo xtask header`: writes the header anew.
pub(crate) fn header_main(arguments: &[String]) -> ExitCode {
    if let Some(argument) = arguments.first() {
        eprintln!("error: unknown option `{argument}`; `cargo xtask header` takes none");
        return ExitCode::from(2);
    }
    let written =
        Context::new(0).and_then(|_| [&KVROUTE, &KVROUTE_IO].into_iter().try_for_each(write_header));
    end(written)
}

fn write_header(library: &Library) -> Result<(), String> {
    let (header, text) = (library.header, generated_header(library)?);
    let is_same = fs::read_to_string(header).is_ok_and(|old| old == text);
    fs::write(header, text).map_err(|error| format!("{header}: {error}"))?;
    println!("{header} {}", if is_same { "is up to date" } else { "written" });
    Ok(())
}

/// Fails if a committed header is not what the source makes.
///
/// # Errors
/// That it is out of date.
pub(crate) fn check_headers() -> Result<String, String> {
    for library in [&KVROUTE, &KVROUTE_IO] {
        let header = library.header;
        let committed = fs::read_to_string(header).map_err(|error| format!("{header}: {error}"))?;
        if generated_header(library)? != committed {
            return Err(format!("{header} is out of date: run `cargo xtask header`"));
        }
    }
    Ok(String::new())
}

fn generated_header(library: &Library) -> Result<String, String> {
    let example =
        format!("run --quiet --package kvroute-ffi --example header --locked -- {}", library.example);
    output(&mut cargo(&example))
}

/// `cargo xtask install`.
pub(crate) fn install_main(arguments: &[String]) -> ExitCode {
    if matches!(arguments, [help] if help == "--help" || help == "-h") {
        println!("{INSTALL_USAGE}");
        return ExitCode::SUCCESS;
    }
    let (prefix, io, build) = match Build::parse(arguments) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("error: {message}\n\n{INSTALL_USAGE}");
            return ExitCode::from(2);
        }
    };
    // A relative prefix is the caller's; all else is below the root.
    let installed = env::current_dir().map_err(|error| error.to_string()).and_then(|current| {
        let prefix = current.join(prefix);
        let context = Context::new(0)?;
        if io {
            build.install(&KVROUTE_IO, context.root(), &prefix)?;
        }
        build.install(&KVROUTE, context.root(), &prefix)
    });
    end(installed.map(|prefix| {
        println!("\ninstalled into {0}; for pkg-config: PKG_CONFIG_PATH={0}/lib/pkgconfig", prefix.display());
    }))
}

/// For which machine a library is built, and how.
#[derive(Debug, Default)]
struct Build {
    /// `None` is this machine.
    target: Option<String>,
    zig: bool,
    /// As tests are built, so that what they have built need not be built again; otherwise for users.
    for_tests: bool,
}

impl Build {
    /// The prefix, whether libkvroute_io is wanted too, and the rest.
    fn parse(arguments: &[String]) -> Result<(String, bool, Self), String> {
        let (mut prefix, mut io, mut build) = (None, false, Self::default());
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().cloned().ok_or_else(|| format!("option {argument} needs a value"));
            match argument.as_str() {
                "--prefix" => prefix = Some(value()?),
                "--target" => build.target = Some(value()?),
                "--zig" => build.zig = true,
                "--io" => io = true,
                _ => {
                    let known = ["--prefix", "--io", "--target", "--zig"];
                    return Err(options::unknown("option", argument, &known));
                }
            }
        }
        Ok((prefix.ok_or("option --prefix is needed")?, io, build))
    }

    fn is_for(&self, system: &str) -> bool {
        match &self.target {
            Some(target) => target.contains(system),
            None => match system {
                "apple" => cfg!(target_os = "macos"),
                "musl" => cfg!(target_env = "musl"),
                _ => false,
            },
        }
    }

    /// Builds a library; answers the folder it is in.
    fn build(&self, library: &Library, root: &Path) -> Result<PathBuf, String> {
        let how = if self.zig { "zigbuild" } else { "build" };
        let (profile, place) = if self.for_tests { ("test", "debug") } else { ("release", "release") };
        let package = library.package;
        let mut command = cargo(&format!("{how} --package {package} --lib --profile {profile} --locked"));
        if self.is_for("musl") {
            // A shared library cannot have musl inside.
            command.env("RUSTFLAGS", "-C target-feature=-crt-static");
        }
        let mut folder = target_folder(root);
        if let Some(target) = &self.target {
            command.args(["--target", target]);
            // Without the version of glibc.
            folder.push(target.split('.').next().unwrap_or(target));
        }
        run(&mut command)?;
        Ok(folder.join(place))
    }

    /// Builds a library and installs it below `prefix`; answers that folder's full name.
    fn install(&self, library: &Library, root: &Path, prefix: &Path) -> Result<PathBuf, String> {
        let folder = self.build(library, root)?;
        let (include, lib) = (prefix.join("include"), prefix.join("lib"));
        for folder in [&include, &lib.join("pkgconfig")] {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let prefix = prefix.canonicalize().map_err(|error| format!("{}: {error}", prefix.display()))?;
        // One library's headers need the other's.
        for header in [KVROUTE.header, KVROUTE.wrapper, library.header, library.wrapper] {
            copy(&root.join(header), &prefix.join(header))?;
        }
        let Library { name, built, .. } = library;
        copy(&folder.join(format!("lib{built}.a")), &lib.join(format!("lib{name}.a")))?;
        let abi = abi_version(root)?;
        let (ending, file) = if self.is_for("apple") {
            ("dylib", format!("lib{name}.{abi}.dylib"))
        } else {
            ("so", format!("lib{name}.so.{abi}"))
        };
        copy(&folder.join(format!("lib{built}.{ending}")), &lib.join(&file))?;
        link(&file, &lib.join(format!("lib{name}.{ending}")))?;
        for (file, text) in self.pkg_config(library, &version(root)?) {
            let path = lib.join("pkgconfig").join(file);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(prefix)
    }

    /// What a static library of Rust's needs besides itself (`rustc --print native-static-libs`).
    fn native_libraries(&self, library: &Library) -> String {
        let (cpp, rust) = if self.is_for("apple") {
            ("-lc++ ", "-liconv -lSystem -lc -lm")
        } else if self.is_for("musl") {
            ("-lstdc++ ", "-lgcc_s -lc")
        } else {
            ("-lstdc++ ", "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc")
        };
        format!("{}{rust}", if library.has_cpp { cpp } else { "" })
    }

    /// The files find their folder by themselves, so that an installation can be moved.
    fn pkg_config(&self, library: &Library, version: &str) -> [(String, String); 2] {
        let Library { name, about, .. } = library;
        let file = |how: &str, libraries: &str| {
            format!(
                "prefix=${{pcfiledir}}/../..\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib\n\n\
                 Name: {name}\nDescription: {about} ({how})\nVersion: {version}\nCflags: -I${{includedir}}\nLibs: {libraries}\n"
            )
        };
        let archive = format!("${{libdir}}/lib{name}.a {}", self.native_libraries(library));
        [
            (format!("{name}.pc"), file("shared", &format!("-L${{libdir}} -l{name}"))),
            (format!("{name}-static.pc"), file("static", &archive)),
        ]
    }
}

/// What programs of this machine link besides the static libkvroute.
pub(crate) fn native_libraries() -> String {
    Build::default().native_libraries(&KVROUTE)
}

/// Builds libkvroute for this machine and installs it below `prefix`; answers that folder's full name.
///
/// # Errors
/// What could not be built or copied.
pub(crate) fn install(root: &Path, prefix: &Path) -> Result<PathBuf, String> {
    Build::default().install(&KVROUTE, root, prefix)
}

/// The same of libkvroute_io, built as tests are: with optimisation, and without what only makes it smaller.
///
/// # Errors
/// Those of [`install`].
pub(crate) fn install_io(root: &Path, prefix: &Path) -> Result<PathBuf, String> {
    Build { for_tests: true, ..Build::default() }.install(&KVROUTE_IO, root, prefix)
}

/// Where cargo builds.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    // A program that has the old file mapped keeps it.
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop).map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

#[cfg(unix)]
fn link(name: &str, place: &Path) -> Result<(), String> {
    let _ = fs::remove_file(place);
    std::os::unix::fs::symlink(name, place).map_err(|error| format!("{}: {error}", place.display()))
}

#[cfg(not(unix))]
fn link(name: &str, place: &Path) -> Result<(), String> {
    copy(&place.with_file_name(name), place)
}

/// `version` of the workspace.
fn version(root: &Path) -> Result<String, String> {
    value_after(&root.join("Cargo.toml"), "version = \"").map(|text| text.trim_end_matches('"').to_owned())
}

/// `KVROUTE_ABI_VERSION`.
pub(crate) fn abi_version(root: &Path) -> Result<String, String> {
    let source = root.join("kvroute-ffi/src/version.rs");
    value_after(&source, "pub const KVROUTE_ABI_VERSION: u32 = ")
        .map(|text| text.trim_end_matches(';').to_owned())
}

/// The rest of the first line of a file that begins with `start`.
fn value_after(path: &Path, start: &str) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let value = text.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
    value.ok_or_else(|| format!("{}: no line begins with `{start}`", path.display()))
}

fn end(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
