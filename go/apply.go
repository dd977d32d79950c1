package kvroute

/*
#include <kvroute.h>

#cgo noescape kvroute_router_apply
#cgo nocallback kvroute_router_apply
#cgo noescape kvroute_router_apply_topic
#cgo nocallback kvroute_router_apply_topic
#cgo noescape kvroute_router_apply_events
#cgo nocallback kvroute_router_apply_events
#cgo noescape kvroute_router_apply_trtllm
#cgo nocallback kvroute_router_apply_trtllm
*/
import "C"

import "unsafe"

// Apply applies one published batch of a pod: the sequence number (big-endian in the second frame of vLLM's messages)
// and the payload (the third). What is wrong with the batch itself is in the report, not an error.
//
// Errors: ErrUnknownPod.
func (r *Router) Apply(pod PodID, sequence uint64, payload []byte) (ApplyReport, error) {
	s, err := r.enter()
	if err != nil {
		return ApplyReport{}, err
	}
	defer r.leave(s)
	report := C.kvroute_apply_report{struct_size: C.sizeof_kvroute_apply_report}
	status := C.kvroute_router_apply(r.c, C.uint64_t(pod), C.uint64_t(sequence),
		(*C.uint8_t)(unsafe.SliceData(payload)), C.size_t(len(payload)), &report, s.error)
	return s.reported(status, &report)
}

// ApplyTopic applies one published message by its topic, for subscribers that many pods publish to:
// "kv@<pod>@<model>". Ranks are told apart by the port. With one socket a pod, Apply is cheaper.
//
// Errors: ErrInvalidInput if the topic is not of that form; ErrUnknownPod.
func (r *Router) ApplyTopic(topic string, dpRank uint32, sequence uint64, payload []byte) (ApplyReport, error) {
	s, err := r.enter()
	if err != nil {
		return ApplyReport{}, err
	}
	defer r.leave(s)
	text := s.arena.text(topic)
	report := C.kvroute_apply_report{struct_size: C.sizeof_kvroute_apply_report}
	status := C.kvroute_router_apply_topic(r.c, text.data, text.len, C.uint32_t(dpRank), C.uint64_t(sequence),
		(*C.uint8_t)(unsafe.SliceData(payload)), C.size_t(len(payload)), &report, s.error)
	return s.reported(status, &report)
}

// ApplyEvents applies events of a pod that came in another way than as published batches, in order, as one batch. They
// have no sequence number, so their completeness is the caller's word.
//
// Errors: ErrUnknownPod; ErrInvalidInput for a field that is none, and then none was applied.
func (r *Router) ApplyEvents(pod PodID, events ...Event) (ApplyReport, error) {
	s, err := r.enter()
	if err != nil {
		return ApplyReport{}, err
	}
	defer r.leave(s)
	inC := array[C.kvroute_kv_event](&s.arena, len(events))
	for at, event := range events {
		inC[at].struct_size = C.sizeof_kvroute_kv_event
		if event == nil {
			return ApplyReport{}, invalid("event %d is nil", at)
		}
		if err := event.write(&s.arena, &inC[at]); err != nil {
			return ApplyReport{}, err
		}
	}
	report := C.kvroute_apply_report{struct_size: C.sizeof_kvroute_apply_report}
	status := C.kvroute_router_apply_events(r.c, C.uint64_t(pod), unsafe.SliceData(inC), C.size_t(len(inC)), &report,
		s.error)
	return s.reported(status, &report)
}

// ApplyTRTLLM applies one poll of TensorRT-LLM's events: a JSON array of them, one, or either per line. Those of other
// ranks than the pod's are left out and counted, and so are those of attention windows other than windowSize, as only
// those of the largest say what a prompt can reuse from its start; 0: any. Events lost between polls, and restarts, show
// in the events' numbers; then the pod's view is dropped first. The report sums up all events.
//
// Errors: ErrUnknownPod; ErrDecode if nothing in it is JSON.
func (r *Router) ApplyTRTLLM(pod PodID, json []byte, windowSize uint64) (ApplyReport, error) {
	s, err := r.enter()
	if err != nil {
		return ApplyReport{}, err
	}
	defer r.leave(s)
	report := C.kvroute_apply_report{struct_size: C.sizeof_kvroute_apply_report}
	status := C.kvroute_router_apply_trtllm(r.c, C.uint64_t(pod), (*C.uint8_t)(unsafe.SliceData(json)),
		C.size_t(len(json)), C.uint64_t(windowSize), &report, s.error)
	return s.reported(status, &report)
}

func (s *seat) reported(status C.int32_t, report *C.kvroute_apply_report) (ApplyReport, error) {
	if err := s.check(status); err != nil {
		return ApplyReport{}, err
	}
	return reportOf(report), nil
}

// AbandonGap gives up on missing batches of a pod: it drops the pod's view and expects sequence next.
//
// Errors: ErrUnknownPod.
func (r *Router) AbandonGap(pod PodID, sequence uint64) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	return s.check(C.kvroute_router_abandon_gap(r.c, C.uint64_t(pod), C.uint64_t(sequence), s.error))
}

// ForgetPredictions forgets what this router sent to a pod: its engine restarted, and no event says so.
//
// Errors: ErrUnknownPod.
func (r *Router) ForgetPredictions(pod PodID) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	return s.check(C.kvroute_router_forget_predictions(r.c, C.uint64_t(pod), s.error))
}
