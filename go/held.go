package kvroute

/*
#include <kvroute.h>
*/
import "C"

import "unsafe"

// KnownPrefix is what is known from elsewhere of a pod's cache: that the pod has the first Blocks blocks of the prompt, in
// Tier or nearer. It is hearsay: it adds to what the pod's own events tell, and is believed like a degraded view.
type KnownPrefix struct {
	// Pod is the pod. One that is gone is passed over.
	Pod PodID
	// Tier is the farthest that any of them lies in. Several about one pod may each name a tier.
	Tier Tier
	// Blocks are leading blocks of the prompt, as the pod's cache domain hashes it.
	Blocks uint32
}

// HeldBlock is a block that a pod holds.
type HeldBlock struct {
	// Hash is the block's, as requests of the pod's cache domain are hashed.
	Hash uint64
	// Group is the KV-cache group that holds it.
	Group uint32
	// Tier is where it lies.
	Tier Tier
}

// HeldChange is a block that a pod came to hold, or holds no more.
type HeldChange struct {
	HeldBlock
	// IsHeld says whether it is held now.
	IsHeld bool
}

// HeldSince says what came before the changes that were taken.
type HeldSince struct {
	// Cleared: all that was held is gone; the changes are from nothing on.
	Cleared bool
	// ListAgain: what changed is not known, because the journal began, ran over, or a snapshot was restored. Whoever keeps
	// a copy drops it and lists all.
	ListAgain bool
	// IsPlain: what the pod can use of a prompt is just the blocks that it holds from the first one on. Not so for pods
	// with several KV-cache groups, or one whose kind is not full attention.
	IsPlain bool
	// HasMore: there are more changes than were asked for.
	HasMore bool
}

// HeldEnd is where a listing of what is held ends.
const HeldEnd = uint64(C.KVROUTE_HELD_END)

// JournalHeld keeps a journal of what the pod comes to hold and holds no more, up to most changes that were not taken; 0
// ends it. One that runs over takes nothing in any more, and says so when it is taken.
func (r *Router) JournalHeld(pod PodID, most int) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	if most < 0 {
		return invalid("most is %d", most)
	}
	return s.check(C.kvroute_router_journal_held(r.c, C.uint64_t(pod), C.size_t(most), s.error))
}

// TakeHeld takes up to most changes of the pod's journal, in the order in which they happened. Of a pod without a journal
// there is never anything to go on from.
func (r *Router) TakeHeld(pod PodID, most int) ([]HeldChange, HeldSince, error) {
	s, err := r.enter()
	if err != nil {
		return nil, HeldSince{}, err
	}
	defer r.leave(s)
	if most < 0 {
		return nil, HeldSince{}, invalid("most is %d", most)
	}
	room := array[C.kvroute_held_change](&s.arena, most)
	var written C.size_t
	var flags C.uint32_t
	err = s.check(C.kvroute_router_take_held(r.c, C.uint64_t(pod), unsafe.SliceData(room), C.size_t(len(room)), &written,
		&flags, s.error))
	if err != nil {
		return nil, HeldSince{}, err
	}
	changes := make([]HeldChange, written)
	for at, change := range room[:written] {
		changes[at] = HeldChange{heldBlock(change.block), change.is_held != 0}
	}
	return changes, HeldSince{
		Cleared:   flags&C.KVROUTE_HELD_CLEARED != 0,
		ListAgain: flags&C.KVROUTE_HELD_LIST_AGAIN != 0,
		IsPlain:   flags&C.KVROUTE_HELD_PLAIN != 0,
		HasMore:   flags&C.KVROUTE_HELD_MORE != 0,
	}, nil
}

// ListHeld lists up to most blocks that the pod holds, in an order of the library's own, from a cursor on: 0 at first,
// then what the call before answered, until that is HeldEnd. A block that is held all the while is listed once.
func (r *Router) ListHeld(pod PodID, cursor uint64, most int) (page []HeldBlock, next uint64, err error) {
	s, err := r.enter()
	if err != nil {
		return nil, 0, err
	}
	defer r.leave(s)
	if most < 1 {
		return nil, 0, invalid("most is %d", most)
	}
	room := array[C.kvroute_held_block](&s.arena, most)
	at := C.uint64_t(cursor)
	var written C.size_t
	err = s.check(C.kvroute_router_list_held(r.c, C.uint64_t(pod), &at, unsafe.SliceData(room), C.size_t(len(room)),
		&written, s.error))
	if err != nil {
		return nil, 0, err
	}
	page = make([]HeldBlock, written)
	for at, block := range room[:written] {
		page[at] = heldBlock(block)
	}
	return page, uint64(at), nil
}

func heldBlock(block C.kvroute_held_block) HeldBlock {
	return HeldBlock{uint64(block.hash), uint32(block.group), Tier(block.tier)}
}
