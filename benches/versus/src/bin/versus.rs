//! `cargo versus`; also its own child for what needs no counted heap.
use std::process::ExitCode;

fn main() -> ExitCode {
    kvroute_versus::parent::main()
}
