//! Fuzzes snapshots of a router; what is checked is in [`kvroute_fuzz::snapshot`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kvroute_fuzz::snapshot(data));
