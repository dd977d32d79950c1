package kvroute

import "encoding/json"

// FilterConfig is a filter: one of the Filter variables, or what one of the Filter functions makes.
type FilterConfig struct {
	// Name is that of a filter without settings; empty for the others, which have one of what follows.
	Name string `json:"-"`
	// Role is that of the role filter.
	Role Role `json:"role,omitempty"`
	// Labels is the labels filter's settings.
	Labels *LabelsConfig `json:"labels,omitempty"`
	// Health is the health filter's settings.
	Health *HealthConfig `json:"health,omitempty"`
	// Affinity is the affinity filter's settings.
	Affinity *AffinityConfig `json:"affinity,omitempty"`
}

// The filters without settings.
var (
	// FilterAccepting keeps the pods that take new requests.
	FilterAccepting = FilterConfig{Name: "accepting"}
	// FilterModel keeps the pods whose cache domain serves the model.
	FilterModel = FilterConfig{Name: "model"}
	// FilterSubset keeps the pods that Request.Subset names, if it is not nil.
	FilterSubset = FilterConfig{Name: "subset"}
	// FilterOverload keeps the pods whose last load report stayed below the bounds of Config.Overload; if none did, all.
	FilterOverload = FilterConfig{Name: "overload"}
	// FilterLoraRoom keeps the pods that have the request's LoRA adapter in use or room for it; if none has, all.
	FilterLoraRoom = FilterConfig{Name: "lora-room"}
)

// FilterRole keeps the pods that do what this role does.
func FilterRole(role Role) FilterConfig {
	return FilterConfig{Role: role}
}

// FilterLabels keeps the pods with these labels.
func FilterLabels(labels LabelsConfig) FilterConfig {
	return FilterConfig{Labels: &labels}
}

// FilterHealth keeps the pods whose last requests did not all fail; if all fail, all.
func FilterHealth(settings HealthConfig) FilterConfig {
	return FilterConfig{Health: &settings}
}

// FilterAffinity keeps the pods that have most of the prompt, unless they are too busy.
func FilterAffinity(settings AffinityConfig) FilterConfig {
	return FilterConfig{Affinity: &settings}
}

// LabelsConfig is what labels have to be, as in a Kubernetes label selector: at least one requirement.
type LabelsConfig struct {
	// Match are labels with the value they have to have.
	Match map[string]string `json:"match,omitempty"`
	// Expressions are what else is required of labels.
	Expressions []RequirementConfig `json:"expressions,omitempty"`
}

// RequirementConfig is what is required of one label.
type RequirementConfig struct {
	// Label is the label's key.
	Label string `json:"label"`
	// Operator is what is required.
	Operator Operator `json:"operator"`
	// Values are those of OperatorIn and OperatorNotIn.
	Values []string `json:"values,omitempty"`
}

// Operator is what is required of a label.
type Operator string

const (
	// OperatorIn: it is there and has one of the values.
	OperatorIn Operator = "in"
	// OperatorNotIn: it is not there, or has none of the values.
	OperatorNotIn Operator = "not-in"
	// OperatorExists: it is there.
	OperatorExists Operator = "exists"
	// OperatorDoesNotExist: it is not there.
	OperatorDoesNotExist Operator = "does-not-exist"
)

// HealthConfig is the health filter's settings.
type HealthConfig struct {
	// Failures is how many in a row leave a pod out. 0: 3.
	Failures uint32 `json:"failures,omitempty"`
	// PauseSeconds is for how long, counted from the last failed request's dispatch. nil: 10.
	PauseSeconds *uint64 `json:"pause_seconds,omitempty"`
}

// AffinityConfig is the affinity filter's settings.
type AffinityConfig struct {
	// Share is that of the prompt from which on a pod is one that has it; 0 to 1. nil: 0.8.
	Share *float64 `json:"share,omitempty"`
	// BudgetMS is how much slower to the first token the best of those may be than the best other; milliseconds. nil: 500.
	BudgetMS *uint64 `json:"budget_ms,omitempty"`
	// Credits are what a matched block counts for in these times.
	Credits CreditsConfig `json:"credits,omitzero"`
	// Model is how long pods take.
	Model ModelConfig `json:"model,omitzero"`
}

// MarshalJSON writes the filter as documents have it: a name, or an object with settings.
func (f FilterConfig) MarshalJSON() ([]byte, error) {
	type plain FilterConfig
	return nameOr(f.Name, plain(f))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *FilterConfig) UnmarshalJSON(data []byte) error {
	type plain FilterConfig
	*f = FilterConfig{}
	return readNameOr(data, &f.Name, (*plain)(f))
}

// nameOr writes what documents have as a name where there is one, and else as an object.
func nameOr(name string, object any) ([]byte, error) {
	if name != "" {
		return json.Marshal(name)
	}
	return json.Marshal(object)
}

// readNameOr reads what nameOr writes.
func readNameOr(data []byte, name *string, object any) error {
	if data[0] == '"' {
		return json.Unmarshal(data, name)
	}
	return json.Unmarshal(data, object)
}

// noneUnless is the name of nothing, where there is nothing.
func noneUnless(isThere bool) string {
	if isThere {
		return ""
	}
	return "none"
}
