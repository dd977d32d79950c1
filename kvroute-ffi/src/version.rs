//! Which library this is.

use std::ffi::{CStr, c_char};

/// Version of this interface. Within one version functions, constants and ends of structs are added, and nothing is
/// changed or removed.
pub const KVROUTE_ABI_VERSION: u32 = 1;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version with a NUL in it"),
};

/// Version of the library that runs, such as "1.2.3"; `KVROUTE_VERSION` is that of the header. Never freed.
#[unsafe(no_mangle)]
pub extern "C" fn kvroute_version() -> *const c_char {
    VERSION.as_ptr()
}

/// `KVROUTE_ABI_VERSION` of the library that runs.
#[unsafe(no_mangle)]
pub extern "C" fn kvroute_abi_version() -> u32 {
    KVROUTE_ABI_VERSION
}

/// Does nothing. A program that refers to it links with a library of ABI version 1, or not at all.
#[unsafe(no_mangle)]
pub extern "C" fn kvroute_abi_1() {}
