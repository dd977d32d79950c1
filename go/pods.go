package kvroute

/*
#include <kvroute.h>
*/
import "C"

import (
	"math"
	"unsafe"
)

// PodID names a pod of a router. A removed pod's id names no pod ever again.
type PodID uint64

// NoPod is the id of no pod.
const NoPod PodID = C.KVROUTE_NO_POD

// AddPod adds a pod, holding nothing. Its domain is one that the router knows, from its configuration or by AddDomain.
//
// Errors: ErrUnknownDomain; ErrInvalidInput if a pod of this name and rank is there, or for an
// option that is not one of its values.
func (r *Router) AddPod(config PodConfig) (PodID, error) {
	s, err := r.enter()
	if err != nil {
		return NoPod, err
	}
	defer r.leave(s)
	options, err := s.podOptions(&config)
	if err != nil {
		return NoPod, err
	}
	var pod C.uint64_t
	err = s.check(C.kvroute_router_add_pod(r.c, options, &pod, s.error))
	return PodID(pod), err
}

// RemovePod removes a pod and all it holds.
//
// Errors: ErrUnknownPod.
func (r *Router) RemovePod(pod PodID) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	return s.check(C.kvroute_router_remove_pod(r.c, C.uint64_t(pod), s.error))
}

// FindPod is the id of the pod with this name and data-parallel rank.
//
// Errors: ErrUnknownPod.
func (r *Router) FindPod(name string, dpRank uint32) (PodID, error) {
	s, err := r.enter()
	if err != nil {
		return NoPod, err
	}
	defer r.leave(s)
	var pod C.uint64_t
	text := s.arena.text(name)
	err = s.check(C.kvroute_router_find_pod(r.c, text.data, text.len, C.uint32_t(dpRank), &pod, s.error))
	return PodID(pod), err
}

// Pods is the ids of all pods.
func (r *Router) Pods() ([]PodID, error) {
	s, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer r.leave(s)
	var written C.size_t
	status := C.kvroute_router_pods(r.c, nil, 0, &written, s.error)
	for status == C.KVROUTE_BUFFER_TOO_SMALL {
		room := array[C.uint64_t](&s.arena, int(written))
		status = C.kvroute_router_pods(r.c, &room[0], C.size_t(len(room)), &written, s.error)
		if status == C.KVROUTE_OK {
			pods := make([]PodID, written)
			for at := range pods {
				pods[at] = PodID(room[at])
			}
			return pods, nil
		}
	}
	return nil, s.check(status)
}

// PodName is a pod's name and its data-parallel rank.
//
// Errors: ErrUnknownPod.
func (r *Router) PodName(pod PodID) (name string, dpRank uint32, err error) {
	s, err := r.enter()
	if err != nil {
		return "", 0, err
	}
	defer r.leave(s)
	var rank C.uint32_t
	text, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_router_pod_name(r.c, C.uint64_t(pod), buffer, capacity, written, &rank, s.error)
	})
	return string(text), uint32(rank), err
}

// ReportLoad takes in what a pod says of its load: requests running and waiting, and the share of its KV cache in use, 0
// to 1.
//
// Errors: ErrUnknownPod; ErrInvalidInput if kvUsage is not in 0 to 1.
func (r *Router) ReportLoad(pod PodID, running, waiting uint32, kvUsage float32) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	return s.check(C.kvroute_router_report_load(r.c, C.uint64_t(pod), C.uint32_t(running), C.uint32_t(waiting),
		C.float(kvUsage), s.error))
}

// ForgetLoad forgets what a pod said of its load and its adapters, as if it never had: for reports that are too old to be
// true. What this router has in flight there still counts.
//
// Errors: ErrUnknownPod.
func (r *Router) ForgetLoad(pod PodID) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	return s.check(C.kvroute_router_forget_load(r.c, C.uint64_t(pod), s.error))
}

// ReportAdapters takes in what a pod says of its LoRA adapters (vllm:lora_requests_info): how many can be in use at one
// time, and the names of those that running requests use and of those that only waiting requests ask for. The names are
// those of HashContext.LoraName.
//
// Errors: ErrUnknownPod.
func (r *Router) ReportAdapters(pod PodID, most uint32, running, waiting []string) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	inUse, wanted := s.arena.texts(running), s.arena.texts(waiting)
	return s.check(C.kvroute_router_report_adapters(r.c, C.uint64_t(pod), C.uint32_t(most), unsafe.SliceData(inUse),
		C.size_t(len(inUse)), unsafe.SliceData(wanted), C.size_t(len(wanted)), s.error))
}

// SetAccepting lets a pod take new requests, or drains it.
//
// Errors: ErrUnknownPod.
func (r *Router) SetAccepting(pod PodID, accepting bool) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	var takes C.int32_t
	if accepting {
		takes = 1
	}
	return s.check(C.kvroute_router_set_accepting(r.c, C.uint64_t(pod), takes, s.error))
}

// podOptions are a pod's options in C memory, but for its domain.
func (s *seat) podOptions(config *PodConfig) (*C.kvroute_pod_options, error) {
	events := &config.Events
	role, err := number("role", config.Role, map[Role]C.int32_t{
		"": C.KVROUTE_ROLE_BOTH, RoleBoth: C.KVROUTE_ROLE_BOTH,
		RoleDecode: C.KVROUTE_ROLE_DECODE, RolePrefill: C.KVROUTE_ROLE_PREFILL,
	})
	if err != nil {
		return nil, err
	}
	copies, err := number("copies", events.Copies, map[CopyPolicy]C.int32_t{
		"": C.KVROUTE_COPIES_INFER, CopiesInfer: C.KVROUTE_COPIES_INFER,
		CopiesCount: C.KVROUTE_COPIES_COUNT, CopiesSet: C.KVROUTE_COPIES_SET,
	})
	if err != nil {
		return nil, err
	}
	onGap, err := number("on_gap", events.OnGap, map[GapPolicy]C.int32_t{
		"": C.KVROUTE_ON_GAP_CLEAR, OnGapClear: C.KVROUTE_ON_GAP_CLEAR, OnGapReplay: C.KVROUTE_ON_GAP_REPLAY,
	})
	if err != nil {
		return nil, err
	}
	labels := array[C.kvroute_label](&s.arena, len(config.Labels))[:0]
	for key, value := range config.Labels {
		labels = append(labels, C.kvroute_label{key: s.arena.text(key), value: s.arena.text(value)})
	}
	groups := array[C.kvroute_group](&s.arena, len(events.Groups))
	for at, group := range events.Groups {
		kind, err := group.Kind.number()
		if err != nil {
			return nil, err
		}
		groups[at] = C.kvroute_group{group: C.uint32_t(group.Group), kind: kind, window: C.uint32_t(group.Kind.Window)}
	}
	adapters := array[C.kvroute_adapter](&s.arena, len(events.Adapters))
	for at, adapter := range events.Adapters {
		adapters[at] = C.kvroute_adapter{id: C.int64_t(adapter.ID), name: s.arena.text(adapter.Name)}
	}
	options := &array[C.kvroute_pod_options](&s.arena, 1)[0]
	*options = C.kvroute_pod_options{
		struct_size:  C.sizeof_kvroute_pod_options,
		name:         s.arena.text(config.Name),
		dp_rank:      C.uint32_t(config.DPRank),
		role:         role,
		labels:       unsafe.SliceData(labels),
		labels_len:   C.size_t(len(labels)),
		copies:       copies,
		on_gap:       onGap,
		groups:       unsafe.SliceData(groups),
		groups_len:   C.size_t(len(groups)),
		adapters:     unsafe.SliceData(adapters),
		adapters_len: C.size_t(len(adapters)),
		max_parked:   orNone(events.MaxParked),
		max_retired:  orNone(events.MaxRetired),
		domain_name:  s.arena.text(config.Domain),
		capacity:     C.double(config.Capacity),

		max_parked_bytes: orNone(events.MaxParkedBytes),
	}
	return options, nil
}

// orNone is a bound as C has it: 0 for the default, negative for none.
func orNone(most *uint64) C.int64_t {
	switch {
	case most == nil:
		return 0
	case *most == 0:
		return -1
	}
	return C.int64_t(min(*most, math.MaxInt64))
}

// number is C's number of one of Go's words.
func number[T ~string](what string, word T, numbers map[T]C.int32_t) (C.int32_t, error) {
	number, ok := numbers[word]
	if !ok {
		return 0, invalid("%s is %q, which is none", what, word)
	}
	return number, nil
}

func (k GroupKind) number() (C.int32_t, error) {
	return number("kind of a KV-cache group", k.Attention, map[Attention]C.int32_t{
		"": C.KVROUTE_GROUP_FULL_ATTENTION, AttentionFull: C.KVROUTE_GROUP_FULL_ATTENTION,
		AttentionSlidingWindow: C.KVROUTE_GROUP_SLIDING_WINDOW, AttentionUnknown: C.KVROUTE_GROUP_UNKNOWN,
	})
}
