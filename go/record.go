package kvroute

/*
#include <kvroute.h>

#cgo noescape kvgo_record
#cgo nocallback kvgo_record

// As kvgo_decide: the prompt stays in Go's memory.
static inline int32_t kvgo_record(const kvroute_router *router, const kvroute_request *prepared,
                                  const uint32_t *token_ids, size_t token_ids_len, const uint8_t *text, size_t text_len,
                                  kvroute_workspace *workspace, const kvroute_decision *dispatch, uint32_t flags,
                                  char *buffer, size_t capacity, size_t *written, kvroute_error *error) {
  kvroute_request request = *prepared;
  request.token_ids = token_ids;
  request.token_ids_len = token_ids_len;
  request.text.data = text;
  request.text.len = text_len;
  return kvroute_router_record(router, &request, workspace, dispatch, flags, buffer, capacity, written, error);
}
*/
import "C"

import (
	"encoding/json"
	"time"
	"unsafe"
)

// record takes the decision that was made in this seat down, if the request asks for it. dispatch is nil if it was only
// decided, or failed.
func (r *Router) record(request *Request, prepared *C.kvroute_request, dispatch *C.kvroute_decision, s *seat) error {
	if request.Record == nil {
		return nil
	}
	var flags C.uint32_t
	if request.RecordPrompt {
		flags = C.KVROUTE_RECORD_PROMPT
	}
	var kept *C.kvroute_decision
	if dispatch != nil {
		// In C memory, so that the decision itself may be on the stack.
		kept = &array[C.kvroute_decision](&s.arena, 1)[0]
		*kept = *dispatch
	}
	line, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvgo_record(r.c, prepared,
			(*C.uint32_t)(unsafe.SliceData(request.TokenIDs)), C.size_t(len(request.TokenIDs)),
			(*C.uint8_t)(unsafe.StringData(request.Text)), C.size_t(len(request.Text)),
			s.workspace, kept, flags, buffer, capacity, written, s.error)
	})
	*request.Record = string(line)
	return err
}

// LogOutcome is the line of a decision log about a request's end, as Router.Finish is told of it, without the line's end.
// now is like Request.Now.
//
// Errors: those of Router.Finish.
func LogOutcome(ticket Ticket, finish Finish, engineCachedTokens int, now time.Time) (string, error) {
	s := newSeat(0)
	defer s.free()
	outcome, err := finish.number()
	if err != nil {
		return "", err
	}
	ns, err := nanoseconds(now)
	if err != nil {
		return "", err
	}
	line, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_log_outcome(C.uint64_t(ticket), outcome, C.int64_t(engineCachedTokens), ns, buffer, capacity,
			written, s.error)
	})
	return string(line), err
}

// Replayed is what a policy makes of a recorded decision. Places are positions in the line's pods.
type Replayed struct {
	// AsRecorded is whether it is what was recorded, bit for bit.
	AsRecorded bool `json:"as_recorded"`
	// Decode is how the pod that answers was chosen.
	Decode ProfileRecord `json:"decode"`
	// Prefill is how a pod that prefills was; nil if none was looked for.
	Prefill *ProfileRecord `json:"prefill,omitempty"`
}

// ProfileRecord is how a profile chose.
type ProfileRecord struct {
	// Profile is its name.
	Profile string `json:"profile"`
	// Picker is its picker's name.
	Picker string `json:"picker"`
	// Dropped are pods that a filter dropped.
	Dropped []DroppedRecord `json:"dropped,omitempty"`
	// Kept are places of the pods that the filters kept, in order.
	Kept []int `json:"kept"`
	// Scores are what each scorer said of them; none if no pod was chosen.
	Scores []ScoresRecord `json:"scores,omitempty"`
	// Totals are weighted sums of their scores; as many as Kept.
	Totals []float64 `json:"totals,omitempty"`
	// Picked is the place of the pod that was taken; nil if none was.
	Picked *int `json:"picked,omitempty"`
	// Reason is why that one.
	Reason Reason `json:"reason"`
	// Overruled is the place of the pod that the picker picked, where something else was taken.
	Overruled *int `json:"overruled,omitempty"`
	// Fallbacks are places of the next best, best first, where the profile asks for them.
	Fallbacks []int `json:"fallbacks,omitempty"`
	// Unused is why the pod is not used after all, of one that would prefill.
	Unused string `json:"unused,omitempty"`
	// MatchedTokens are those of the prompt that the pod held.
	MatchedTokens int `json:"matched_tokens,omitempty"`
	// UncachedTokens are those of the prompt that it has to compute, as well as can be told.
	UncachedTokens int `json:"uncached_tokens,omitempty"`
}

// DroppedRecord is a pod that a filter dropped.
type DroppedRecord struct {
	// Pod is its place.
	Pod int `json:"pod"`
	// By is the first filter that did.
	By string `json:"by"`
}

// ScoresRecord is what a scorer said.
type ScoresRecord struct {
	// Scorer is its name.
	Scorer string `json:"scorer"`
	// Weight is what its scores count.
	Weight float64 `json:"weight"`
	// Values are of the pods that were kept, 0 to 1.
	Values []float64 `json:"values"`
}

// LogReplay makes the decision of a log's line (Request.Record) again, by this policy. By the one that the line is of,
// the answer is the recorded one. Another one chooses among the same pods, as they were; in a large fleet it might have
// looked at others of them.
//
// Errors: ErrDecode if the line is none, or one of another version; ErrInvalidInput if it is about a request's end or
// contradicts itself, or the policy is none; ErrNoCandidate if none of the pods on record will do.
func LogReplay(line string, policy PolicyConfig) (Replayed, error) {
	document, err := json.Marshal(Config{Policy: policy})
	if err != nil {
		return Replayed{}, invalid("configuration: %v", err)
	}
	return LogReplayFromDocument(line, string(document))
}

// LogReplayFromDocument is LogReplay with the policy of a configuration document, YAML or JSON.
func LogReplayFromDocument(line, document string) (Replayed, error) {
	s := newSeat(0)
	defer s.free()
	of, policy := s.arena.text(line), s.arena.text(document)
	text, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_log_replay(of.data, of.len, policy.data, policy.len, buffer, capacity, written, s.error)
	})
	if err != nil {
		return Replayed{}, err
	}
	var replayed Replayed
	err = decoded(text, &replayed)
	return replayed, err
}

// LogSchema is the JSON Schema of a decision log's lines.
func LogSchema() (string, error) {
	s := newSeat(0)
	defer s.free()
	schema, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_log_schema(buffer, capacity, written, s.error)
	})
	return string(schema), err
}
