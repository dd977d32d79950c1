package kvroute

// Config is everything that can be said of a router. It is a configuration document in Go's types: the names of its
// keys are the json tags, and what they mean is said in the JSON Schema ([ConfigSchema]) as well.
//
// The zero value is the default: the preset's policy, no cache domain, no pod. So is the zero value of every part.
// A pointer tells 0 from the default where 0 means something; [Ptr] makes one.
type Config struct {
	// Policy is how pods are chosen.
	Policy PolicyConfig `json:"policy,omitzero"`
	// Index is bounds and sizes of the index.
	Index IndexConfig `json:"index,omitzero"`
	// TextBlockBytes is bytes a block of a prompt that is only known as text; a multiple of 4. 0: 256.
	TextBlockBytes uint32 `json:"text_block_bytes,omitempty"`
	// Sessions is what is remembered of conversations.
	Sessions SessionsConfig `json:"sessions,omitzero"`
	// Requests is what is kept of requests in flight.
	Requests RequestsConfig `json:"requests,omitzero"`
	// Overload is from when on a pod counts as overloaded.
	Overload OverloadConfig `json:"overload,omitzero"`
	// Domains are cache domains by name.
	Domains map[string]DomainConfig `json:"domains,omitempty"`
	// Pods are those that are there from the start.
	Pods []PodConfig `json:"pods,omitempty"`
}

// IndexConfig is bounds and sizes of the index.
type IndexConfig struct {
	// Shards is how many locks the index is spread over; rounded up to a power of two. 0: 256.
	Shards uint32 `json:"shards,omitempty"`
	// MaxBytes is for blocks and their holders. Once reached, new ones are refused and counted. nil: 4 GiB.
	MaxBytes *uint64 `json:"max_bytes,omitempty"`
	// MaxPredicted is blocks a pod of which it is remembered that they were sent there, the least recently used
	// going first; 0 remembers none. nil: 31 250.
	MaxPredicted *uint64 `json:"max_predicted,omitempty"`
}

// SessionsConfig is what is remembered of conversations.
type SessionsConfig struct {
	// TTLSeconds is how long a session is remembered after its last request, and a session token counts. 0: 300.
	TTLSeconds uint64 `json:"ttl_seconds,omitempty"`
	// Max is most sessions remembered by id. nil: 100 000.
	Max *uint64 `json:"max,omitempty"`
	// Key is the secret that session tokens are sealed with: 64 hexadecimal digits, the same for every router that
	// shall understand them. Empty: no session tokens.
	Key string `json:"key,omitempty"`
}

// RequestsConfig is what is kept of requests in flight.
type RequestsConfig struct {
	// TTLSeconds is how long a request may be in flight before it is forgotten. 0: 600.
	TTLSeconds uint64 `json:"ttl_seconds,omitempty"`
	// Max is most requests in flight, up to 262 144. Beyond them requests are still decided, but neither booked nor
	// tracked. nil: 262 144.
	Max *uint64 `json:"max,omitempty"`
	// SpeculationMS is how long what was sent to a pod counts as if it were there, until the first token at most, where
	// the pod's events do not say so yet; milliseconds, 0 is not at all. nil: 2000.
	SpeculationMS *uint64 `json:"speculation_ms,omitempty"`
}

// OverloadConfig is from when on a pod counts as overloaded: if a load report reaches any of the two.
type OverloadConfig struct {
	// Waiting is requests that wait; 0 is never. nil: 8.
	Waiting *uint32 `json:"waiting,omitempty"`
	// KVUsage is the share of the KV cache in use; above 1 is never. nil: 0.8.
	KVUsage *float64 `json:"kv_usage,omitempty"`
}

// Ptr is a pointer to a copy of value, for the optional parts of a Config.
func Ptr[T any](value T) *T {
	return &value
}
