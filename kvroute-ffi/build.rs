//! Names the shared library as programs that link it will look for it: by its ABI version.

/// `KVROUTE_ABI_VERSION` of src/version.rs; a test compares the two.
const ABI: u32 = 1;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_SONAME").is_none() {
        return;
    }
    match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux" | "android" | "freebsd") => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libkvroute.so.{ABI}");
        }
        Ok("macos") => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libkvroute.{ABI}.dylib");
        }
        _ => {}
    }
}
