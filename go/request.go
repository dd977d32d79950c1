package kvroute

/*
#include <kvroute.h>
*/
import "C"

import (
	"time"
	"unsafe"
)

// Request is a request to be routed. The zero value is an empty prompt.
//
// What it points to is read during the call and not kept. It must not change meanwhile.
type Request struct {
	// TokenIDs are the prompt's.
	TokenIDs []uint32
	// Text is the prompt's text, where nobody tokenized it; then no TokenIDs.
	Text string
	// Context is what else decides whether KV can be shared.
	Context HashContext
	// Model is the served model it asks for; empty is content with any.
	Model string
	// SessionID is the conversation it belongs to, by an id of the client's choice; empty for none.
	SessionID string
	// SessionToken is the same by a token of Router.SessionToken; then no SessionID.
	SessionToken string
	// Subset are names of the pods it may go to, all ranks of each; nil is content with any, and an empty one that is not
	// nil finds none.
	Subset []string
	// Scores are what external scorers say of the pods; at most 16 columns.
	Scores []ScoreColumn
	// Known is what others know of pods' caches; of TokenIDs only.
	Known []KnownPrefix
	// Nonce distinguishes requests where a choice is otherwise even. 0: the prompt does.
	Nonce uint64
	// Now is the time, by the wall clock; the zero time is time.Now(), or a fleet's clock. The library reads no clock: sessions and
	// requests in flight end by the times that calls bring.
	Now time.Time
	// Names asks for the pods' names in the decision, also of one that is removed meanwhile. It costs two more calls into
	// C and allocates; a table of one's own by PodID does not.
	Names bool
	// Explain, if not nil, is set to why the decision came out as it did, also if no pod was left (ErrNoCandidate).
	// That costs as much as a hundred decisions and allocates; leave it nil unless somebody asks.
	Explain *Explanation
	// Record, if not nil, is set to the line of a decision log about the decision, without the line's end: also if no pod
	// was left, and empty if it failed before that. A line has no cache salt, no session token and nothing of the prompt;
	// names of pods, models and adapters are as they are. LogSchema describes it, LogReplay makes it again.
	Record *string
	// RecordPrompt adds the prompt to the line: its token ids, or its text in base64.
	RecordPrompt bool
}

// ScoreColumn is what an external scorer says of the pods; every profile that has one of the name reads it.
type ScoreColumn struct {
	// Scorer is its name, one of ScorersConfig.External.
	Scorer string
	// Pods are those it is about. Those that are gone are passed over, those left out score 0, and of one that is there
	// twice the last score counts.
	Pods []PodID
	// Values are their scores, 0 to 1; as many as Pods.
	Values []float64
}

// HashContext is what besides the token ids decides whether KV can be shared. The zero value: no adapter, no salt, plain
// text.
type HashContext struct {
	// LoraName is the name of the LoRA adapter; empty for none.
	LoraName string
	// LoraPath is where the engine loaded the adapter from (root in /v1/models). In vLLM's hashes since 0.31.
	LoraPath string
	// LoraID is the engine's number of the adapter. In vLLM's hashes before 0.11.1.
	LoraID int64
	// CacheSalt is tenant isolation (cache_salt in vLLM's API); empty for none.
	CacheSalt string
	// Multimodal are items, ordered by Start.
	Multimodal []MultimodalItem
	// PromptEmbeds are keys of prompt embeddings, one for each of the first blocks.
	PromptEmbeds [][]byte
}

// MultimodalItem is one image, video or audio clip in a prompt.
type MultimodalItem struct {
	// Identifier is the engine's, of the content (vLLM: hex digest of the processed item).
	Identifier string
	// Start is the first token of its placeholder; tokens from the start of the prompt.
	Start uint32
	// Length is that of its placeholder; tokens.
	Length uint32
}

// request is all of a request but its prompt, in C memory.
func (s *seat) request(from *Request) (*C.kvroute_request, error) {
	a := &s.arena
	scores := array[C.kvroute_score_column](a, len(from.Scores))
	for at, column := range from.Scores {
		if len(column.Pods) != len(column.Values) {
			return nil, invalid("score column %d has %d pods and %d values", at, len(column.Pods), len(column.Values))
		}
		scores[at] = C.kvroute_score_column{
			scorer: a.text(column.Scorer),
			pods:   copied[C.uint64_t](a, column.Pods),
			values: copied[C.double](a, column.Values),
			len:    C.size_t(len(column.Pods)),
		}
	}
	request := &array[C.kvroute_request](a, 1)[0]
	request.struct_size = C.sizeof_kvroute_request
	request.context = s.context(&from.Context)
	request.model = a.text(from.Model)
	request.session_id = a.text(from.SessionID)
	request.session_token = a.text(from.SessionToken)
	if from.Subset != nil {
		subset := a.texts(from.Subset)
		request.has_subset = 1
		request.subset, request.subset_len = unsafe.SliceData(subset), C.size_t(len(subset))
	}
	request.scores = unsafe.SliceData(scores)
	request.scores_len = C.size_t(len(scores))
	known := array[C.kvroute_known_prefix](a, len(from.Known))
	for at, prefix := range from.Known {
		known[at] = C.kvroute_known_prefix{
			pod: C.uint64_t(prefix.Pod), tier: C.int32_t(prefix.Tier), blocks: C.uint32_t(prefix.Blocks),
		}
	}
	request.known, request.known_len = unsafe.SliceData(known), C.size_t(len(known))
	if from.Nonce != 0 {
		request.nonce, request.has_nonce = C.uint64_t(from.Nonce), 1
	}
	return request, nil
}

// context is a context in C memory; nil for the plain one.
func (s *seat) context(from *HashContext) *C.kvroute_hash_context {
	if from.LoraName == "" && from.LoraPath == "" && from.LoraID == 0 && from.CacheSalt == "" &&
		len(from.Multimodal) == 0 && len(from.PromptEmbeds) == 0 {
		return nil
	}
	a := &s.arena
	items := array[C.kvroute_multimodal_item](a, len(from.Multimodal))
	for at, item := range from.Multimodal {
		items[at] = C.kvroute_multimodal_item{
			identifier: a.text(item.Identifier),
			start:      C.uint32_t(item.Start),
			length:     C.uint32_t(item.Length),
		}
	}
	embeds := array[C.kvroute_bytes](a, len(from.PromptEmbeds))
	for at, key := range from.PromptEmbeds {
		embeds[at] = a.bytes(key)
	}
	context := &array[C.kvroute_hash_context](a, 1)[0]
	*context = C.kvroute_hash_context{
		struct_size:       C.sizeof_kvroute_hash_context,
		lora_name:         a.text(from.LoraName),
		lora_path:         a.text(from.LoraPath),
		lora_id:           C.int64_t(from.LoraID),
		cache_salt:        a.text(from.CacheSalt),
		multimodal:        unsafe.SliceData(items),
		multimodal_len:    C.size_t(len(items)),
		prompt_embeds:     unsafe.SliceData(embeds),
		prompt_embeds_len: C.size_t(len(embeds)),
	}
	return context
}
