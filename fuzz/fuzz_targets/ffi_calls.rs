//! Fuzzes calls through the C ABI; what is checked is in [`kvroute_fuzz::ffi_calls`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvroute_fuzz::ffi_calls(data));
