//! Prints include/kvroute.h, made of this crate's source; with the argument `io` include/kvroute_io.h, of kvroute-ffi-io's.
//! `cargo xtask header` writes them.

use std::path::Path;

/// The macros that tell the version.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut parts = version.split(['.', '-']);
    let mut part = || parts.next().unwrap_or("0");
    include_str!("../src/version.h")
        .replace("@VERSION@", version)
        .replace("@MAJOR@", part())
        .replace("@MINOR@", part())
        .replace("@PATCH@", part())
}

fn main() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (folder, version) = match std::env::args().nth(1).as_deref() {
        Some("io") => (own.join("io"), String::new()),
        None => (own.to_owned(), format!("\n{}", version().trim_end())),
        Some(other) => panic!("no header is called {other}"),
    };
    let mut config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).expect("cbindgen.toml");
    let introduction = std::fs::read_to_string(folder.join("src/introduction.h")).expect("introduction.h");
    config.header = Some(introduction.trim_end().to_owned());
    config.after_includes = (!version.is_empty()).then_some(version);
    let builder = cbindgen::Builder::new().with_config(config).with_crate(folder);
    let mut header = Vec::new();
    builder.generate().expect("the crate's source").write(&mut header);
    // A negative number in the middle of an expression.
    print!("{}", String::from_utf8(header).expect("UTF-8").replace(" -1\n", " (-1)\n"));
}
