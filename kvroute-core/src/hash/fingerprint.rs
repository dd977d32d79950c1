//! Tells, from one run of a program to another, whether two hashers hash alike.

use alloc::string::ToString;
use alloc::vec::Vec;

use xxhash_rust::xxh3::Xxh3;

use super::{BlockHasher, HashContext, Lora, MultimodalItem};

/// Blocks hashed to find out.
const BLOCKS: u32 = 3;

impl BlockHasher {
    /// Equal for hashers that hash alike, in every version of this library and on every machine: a hash of what
    /// this one makes of a few fixed prompts.
    pub(crate) fn fingerprint(&self) -> u64 {
        let token_ids: Vec<u32> = (1..=self.block_size * BLOCKS).collect();
        let mut sum = Xxh3::new();
        sum.update(&self.block_size.to_le_bytes());
        for context in contexts() {
            // A context that a scheme cannot express tells it from those that can.
            let blocks = self.hash(&token_ids, &context).unwrap_or_default();
            sum.update(&(blocks.len() as u32).to_le_bytes());
            blocks.iter().for_each(|block| sum.update(&block.0.to_le_bytes()));
        }
        sum.digest()
    }
}

/// One for each rule of what enters a hash.
fn contexts() -> [HashContext; 5] {
    let lora = |name: &str, path: &str| Lora { name: name.to_string(), path: path.to_string(), id: 7 };
    let item = MultimodalItem { identifier: "image".to_string(), start: 0, length: 1 };
    let context = HashContext::default;
    [
        context(),
        HashContext { lora: Some(lora("adapter", "/adapter")), ..context() },
        HashContext { cache_salt: Some("salt".to_string()), ..context() },
        HashContext { multimodal: alloc::vec![item], ..context() },
        HashContext { prompt_embeds: alloc::vec![alloc::vec![1, 2, 3]], ..context() },
    ]
}
