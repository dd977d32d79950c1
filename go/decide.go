package kvroute

/*
#include <kvroute.h>

#cgo noescape kvgo_decide
#cgo nocallback kvgo_decide
#cgo noescape kvroute_router_first_token
#cgo nocallback kvroute_router_first_token
#cgo noescape kvroute_router_finish
#cgo nocallback kvroute_router_finish

// With noescape the answer can be on Go's stack, so that deciding allocates nothing; it needs nocallback, which costs
// 10 ns a call, so that calls without such an answer go without.

// The prompt stays in Go's memory, so the pointers to it can only come as arguments of their own.
static inline int32_t kvgo_decide(const kvroute_router *router, int books, const kvroute_request *prepared,
                                  const uint32_t *token_ids, size_t token_ids_len, const uint8_t *text, size_t text_len,
                                  uint64_t now_ns, kvroute_workspace *workspace, kvroute_decision *decision,
                                  kvroute_error *error) {
  kvroute_request request = *prepared;
  request.token_ids = token_ids;
  request.token_ids_len = token_ids_len;
  request.text.data = text;
  request.text.len = text_len;
  decision->struct_size = sizeof(*decision);
  return books ? kvroute_router_dispatch(router, &request, now_ns, workspace, decision, error)
               : kvroute_router_decide(router, &request, now_ns, workspace, decision, error);
}
*/
import "C"

import (
	"errors"
	"time"
	"unsafe"
)

// Decision is where a request should go; of a dispatch, also how it went.
type Decision struct {
	// Choice is the pod that answers.
	Choice
	// Prefill is the pod that computes the prompt first, if its Pod is not NoPod.
	Prefill Choice
	// Fallbacks are the next best pods, best first, as many as the profile asks for (ProfileConfig.Fallbacks): where to turn
	// if Pod does not answer.
	Fallbacks []PodID
	// Candidates is how many pods were considered.
	Candidates int
	// Ticket, of a dispatch, names the request in FirstToken and Finish. 0: it is not tracked.
	Ticket Ticket
	// Retries, of a dispatch, is how often it was decided again because somebody else booked the same pod meanwhile.
	Retries int
	// Contended, of a dispatch, is whether somebody still did at the last try, and it was booked all the same.
	Contended bool
}

// Choice is one pod of a decision.
type Choice struct {
	// Pod is the pod.
	Pod PodID
	// Name is its name, and DPRank its data-parallel rank, if Request.Names asks for them.
	Name   string
	DPRank uint32
	// Total is its weighted sum of scores.
	Total float64
	// MatchedBlocks are leading blocks it is expected to take from its cache, by tier.
	MatchedBlocks TierBlocks
	// MatchedTokens are tokens in those blocks.
	MatchedTokens int
	// UncachedTokens are those it has to compute, as well as can be told.
	UncachedTokens int
	// Reason is why this pod.
	Reason Reason
}

// Reason is why a pod was taken.
type Reason string

const (
	// ReasonPicked: the picker picked it.
	ReasonPicked Reason = "picked"
	// ReasonSpilled: the one that the picker picked is much busier than the others (GuardConfig).
	ReasonSpilled Reason = "spilled"
	// ReasonWarmUp: it is new, and no pod has much of the prompt (WarmUpConfig).
	ReasonWarmUp Reason = "warm-up"
)

var reasons = []Reason{
	C.KVROUTE_REASON_PICKED:  ReasonPicked,
	C.KVROUTE_REASON_SPILLED: ReasonSpilled,
	C.KVROUTE_REASON_WARM_UP: ReasonWarmUp,
}

// Ticket names a request in flight.
type Ticket uint64

// Finish is how a request ended.
type Finish string

const (
	// FinishCompleted: the engine answered.
	FinishCompleted Finish = "completed"
	// FinishFailed: the engine did not. What was predicted to be cached by it is taken back.
	FinishFailed Finish = "failed"
	// FinishCancelled: the client went away. What was predicted stays if a first token had come.
	FinishCancelled Finish = "cancelled"
)

func (f Finish) number() (C.int32_t, error) {
	switch f {
	case FinishCompleted:
		return C.KVROUTE_FINISH_COMPLETED, nil
	case FinishFailed:
		return C.KVROUTE_FINISH_FAILED, nil
	case FinishCancelled:
		return C.KVROUTE_FINISH_CANCELLED, nil
	}
	return 0, invalid("finish is %q, which is none", f)
}

// CachedUnknown says that the engine's count of cached tokens is not known.
const CachedUnknown = C.KVROUTE_CACHED_UNKNOWN

// Decide chooses a pod, or two, for a request. It changes nothing.
//
// Errors: ErrNoCandidate if there is no pod or the filters drop every one; ErrInvalidInput if the request contradicts
// itself, can be hashed for no domain, or a score column is not as it should be; ErrLimit for a prompt of more than
// 268 435 456 tokens.
func (r *Router) Decide(request *Request) (Decision, error) {
	return r.decide(request, 0)
}

// Dispatch decides and books: until its first token the request counts as prefill work of the pod that computes its
// prompt, until its end as a request of the pod that answers it; its blocks are predicted to be in those pods' caches;
// its session is at home there. If others booked the same pods meanwhile it is decided again, three times at most.
//
// Errors: those of Decide; then nothing is booked and Ticket is 0. Should only a name, the fallbacks, the explanation or
// the record that was asked for be missing, the decision is there beside the error, and it is booked.
func (r *Router) Dispatch(request *Request) (Decision, error) {
	return r.decide(request, 1)
}

func (r *Router) decide(request *Request, books C.int) (Decision, error) {
	s, err := r.enter()
	if err != nil {
		return Decision{}, err
	}
	defer r.leave(s)
	if request.Explain != nil {
		*request.Explain = Explanation{}
	}
	if request.Record != nil {
		*request.Record = ""
	}
	now, err := r.nanoseconds(request.Now)
	if err != nil {
		return Decision{}, err
	}
	prepared, err := s.request(request)
	if err != nil {
		return Decision{}, err
	}
	var decision C.kvroute_decision
	status := C.kvgo_decide(r.c, books, prepared,
		(*C.uint32_t)(unsafe.SliceData(request.TokenIDs)), C.size_t(len(request.TokenIDs)),
		(*C.uint8_t)(unsafe.StringData(request.Text)), C.size_t(len(request.Text)),
		now, s.workspace, &decision, s.error)
	if err = s.check(status); err == nil {
		answer := decisionOf(&decision)
		// Should this fail, what is booked is still told.
		err = errors.Join(s.fallbacks(&answer, int(decision.fallbacks_len)), s.name(request, &answer.Choice),
			s.name(request, &answer.Prefill), r.explain(request, s), r.record(request, prepared, dispatch(books, &decision), s))
		return answer, err
	}
	if status == C.KVROUTE_NO_CANDIDATE {
		if failed := errors.Join(r.explain(request, s), r.record(request, prepared, nil, s)); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	return Decision{}, err
}

// dispatch is the decision, if it was booked.
func dispatch(books C.int, decision *C.kvroute_decision) *C.kvroute_decision {
	if books == 0 {
		return nil
	}
	return decision
}

// fallbacks fills in those of the decision that was made in this seat; so many there are.
func (s *seat) fallbacks(decision *Decision, count int) error {
	if count == 0 {
		return nil
	}
	pods := make([]PodID, count)
	var written C.size_t
	err := s.check(C.kvroute_workspace_fallbacks(s.workspace, (*C.uint64_t)(unsafe.SliceData(pods)), C.size_t(count),
		&written, s.error))
	decision.Fallbacks = pods[:written]
	return err
}

// name names a pod of the decision that was made in this seat, if the request asks for it.
func (s *seat) name(request *Request, choice *Choice) error {
	if !request.Names || choice.Pod == NoPod {
		return nil
	}
	var rank C.uint32_t
	name, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_workspace_pod_name(s.workspace, C.uint64_t(choice.Pod), buffer, capacity, written, &rank, s.error)
	})
	choice.Name, choice.DPRank = string(name), uint32(rank)
	return err
}

func decisionOf(from *C.kvroute_decision) Decision {
	decision := Decision{
		Choice: Choice{
			Pod:            PodID(from.pod),
			Total:          float64(from.total),
			MatchedBlocks:  tierBlocks(&from.matched_blocks),
			MatchedTokens:  int(from.matched_tokens),
			UncachedTokens: int(from.uncached_tokens),
			Reason:         named(reasons, from.reason),
		},
		Prefill: Choice{
			Pod:            PodID(from.prefill_pod),
			Total:          float64(from.prefill_total),
			MatchedBlocks:  tierBlocks(&from.prefill_matched_blocks),
			MatchedTokens:  int(from.prefill_matched_tokens),
			UncachedTokens: int(from.prefill_uncached_tokens),
		},
		Candidates: int(from.candidates),
		Ticket:     Ticket(from.ticket),
		Retries:    int(from.retries),
		Contended:  from.contended != 0,
	}
	if decision.Prefill.Pod != NoPod {
		decision.Prefill.Reason = named(reasons, from.prefill_reason)
	}
	return decision
}

// FirstToken says that a dispatched request's first token came: its prompt is computed. It answers whether such a
// request was in flight and this was its first such call.
func (r *Router) FirstToken(ticket Ticket) (bool, error) {
	s, err := r.enter()
	if err != nil {
		return false, err
	}
	defer r.leave(s)
	var known C.bool
	err = s.check(C.kvroute_router_first_token(r.c, C.uint64_t(ticket), &known, s.error))
	return bool(known), err
}

// Finish ends a dispatched request. engineCachedTokens is the engine's own count for it, which checks what the router
// believes, or CachedUnknown. It answers whether such a request was in flight; a second call does nothing.
//
// Errors: ErrInvalidInput for a finish that is none or a count below CachedUnknown.
func (r *Router) Finish(ticket Ticket, finish Finish, engineCachedTokens int) (bool, error) {
	s, err := r.enter()
	if err != nil {
		return false, err
	}
	defer r.leave(s)
	outcome, err := finish.number()
	if err != nil {
		return false, err
	}
	var known C.bool
	err = s.check(C.kvroute_router_finish(r.c, C.uint64_t(ticket), outcome, C.int64_t(engineCachedTokens), &known,
		s.error))
	return bool(known), err
}

// SessionToken is a token for the client to send with its next request, so that it comes back to a decision's pods;
// prefill may be NoPod, and one that is gone is left out. now is like Request.Now.
//
// Errors: ErrUnknownPod; ErrInvalidInput if the router has no session key.
func (r *Router) SessionToken(pod, prefill PodID, now time.Time) (string, error) {
	s, err := r.enter()
	if err != nil {
		return "", err
	}
	defer r.leave(s)
	ns, err := r.nanoseconds(now)
	if err != nil {
		return "", err
	}
	token, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_router_session_token(r.c, C.uint64_t(pod), C.uint64_t(prefill), ns, buffer, capacity, written,
			s.error)
	})
	return string(token), err
}
