package kvroute

import (
	"encoding/json"
	"fmt"
)

// PodConfig is a pod: an engine, or one data-parallel rank of it.
type PodConfig struct {
	// Name is such as "10.0.0.7:8000".
	Name string `json:"name"`
	// DPRank is its data-parallel rank; each rank is a pod of its own, with its own stream of events.
	DPRank uint32 `json:"dp_rank,omitempty"`
	// Domain is the name of its cache domain.
	Domain string `json:"domain"`
	// Role is what it does. Empty: RoleBoth.
	Role Role `json:"role,omitempty"`
	// Labels are for filters and scorers.
	Labels map[string]string `json:"labels,omitempty"`
	// Capacity is how fast it computes, as a multiple of an ordinary pod; above 0. 0: 1.
	Capacity float64 `json:"capacity,omitempty"`
	// Events is how its stream of events is read.
	Events EventsConfig `json:"events,omitzero"`
}

// Role is what a pod does for a request.
type Role string

const (
	// RoleBoth computes prompts and answers requests.
	RoleBoth Role = "both"
	// RoleDecode answers requests.
	RoleDecode Role = "decode"
	// RolePrefill computes prompts for decode pods, nothing else.
	RolePrefill Role = "prefill"
)

// EventsConfig is how a pod's stream of events is read.
type EventsConfig struct {
	// Copies is what a store means of a block that the pod holds already. Empty: CopiesInfer.
	Copies CopyPolicy `json:"copies,omitempty"`
	// OnGap is what to do when batches are missing. Empty: OnGapClear.
	OnGap GapPolicy `json:"on_gap,omitempty"`
	// Groups are KV-cache groups known beforehand. Events teach them too, but a hybrid pod that has described only its
	// first group so far reads like one without others.
	Groups []GroupConfig `json:"groups,omitempty"`
	// Adapters are LoRA adapters by the engine's number, for engines whose events name no adapter (vLLM before 0.14,
	// SGLang before 0.5.22).
	Adapters []AdapterConfig `json:"adapters,omitempty"`
	// MaxParked is blocks that may wait for an unknown parent. nil: 4096.
	MaxParked *uint64 `json:"max_parked,omitempty"`
	// MaxParkedBytes is bytes those may take, with their token ids and keys. nil: 16 MiB.
	MaxParkedBytes *uint64 `json:"max_parked_bytes,omitempty"`
	// MaxRetired is blocks without a copy whose names are kept for offload announcements. nil: 4096.
	MaxRetired *uint64 `json:"max_retired,omitempty"`
}

// CopyPolicy is what a store means of a block that the pod holds already.
type CopyPolicy string

const (
	// CopiesInfer: a further copy, unless it reads like a report of reused blocks.
	CopiesInfer CopyPolicy = "infer"
	// CopiesCount: always a further copy.
	CopiesCount CopyPolicy = "count"
	// CopiesSet: never; the first removal takes the block away.
	CopiesSet CopyPolicy = "set"
)

// GapPolicy is what to do when batches are missing.
type GapPolicy string

const (
	// OnGapClear forgets what the pod held and goes on.
	OnGapClear GapPolicy = "clear"
	// OnGapReplay keeps it and applies nothing until the missing batches are replayed.
	OnGapReplay GapPolicy = "replay"
)

// GroupConfig is a KV-cache group of a hybrid-attention model.
type GroupConfig struct {
	// Group is its number, as events give it.
	Group uint32 `json:"group"`
	// Kind is how it attends.
	Kind GroupKind `json:"kind"`
}

// GroupKind is how a KV-cache group attends.
type GroupKind struct {
	// Attention is the kind. Empty: AttentionFull.
	Attention Attention
	// Window is that of AttentionSlidingWindow; tokens, at least 1.
	Window uint32
}

// Attention is a kind of attention.
type Attention string

const (
	// AttentionFull: every block from the start of the prompt is needed.
	AttentionFull Attention = "full-attention"
	// AttentionSlidingWindow: only the last tokens are.
	AttentionSlidingWindow Attention = "sliding-window"
	// AttentionUnknown: a kind without a rule; the pod becomes degraded and is never credited.
	AttentionUnknown Attention = "unknown"
)

// windowed is a sliding window as documents have it.
type windowed struct {
	SlidingWindow struct {
		Window uint32 `json:"window"`
	} `json:"sliding-window"`
}

// MarshalJSON writes the kind as documents have it: a name, or an object with a window.
func (k GroupKind) MarshalJSON() ([]byte, error) {
	switch k.Attention {
	case "":
		return json.Marshal(AttentionFull)
	case AttentionSlidingWindow:
		var to windowed
		to.SlidingWindow.Window = k.Window
		return json.Marshal(to)
	}
	return json.Marshal(k.Attention)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (k *GroupKind) UnmarshalJSON(data []byte) error {
	*k = GroupKind{}
	if data[0] == '"' {
		return json.Unmarshal(data, &k.Attention)
	}
	var from windowed
	if err := json.Unmarshal(data, &from); err != nil {
		return fmt.Errorf("kind of a KV-cache group: %w", err)
	}
	*k = GroupKind{AttentionSlidingWindow, from.SlidingWindow.Window}
	return nil
}

// AdapterConfig is a LoRA adapter.
type AdapterConfig struct {
	// ID is the engine's number.
	ID int64 `json:"id"`
	// Name is its name, the model of requests.
	Name string `json:"name"`
}
