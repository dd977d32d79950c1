//! libkvroute: its header, and installing it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::options;
use crate::steps::Context;
use crate::tool::{cargo, output, run};

/// The committed header, made of kvroute-ffi's source.
const HEADER: &str = "include/kvroute.h";

/// Files of `include/` that are installed.
const HEADERS: &[&str] = &["kvroute.h", "kvroute.hpp"];

const INSTALL_USAGE: &str = "\
cargo xtask install --prefix <folder> [--target <triple>] [--zig]

Builds libkvroute and puts it below the folder: include/kvroute.h and kvroute.hpp, the shared and the static library
in lib/, and lib/pkgconfig/kvroute.pc and kvroute-static.pc.

  --target <triple>  builds for another machine; with --zig a glibc version may follow, as in
                     aarch64-unknown-linux-gnu.2.17
  --zig              links with Zig (cargo-zigbuild), which knows other machines' C libraries";

/// `cargo xtask header`: writes the header anew.
pub(crate) fn header_main(arguments: &[String]) -> ExitCode {
    if let Some(argument) = arguments.first() {
        eprintln!("error: unknown option `{argument}`; `cargo xtask header` takes none");
        return ExitCode::from(2);
    }
    let written = Context::new(0).and_then(|_| generated_header()).and_then(|text| {
        let is_same = fs::read_to_string(HEADER).is_ok_and(|old| old == text);
        fs::write(HEADER, text).map_err(|error| format!("{HEADER}: {error}"))?;
        Ok(is_same)
    });
    end(written.map(|same| println!("{HEADER} {}", if same { "is up to date" } else { "written" })))
}

/// Fails if the committed header is not what the source makes.
///
/// # Errors
/// That it is out of date.
pub(crate) fn check_header() -> Result<String, String> {
    let committed = fs::read_to_string(HEADER).map_err(|error| format!("{HEADER}: {error}"))?;
    if generated_header()? == committed {
        return Ok(String::new());
    }
    Err(format!("{HEADER} is out of date: run `cargo xtask header`"))
}

fn generated_header() -> Result<String, String> {
    output(&mut cargo("run --quiet --package kvroute-ffi --example header --locked"))
}

/// `cargo xtask install`.
pub(crate) fn install_main(arguments: &[String]) -> ExitCode {
    if matches!(arguments, [help] if help == "--help" || help == "-h") {
        println!("{INSTALL_USAGE}");
        return ExitCode::SUCCESS;
    }
    let (prefix, build) = match Build::parse(arguments) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("error: {message}\n\n{INSTALL_USAGE}");
            return ExitCode::from(2);
        }
    };
    // A relative prefix is the caller's; all else is below the root.
    let installed = env::current_dir().map_err(|error| error.to_string()).and_then(|current| {
        let prefix = current.join(prefix);
        build.install(Context::new(0)?.root(), &prefix)
    });
    end(installed.map(|prefix| {
        println!("\ninstalled into {0}; for pkg-config: PKG_CONFIG_PATH={0}/lib/pkgconfig", prefix.display());
    }))
}

/// For which machine libkvroute is built, and how.
#[derive(Debug, Default)]
pub(crate) struct Build {
    /// `None` is this machine.
    target: Option<String>,
    zig: bool,
}

impl Build {
    /// The prefix, and the rest.
    fn parse(arguments: &[String]) -> Result<(String, Self), String> {
        let (mut prefix, mut build) = (None, Self::default());
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().cloned().ok_or_else(|| format!("option {argument} needs a value"));
            match argument.as_str() {
                "--prefix" => prefix = Some(value()?),
                "--target" => build.target = Some(value()?),
                "--zig" => build.zig = true,
                _ => return Err(options::unknown("option", argument, &["--prefix", "--target", "--zig"])),
            }
        }
        Ok((prefix.ok_or("option --prefix is needed")?, build))
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

    /// Builds the library; answers the folder it is in.
    fn build(&self, root: &Path) -> Result<PathBuf, String> {
        let how = if self.zig { "zigbuild" } else { "build" };
        let mut command = cargo(&format!("{how} --package kvroute-ffi --lib --release --locked"));
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
        Ok(folder.join("release"))
    }

    /// Builds the library and installs it below `prefix`; answers that folder's full name.
    ///
    /// # Errors
    /// What could not be built or copied.
    pub(crate) fn install(&self, root: &Path, prefix: &Path) -> Result<PathBuf, String> {
        let built = self.build(root)?;
        let (include, lib) = (prefix.join("include"), prefix.join("lib"));
        for folder in [&include, &lib.join("pkgconfig")] {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let prefix = prefix.canonicalize().map_err(|error| format!("{}: {error}", prefix.display()))?;
        for header in HEADERS {
            copy(&root.join("include").join(header), &include.join(header))?;
        }
        copy(&built.join("libkvroute.a"), &lib.join("libkvroute.a"))?;
        let abi = abi_version(root)?;
        let (plain, name) = if self.is_for("apple") {
            ("libkvroute.dylib", format!("libkvroute.{abi}.dylib"))
        } else {
            ("libkvroute.so", format!("libkvroute.so.{abi}"))
        };
        copy(&built.join(plain), &lib.join(&name))?;
        link(&name, &lib.join(plain))?;
        for (file, text) in self.pkg_config(&version(root)?) {
            let path = lib.join("pkgconfig").join(file);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(prefix)
    }

    /// What a static library of Rust's needs besides itself (`rustc --print native-static-libs`).
    fn native_libraries(&self) -> &'static str {
        if self.is_for("apple") {
            "-liconv -lSystem -lc -lm"
        } else if self.is_for("musl") {
            "-lgcc_s -lc"
        } else {
            "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"
        }
    }

    /// The files find their folder by themselves, so that an installation can be moved.
    fn pkg_config(&self, version: &str) -> [(&'static str, String); 2] {
        let file = |how: &str, libraries: &str| {
            format!(
                "prefix=${{pcfiledir}}/../..\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib\n\n\
                 Name: kvroute\nDescription: Routes LLM requests to the pod that holds their prefix in its KV cache \
                 ({how})\nVersion: {version}\nCflags: -I${{includedir}}\nLibs: {libraries}\n"
            )
        };
        let archive = format!("${{libdir}}/libkvroute.a {}", self.native_libraries());
        [
            ("kvroute.pc", file("shared", "-L${libdir} -lkvroute")),
            ("kvroute-static.pc", file("static", &archive)),
        ]
    }
}

/// What programs of this machine link besides the static library.
pub(crate) fn native_libraries() -> &'static str {
    Build::default().native_libraries()
}

/// Builds libkvroute for this machine and installs it below `prefix`; answers that folder's full name.
///
/// # Errors
/// What could not be built or copied.
pub(crate) fn install(root: &Path, prefix: &Path) -> Result<PathBuf, String> {
    Build::default().install(root, prefix)
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
fn abi_version(root: &Path) -> Result<String, String> {
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
