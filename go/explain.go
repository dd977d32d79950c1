package kvroute

/*
#include <kvroute.h>
*/
import "C"

import "encoding/json"

// Explanation is why a request went where it went: every pod with what was known of it. Request.Explain asks for it.
type Explanation struct {
	// Profile decided.
	Profile string `json:"profile"`
	// Picker is the profile's.
	Picker string `json:"picker"`
	// PromptTokens is the length of the prompt; of a text, an estimate.
	PromptTokens int `json:"prompt_tokens"`
	// Session is why the request's session named no pod, where it has a session and did not.
	Session string `json:"session"`
	// Picked is the place in Pods of the pod that was taken; nil if every one was dropped.
	Picked *int `json:"picked"`
	// Reason is why that one.
	Reason Reason `json:"reason"`
	// Overruled is the place of the pod that the picker picked, where something else was taken; else nil.
	Overruled *int `json:"overruled"`
	// Unused is why it is not used after all, of a pod that would prefill; else empty.
	Unused string `json:"unused"`
	// Fallbacks are the places of the next best pods, where the profile asks for them.
	Fallbacks []int `json:"fallbacks"`
	// NotSampled is how many pods were not considered.
	NotSampled int `json:"not_sampled"`
	// Pods are those that were considered.
	Pods []PodExplanation `json:"pods"`
	// Prefill is the same for the pod that prefills, where one was looked for.
	Prefill *Explanation `json:"prefill"`

	text string
}

// String is the explanation as text, a line a pod, the picked one marked.
func (e *Explanation) String() string {
	return e.text
}

// PodExplanation is one pod's part in a decision.
type PodExplanation struct {
	// ID is its id.
	ID PodID `json:"id"`
	// Pod is its name.
	Pod string `json:"pod"`
	// DPRank is its data-parallel rank.
	DPRank uint32 `json:"dp_rank"`
	// Role is what it does.
	Role Role `json:"role"`
	// Trust is how far its view is to be believed.
	Trust TrustLevel `json:"trust"`
	// BlockSize is tokens a block.
	BlockSize uint32 `json:"block_size"`
	// SearchableBlocks are blocks of the prompt it could have held at most.
	SearchableBlocks int `json:"searchable_blocks"`
	// MatchedBlocks are leading blocks it holds.
	MatchedBlocks TierBlocks `json:"matched_blocks"`
	// PredictedBlocks are leading blocks that this router sent to it.
	PredictedBlocks int `json:"predicted_blocks"`
	// SpeculativeBlocks are leading blocks that this router sent to it a moment ago.
	SpeculativeBlocks int `json:"speculative_blocks"`
	// KnownBlocks are leading blocks that the request said it has (Request.Known); Matched has them, too.
	KnownBlocks int `json:"known_blocks"`
	// UncachedTokens are those it has to compute, as well as can be told.
	UncachedTokens int `json:"uncached_tokens"`
	// Booked is what this router had in flight on it.
	Booked Bookings `json:"booked"`
	// Load is what it last said of its load; nil if it never did.
	Load *LoadReport `json:"load"`
	// InFlight is requests it has, as well as can be told.
	InFlight int `json:"in_flight"`
	// Capacity is how fast it computes, as a multiple of an ordinary pod.
	Capacity float64 `json:"capacity"`
	// Overloaded is whether its last load report reached the bounds of Config.Overload.
	Overloaded bool `json:"overloaded"`
	// Adapter is how it stands to the adapter that the request asks for; empty if it asks for none.
	Adapter AdapterFit `json:"adapter"`
	// DroppedBy is the filter that dropped it; empty if none did.
	DroppedBy string `json:"dropped_by"`
	// Scores are each scorer's part; empty if it was dropped.
	Scores []ScoreExplanation `json:"scores"`
	// Total is their weighted sum.
	Total float64 `json:"total"`
	// Note is why nothing is matched, where nothing is.
	Note string `json:"note"`
}

// ScoreExplanation is one scorer's part in a pod's total.
type ScoreExplanation struct {
	// Scorer is its name.
	Scorer string `json:"scorer"`
	// Value is what it said, 0 to 1.
	Value float64 `json:"value"`
	// Weight is what that counts.
	Weight float64 `json:"weight"`
}

// AdapterFit is how a pod stands to the LoRA adapter that a request asks for.
type AdapterFit string

const (
	// AdapterRunning: running requests use it.
	AdapterRunning AdapterFit = "running"
	// AdapterWaiting: only waiting requests ask for it.
	AdapterWaiting AdapterFit = "waiting"
	// AdapterRoom: nothing uses it, and there is room for one more.
	AdapterRoom AdapterFit = "room"
	// AdapterFull: nothing uses it, and there is no room.
	AdapterFull AdapterFit = "full"
	// AdapterUnknown: the pod never reported its adapters.
	AdapterUnknown AdapterFit = "unknown"
)

// Bookings are what a router has in flight on a pod.
type Bookings struct {
	// Requests that are not finished.
	Requests int `json:"requests"`
	// PrefillTokens are tokens of their prompts that the pod has to compute before their first tokens.
	PrefillTokens int `json:"prefill_tokens"`
}

// LoadReport is what a pod said of its load.
type LoadReport struct {
	// Running are requests being computed.
	Running int `json:"running"`
	// Waiting are requests that wait.
	Waiting int `json:"waiting"`
	// KVUsage is the share of the KV cache in use, 0 to 1.
	KVUsage float64 `json:"kv_usage"`
}

// explain explains the last decision that was made in this seat, if the request asks for it.
func (r *Router) explain(request *Request, s *seat) error {
	if request.Explain == nil {
		return nil
	}
	document, err := r.explanation(s, C.KVROUTE_EXPLAIN_JSON)
	if err != nil {
		return err
	}
	text, err := r.explanation(s, C.KVROUTE_EXPLAIN_TEXT)
	if err != nil {
		return err
	}
	// A value of its own, so that what the request points to may be on the caller's stack.
	var explanation Explanation
	err = decoded(document, &explanation)
	explanation.text = string(text)
	*request.Explain = explanation
	return err
}

func (r *Router) explanation(s *seat, format C.int32_t) ([]byte, error) {
	return s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_router_explain(r.c, s.workspace, format, buffer, capacity, written, s.error)
	})
}

// decoded reads JSON that the library wrote.
func decoded(document []byte, to any) error {
	if err := json.Unmarshal(document, to); err != nil {
		return &Error{Status: StatusInternal, Message: "the library's JSON: " + err.Error()}
	}
	return nil
}
