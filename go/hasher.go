package kvroute

/*
#include <kvroute.h>

#cgo noescape kvroute_hasher_hash
#cgo nocallback kvroute_hasher_hash
*/
import "C"

import (
	"slices"
	"unsafe"
)

// Hasher turns token ids into chained block hashes. Routers hash by themselves; this is for those who need the hashes.
//
// Any number of goroutines may use it at a time.
type Hasher struct {
	object
	c         *C.kvroute_hasher
	blockSize int
}

// HasherOptions are how blocks are hashed. The zero value but for BlockSize: kvroute's own scheme.
type HasherOptions struct {
	// Scheme is what computes the hashes. Empty: HashSchemeOwn.
	Scheme HashScheme
	// BlockSize is tokens a block; 1 to 65 536.
	BlockSize uint32
	// Seed is a decimal number for the own scheme, vLLM's PYTHONHASHSEED, llm-d's hashSeed. nil: the number that Dynamo
	// and SMG share; PYTHONHASHSEED is not set; hashSeed is empty.
	Seed *string
	// Algorithm is vLLM's --prefix-caching-hash-algo.
	Algorithm VLLMAlgorithm
	// Version is that of the engines, such as "0.32.0"; of vLLM's scheme.
	Version string
	// NoneHash is vLLM's NONE_HASH itself, in place of Seed.
	NoneHash []byte
	// Model is the model's name; of llm-d's schemes.
	Model string
	// Lookahead is tokens after a block that its hash covers (draft models, vLLM 0.33).
	Lookahead uint32
	// Multimodal is the form in which engines publish multimodal items; of the own scheme. Empty: MultimodalOffset.
	Multimodal MultimodalForm
}

// HashScheme is what computes block hashes.
type HashScheme string

const (
	// HashSchemeOwn is kvroute's own.
	HashSchemeOwn HashScheme = "own"
	// HashSchemeVLLM is vLLM's own hashes, byte for byte.
	HashSchemeVLLM HashScheme = "vllm"
	// HashSchemeLLMDCBORFNV is llm-d's default, hashAlgorithm: cbor-fnv.
	HashSchemeLLMDCBORFNV HashScheme = "llm-d-cbor-fnv"
	// HashSchemeLLMDXXH64 is llm-d's other one, hashAlgorithm: xxh64.
	HashSchemeLLMDXXH64 HashScheme = "llm-d-xxh64"
)

// NewHasher makes a hasher.
//
// Errors: ErrInvalidInput names the option; ErrNotReproducible for hashes that nobody outside the engine can compute (a
// random seed).
func NewHasher(from HasherOptions) (*Hasher, error) {
	scheme, err := number("scheme", from.Scheme, map[HashScheme]C.int32_t{
		"": C.KVROUTE_SCHEME_OWN, HashSchemeOwn: C.KVROUTE_SCHEME_OWN, HashSchemeVLLM: C.KVROUTE_SCHEME_VLLM,
		HashSchemeLLMDCBORFNV: C.KVROUTE_SCHEME_LLMD_CBOR_FNV, HashSchemeLLMDXXH64: C.KVROUTE_SCHEME_LLMD_XXH64,
	})
	if err != nil {
		return nil, err
	}
	multimodal, err := number("multimodal", from.Multimodal, map[MultimodalForm]C.int32_t{
		"": C.KVROUTE_MULTIMODAL_OFFSET, MultimodalOffset: C.KVROUTE_MULTIMODAL_OFFSET,
		MultimodalIdentifier: C.KVROUTE_MULTIMODAL_IDENTIFIER,
	})
	if err != nil {
		return nil, err
	}
	s := newSeat(0)
	defer s.free()
	options := &array[C.kvroute_hasher_options](&s.arena, 1)[0]
	*options = C.kvroute_hasher_options{
		struct_size: C.sizeof_kvroute_hasher_options,
		scheme:      scheme,
		block_size:  C.uint32_t(from.BlockSize),
		algorithm:   s.arena.text(string(from.Algorithm)),
		version:     s.arena.text(from.Version),
		none_hash:   s.arena.bytes(from.NoneHash),
		model:       s.arena.text(from.Model),
		lookahead:   C.uint32_t(from.Lookahead),
		multimodal:  multimodal,
	}
	if from.Seed != nil {
		options.seed, options.has_seed = s.arena.text(*from.Seed), 1
	}
	var c *C.kvroute_hasher
	if err := s.check(C.kvroute_hasher_new(options, &c, s.error)); err != nil {
		return nil, err
	}
	h := &Hasher{c: c, blockSize: int(from.BlockSize)}
	h.own(func() { C.kvroute_hasher_free(c) })
	return h, nil
}

// Close frees the hasher after the calls under way; see Router.Close. Domains made with it live on.
func (h *Hasher) Close() error {
	return h.close()
}

// Hash appends the hashes of a prompt's full blocks to hashes. A nil context is the plain one.
//
// Errors: ErrInvalidInput if the context lacks what the scheme needs or is out of order.
func (h *Hasher) Hash(hashes []uint64, tokenIDs []uint32, context *HashContext) ([]uint64, error) {
	s, err := h.enter()
	if err != nil {
		return nil, err
	}
	defer h.leave(s)
	hashes, room := withRoom(hashes, len(tokenIDs)/h.blockSize)
	var written C.size_t
	err = s.check(C.kvroute_hasher_hash(h.c, (*C.uint32_t)(unsafe.SliceData(tokenIDs)), C.size_t(len(tokenIDs)),
		s.contextOrPlain(context), (*C.uint64_t)(unsafe.SliceData(room)), C.size_t(cap(room)), &written, s.error))
	if err != nil {
		return nil, err
	}
	return hashes[:len(hashes)+int(written)], nil
}

// withRoom is hashes with room for so many more, and that room.
func withRoom(hashes []uint64, more int) (with, room []uint64) {
	hashes = slices.Grow(hashes, more)
	return hashes, hashes[len(hashes):]
}

func (s *seat) contextOrPlain(context *HashContext) *C.kvroute_hash_context {
	if context == nil {
		return nil
	}
	return s.context(context)
}
