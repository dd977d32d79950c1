//go:build kvroute_io

package kvroute

/*
#include <kvroute_io.h>
*/
import "C"

import (
	"encoding/json"
	"time"
)

// Fleet is a router, and what keeps it in step with reality: pods come from a list, a file and DNS; each is asked what it
// is before it gets its first request; its KV events are subscribed to, its load is scraped; one that does not answer gets
// no requests until it does; one that leaves the list is drained and removed.
//
// Any number of goroutines may use it at a time.
type Fleet struct {
	object
	c      *C.kvroute_fleet
	router *Router
	clock  fleetClock
}

// FleetOptions say how a fleet is started; the zero value: the defaults.
type FleetOptions struct {
	// Threads of the library's that ask pods and read answers, 256 at most; those that follow events are others. 0: 2.
	Threads uint32
	// HoldEvents lets events wait for Fleet.ReleaseEvents.
	HoldEvents bool
}

// Target is where to send a request that was decided for a pod.
type Target struct {
	// Name is the pod's.
	Name string
	// URL is where its HTTP interface is, such as http://10.0.0.7:8000.
	URL string
	// DPRank is the data-parallel rank that was picked.
	DPRank uint32
	// DPRanks is how many are behind that URL. If more than one, the request has to say which is meant (vLLM: the header
	// X-data-parallel-rank).
	DPRanks uint32
}

// Model is a model or adapter that pods serve.
type Model struct {
	// Name is what requests ask for.
	Name string `json:"name"`
	// Base, of an adapter, is the model it adapts: what its requests have as Request.Model.
	Base string `json:"base"`
	// Lora, of an adapter, is what goes into its requests' HashContext.
	Lora *Lora `json:"lora"`
	// Root is the path or name of the weights, if known.
	Root string `json:"root"`
	// MaxModelLen is most tokens of prompt and answer together, the least of all pods'; 0 if not known.
	MaxModelLen uint64 `json:"max_model_len"`
	// Pods are names of those that serve it.
	Pods []string `json:"pods"`
	// IsPartial is whether not all pods of Base serve it. Then requests need Pods as their Subset.
	IsPartial bool `json:"is_partial"`
}

// Lora is an adapter as the engines know it; HashContext has fields for each.
type Lora struct {
	Name string `json:"name"`
	Path string `json:"path"`
	ID   int64  `json:"id"`
}

// fleetClock is the fleet's: it began at the wall clock's time, and follows the monotonic clock.
type fleetClock struct {
	start  time.Time
	anchor time.Time
}

func (c fleetClock) now() time.Time {
	return c.anchor.Add(time.Since(c.start))
}

// StartFleet makes the router of a document, YAML or JSON, and starts to feed it. In the document, router is what
// NewFromDocument takes, without pods, and fleet says where pods come from and how they are asked; a list of URLs is enough.
// It answers at once, while the pods are being asked.
//
// Errors: ErrInvalidInput with the place of the first thing that is wrong; or the system gives no threads or sockets.
func StartFleet(document string, options FleetOptions) (*Fleet, error) {
	s := newSeat(0)
	defer s.free()
	raw := &array[C.kvroute_fleet_options](&s.arena, 1)[0]
	raw.struct_size = C.sizeof_kvroute_fleet_options
	raw.threads = C.uint32_t(options.Threads)
	if options.HoldEvents {
		raw.hold_events = 1
	}
	text := s.arena.text(document)
	var c *C.kvroute_fleet
	if err := s.check(C.kvroute_fleet_start(text.data, text.len, raw, &c, s.error)); err != nil {
		return nil, err
	}
	var router *C.kvroute_router
	var now C.uint64_t
	err := s.check(C.kvroute_fleet_router(c, &router, s.error))
	if err == nil {
		err = s.check(C.kvroute_fleet_now(c, &now, s.error))
	}
	if err != nil {
		C.kvroute_router_free(router)
		C.kvroute_fleet_free(c)
		return nil, err
	}
	f := &Fleet{c: c, clock: fleetClock{start: time.Now(), anchor: time.Unix(0, int64(now))}}
	f.own(func() { C.kvroute_fleet_free(c) })
	f.router = &Router{c: router, clock: f.clock.now}
	f.router.own(func() { C.kvroute_router_free(router) })
	return f, nil
}

// Close stops the fleet after the calls under way: it waits until the pods left the router, five seconds at most. Every
// later call answers ErrClosed; closing again does nothing. A fleet that nobody closes stops some time after the garbage
// collector has found that nobody has it.
//
// It always answers nil.
func (f *Fleet) Close() error {
	return f.close()
}

// Router is the fleet's router, always the same; nil of a fleet that was never started. Adding and removing pods, applying
// events and expiring requests are the fleet's. It may outlive the fleet, without pods, and is closed by itself. Where a
// call to it has no time, the fleet's clock is taken.
func (f *Fleet) Router() *Router {
	return f.router
}

// Now is the time that the fleet gives to its router: by the wall clock at the start, and by the monotonic clock from then
// on.
func (f *Fleet) Now() time.Time {
	return f.clock.now()
}

// Target is where a pod of the router is.
//
// Errors: ErrUnknownPod if it left, or is joining this very moment.
func (f *Fleet) Target(pod PodID) (Target, error) {
	s, err := f.enter()
	if err != nil {
		return Target{}, err
	}
	defer f.leave(s)
	name, url := make([]byte, 128), make([]byte, 128)
	var nameWritten, urlWritten C.size_t
	var rank, ranks C.uint32_t
	for {
		status := C.kvroute_fleet_target(f.c, C.uint64_t(pod), chars(name), C.size_t(len(name)), &nameWritten,
			chars(url), C.size_t(len(url)), &urlWritten, &rank, &ranks, s.error)
		if status == C.KVROUTE_OK {
			return Target{string(name[:nameWritten]), string(url[:urlWritten]), uint32(rank), uint32(ranks)}, nil
		}
		if status != C.KVROUTE_BUFFER_TOO_SMALL {
			return Target{}, s.failure(status)
		}
		// One of them was too small, and its number says so.
		name = make([]byte, max(len(name), int(nameWritten)))
		url = make([]byte, max(len(url), int(urlWritten)))
	}
}

// Models are the models and adapters that pods serve, by name.
func (f *Fleet) Models() ([]Model, error) {
	s, err := f.enter()
	if err != nil {
		return nil, err
	}
	defer f.leave(s)
	document, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_fleet_models(f.c, buffer, capacity, written, s.error)
	})
	if err != nil {
		return nil, err
	}
	var models []Model
	err = decoded(document, &models)
	return models, err
}

// Status is what sources, pods, models and streams of events are at, a JSON object. For a look now and then: it costs what
// the pods are.
func (f *Fleet) Status() (json.RawMessage, error) {
	s, err := f.enter()
	if err != nil {
		return nil, err
	}
	defer f.leave(s)
	return s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_fleet_status(f.c, buffer, capacity, written, s.error)
	})
}

// Reconfigure goes on by another document: pods that are no longer named are drained, new ones are asked, those that are
// described otherwise join anew, all others stay as they are; and the router chooses by the policy of its router. All else
// in router, and fleet.events, counts only at the start.
//
// Errors: ErrInvalidInput with the place of the first thing that is wrong; then nothing changes.
func (f *Fleet) Reconfigure(document string) error {
	s, err := f.enter()
	if err != nil {
		return err
	}
	defer f.leave(s)
	text := s.arena.text(document)
	return s.check(C.kvroute_fleet_reconfigure(f.c, text.data, text.len, s.error))
}

// ReleaseEvents subscribes to the events of all pods that are there, and from now on to those of others as they come: for
// fleets with HoldEvents, once a snapshot was restored.
func (f *Fleet) ReleaseEvents() error {
	s, err := f.enter()
	if err != nil {
		return err
	}
	defer f.leave(s)
	return s.check(C.kvroute_fleet_release_events(f.c, s.error))
}
