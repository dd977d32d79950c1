package kvroute

// DomainConfig is a cache domain, a set of pods whose blocks mean the same: same model weights, same block hashes, same
// block size.
type DomainConfig struct {
	// BlockSize is tokens a block, as the engines have it; 1 to 65 536. There is no default.
	BlockSize uint32 `json:"block_size"`
	// Scheme is how its blocks are hashed. Zero: kvroute's own scheme.
	Scheme SchemeConfig `json:"scheme,omitzero"`
	// Models are names of the models its pods serve, as requests give them; none: any.
	Models []string `json:"models,omitempty"`
}

// SchemeConfig is how blocks are hashed. At most one of its parts is there; none: the own scheme.
type SchemeConfig struct {
	// Own is kvroute's own scheme: events' token ids are hashed again, whatever the engine's own hashes are.
	Own *OwnConfig `json:"own,omitempty"`
	// VLLM is vLLM's own hashes: events need no translation.
	VLLM *VLLMConfig `json:"vllm,omitempty"`
}

// OwnConfig is kvroute's own scheme.
type OwnConfig struct {
	// Seed is that of all hashes. nil: 1337, which Dynamo and SMG share; a random one that only the routers know
	// makes it harder to craft prompts that collide.
	Seed *uint64 `json:"seed,omitempty"`
	// Multimodal is the form in which the engines publish multimodal items. Empty: MultimodalOffset.
	Multimodal MultimodalForm `json:"multimodal,omitempty"`
}

// MultimodalForm is the form in which engines publish multimodal items.
type MultimodalForm string

const (
	// MultimodalOffset is identifier and offset: vLLM 0.19 and later.
	MultimodalOffset MultimodalForm = "offset"
	// MultimodalIdentifier is the bare identifier: vLLM before 0.19.
	MultimodalIdentifier MultimodalForm = "identifier"
)

// VLLMConfig is vLLM's own hashes. One of Version and Era is needed.
type VLLMConfig struct {
	// Algorithm is --prefix-caching-hash-algo of the engines.
	Algorithm VLLMAlgorithm `json:"algorithm"`
	// Version is that of the engines, such as "0.32.0".
	Version string `json:"version,omitempty"`
	// Era is the range their version is in, where no more is known.
	Era VLLMEra `json:"era,omitempty"`
	// PythonHashSeed is PYTHONHASHSEED of the engines. nil: it is not set, which only vLLM 0.29 and later can do with,
	// and only with a SHA-256 algorithm.
	PythonHashSeed *string `json:"python_hash_seed,omitempty"`
	// NoneHash is vLLM's NONE_HASH itself, in place of PythonHashSeed; hexadecimal digits.
	NoneHash string `json:"none_hash,omitempty"`
	// Lookahead is tokens after a block that its hash covers (draft models, vLLM 0.33).
	Lookahead uint32 `json:"lookahead,omitempty"`
}

// VLLMAlgorithm is vLLM's name of a hash algorithm.
type VLLMAlgorithm string

// vLLM's hash algorithms.
const (
	VLLMSHA256          VLLMAlgorithm = "sha256"
	VLLMSHA256CBOR      VLLMAlgorithm = "sha256_cbor"
	VLLMXXHash          VLLMAlgorithm = "xxhash"
	VLLMXXHashCBOR      VLLMAlgorithm = "xxhash_cbor"
	VLLMSHA256CBOR64Bit VLLMAlgorithm = "sha256_cbor_64bit"
)

// VLLMEra is a range of vLLM versions whose hashes have one form.
type VLLMEra string

const (
	// VLLMIntLora is 0.9 to 0.11.0.
	VLLMIntLora VLLMEra = "int-lora"
	// VLLMMultimodalIdentifier is 0.11.1 to 0.18.
	VLLMMultimodalIdentifier VLLMEra = "multimodal-identifier"
	// VLLMMultimodalOffset is 0.19 to 0.30.
	VLLMMultimodalOffset VLLMEra = "multimodal-offset"
	// VLLMTagged is 0.31 and later.
	VLLMTagged VLLMEra = "tagged"
)
