package kvroute

// PolicyConfig is how pods are chosen: a preset, and what is to differ from it.
type PolicyConfig struct {
	// Preset is what profiles are made of where nothing else is said. Empty: PresetCost.
	Preset Preset `json:"preset,omitempty"`
	// Sampling is which pods are looked at in a large fleet.
	Sampling SamplingConfig `json:"sampling,omitzero"`
	// Decode picks the pod that answers.
	Decode ProfileConfig `json:"decode,omitzero"`
	// Prefill picks a pod that computes the prompt first. nil: requests have one pod each.
	Prefill *PrefillConfig `json:"prefill,omitempty"`
}

// Preset names profiles.
type Preset string

const (
	// PresetCost is the cheapest pod of those that answer: work times requests, and what it displaces from caches (cost
	// 1), with a leaning to those that have much of the prompt (kv-cache 0.6), and to the session's where two are nearly
	// even (session 0.02).
	PresetCost Preset = "cost"
	// PresetLLMDDemo is the scorers of llm-d's cache-aware routing demo with its weights (kv-cache 5, prefix 3, session
	// 2, load 1) over the pods that take requests, serve the model and have the role; the highest total.
	PresetLLMDDemo Preset = "llm-d-demo"
	// PresetAffinity is a pod that has the prompt, unless it is too busy; of those the one with the least prefill work.
	PresetAffinity Preset = "affinity"
)

// SamplingConfig is which pods are looked at in a large fleet: those that have most of the prompt, the session's, and
// some others by lot.
type SamplingConfig struct {
	// Above: fleets of up to so many pods are looked at whole. nil: 32.
	Above *uint64 `json:"above,omitempty"`
	// Holders is most pods that have some of the prompt. nil: 32.
	Holders *uint64 `json:"holders,omitempty"`
	// Others is how many others. nil: 16.
	Others *uint64 `json:"others,omitempty"`
}

// ProfileConfig is a profile. What is left out is the preset's.
type ProfileConfig struct {
	// Seed is that of the choice among equals.
	Seed uint64 `json:"seed,omitempty"`
	// Filters say which pods may be picked at all, one after the other. Not nil, they replace the preset's.
	Filters []FilterConfig `json:"filters,omitzero"`
	// Scorers are what pods are rated by. Not nil, they replace all of the preset's; at least one.
	Scorers *ScorersConfig `json:"scorers,omitempty"`
	// Picker is which of the rated pods is taken. Zero: PickerMaxScore.
	Picker PickerConfig `json:"picker,omitzero"`
	// WarmUp is whether new pods get requests of which no pod has much. nil: as the preset says.
	WarmUp *WarmUpConfig `json:"warm_up,omitempty"`
	// Guard is what happens if the pod that was picked is much busier than the others. nil: as the preset says.
	Guard *GuardConfig `json:"guard,omitempty"`
	// Fallbacks is how many of the next best pods are named as well, in Decision.Fallbacks; up to 16.
	Fallbacks uint32 `json:"fallbacks,omitempty"`
}

// PrefillConfig is when a prompt is computed by a pod of its own, and by which.
type PrefillConfig struct {
	// MaxUncachedTokens: a prompt goes there if the decode pod would have to compute more than this. Those of a prompt
	// that is only known as text are estimated at four bytes each.
	MaxUncachedTokens uint64 `json:"max_uncached_tokens"`
	// MinPromptTokens: shorter prompts than this never do.
	MinPromptTokens uint64 `json:"min_prompt_tokens,omitempty"`
	// MaxPrefillLoad: nor if the prefill pod has more prefill work in flight than this; tokens. nil: however much it has.
	MaxPrefillLoad *uint64 `json:"max_prefill_load,omitempty"`
	// ProfileConfig is the profile. What is left out is the preset's for pods that prefill.
	ProfileConfig
}

// PickerConfig is a picker: PickerMaxScore, PickerWeightedRandom, PickerPowerOfTwo, or what PickerSoftmax makes. The
// request's nonce and the profile's seed decide what is even or random.
type PickerConfig struct {
	// Name is that of a picker without settings; empty for the softmax picker.
	Name string `json:"-"`
	// Softmax is the settings of the softmax picker.
	Softmax *SoftmaxConfig `json:"softmax,omitempty"`
}

// The pickers without settings.
var (
	// PickerMaxScore takes the one with the highest total.
	PickerMaxScore = PickerConfig{Name: "max-score"}
	// PickerWeightedRandom takes each as often as its total is high.
	PickerWeightedRandom = PickerConfig{Name: "weighted-random"}
	// PickerPowerOfTwo takes the better of two that are drawn by lot.
	PickerPowerOfTwo = PickerConfig{Name: "power-of-two"}
)

// SoftmaxConfig is the softmax picker's settings.
type SoftmaxConfig struct {
	// Temperature is above 0: a pod whose total is this share of the most behind another's is taken 1 / e times as often.
	// 0: 0.1.
	Temperature float64 `json:"temperature,omitempty"`
}

// PickerSoftmax takes a pod by a softmax over the totals.
func PickerSoftmax(settings SoftmaxConfig) PickerConfig {
	return PickerConfig{Softmax: &settings}
}

// MarshalJSON writes the picker as documents have it: a name, or an object with settings.
func (p PickerConfig) MarshalJSON() ([]byte, error) {
	type plain PickerConfig
	return nameOr(p.Name, plain(p))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *PickerConfig) UnmarshalJSON(data []byte) error {
	type plain PickerConfig
	*p = PickerConfig{}
	return readNameOr(data, &p.Name, (*plain)(p))
}

// GuardConfig is what happens if the pod that was picked is much busier than the others. Zero: nothing.
type GuardConfig struct {
	// Spill: the least busy pod takes the request, and has its prefix from then on.
	Spill *SpillConfig `json:"spill,omitempty"`
}

// SpillConfig is when and whereto a busy pod spills over.
type SpillConfig struct {
	// Relative: a pod is too busy if its requests exceed this many times the mean; 1 or more. 0: 1.5.
	Relative float64 `json:"relative,omitempty"`
	// Absolute: and if they exceed the mean by more than twice its root, or by more than this. nil: 32.
	Absolute *uint32 `json:"absolute,omitempty"`
	// MaxReplicas is on how many pods a prefix is wanted at most; more of them are not made. 0: any number.
	MaxReplicas uint32 `json:"max_replicas,omitempty"`
}

// MarshalJSON writes the guard as documents have it: "none", or an object with settings.
func (g GuardConfig) MarshalJSON() ([]byte, error) {
	type plain GuardConfig
	return nameOr(noneUnless(g.Spill != nil), plain(g))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (g *GuardConfig) UnmarshalJSON(data []byte) error {
	type plain GuardConfig
	*g = GuardConfig{}
	return readNameOr(data, new(string), (*plain)(g))
}

// WarmUpConfig is whether new pods get requests of which no pod has much. Zero: only if they are picked.
type WarmUpConfig struct {
	// Divert gives them a share of these.
	Divert *WarmUpShare `json:"divert,omitempty"`
}

// WarmUpShare is how many requests new pods get, and how long they are new.
type WarmUpShare struct {
	// Share is of the requests of which no pod has half; 0 to 1. nil: 0.25.
	Share *float64 `json:"share,omitempty"`
	// Tokens: a pod is new until it was sent this much prefill work. nil: 16 384.
	Tokens *uint64 `json:"tokens,omitempty"`
}

// MarshalJSON writes it as documents have it: "none", or an object with a share.
func (w WarmUpConfig) MarshalJSON() ([]byte, error) {
	type plain WarmUpConfig
	return nameOr(noneUnless(w.Divert != nil), plain(w))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (w *WarmUpConfig) UnmarshalJSON(data []byte) error {
	type plain WarmUpConfig
	*w = WarmUpConfig{}
	return readNameOr(data, new(string), (*plain)(w))
}
