//! What besides the token ids decides whether KV can be shared.

use kvroute_core::HashContext;
use kvroute_core::hash::{Lora, MultimodalItem};

use crate::memory::{array, kvroute_bytes, kvroute_str};
use crate::status::Failure;
use crate::structs::{self, versioned};

/// One image, video or audio clip in a prompt.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_multimodal_item {
    /// The engine's identifier of the content (vLLM: hex digest of the processed item).
    pub identifier: kvroute_str,
    /// First token of its placeholder; tokens from the start of the prompt.
    pub start: u32,
    /// Length of its placeholder; tokens.
    pub length: u32,
}

/// What besides the token ids decides whether KV can be shared. All zero: no adapter, no salt, plain text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_hash_context {
    /// `sizeof(kvroute_hash_context)`.
    pub struct_size: usize,
    /// Name of the LoRA adapter; empty for none.
    pub lora_name: kvroute_str,
    /// Where the engine loaded the adapter from (`root` in `/v1/models`). In vLLM's hashes since 0.31.
    pub lora_path: kvroute_str,
    /// The engine's number of the adapter. In vLLM's hashes before 0.11.1.
    pub lora_id: i64,
    /// Tenant isolation (`cache_salt` in vLLM's API); empty for none.
    pub cache_salt: kvroute_str,
    /// Multimodal items, ordered by `start`.
    pub multimodal: *const kvroute_multimodal_item,
    /// How many.
    pub multimodal_len: usize,
    /// Keys of prompt embeddings, one for each of the first blocks.
    pub prompt_embeds: *const kvroute_bytes,
    /// How many.
    pub prompt_embeds_len: usize,
}

versioned!(kvroute_hash_context up to prompt_embeds_len);

/// A context that is filled anew for every request, in the memory of the ones before.
#[derive(Default)]
pub(crate) struct ContextBuffer {
    context: HashContext,
    /// Kept while a request has no adapter, no salt or fewer items.
    spare_lora: Lora,
    spare_salt: String,
    spare_items: Vec<MultimodalItem>,
    spare_keys: Vec<Vec<u8>>,
}

/// Makes `values` as many as `length`; those that are too many wait in `spare`.
fn resize<T: Default>(values: &mut Vec<T>, length: usize, spare: &mut Vec<T>) {
    if values.len() > length {
        spare.extend(values.drain(length..));
    }
    values.resize_with(length, || spare.pop().unwrap_or_default());
}

fn refill(text: &mut String, with: &str) {
    text.clear();
    text.push_str(with);
}

impl ContextBuffer {
    /// The context at `place`; NULL is the default one.
    ///
    /// # Safety
    ///
    /// `place` is NULL or a `kvroute_hash_context` of the caller's with what it points to.
    pub(crate) unsafe fn fill(
        &mut self,
        place: *const kvroute_hash_context,
    ) -> Result<&HashContext, Failure> {
        let Self { context, spare_lora, spare_salt, spare_items, spare_keys } = self;
        // SAFETY: the caller's word, for this and all that it points to.
        let (lora, path, id, salt, items, embeds) = unsafe {
            let raw = structs::read_or_default(place)?;
            let items = array("context.multimodal", raw.multimodal, raw.multimodal_len)?;
            let embeds = array("context.prompt_embeds", raw.prompt_embeds, raw.prompt_embeds_len)?;
            let lora = raw.lora_name.get("context.lora_name")?;
            let path = raw.lora_path.get("context.lora_path")?;
            (lora, path, raw.lora_id, raw.cache_salt.get("context.cache_salt")?, items, embeds)
        };
        if lora.is_empty() {
            if let Some(lora) = context.lora.take() {
                *spare_lora = lora;
            }
            if !path.is_empty() || id != 0 {
                return Err(Failure::invalid("context: lora_path or lora_id without lora_name"));
            }
        } else {
            let to = context.lora.get_or_insert_with(|| std::mem::take(spare_lora));
            refill(&mut to.name, lora);
            refill(&mut to.path, path);
            to.id = id;
        }
        if salt.is_empty() {
            if let Some(salt) = context.cache_salt.take() {
                *spare_salt = salt;
            }
        } else {
            refill(context.cache_salt.get_or_insert_with(|| std::mem::take(spare_salt)), salt);
        }
        resize(&mut context.multimodal, items.len(), spare_items);
        for (item, to) in items.iter().zip(&mut context.multimodal) {
            // SAFETY: the caller's word.
            refill(&mut to.identifier, unsafe { item.identifier.get("context.multimodal.identifier") }?);
            (to.start, to.length) = (item.start, item.length);
        }
        resize(&mut context.prompt_embeds, embeds.len(), spare_keys);
        for (key, to) in embeds.iter().zip(&mut context.prompt_embeds) {
            to.clear();
            // SAFETY: the caller's word.
            to.extend_from_slice(unsafe { key.get("context.prompt_embeds") }?);
        }
        Ok(context)
    }
}
