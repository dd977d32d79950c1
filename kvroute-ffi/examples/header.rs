//! Prints include/kvroute.h, made of this crate's source: `cargo xtask header` writes it.

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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).expect("cbindgen.toml");
    config.header = Some(include_str!("../src/introduction.h").trim_end().to_owned());
    config.after_includes = Some(format!("\n{}", version().trim_end()));
    let builder = cbindgen::Builder::new().with_config(config).with_crate(folder);
    let mut header = Vec::new();
    builder.generate().expect("the crate's source").write(&mut header);
    // A negative number in the middle of an expression.
    print!("{}", String::from_utf8(header).expect("UTF-8").replace(" -1\n", " (-1)\n"));
}
