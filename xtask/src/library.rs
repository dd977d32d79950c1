//! libkvroute: its header, and installing it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::tool::{cargo, output, run};

/// The committed header, made of kvroute-ffi's source.
const HEADER: &str = "include/kvroute.h";

/// Files of `include/` that are installed.
const HEADERS: &[&str] = &["kvroute.h", "kvroute.hpp"];

const INSTALL_USAGE: &str = "\
cargo xtask install --prefix <folder>

Builds libkvroute and puts it below the folder: include/kvroute.h and kvroute.hpp, the shared and the static library
in lib/, and lib/pkgconfig/kvroute.pc and kvroute-static.pc.";

/// `cargo xtask header`: writes the header anew.
pub(crate) fn header_main(arguments: &[String]) -> ExitCode {
    if let Some(argument) = arguments.first() {
        eprintln!("error: unknown option `{argument}`; `cargo xtask header` takes none");
        return ExitCode::from(2);
    }
    let written = generated_header().and_then(|text| {
        let is_new = fs::read_to_string(HEADER).is_ok_and(|old| old == text);
        fs::write(HEADER, text).map_err(|error| format!("{HEADER}: {error}"))?;
        Ok(is_new)
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

/// `cargo xtask install --prefix <folder>`.
pub(crate) fn install_main(arguments: &[String]) -> ExitCode {
    let prefix = match arguments {
        [name, prefix] if name == "--prefix" => prefix.as_str(),
        [option] if option.starts_with("--prefix=") => &option["--prefix=".len()..],
        [help] if help == "--help" || help == "-h" => {
            println!("{INSTALL_USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("error: one option is needed, --prefix <folder>\n\n{INSTALL_USAGE}");
            return ExitCode::from(2);
        }
    };
    end(install(Path::new("."), Path::new(prefix)).map(|prefix| {
        println!("\ninstalled into {0}; for pkg-config: PKG_CONFIG_PATH={0}/lib/pkgconfig", prefix.display());
    }))
}

/// Builds the library and installs it below `prefix`; answers that folder's full name.
///
/// # Errors
/// What could not be built or copied.
pub(crate) fn install(root: &Path, prefix: &Path) -> Result<PathBuf, String> {
    run(&mut cargo("build --package kvroute-ffi --release --locked"))?;
    let built = target_folder(root).join("release");
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
    let (built_as, name, plain) = if cfg!(target_os = "macos") {
        ("libkvroute.dylib", format!("libkvroute.{abi}.dylib"), "libkvroute.dylib")
    } else {
        ("libkvroute.so", format!("libkvroute.so.{abi}"), "libkvroute.so")
    };
    copy(&built.join(built_as), &lib.join(&name))?;
    link(&name, &lib.join(plain))?;
    for (file, text) in pkg_config(&prefix, &version(root)?) {
        let path = lib.join("pkgconfig").join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(prefix)
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

/// What a static library of Rust's needs besides itself (`rustc --print native-static-libs`).
fn native_libraries() -> &'static str {
    if cfg!(target_os = "macos") {
        "-liconv -lSystem -lc -lm"
    } else {
        "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"
    }
}

fn pkg_config(prefix: &Path, version: &str) -> [(&'static str, String); 2] {
    let file = |how: &str, libraries: &str| {
        format!(
            "prefix={}\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib\n\nName: kvroute\nDescription: Routes \
             LLM requests to the pod that holds their prefix in its KV cache ({how})\nVersion: {version}\n\
             Cflags: -I${{includedir}}\nLibs: {libraries}\n",
            prefix.display()
        )
    };
    let archive = format!("${{libdir}}/libkvroute.a {}", native_libraries());
    [
        ("kvroute.pc", file("shared", "-L${libdir} -lkvroute")),
        ("kvroute-static.pc", file("static", &archive)),
    ]
}

/// `version` of the workspace.
fn version(root: &Path) -> Result<String, String> {
    value_after(&root.join("Cargo.toml"), "version = \"").map(|text| text.trim_end_matches('"').to_owned())
}

/// `KVROUTE_ABI_VERSION`.
fn abi_version(root: &Path) -> Result<String, String> {
    let source = root.join("kvroute-ffi/src/version.rs");
    value_after(&source, "pub const KVROUTE_ABI_VERSION: u32 = ").map(|text| text.trim_end_matches(';').to_owned())
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
