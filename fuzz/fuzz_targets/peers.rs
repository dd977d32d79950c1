//! Fuzzes reports of peers; what is checked is in [`kvroute_fuzz::peers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvroute_fuzz::peers(data));
