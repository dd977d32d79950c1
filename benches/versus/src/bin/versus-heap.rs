//! The child of `cargo versus` that counts its heap: counting would cost those time who allocate, so only here.
use std::process::ExitCode;

use accounting_allocator::AccountingAlloc;

#[global_allocator]
static HEAP: AccountingAlloc = AccountingAlloc::new();

fn live() -> u64 {
    let counted = HEAP.count().all_time;
    (counted.alloc - counted.dealloc) as u64
}

fn main() -> ExitCode {
    kvroute_versus::child::main(Some(live))
}
