package kvroute

/*
#include <kvroute.h>
*/
import "C"

// Counters are what a router has, and what befell it.
type Counters struct {
	// InFlight is requests in flight.
	InFlight uint64 `json:"in_flight"`
	// Sessions remembered by id.
	Sessions uint64 `json:"sessions"`
	// Expired is requests forgotten because their time was over.
	Expired uint64 `json:"expired"`
	// Untracked is requests that were not tracked because too many were in flight.
	Untracked uint64 `json:"untracked"`
	// Index is how much is in the index.
	Index IndexCounters `json:"-"`
}

// IndexCounters are how much is in an index.
type IndexCounters struct {
	// Blocks is distinct blocks that events announced.
	Blocks uint64 `json:"blocks"`
	// Bytes of blocks and their holders, which IndexConfig.MaxBytes bounds.
	Bytes uint64 `json:"bytes"`
	// ViewBytes is bytes of the pods' views.
	ViewBytes uint64 `json:"view_bytes"`
}

// Counters are those of the whole router.
func (r *Router) Counters() (Counters, error) {
	s, err := r.enter()
	if err != nil {
		return Counters{}, err
	}
	defer r.leave(s)
	counters := C.kvroute_router_counters{struct_size: C.sizeof_kvroute_router_counters}
	if err := s.check(C.kvroute_router_read_counters(r.c, &counters, s.error)); err != nil {
		return Counters{}, err
	}
	return Counters{
		InFlight:  uint64(counters.in_flight),
		Sessions:  uint64(counters.sessions),
		Expired:   uint64(counters.expired),
		Untracked: uint64(counters.untracked),
		Index: IndexCounters{
			Blocks:    uint64(counters.blocks),
			Bytes:     uint64(counters.bytes),
			ViewBytes: uint64(counters.view_bytes),
		},
	}, nil
}

// TrustLevel is how far a pod's view is to be believed.
type TrustLevel string

const (
	// TrustLoadOnly: nothing is known of the pod's cache that could be credited.
	TrustLoadOnly TrustLevel = "load-only"
	// TrustApproximate: no event came from the pod so far, or its engine keeps having less than its events said.
	TrustApproximate TrustLevel = "approximate"
	// TrustDegraded: something was lost or left out; matches may be too short.
	TrustDegraded TrustLevel = "degraded"
	// TrustExact: every event since the engine's start was applied.
	TrustExact TrustLevel = "exact"
)

var trustLevels = []TrustLevel{
	C.KVROUTE_TRUST_LOAD_ONLY:   TrustLoadOnly,
	C.KVROUTE_TRUST_APPROXIMATE: TrustApproximate,
	C.KVROUTE_TRUST_DEGRADED:    TrustDegraded,
	C.KVROUTE_TRUST_EXACT:       TrustExact,
}

// PodCounters are what befell a pod's stream of events, and what the router has on it.
type PodCounters struct {
	// Trust is how far its view is to be believed.
	Trust TrustLevel
	// Accepting is whether it takes new requests.
	Accepting bool
	// Stream is what befell its stream of events.
	Stream StreamCounters
	// ParkedBlocks are those that wait for their parent now.
	ParkedBlocks uint64
	// Audit is how its view compared with what its engine counted.
	Audit Audit
	// Booked is what the router has in flight on it.
	Booked Bookings
	// PredictedBlocks are those that the router sent there and remembers.
	PredictedBlocks uint64
}

// StreamCounters are what befell a pod's stream of events.
type StreamCounters struct {
	// Batches judged.
	Batches uint64 `json:"batches"`
	// Events in them.
	Events uint64 `json:"events"`
	// BlocksStored, further copies included.
	BlocksStored uint64 `json:"blocks_stored"`
	// BlocksRemoved, copies and clears included.
	BlocksRemoved uint64 `json:"blocks_removed"`
	// BlocksRefused are blocks of stores that were left out.
	BlocksRefused uint64 `json:"blocks_refused"`
	// UnknownRemovals are removals of blocks it was not known to hold.
	UnknownRemovals uint64 `json:"unknown_removals"`
	// Parked is events whose blocks were parked.
	Parked uint64 `json:"parked"`
	// Clears is times the whole view was dropped.
	Clears uint64 `json:"clears"`
	// Gaps is times batches were found missing.
	Gaps uint64 `json:"gaps"`
	// Restarts is engine restarts noticed.
	Restarts uint64 `json:"restarts"`
	// Resyncs is batches answered with OutcomeNeedsResync.
	Resyncs uint64 `json:"resyncs"`
	// Ignored is events and batches left out, by reason; reasons without any are left out too.
	Ignored map[IgnoreReason]uint64 `json:"ignored"`
}

// Audit is how a pod's view compared with what its engine counted when requests finished. Requests of which nothing was
// expected and nothing found are not counted.
type Audit struct {
	// Agreed is requests whose engine had exactly what was expected.
	Agreed uint64 `json:"agreed"`
	// Overestimated is requests whose engine had less.
	Overestimated uint64 `json:"overestimated"`
	// Underestimated is requests whose engine had more.
	Underestimated uint64 `json:"underestimated"`
}

// PodCounters are those of one pod.
//
// Errors: ErrUnknownPod.
func (r *Router) PodCounters(pod PodID) (PodCounters, error) {
	s, err := r.enter()
	if err != nil {
		return PodCounters{}, err
	}
	defer r.leave(s)
	c := C.kvroute_pod_counters{struct_size: C.sizeof_kvroute_pod_counters}
	if err := s.check(C.kvroute_router_read_pod_counters(r.c, C.uint64_t(pod), &c, s.error)); err != nil {
		return PodCounters{}, err
	}
	ignored := map[IgnoreReason]uint64{}
	for reason, count := range c.ignored {
		if count > 0 {
			ignored[named(ignoreReasons, C.int32_t(reason))] = uint64(count)
		}
	}
	return PodCounters{
		Trust:     named(trustLevels, c.trust),
		Accepting: c.accepting != 0,
		Stream: StreamCounters{
			Batches:         uint64(c.batches),
			Events:          uint64(c.events),
			BlocksStored:    uint64(c.blocks_stored),
			BlocksRemoved:   uint64(c.blocks_removed),
			BlocksRefused:   uint64(c.blocks_refused),
			UnknownRemovals: uint64(c.unknown_removals),
			Parked:          uint64(c.parked),
			Clears:          uint64(c.clears),
			Gaps:            uint64(c.gaps),
			Restarts:        uint64(c.restarts),
			Resyncs:         uint64(c.resyncs),
			Ignored:         ignored,
		},
		ParkedBlocks: uint64(c.parked_blocks),
		Audit: Audit{
			Agreed:         uint64(c.agreed),
			Overestimated:  uint64(c.overestimated),
			Underestimated: uint64(c.underestimated),
		},
		Booked:          Bookings{Requests: int(c.booked_requests), PrefillTokens: int(c.booked_prefill_tokens)},
		PredictedBlocks: uint64(c.predicted_blocks),
	}, nil
}

// named is the word for one of C's numbers; "unknown" for those of a library that is newer than this package.
func named[T ~string](names []T, number C.int32_t) T {
	if number < 0 || int(number) >= len(names) {
		return "unknown"
	}
	return names[number]
}
