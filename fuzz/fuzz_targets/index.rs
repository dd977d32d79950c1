//! Fuzzes the index against the oracle; what is checked is in [`kvroute_fuzz::index`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvroute_fuzz::index(data));
