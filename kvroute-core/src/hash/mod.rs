//! Block hashing.

mod context;

pub use context::{ExtraKey, HashContext, Lora, MultimodalItem};
