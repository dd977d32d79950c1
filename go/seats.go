package kvroute

/*
#include <kvroute.h>
*/
import "C"

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// seat is what one call at a time needs: room for its error, for its decision, and for arguments that C reads.
type seat struct {
	error     *C.kvroute_error
	workspace *C.kvroute_workspace
	arena     arena
	// number is its place in lifetime.seats, from 1.
	number uint64
	// below is the number of the free seat under this one, while it is free.
	below atomic.Uint64
}

func newSeat(number uint64) *seat {
	return &seat{error: C.kvroute_error_new(), workspace: C.kvroute_workspace_new(), number: number}
}

func (s *seat) free() {
	C.kvroute_error_free(s.error)
	C.kvroute_workspace_free(s.workspace)
	s.arena.free()
}

// lifetime says how long an object of C's may be used, and by how many goroutines it is right now.
//
// Every call takes a seat and gives it back. Free seats are a stack, and the stack's top, the number of calls under
// way and whether calls are let in are one word: taking a seat is one compare-and-swap, and so is giving it back. That
// is all a call pays for both its workspace and the certainty that nobody frees the object meanwhile. A sync.Pool
// would drop seats, and their C memory with them; a sync.RWMutex would be a second thing to wait for.
type lifetime struct {
	state atomic.Uint64
	// seats are never taken out, so that their numbers stay; written under mu.
	seats atomic.Pointer[[]*seat]
	mu    sync.Mutex
	// idle gets a value when the last call has ended after the door was shut.
	idle   chan struct{}
	closed bool
	free   func()
}

// The parts of lifetime.state. The tag changes with every step, so that a compare-and-swap notices a stack whose top
// was taken and came back.
const (
	tagBits    = 31
	seatBits   = 16
	maxSeats   = 1<<seatBits - 1
	tagMask    = 1<<tagBits - 1
	topShift   = tagBits
	callsShift = tagBits + seatBits
	oneMore    = 1 << callsShift
	oneLess    = 1<<64 - oneMore
	shut       = 1 << 63
)

func topOf(state uint64) uint64   { return state >> topShift & maxSeats }
func callsOf(state uint64) uint64 { return state >> callsShift & maxSeats }

// step is state with another top, and calls more or fewer.
func step(state, top, calls uint64) uint64 {
	kept := state &^ (maxSeats<<topShift | tagMask)
	return kept + calls | top<<topShift | (state+1)&tagMask
}

func newLifetime(free func()) *lifetime {
	l := &lifetime{idle: make(chan struct{}, 1), free: free}
	l.seats.Store(new([]*seat))
	return l
}

// enter takes a seat, if the object is still there.
func (l *lifetime) enter() (*seat, error) {
	for {
		state := l.state.Load()
		if state&shut != 0 || topOf(state) == 0 {
			return l.enterSlowly()
		}
		if s := l.take(state); s != nil {
			return s, nil
		}
	}
}

// take takes the topmost of the free seats, unless somebody else was faster.
func (l *lifetime) take(state uint64) *seat {
	s := (*l.seats.Load())[topOf(state)-1]
	if l.state.CompareAndSwap(state, step(state, s.below.Load(), oneMore)) {
		return s
	}
	return nil
}

// enterSlowly makes one more seat, or waits for whoever has the object for itself.
func (l *lifetime) enterSlowly() (*seat, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed {
		state := l.state.Load()
		seats := *l.seats.Load()
		switch {
		case topOf(state) != 0:
			if s := l.take(state); s != nil {
				return s, nil
			}
		case len(seats) == maxSeats:
			runtime.Gosched()
		case l.state.CompareAndSwap(state, step(state, 0, oneMore)):
			s := newSeat(uint64(len(seats)) + 1)
			grown := append(seats, s)
			l.seats.Store(&grown)
			return s, nil
		}
	}
	return nil, ErrClosed
}

// leave gives a seat back.
func (l *lifetime) leave(s *seat) {
	s.arena.reset()
	for {
		state := l.state.Load()
		s.below.Store(topOf(state))
		after := step(state, s.number, oneLess)
		if l.state.CompareAndSwap(state, after) {
			if after&shut != 0 && callsOf(after) == 0 {
				l.idle <- struct{}{}
			}
			return
		}
	}
}

// alone runs change while no call is under way and none is let in. Under mu.
func (l *lifetime) alone(change func()) {
	if state := l.state.Or(shut); callsOf(state) != 0 {
		<-l.idle
	}
	change()
}

// close frees the object after the calls under way.
func (l *lifetime) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.alone(func() {
		l.closed = true
		for _, s := range *l.seats.Load() {
			s.free()
		}
		l.free()
	})
}

// exclusively runs change while no other call is under way; calls that come meanwhile wait.
func (l *lifetime) exclusively(change func(s *seat) error) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	s := newSeat(0)
	defer s.free()
	l.alone(func() { err = change(s) })
	l.state.And(^uint64(shut))
	return err
}

// object is what Router, Hasher and Domain begin with.
type object struct {
	lifetime *lifetime
	cleanup  runtime.Cleanup
}

// own makes o the owner of something of C's. Should nobody close it, it is freed when the collector finds o gone.
func (o *object) own(free func()) {
	o.lifetime = newLifetime(free)
	o.cleanup = runtime.AddCleanup(o, func(l *lifetime) { go l.close() }, o.lifetime)
}

// enter begins a call: a seat for it, or ErrClosed. leave must follow.
func (o *object) enter() (*seat, error) {
	l := o.lifetime
	if l == nil {
		return nil, ErrClosed
	}
	collectIfDebugging()
	return l.enter()
}

// leave ends a call. Without it an object whose last call this is could be collected, and thereby closed, before the
// call has begun.
func (o *object) leave(s *seat) {
	collectIfDebugging()
	o.lifetime.leave(s)
	runtime.KeepAlive(o)
}

// exclusively is a call that no other is beside.
func (o *object) exclusively(change func(s *seat) error) error {
	if o.lifetime == nil {
		return ErrClosed
	}
	defer runtime.KeepAlive(o)
	return o.lifetime.exclusively(change)
}

func (o *object) close() error {
	if o.lifetime != nil {
		o.lifetime.close()
		o.cleanup.Stop()
	}
	return nil
}
