package kvroute

/*
#include <kvroute.h>
*/
import "C"

import (
	"encoding/json"
	"time"
)

// Router is everything a gateway needs to route: pods, what they hold, and how to choose among them.
//
// Any number of goroutines may use it at a time.
type Router struct {
	object
	c *C.kvroute_router
	// clock says what the time is where a call does not; nil: time.Now.
	clock func() time.Time
}

// New makes a router with the policy, cache domains and pods of a configuration.
//
// Errors: ErrInvalidInput with the place of the first thing that is wrong, what was found there and what was expected;
// ErrNotReproducible for a vLLM domain whose hashes cannot be computed outside the engine.
func New(config Config) (*Router, error) {
	document, err := json.Marshal(config)
	if err != nil {
		return nil, invalid("configuration: %v", err)
	}
	return NewFromDocument(string(document))
}

// NewFromDocument is New with a configuration document, YAML or JSON.
func NewFromDocument(document string) (*Router, error) {
	s := newSeat(0)
	defer s.free()
	var c *C.kvroute_router
	text := s.arena.text(document)
	if err := s.check(C.kvroute_router_from_config(text.data, text.len, &c, s.error)); err != nil {
		return nil, err
	}
	r := &Router{c: c}
	r.own(func() { C.kvroute_router_free(c) })
	return r, nil
}

// Close frees the router after the calls under way. Every later call answers ErrClosed; closing again does nothing.
// A router that nobody closes is freed some time after the garbage collector has found that nobody has it.
//
// It always answers nil.
func (r *Router) Close() error {
	return r.close()
}

// SetPolicy makes the router choose by another policy from now on. Every decision is made by one policy or the other;
// pods, what they hold, sessions and requests in flight stay as they are.
//
// Errors: ErrInvalidInput with the place of the first thing that is wrong; then the policy is the one it was.
func (r *Router) SetPolicy(policy PolicyConfig) error {
	document, err := json.Marshal(Config{Policy: policy})
	if err != nil {
		return invalid("configuration: %v", err)
	}
	return r.SetPolicyFromDocument(string(document))
}

// SetPolicyFromDocument is SetPolicy with the policy of a configuration document, YAML or JSON; the default one if it has
// none. The document is checked whole, and all else in it is left aside.
func (r *Router) SetPolicyFromDocument(document string) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	text := s.arena.text(document)
	return s.check(C.kvroute_router_set_policy(r.c, text.data, text.len, s.error))
}

// Recover makes a router usable again that answers ErrPoisoned; it works on any. What pods hold, what was sent to them,
// requests in flight, sessions and counters are forgotten. Policy, domains, pods, their load reports and whether they
// take requests stay, and session tokens keep their meaning, but every pod gets a new id (see FindPod) and waits for the
// next batch of its stream, whatever that is.
//
// It waits for the calls under way, and those that come meanwhile wait for it.
//
// Errors: ErrBusy while a Fleet has it.
func (r *Router) Recover() error {
	return r.exclusively(func(s *seat) error { return s.check(C.kvroute_router_recover(r.c, s.error)) })
}

// Expire forgets requests and sessions whose time is over, and says how many requests. To be called now and then, every
// second, say. now is like Request.Now.
func (r *Router) Expire(now time.Time) (int, error) {
	s, err := r.enter()
	if err != nil {
		return 0, err
	}
	defer r.leave(s)
	ns, err := r.nanoseconds(now)
	if err != nil {
		return 0, err
	}
	var expired C.size_t
	err = s.check(C.kvroute_router_expire(r.c, ns, &expired, s.error))
	return int(expired), err
}

// nanoseconds is a time as C has it. The zero time is the present, by the router's clock.
func (r *Router) nanoseconds(now time.Time) (C.uint64_t, error) {
	if now.IsZero() && r.clock != nil {
		now = r.clock()
	}
	return nanoseconds(now)
}

// nanoseconds is a time as C has it: since the Unix epoch, so that routers of several processes understand each other's
// session tokens. The zero time is the present.
func nanoseconds(now time.Time) (C.uint64_t, error) {
	if now.IsZero() {
		now = time.Now()
	}
	// UnixNano is no number of use outside the years 1678 to 2262.
	if ns := now.UnixNano(); ns >= 0 && now.Unix() == ns/1e9 {
		return C.uint64_t(ns), nil
	}
	return 0, invalid("now is in the year %d; 1970 to 2262 are known", now.Year())
}
