package kvroute

/*
#include <kvroute.h>
*/
import "C"

import (
	"io"
	"time"
	"unsafe"
)

// Snapshot writes what the router knows, so that another one, or the next process, goes on as if this one had never
// stopped: pods, what they hold, what was sent to them, where their streams of events stand, and sessions. Not in it are
// the configuration, requests in flight, load reports and the router's counters. now is like Request.Now.
//
// The router may be used meanwhile, also while w is waited for: each pod is written as it was at one moment, and the
// pods' moments differ. Keep what is written where the configuration is kept: a checksum finds damage, not forgery.
//
// Errors: those of w; ErrLimit if the router has more than 16 384 pods, or those more than 65 536 groups and tiers;
// ErrInvalidInput if it was recovered meanwhile. Then what was written so far is of no use.
func (r *Router) Snapshot(w io.Writer, now time.Time) error {
	snapshot, err := r.beginSnapshot(now)
	if err != nil {
		return err
	}
	defer C.kvroute_snapshot_free(snapshot)
	buffer := make([]byte, C.KVROUTE_SNAPSHOT_CHUNK)
	for {
		chunk, err := r.nextChunk(snapshot, buffer)
		if err != nil || len(chunk) == 0 {
			return err
		}
		written, err := w.Write(chunk)
		if err == nil && written < len(chunk) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return err
		}
	}
}

func (r *Router) beginSnapshot(now time.Time) (*C.kvroute_snapshot, error) {
	s, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer r.leave(s)
	ns, err := r.nanoseconds(now)
	if err != nil {
		return nil, err
	}
	var snapshot *C.kvroute_snapshot
	err = s.check(C.kvroute_router_snapshot(r.c, ns, &snapshot, s.error))
	return snapshot, err
}

// nextChunk is a call of its own, so that nobody who wants the router for himself waits for a writer.
func (r *Router) nextChunk(snapshot *C.kvroute_snapshot, buffer []byte) ([]byte, error) {
	s, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer r.leave(s)
	var written C.size_t
	err = s.check(C.kvroute_snapshot_next(snapshot, r.c, (*C.uint8_t)(unsafe.SliceData(buffer)),
		C.size_t(len(buffer)), &written, s.error))
	return buffer[:written], err
}

// RestoreReport is what became of a snapshot.
type RestoreReport struct {
	// Pods are those of the snapshot.
	Pods []RestoredPod `json:"pods"`
	// Sessions is how many the router has from it.
	Sessions int `json:"sessions"`
	// SessionsLeftOut is how many it has not: their pod is not here, the router knows a later one, or has no room.
	SessionsLeftOut int `json:"sessions_left_out"`
}

// RestoredPod is what became of a pod of a snapshot.
type RestoredPod struct {
	// Name is its name.
	Name string `json:"name"`
	// DPRank is its data-parallel rank.
	DPRank uint32 `json:"dp_rank"`
	// ID is the pod in this router; 0 if it is not there.
	ID PodID `json:"id"`
	// Added is whether the snapshot brought it: it was not here before.
	Added bool `json:"added"`
	// Blocks are what it has again; nil if it was given nothing.
	Blocks *RestoredBlocks `json:"blocks"`
	// Refusal is why it was given nothing; else empty.
	Refusal Refusal `json:"refusal"`
}

// RestoredBlocks are blocks that a pod has from a snapshot.
type RestoredBlocks struct {
	// Held are those it holds, once for each group and tier.
	Held uint64 `json:"held"`
	// Predicted are those that are predicted for it.
	Predicted uint64 `json:"predicted"`
	// Refused are those that there was no room for.
	Refused uint64 `json:"refused"`
}

// Refusal is why a pod was given nothing of what a snapshot knows of it.
type Refusal string

const (
	// RefusalUnknownDomain: the router knows no cache domain of that name (Router.AddDomain); the pod was not added.
	RefusalUnknownDomain Refusal = "unknown-domain"
	// RefusalOtherDomain: the pod is here, in another cache domain.
	RefusalOtherDomain Refusal = "other-domain"
	// RefusalOtherHashes: the cache domain of that name hashes differently here, or its blocks have another size.
	RefusalOtherHashes Refusal = "other-hashes"
	// RefusalOtherOptions: the pod is here with options by which its stream reads differently.
	RefusalOtherOptions Refusal = "other-options"
	// RefusalInUse: events came to the pod here before; what they said is later.
	RefusalInUse Refusal = "in-use"
)

// Restore reads a snapshot to its end and gives it to the router. Pods that are not there are added, if the router knows
// their cache domain; those that are keep their ids, options, role, labels and capacity. Restore before events are
// applied: a pod that events came to is left as it is; one that has its part again goes on with the next batch of its
// stream, or finds out what it missed. now is like Request.Now.
//
// Errors: those of from; ErrDecode if it is no snapshot, one of another version, damaged, or not whole. Then the router
// is as it was.
func (r *Router) Restore(from io.Reader, now time.Time) (RestoreReport, error) {
	s, err := r.enter()
	if err != nil {
		return RestoreReport{}, err
	}
	r.leave(s)
	restore := C.kvroute_restore_new()
	defer C.kvroute_restore_free(restore)
	if _, err := io.Copy(pushing{r, restore}, from); err != nil {
		return RestoreReport{}, err
	}
	return r.finishRestore(restore, now)
}

// pushing gives what is written to a restore. Each write is a call of its own, as in nextChunk.
type pushing struct {
	router  *Router
	restore *C.kvroute_restore
}

func (p pushing) Write(bytes []byte) (int, error) {
	s, err := p.router.enter()
	if err != nil {
		return 0, err
	}
	defer p.router.leave(s)
	data := (*C.uint8_t)(unsafe.SliceData(bytes))
	if err := s.check(C.kvroute_restore_push(p.restore, data, C.size_t(len(bytes)), s.error)); err != nil {
		return 0, err
	}
	return len(bytes), nil
}

func (r *Router) finishRestore(restore *C.kvroute_restore, now time.Time) (RestoreReport, error) {
	var report RestoreReport
	s, err := r.enter()
	if err != nil {
		return report, err
	}
	defer r.leave(s)
	ns, err := r.nanoseconds(now)
	if err != nil {
		return report, err
	}
	if err := s.check(C.kvroute_restore_finish(restore, r.c, ns, nil, s.error)); err != nil {
		return report, err
	}
	document, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_restore_report(restore, buffer, capacity, written, s.error)
	})
	if err != nil {
		return report, err
	}
	err = decoded(document, &report)
	return report, err
}
