//! What the fuzz targets check. The bodies live here, not in `fuzz_targets/`, so that the same checks run
//! under libFuzzer and in `replay_corpus`, which needs neither libFuzzer nor a nightly compiler.

mod ffi_calls;
mod peers;

use kvroute_core::event::{EventBatch, KvEvent, decode_batch, decode_trtllm};
use kvroute_core::oracle::history::{Setting, run};
use kvroute_core::oracle::snapshots;

pub use ffi_calls::ffi_calls;
pub use peers::peers;

/// A body: it panics on a finding.
pub type Target = fn(&[u8]);

/// Every target by its name in `Cargo.toml`.
pub const TARGETS: &[(&str, Target)] = &[
    ("decode", decode),
    ("index", index),
    ("ffi_calls", ffi_calls),
    ("snapshot", snapshot),
    ("peers", peers),
];

/// The decoders neither panic on any bytes nor answer more than the bytes can hold.
pub fn decode(data: &[u8]) {
    if let Ok(batch) = decode_batch(data) {
        let mut held = Held::default();
        held.add(&batch);
        held.check(data.len());
    }
    for block_size in [1, 2, 16] {
        let Ok(events) = decode_trtllm(data, block_size) else { continue };
        let mut held = Held::default();
        events.iter().for_each(|event| held.add(&event.batch));
        held.check(data.len());
    }
}

/// Steps of a history, four bytes each, that are still fast enough: every answer is compared after each.
const MAX_STEPS: usize = 256;

/// The index answers what the oracle does after every step of a history. The first byte is the setting.
pub fn index(data: &[u8]) {
    let Some((&first, steps)) = data.split_first() else { return };
    let bit = |n: u8| first >> n & 1 == 1;
    let setting = Setting { translated: bit(0), hybrid: bit(1), replay: bit(2), guarded: bit(3) };
    if let Err(difference) = run(setting, &steps[..steps.len().min(4 * MAX_STEPS)]) {
        panic!("{setting:?}: {difference}");
    }
}

/// A snapshot with right checksums is refused and changes nothing, or the router lives on with it. The first byte
/// chooses between one made of the input and a good one changed by it.
pub fn snapshot(data: &[u8]) {
    if let Err(finding) = snapshots::run(data) {
        panic!("{finding}");
    }
}

/// How much a decoder answered.
#[derive(Default)]
struct Held {
    events: usize,
    /// Block hashes and token ids.
    items: usize,
    /// Blocks with an entry of extra keys.
    keyed_blocks: usize,
    skipped: usize,
    /// Bytes of the texts that say why something was skipped.
    detail: usize,
}

impl Held {
    fn add(&mut self, batch: &EventBatch) {
        self.events += batch.events.len();
        for event in &batch.events {
            match event {
                KvEvent::Stored(stored) => {
                    self.items += stored.block_hashes.len() + stored.token_ids.len();
                    self.keyed_blocks += stored.extra_keys.len();
                }
                KvEvent::Removed(removed) => self.items += removed.block_hashes.len(),
                KvEvent::Cleared => {}
            }
        }
        self.skipped += batch.skipped.len();
        self.detail += batch.skipped.iter().map(|skipped| skipped.detail.len()).sum::<usize>();
    }

    /// Every hash, token id and event takes at least a byte on the wire. A text may quote the bytes it is
    /// about, escaped, and adds a sentence of its own.
    fn check(&self, input: usize) {
        assert!(self.events <= input, "{} events from {input} bytes", self.events);
        assert!(self.items <= input, "{} hashes and token ids from {input} bytes", self.items);
        assert!(self.keyed_blocks <= input, "{} extra keys from {input} bytes", self.keyed_blocks);
        // One more: a line can be skipped without a byte of its own, at the end of the input.
        assert!(self.skipped <= input + 1, "{} skipped from {input} bytes", self.skipped);
        let bound = 16 * input + 1024 * self.skipped;
        assert!(self.detail <= bound, "{} bytes of text about {input} bytes", self.detail);
    }
}
