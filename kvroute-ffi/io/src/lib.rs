//! libkvroute_io: all of libkvroute, and what feeds a router from real engines. `include/kvroute_io.h` is made of this
//! crate and reads as its manual. How it is kept safe is said, and done, in `kvroute`, whose guards, handles and structs
//! these functions use.
#![allow(non_camel_case_types, reason = "types are named as in C")]

#[cfg(panic = "abort")]
compile_error!(
    "libkvroute_io promises that a panic does not end the program: build it with panic = \"unwind\""
);

// In the order of the header; the empty lines keep it.
pub mod fleet;

pub mod prompts;

pub mod tokenizer;
