package kvroute

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
	// Cost is what the request costs the pod and those it has: work times requests; by the cheapest.
	Cost *CostConfig `json:"cost,omitempty"`
	// Latency is how long until the first token; by the soonest.
	Latency *LatencyConfig `json:"latency,omitempty"`
	// TokenLoad is how little prefill work the pod would have with the request.
	TokenLoad *TokenLoadConfig `json:"token-load,omitempty"`
	// Queue is how few requests wait, compared with the other pods.
	Queue *WeightConfig `json:"queue,omitempty"`
	// Running is how few requests the pod has, compared with the other pods.
	Running *WeightConfig `json:"running,omitempty"`
	// KVUsage is how much of its KV cache the pod has left.
	KVUsage *WeightConfig `json:"kv-usage,omitempty"`
	// LoraAffinity is whether the pod has the request's LoRA adapter in use, or room for it.
	LoraAffinity *WeightConfig `json:"lora-affinity,omitempty"`
	// Topology is how near the pod is.
	Topology *TopologyConfig `json:"topology,omitempty"`
	// NoHitLRU is, of prompts that no pod has anything of, which pod got none for the longest time.
	NoHitLRU *WeightConfig `json:"no-hit-lru,omitempty"`
	// External are scorers whose values come with each request, in a ScoreColumn of this name.
	External map[string]WeightConfig `json:"external,omitempty"`
}

// WeightConfig is a scorer without settings of its own.
type WeightConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
}

// KVCacheConfig is the kv-cache scorer.
type KVCacheConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
	// Credits are what a matched block counts for.
	Credits CreditsConfig `json:"credits,omitzero"`
}

// CostConfig is the cost scorer.
type CostConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
	// Displacement is what it counts that what is computed anew takes the place of what others would have found cached,
	// against computing it; 0 or more. nil: 1.
	Displacement *float64 `json:"displacement,omitempty"`
	// Credits are what a matched block counts for.
	Credits CreditsConfig `json:"credits,omitzero"`
}

// LoadConfig is the load scorer.
type LoadConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
	// Limit is requests, running and waiting, from which on a pod scores 0. 0: 128.
	Limit uint32 `json:"limit,omitempty"`
}

// LatencyConfig is the latency scorer.
type LatencyConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
	// Credits are what a matched block counts for.
	Credits CreditsConfig `json:"credits,omitzero"`
	// Model is how long pods take.
	Model ModelConfig `json:"model,omitzero"`
}

// TokenLoadConfig is the token-load scorer.
type TokenLoadConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
	// Limit is tokens of prefill work from which on a pod scores 0. 0: 4 194 304.
	Limit uint64 `json:"limit,omitempty"`
	// Credits are what a matched block counts for.
	Credits CreditsConfig `json:"credits,omitzero"`
}

// TopologyConfig is the topology scorer.
type TopologyConfig struct {
	// Weight is what a score of 1 is worth; 0 or more.
	Weight float64 `json:"weight"`
	// Levels are what distance sharing a label leaves. nil: the same host 0, rack 0.8, zone 0.95, region 0.98, by
	// Kubernetes' well-known labels.
	Levels []TopologyLevel `json:"levels,omitzero"`
	// Near are labels of the place where the gateway stands. A pod that prefills is near to the pod that answers instead.
	Near map[string]string `json:"near,omitempty"`
}

// TopologyLevel is a label that near pods share.
type TopologyLevel struct {
	// Label is the label's key.
	Label string `json:"label"`
	// Distance is how far pods are that share it; 0 to 1.
	Distance float64 `json:"distance"`
}

// CreditsConfig is what a matched block counts for: by where it lies, and by how far the pod's view is to be believed;
// each 0 to 1.
type CreditsConfig struct {
	// GPU is device memory. nil: 1.
	GPU *float64 `json:"gpu,omitempty"`
	// CPU is host memory. nil: 0.8.
	CPU *float64 `json:"cpu,omitempty"`
	// Disk is local storage. nil: 0.3.
	Disk *float64 `json:"disk,omitempty"`
	// External is a store shared with others. nil: 0.6.
	External *float64 `json:"external,omitempty"`
	// Trust is what that is multiplied by, by the pod's trust level.
	Trust TrustCreditsConfig `json:"trust,omitzero"`
}

// TrustCreditsConfig is what matches in a pod's view count for, by its trust level; each 0 to 1.
type TrustCreditsConfig struct {
	// Exact: every event was applied. nil: 1.
	Exact *float64 `json:"exact,omitempty"`
	// Degraded: something was lost or left out. nil: 0.9.
	Degraded *float64 `json:"degraded,omitempty"`
	// Approximate: no event came so far, or the engine keeps having less than its events said. nil: 0.5.
	Approximate *float64 `json:"approximate,omitempty"`
	// LoadOnly: nothing is known that could be credited. nil: 0.
	LoadOnly *float64 `json:"load-only,omitempty"`
}

// ModelConfig is how long a pod takes to its first token; seconds. The defaults are those of an 8B model on an H200.
type ModelConfig struct {
	// Least is a step with prefill, however small; above 0. 0: 0.0117.
	Least float64 `json:"least,omitempty"`
	// PerToken is each token computed. nil: 2.04e-5.
	PerToken *float64 `json:"per_token,omitempty"`
	// PerPair is each token computed and token it attends to. nil: 1.03e-9.
	PerPair *float64 `json:"per_pair,omitempty"`
	// PerRequest is each request that the pod has. nil: 0.0015.
	PerRequest *float64 `json:"per_request,omitempty"`
}
