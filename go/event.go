package kvroute

/*
#include <kvroute.h>
*/
import "C"

import "unsafe"

// Event is a KV event, for Router.ApplyEvents: a BlocksStored, BlocksRemoved or CacheCleared.
type Event interface {
	write(a *arena, to *C.kvroute_kv_event) error
}

// BlocksStored says that blocks became available.
type BlocksStored struct {
	// Hashes are the blocks, first to last, as the engine calls them.
	Hashes []uint64
	// Parent is the block before the first; nil: they begin a prompt.
	Parent *uint64
	// TokenIDs are those of all blocks, one after the other; none for an offload announcement.
	TokenIDs []uint32
	// BlockSize is tokens a block.
	BlockSize uint32
	// Tier is where they lie.
	Tier Tier
	// LoraName is the name of the LoRA adapter; empty for none.
	LoraName string
	// LoraID is the engine's number of the adapter, if it gives one.
	LoraID *int64
	// CacheSalt is SGLang's; empty for none. vLLM's is an extra key of block 0.
	CacheSalt string
	// ExtraKeys are in order of their blocks and, in a block, as the engine lists them.
	ExtraKeys []ExtraKey
	// Group is the KV-cache group of a hybrid-attention model.
	Group uint32
	// GroupKind is how that group attends, if the event says.
	GroupKind *GroupKind
}

// BlocksRemoved says that blocks went away.
type BlocksRemoved struct {
	// Hashes are the blocks, as the engine calls them.
	Hashes []uint64
	// Tier is where they went away from; TierUnknown: everywhere.
	Tier Tier
	// Group is the KV-cache group of a hybrid-attention model.
	Group uint32
}

// CacheCleared says that the whole cache went away.
type CacheCleared struct{}

// ExtraKey is one extra key of one block of an event.
type ExtraKey struct {
	// Block is which block of the event, from 0.
	Block uint32
	// Kind is what Key is.
	Kind ExtraKeyKind
	// Key is the text, the item's identifier, or bytes.
	Key string
	// Offset is the start of the item minus the start of the block; tokens. Of ExtraKeyMultimodal.
	Offset int64
}

// ExtraKeyKind is what an extra key is.
type ExtraKeyKind string

const (
	// ExtraKeyText is an adapter's name, a cache salt, or (vLLM before 0.19) a multimodal identifier.
	ExtraKeyText ExtraKeyKind = "text"
	// ExtraKeyMultimodal is a multimodal item and its start relative to the block's.
	ExtraKeyMultimodal ExtraKeyKind = "multimodal"
	// ExtraKeyBytes is the key of prompt embeddings.
	ExtraKeyBytes ExtraKeyKind = "bytes"
)

func (e BlocksStored) write(a *arena, to *C.kvroute_kv_event) error {
	to.kind = C.KVROUTE_EVENT_STORED
	to.tier = C.int32_t(e.Tier)
	to.block_hashes, to.block_hashes_len = copied[C.uint64_t](a, e.Hashes), C.size_t(len(e.Hashes))
	to.group = C.uint32_t(e.Group)
	if e.GroupKind != nil {
		kind, err := e.GroupKind.number()
		if err != nil {
			return err
		}
		to.has_group_kind, to.group_kind, to.group_window = 1, kind, C.uint32_t(e.GroupKind.Window)
	}
	if e.Parent != nil {
		to.has_parent, to.parent = 1, C.uint64_t(*e.Parent)
	}
	to.block_size = C.uint32_t(e.BlockSize)
	to.token_ids, to.token_ids_len = copied[C.uint32_t](a, e.TokenIDs), C.size_t(len(e.TokenIDs))
	to.lora_name = a.text(e.LoraName)
	if e.LoraID != nil {
		to.has_lora_id, to.lora_id = 1, C.int64_t(*e.LoraID)
	}
	to.cache_salt = a.text(e.CacheSalt)
	keys := array[C.kvroute_extra_key](a, len(e.ExtraKeys))
	for at, key := range e.ExtraKeys {
		kind, err := number("kind of an extra key", key.Kind, map[ExtraKeyKind]C.int32_t{
			ExtraKeyText: C.KVROUTE_EXTRA_KEY_TEXT, ExtraKeyMultimodal: C.KVROUTE_EXTRA_KEY_MULTIMODAL,
			ExtraKeyBytes: C.KVROUTE_EXTRA_KEY_BYTES,
		})
		if err != nil {
			return err
		}
		keys[at] = C.kvroute_extra_key{
			block: C.uint32_t(key.Block), kind: kind, key: a.text(key.Key), offset: C.int64_t(key.Offset),
		}
	}
	to.extra_keys, to.extra_keys_len = unsafe.SliceData(keys), C.size_t(len(keys))
	return nil
}

func (e BlocksRemoved) write(a *arena, to *C.kvroute_kv_event) error {
	to.kind = C.KVROUTE_EVENT_REMOVED
	to.tier = C.int32_t(e.Tier)
	to.block_hashes, to.block_hashes_len = copied[C.uint64_t](a, e.Hashes), C.size_t(len(e.Hashes))
	to.group = C.uint32_t(e.Group)
	return nil
}

func (e CacheCleared) write(_ *arena, to *C.kvroute_kv_event) error {
	to.kind = C.KVROUTE_EVENT_CLEARED
	return nil
}
