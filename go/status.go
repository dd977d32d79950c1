package kvroute

/*
#include <kvroute.h>
*/
import "C"

// RouterStatus is a router at one moment. Its parts are read one after the other.
type RouterStatus struct {
	// Counters are requests and sessions; what they say of the index is in Index.
	Counters Counters `json:"counters"`
	// Index is how much is in the index.
	Index IndexCounters `json:"index"`
	// Pods are all pods.
	Pods []PodStatus `json:"pods"`
}

// PodStatus is a pod at one moment.
type PodStatus struct {
	// ID is its id.
	ID PodID `json:"id"`
	// Name is its name.
	Name string `json:"name"`
	// DPRank is its data-parallel rank.
	DPRank uint32 `json:"dp_rank"`
	// Domain is its cache domain.
	Domain string `json:"domain"`
	// Role is what it does.
	Role Role `json:"role"`
	// Labels are its own.
	Labels map[string]string `json:"labels"`
	// Capacity is how fast it computes, as a multiple of an ordinary pod.
	Capacity float64 `json:"capacity"`
	// Accepting is whether it takes new requests.
	Accepting bool `json:"accepting"`
	// Trust is how far its view is to be believed.
	Trust TrustLevel `json:"trust"`
	// Load is what it last said of its load; nil if it never did.
	Load *LoadReport `json:"load"`
	// Overloaded is whether that reached the bounds of Config.Overload.
	Overloaded bool `json:"overloaded"`
	// Failures is requests that failed since it last answered one.
	Failures int `json:"failures"`
	// Booked is what the router has in flight on it.
	Booked Bookings `json:"booked"`
	// BookedByPeers is what other routers said that they have.
	BookedByPeers Bookings `json:"booked_by_peers"`
	// Audit is how its view compared with what its engine counted.
	Audit Audit `json:"audit"`
	// Stream is what befell its stream of events.
	Stream StreamCounters `json:"stream"`
	// ParkedBlocks are those that wait for their parent.
	ParkedBlocks uint64 `json:"parked_blocks"`
	// Predicted is what the router sent to it.
	Predicted PredictedCounters `json:"predicted"`
}

// PredictedCounters are what a router sent to a pod.
type PredictedCounters struct {
	// Blocks that are remembered now.
	Blocks uint64 `json:"blocks"`
	// Refused are blocks that were not, because the index was at its memory bound.
	Refused uint64 `json:"refused"`
}

// Status is what the router and its pods are at. For a look now and then: it costs what the pods are.
func (r *Router) Status() (RouterStatus, error) {
	s, err := r.enter()
	if err != nil {
		return RouterStatus{}, err
	}
	defer r.leave(s)
	document, err := r.status(s)
	if err != nil {
		return RouterStatus{}, err
	}
	var status RouterStatus
	err = decoded(document, &status)
	status.Counters.Index = status.Index
	return status, err
}

func (r *Router) status(s *seat) ([]byte, error) {
	return s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_router_status(r.c, buffer, capacity, written, s.error)
	})
}
