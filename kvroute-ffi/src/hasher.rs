//! Block hashers.

use kvroute_core::BlockHasher;
use kvroute_core::hash::{
    HashScheme, HashSeed, LlmdScheme, MultimodalForm, OwnScheme, VllmAlgorithm, VllmEra, VllmScheme,
};

use crate::context::{ContextBuffer, kvroute_hash_context};
use crate::error::kvroute_error;
use crate::guard;
use crate::handle::{self, Handle, mark};
use crate::memory::{array, fill, kvroute_bytes, kvroute_str, put, wanted};
use crate::status::Failure;
use crate::structs::{self, versioned};

/// kvroute's own scheme: events' token ids are hashed again, whatever the engine's own hashes are.
pub const KVROUTE_SCHEME_OWN: i32 = 0;
/// vLLM's own hashes, byte for byte.
pub const KVROUTE_SCHEME_VLLM: i32 = 1;
/// llm-d's default, `hashAlgorithm: cbor-fnv`.
pub const KVROUTE_SCHEME_LLMD_CBOR_FNV: i32 = 2;
/// llm-d's other one, `hashAlgorithm: xxh64`.
pub const KVROUTE_SCHEME_LLMD_XXH64: i32 = 3;

/// Engines publish multimodal items with their offsets: vLLM 0.19 and later.
pub const KVROUTE_MULTIMODAL_OFFSET: i32 = 0;
/// Engines publish their bare identifiers: vLLM before 0.19.
pub const KVROUTE_MULTIMODAL_IDENTIFIER: i32 = 1;

/// How blocks are hashed. All zero but `block_size`: kvroute's own scheme.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_hasher_options {
    /// `sizeof(kvroute_hasher_options)`.
    pub struct_size: usize,
    /// `KVROUTE_SCHEME_...`.
    pub scheme: i32,
    /// Tokens a block; 1 to 65 536.
    pub block_size: u32,
    /// If `has_seed` is not 0: a decimal number for the own scheme, vLLM's `PYTHONHASHSEED`, llm-d's `hashSeed`. Without
    /// one: the number that Dynamo and SMG share; `PYTHONHASHSEED` is not set; `hashSeed` is empty.
    pub seed: kvroute_str,
    /// vLLM: `--prefix-caching-hash-algo`.
    pub algorithm: kvroute_str,
    /// vLLM: version of the engines, such as "0.32.0".
    pub version: kvroute_str,
    /// vLLM: its `NONE_HASH` itself, in place of `seed`.
    pub none_hash: kvroute_bytes,
    /// llm-d: name of the model.
    pub model: kvroute_str,
    /// vLLM: tokens after a block that its hash covers (draft models, 0.33).
    pub lookahead: u32,
    /// Own: `KVROUTE_MULTIMODAL_...`.
    pub multimodal: i32,
    /// See `seed`.
    pub has_seed: i32,
    /// Room; 0.
    pub reserved: u32,
}

versioned!(kvroute_hasher_options up to reserved);

/// Turns token ids into chained block hashes. Never changes; share it between threads.
pub struct kvroute_hasher {
    _opaque: [u8; 0],
}

impl Handle for kvroute_hasher {
    type Content = BlockHasher;
    const MARK: u64 = mark(b"hasher");
    const NAME: &'static str = "kvroute_hasher";
}

/// # Safety
///
/// The texts and bytes of `options` are the caller's.
unsafe fn scheme(options: &kvroute_hasher_options) -> Result<HashScheme, Failure> {
    // SAFETY: the caller's word.
    let (seed, algorithm, version, none_hash, model) = unsafe {
        (
            options.seed.get("options.seed")?,
            options.algorithm.non_empty("options.algorithm")?,
            options.version.non_empty("options.version")?,
            options.none_hash.get("options.none_hash")?,
            options.model.get("options.model")?,
        )
    };
    let has_seed = options.has_seed != 0;
    if !has_seed && !seed.is_empty() {
        return Err(Failure::invalid("options.seed without options.has_seed"));
    }
    if options.reserved != 0 {
        return Err(Failure::invalid("options.reserved is not 0"));
    }
    let foreign =
        |what: &str| Err(Failure::invalid(format!("options.{what} has no meaning for this scheme")));
    let is_vllm = options.scheme == KVROUTE_SCHEME_VLLM;
    match options.scheme {
        _ if !is_vllm && algorithm.is_some() => return foreign("algorithm"),
        _ if !is_vllm && version.is_some() => return foreign("version"),
        _ if !is_vllm && !none_hash.is_empty() => return foreign("none_hash"),
        _ if !is_vllm && options.lookahead != 0 => return foreign("lookahead"),
        KVROUTE_SCHEME_OWN | KVROUTE_SCHEME_VLLM if !model.is_empty() => return foreign("model"),
        other if other != KVROUTE_SCHEME_OWN && options.multimodal != 0 => return foreign("multimodal"),
        _ => {}
    }
    Ok(match options.scheme {
        KVROUTE_SCHEME_OWN => {
            let seed = if has_seed { seed.parse() } else { Ok(OwnScheme::DEFAULT_SEED) };
            let seed = seed.map_err(|_| {
                Failure::invalid("options.seed of the own scheme: a decimal number of 64 bits")
            })?;
            let form = match options.multimodal {
                KVROUTE_MULTIMODAL_OFFSET => MultimodalForm::Offset,
                KVROUTE_MULTIMODAL_IDENTIFIER => MultimodalForm::Identifier,
                other => {
                    return Err(Failure::invalid(format!("options.multimodal is {other}, which is none")));
                }
            };
            OwnScheme::new(seed).with_multimodal(form).into()
        }
        KVROUTE_SCHEME_VLLM => {
            let needed = |what| Failure::invalid(format!("vLLM's scheme needs options.{what}"));
            let algorithm = VllmAlgorithm::from_name(algorithm.ok_or_else(|| needed("algorithm"))?)?;
            let version = version.ok_or_else(|| needed("version"))?;
            let scheme = match none_hash {
                [] => {
                    let seed = if has_seed { HashSeed::Value(seed.into()) } else { HashSeed::Unset };
                    VllmScheme::for_version(algorithm, version, &seed)?
                }
                _ if has_seed => {
                    return Err(Failure::invalid("options.seed and options.none_hash: one of them"));
                }
                none_hash => VllmScheme::from_none_hash(algorithm, VllmEra::of_version(version)?, none_hash)?,
            };
            scheme.with_lookahead(options.lookahead)?.into()
        }
        KVROUTE_SCHEME_LLMD_CBOR_FNV => HashScheme::LlmdCborFnv(LlmdScheme::new(seed, model)),
        KVROUTE_SCHEME_LLMD_XXH64 => HashScheme::LlmdXxh64(LlmdScheme::new(seed, model)),
        other => return Err(Failure::invalid(format!("options.scheme is {other}, which is none"))),
    })
}

/// A new hasher, in `*hasher`.
///
/// Errors: `KVROUTE_INVALID_INPUT` names the option; `KVROUTE_NOT_REPRODUCIBLE` for hashes that nobody outside the
/// engine can compute (a random seed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_hasher_new(
    options: *const kvroute_hasher_options,
    hasher: *mut *mut kvroute_hasher,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::status(error, || {
            wanted("hasher", hasher)?;
            let options = structs::read(options)?;
            let made = BlockHasher::new(scheme(&options)?, options.block_size)?;
            put("hasher", hasher, handle::new(made))
        })
    }
}

/// Frees a hasher; NULL is fine. Domains made with it live on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_hasher_free(hasher: *mut kvroute_hasher) {
    // SAFETY: the caller's word: made by `kvroute_hasher_new`, and not used any more.
    guard::value((), || unsafe { handle::free(hasher) });
}

/// Hashes the full blocks of a prompt: `token_ids: [n]` in, `hashes: [*written]` out, at most `n / block_size` of
/// them.
///
/// Errors: `KVROUTE_INVALID_INPUT` if the context lacks what the scheme needs or is out of order;
/// `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_hasher_hash(
    hasher: *const kvroute_hasher,
    token_ids: *const u32,
    token_ids_len: usize,
    context: *const kvroute_hash_context,
    hashes: *mut u64,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::status(error, || {
            let hasher = handle::get(hasher)?;
            hash(hasher, token_ids, token_ids_len, context, hashes, capacity, written)
        })
    }
}

/// # Safety
///
/// That of [`kvroute_hasher_hash`].
pub(crate) unsafe fn hash(
    hasher: &BlockHasher,
    token_ids: *const u32,
    token_ids_len: usize,
    context: *const kvroute_hash_context,
    hashes: *mut u64,
    capacity: usize,
    written: *mut usize,
) -> Result<(), Failure> {
    let mut buffer = ContextBuffer::default();
    // SAFETY: the caller's word.
    unsafe {
        wanted("written", written)?;
        let token_ids = array("token_ids", token_ids, token_ids_len)?;
        let blocks = hasher.hash(token_ids, buffer.fill(context)?)?;
        // A `BlockHash` is a number in memory too, but this copy costs nothing beside the hashing.
        let numbers: Vec<u64> = blocks.iter().map(|hash| hash.0).collect();
        fill(&numbers, hashes, capacity, written)
    }
}
