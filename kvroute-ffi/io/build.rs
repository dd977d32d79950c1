//! Names the shared library as programs that link it will look for it: by its ABI version.

/// `KVROUTE_ABI_VERSION` of kvroute-ffi; the check of symbols compares the two.
const ABI: u32 = 1;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux" | "android" | "freebsd") => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libkvroute_io.so.{ABI}");
        }
        Ok("macos") => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libkvroute_io.{ABI}.dylib");
        }
        _ => {}
    }
}
