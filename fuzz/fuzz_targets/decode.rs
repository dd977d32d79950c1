//! Fuzzes the decoders of engine bytes; what is checked is in [`kvroute_fuzz::decode`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvroute_fuzz::decode(data));
