//! Block hashing: `BlockHasher` and `HashCursor`.

use kvroute_core::hash::{
    self, HashScheme, HashSeed, LlmdScheme, MultimodalForm, OwnScheme, VllmAlgorithm, VllmEra, VllmScheme,
};
use kvroute_core::{BlockHash, Error};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::context::{HashContext, context_or_none};
use crate::error::{call, invalid};
use crate::input::{LONG_PROMPT, argument, argument_or, bytes, one_of, read_token_ids, run, utf8};

/// Hashes as a numpy array of `uint64`, `[n]`.
pub(crate) fn hash_array(py: Python<'_>, hashes: Vec<BlockHash>) -> Bound<'_, PyArray1<u64>> {
    hashes.into_iter().map(|hash| hash.0).collect::<Vec<u64>>().into_pyarray(py)
}

const FORMS: [(&str, MultimodalForm); 2] =
    [("offset", MultimodalForm::Offset), ("identifier", MultimodalForm::Identifier)];

const ERAS: [(&str, VllmEra); 4] = [
    ("int-lora", VllmEra::IntLora),
    ("multimodal-identifier", VllmEra::MultimodalIdentifier),
    ("multimodal-offset", VllmEra::MultimodalOffset),
    ("tagged", VllmEra::Tagged),
];

/// What is known of the engines' version.
enum Engines<'a> {
    Version(&'a str),
    Era(VllmEra),
}

/// Where in a prompt a `BlockHasher` stands: how many blocks are hashed, and the full-width hash of the last.
///
/// Made by `BlockHasher.start` and `BlockHasher.extend`.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HashCursor(hash::HashCursor);

#[pymethods]
impl HashCursor {
    /// How many blocks are hashed; the next one has this index.
    #[getter]
    fn blocks(&self) -> usize {
        self.0.blocks()
    }

    /// The full-width hash of the last hashed block: 32 bytes (SHA-256), 16 (XXH3-128) or 8; before the first
    /// block what it is chained to, which may be empty.
    #[getter]
    fn digest(&self) -> &[u8] {
        self.0.digest()
    }

    fn __repr__(&self) -> String {
        format!("HashCursor(blocks={})", self.0.blocks())
    }
}

/// Turns token ids into chained block hashes, by one scheme and one block size.
///
/// Made by `BlockHasher.own`, `BlockHasher.vllm` or `BlockHasher.llmd`. A partial tail is not a block and has
/// no hash.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockHasher(pub(crate) hash::BlockHasher);

#[pymethods]
impl BlockHasher {
    /// kvroute's own scheme, for engines whose hashes are translated: the fastest.
    ///
    /// block_size: tokens a block, as the engines have it, 1 to 65536. seed: of all hashes; the default is
    /// shared with Dynamo and SMG. multimodal: the form in which the engines publish multimodal items, "offset"
    /// (vLLM 0.19 and later) or "identifier".
    #[staticmethod]
    #[pyo3(signature = (block_size, *, seed = None, multimodal = None),
           text_signature = "(block_size, *, seed=1337, multimodal='offset')")]
    fn own(
        block_size: &Bound<'_, PyAny>,
        seed: Option<&Bound<'_, PyAny>>,
        multimodal: Option<&Bound<'_, PyString>>,
    ) -> PyResult<Self> {
        let form =
            multimodal.map_or(Ok(MultimodalForm::Offset), |form| one_of("multimodal", form, &FORMS))?;
        let seed = argument_or("seed", seed, OwnScheme::DEFAULT_SEED)?;
        Self::new(OwnScheme::new(seed).with_multimodal(form), block_size)
    }

    /// vLLM's own hashes, byte for byte, so that events need no translation.
    ///
    /// algorithm: `--prefix-caching-hash-algo` of the engines: "sha256", "sha256_cbor", "xxhash",
    /// "xxhash_cbor" or "sha256_cbor_64bit". version: theirs, such as "0.32.0"; or era, where no more is known:
    /// "int-lora" (0.9 to 0.11.0), "multimodal-identifier" (to 0.18), "multimodal-offset" (to 0.30) or "tagged".
    /// python_hash_seed: their PYTHONHASHSEED; None is unset, which only vLLM 0.29 and later can do with, and
    /// only with a SHA-256 algorithm. none_hash: the root itself in place of it, vLLM's `NONE_HASH`.
    /// lookahead: tokens after a block that its hash covers (draft models, vLLM 0.33).
    ///
    /// Raises NotReproducibleError where hashes cannot be computed outside the engine.
    #[staticmethod]
    #[pyo3(signature = (block_size, *, algorithm, version = None, era = None, python_hash_seed = None,
                        none_hash = None, lookahead = None),
           text_signature = "(block_size, *, algorithm, version=None, era=None, python_hash_seed=None, \
                             none_hash=None, lookahead=0)")]
    fn vllm(
        block_size: &Bound<'_, PyAny>,
        algorithm: &Bound<'_, PyString>,
        version: Option<&Bound<'_, PyString>>,
        era: Option<&Bound<'_, PyString>>,
        python_hash_seed: Option<&Bound<'_, PyString>>,
        none_hash: Option<&Bound<'_, PyAny>>,
        lookahead: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let algorithm = utf8("algorithm", algorithm)?;
        let version = version.map(|version| utf8("version", version)).transpose()?;
        let era = era.map(|era| one_of("era", era, &ERAS)).transpose()?;
        let seed = python_hash_seed.map(|seed| utf8("python_hash_seed", seed)).transpose()?;
        let root = none_hash.map(|root| bytes("none_hash", root)).transpose()?;
        let lookahead = argument_or("lookahead", lookahead, 0)?;
        let engines = match (version, era) {
            (Some(version), None) => Engines::Version(version),
            (None, Some(era)) => Engines::Era(era),
            _ => return Err(invalid("version, era: exactly one of them is needed")),
        };
        if seed.is_some() && root.is_some() {
            return Err(invalid("python_hash_seed, none_hash: only one of them can be given"));
        }
        let scheme = call(|| {
            let algorithm = VllmAlgorithm::from_name(algorithm)?;
            let seed = seed.map_or(HashSeed::Unset, |seed| HashSeed::Value(seed.into()));
            let scheme = match (engines, root) {
                (Engines::Version(version), None) => VllmScheme::for_version(algorithm, version, &seed)?,
                (Engines::Era(era), None) => VllmScheme::for_era(algorithm, era, &seed)?,
                (Engines::Version(version), Some(root)) => {
                    VllmScheme::from_none_hash(algorithm, VllmEra::of_version(version)?, &root)?
                }
                (Engines::Era(era), Some(root)) => VllmScheme::from_none_hash(algorithm, era, &root)?,
            };
            scheme.with_lookahead(lookahead)
        })?;
        Self::new(scheme, block_size)
    }

    /// llm-d's request keys, for sharing an index with it; no cache domain can be made of them.
    ///
    /// algorithm: llm-d's `hashAlgorithm`, "cbor-fnv" or "xxh64". model: the base model's name. seed: llm-d's
    /// `hashSeed`.
    #[staticmethod]
    #[pyo3(signature = (block_size, *, algorithm, model, seed = None),
           text_signature = "(block_size, *, algorithm, model, seed='')")]
    fn llmd(
        block_size: &Bound<'_, PyAny>,
        algorithm: &Bound<'_, PyString>,
        model: &Bound<'_, PyString>,
        seed: Option<&Bound<'_, PyString>>,
    ) -> PyResult<Self> {
        let is_xxh64 = one_of("algorithm", algorithm, &[("cbor-fnv", false), ("xxh64", true)])?;
        let seed = seed.map_or(Ok(""), |seed| utf8("seed", seed))?;
        let scheme = LlmdScheme::new(seed, utf8("model", model)?);
        let scheme = if is_xxh64 { HashScheme::LlmdXxh64(scheme) } else { HashScheme::LlmdCborFnv(scheme) };
        Self::new(scheme, block_size)
    }

    /// Tokens a block.
    #[getter]
    fn block_size(&self) -> u32 {
        self.0.block_size()
    }

    /// Name of its scheme: "own", "vllm", "llmd-cbor-fnv" or "llmd-xxh64".
    #[getter]
    fn scheme(&self) -> &'static str {
        self.0.scheme().name()
    }

    /// The root of vLLM's chains, its `NONE_HASH`; None for other schemes.
    #[getter]
    fn none_hash(&self) -> Option<&[u8]> {
        match self.0.scheme() {
            HashScheme::Vllm(scheme) => Some(scheme.none_hash()),
            _ => None,
        }
    }

    /// How many blocks of a prompt of so many tokens have a hash: the full ones, less those whose lookahead is
    /// not there yet.
    #[pyo3(signature = (token_count, /))]
    fn block_count(&self, token_count: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(self.0.block_count(argument("token_count", token_count)?))
    }

    /// Hashes a whole prompt.
    ///
    /// token_ids: `[n]`, a numpy array of uint32 or a sequence of ints. Answers a numpy array of uint64,
    /// `[block_count(n)]`.
    #[pyo3(signature = (token_ids, context = None))]
    fn hash<'py>(
        &self,
        py: Python<'py>,
        token_ids: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, HashContext>>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let none = hash::HashContext::default();
        let context = context_or_none(context, &none);
        let mut ids = Vec::new();
        read_token_ids(token_ids, &mut ids)?;
        let hashes = run(py, ids.len() > LONG_PROMPT, || self.0.hash(&ids, context))?;
        Ok(hash_array(py, hashes))
    }

    /// A cursor before the first block of a prompt.
    #[pyo3(signature = (context = None))]
    fn start(&self, context: Option<&Bound<'_, HashContext>>) -> PyResult<HashCursor> {
        let none = hash::HashContext::default();
        call(|| self.0.start(context_or_none(context, &none))).map(HashCursor)
    }

    /// Hashes the blocks behind a cursor, at most `max_blocks` of them, and answers them with the cursor behind
    /// them: for conversations, of which only what is new needs to be hashed.
    ///
    /// token_ids: `[n]`, the whole prompt so far, of which the hashed part is not read again. context: the one
    /// that `start` had. Answers a numpy array of uint64, `[blocks]`, and a new cursor.
    #[pyo3(signature = (cursor, token_ids, context = None, *, max_blocks = None))]
    fn extend<'py>(
        &self,
        py: Python<'py>,
        cursor: &Bound<'py, HashCursor>,
        token_ids: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, HashContext>>,
        max_blocks: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyArray1<u64>>, HashCursor)> {
        let none = hash::HashContext::default();
        let context = context_or_none(context, &none);
        let max_blocks = argument_or("max_blocks", max_blocks, usize::MAX)?;
        let mut cursor = cursor.get().0.clone();
        let mut ids = Vec::new();
        read_token_ids(token_ids, &mut ids)?;
        let (hashes, cursor) = run(py, ids.len() > LONG_PROMPT, || {
            let mut hashes = Vec::new();
            self.0.extend(&mut cursor, &ids, context, max_blocks, &mut hashes)?;
            Ok((hashes, cursor))
        })?;
        Ok((hash_array(py, hashes), HashCursor(cursor)))
    }

    fn __repr__(&self) -> String {
        let (scheme, block_size) = (self.0.scheme(), self.0.block_size());
        match scheme {
            HashScheme::Vllm(vllm) => {
                format!("BlockHasher.vllm({block_size}, algorithm='{}')", vllm.algorithm().name())
            }
            HashScheme::LlmdCborFnv(_) => format!("BlockHasher.llmd({block_size}, algorithm='cbor-fnv')"),
            HashScheme::LlmdXxh64(_) => format!("BlockHasher.llmd({block_size}, algorithm='xxh64')"),
            _ => format!("BlockHasher.own({block_size})"),
        }
    }
}

impl BlockHasher {
    fn new(scheme: impl Into<HashScheme>, block_size: &Bound<'_, PyAny>) -> PyResult<Self> {
        let block_size = argument("block_size", block_size)?;
        call(|| -> Result<_, Error> { hash::BlockHasher::new(scheme, block_size) }).map(Self)
    }
}
