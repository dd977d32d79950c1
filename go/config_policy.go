package kvroute

import "encoding/json"

// PolicyConfig is how pods are chosen: a preset, and what is to differ from it.
type PolicyConfig struct {
	// Preset is what profiles are made of where nothing else is said. Empty: PresetLLMDDemo.
	Preset Preset `json:"preset,omitempty"`
	// Decode picks the pod that answers.
	Decode ProfileConfig `json:"decode,omitzero"`
	// Prefill picks a pod that computes the prompt first. nil: requests have one pod each.
	Prefill *PrefillConfig `json:"prefill,omitempty"`
}

// Preset names profiles.
type Preset string

// PresetLLMDDemo is the scorers of llm-d's cache-aware routing demo with its weights (kv-cache 5, prefix 3, session 2,
// load 1) over the pods that take requests, serve the model and have the role.
const PresetLLMDDemo Preset = "llm-d-demo"

// ProfileConfig is a profile. What is left out is the preset's.
type ProfileConfig struct {
	// Seed is that of the choice among equals.
	Seed uint64 `json:"seed,omitempty"`
	// Filters say which pods may be picked at all, one after the other. Not nil, they replace the preset's.
	Filters []FilterConfig `json:"filters,omitzero"`
	// Scorers are what pods are rated by. Not nil, they replace all of the preset's; at least one.
	Scorers *ScorersConfig `json:"scorers,omitempty"`
	// Picker is which of the rated pods is taken. Empty: PickerMaxScore.
	Picker Picker `json:"picker,omitempty"`
}

// PrefillConfig is when a prompt is computed by a pod of its own, and by which.
type PrefillConfig struct {
	// MaxUncachedTokens: a prompt goes there if the decode pod would have to compute more than this. Those of a prompt
	// that is only known as text are estimated at four bytes each.
	MaxUncachedTokens uint64 `json:"max_uncached_tokens"`
	// ProfileConfig is the profile. What is left out is the preset's for pods that prefill.
	ProfileConfig
}

// Picker names what takes one of the rated pods.
type Picker string

// PickerMaxScore takes the one with the highest total; among equals, the request's nonce and the seed decide.
const PickerMaxScore Picker = "max-score"

// FilterConfig is a filter: FilterAccepting, FilterModel, or what FilterRole makes.
type FilterConfig struct {
	// Name is that of a filter without settings; empty for the role filter.
	Name string `json:"-"`
	// Role is that of the role filter.
	Role Role `json:"role"`
}

// The filters without settings.
var (
	// FilterAccepting keeps the pods that take new requests.
	FilterAccepting = FilterConfig{Name: "accepting"}
	// FilterModel keeps the pods whose cache domain serves the model.
	FilterModel = FilterConfig{Name: "model"}
)

// FilterRole keeps the pods that do what this role does.
func FilterRole(role Role) FilterConfig {
	return FilterConfig{Role: role}
}

// MarshalJSON writes the filter as documents have it: a name, or an object with a role.
func (f FilterConfig) MarshalJSON() ([]byte, error) {
	if f.Name != "" {
		return json.Marshal(f.Name)
	}
	return json.Marshal(map[string]Role{"role": f.Role})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *FilterConfig) UnmarshalJSON(data []byte) error {
	*f = FilterConfig{}
	if data[0] == '"' {
		return json.Unmarshal(data, &f.Name)
	}
	type plain FilterConfig
	return json.Unmarshal(data, (*plain)(f))
}

// ScorersConfig is scorers with their weights; one that is not named is not asked.
type ScorersConfig struct {
	// KVCache is how much of the prompt the pod holds, as its events say.
	KVCache *KVCacheConfig `json:"kv-cache,omitempty"`
	// Prefix is how much of the prompt this router sent to the pod before.
	Prefix *WeightConfig `json:"prefix,omitempty"`
	// Session is whether the pod served the request's session last.
	Session *WeightConfig `json:"session,omitempty"`
	// Load is how far the pod is from being full.
	Load *LoadConfig `json:"load,omitempty"`
	// External are scorers whose values come with each request, in a ScoreColumn of this name.
	External map[string]WeightConfig `json:"external,omitempty"`
}

// KVCacheConfig is the kv-cache scorer.
type KVCacheConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
	// Credits are what a block counts for, by where it lies.
	Credits CreditsConfig `json:"credits,omitzero"`
}

// CreditsConfig is what a block counts for, by where it lies: 0 to 1.
type CreditsConfig struct {
	// GPU is device memory. nil: 1.
	GPU *float64 `json:"gpu,omitempty"`
	// CPU is host memory. nil: 0.8.
	CPU *float64 `json:"cpu,omitempty"`
	// Disk is local storage. nil: 0.3.
	Disk *float64 `json:"disk,omitempty"`
	// External is a store shared with others. nil: 0.6.
	External *float64 `json:"external,omitempty"`
}

// WeightConfig is a scorer without settings of its own.
type WeightConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
}

// LoadConfig is the load scorer.
type LoadConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
	// Limit is requests, running and waiting, from which on a pod scores 0. 0: 128.
	Limit uint32 `json:"limit,omitempty"`
}
