package kvroute

/*
#include <kvroute.h>
*/
import "C"

import (
	"encoding/json"
)

// Tier is where a block lies.
type Tier int32

const (
	// TierUnknown is a medium that is not known; of a removal, everywhere.
	TierUnknown Tier = C.KVROUTE_TIER_UNKNOWN
	// TierGPU is device memory.
	TierGPU Tier = C.KVROUTE_TIER_GPU
	// TierCPU is host memory.
	TierCPU Tier = C.KVROUTE_TIER_CPU
	// TierDisk is local storage.
	TierDisk Tier = C.KVROUTE_TIER_DISK
	// TierExternal is a store shared with others.
	TierExternal Tier = C.KVROUTE_TIER_EXTERNAL
)

var tierNames = []string{"gpu", "cpu", "disk", "external"}

// String is the tier's name, such as "gpu".
func (t Tier) String() string {
	if t < 0 || int(t) >= len(tierNames) {
		return "unknown"
	}
	return tierNames[t]
}

// TierBlocks are numbers of blocks by Tier. Those that no Tier names yet are 0.
type TierBlocks [C.KVROUTE_MAX_TIERS]uint32

// Total is their sum.
func (b TierBlocks) Total() int {
	total := 0
	for _, blocks := range b {
		total += int(blocks)
	}
	return total
}

// MarshalJSON writes them as explanations have them, such as [["gpu",3]]: tiers without any are left out.
func (b TierBlocks) MarshalJSON() ([]byte, error) {
	pairs := [][2]any{}
	for tier, blocks := range b {
		if blocks > 0 {
			pairs = append(pairs, [2]any{Tier(tier).String(), blocks})
		}
	}
	return json.Marshal(pairs)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (b *TierBlocks) UnmarshalJSON(data []byte) error {
	var pairs [][2]json.RawMessage
	if err := json.Unmarshal(data, &pairs); err != nil {
		return err
	}
	*b = TierBlocks{}
	for _, pair := range pairs {
		var name string
		if err := json.Unmarshal(pair[0], &name); err != nil {
			return err
		}
		tier := tierOf(name)
		if tier == TierUnknown {
			// Of a later library.
			continue
		}
		if err := json.Unmarshal(pair[1], &b[tier]); err != nil {
			return err
		}
	}
	return nil
}

func tierOf(name string) Tier {
	for tier, known := range tierNames {
		if known == name {
			return Tier(tier)
		}
	}
	return TierUnknown
}

func tierBlocks(from *[C.KVROUTE_MAX_TIERS]C.uint32_t) TierBlocks {
	var blocks TierBlocks
	for tier, count := range from {
		blocks[tier] = uint32(count)
	}
	return blocks
}
