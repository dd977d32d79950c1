package kvroute

/*
#include <kvroute.h>

#cgo noescape kvroute_domain_hash
#cgo nocallback kvroute_domain_hash
*/
import "C"

import "unsafe"

// Domain is a cache domain, a set of pods whose blocks mean the same: same model weights, same block hashes, same block
// size. A configuration names domains ([DomainConfig]), and Router.Domain finds them; NewDomain is for those that come
// later, and for what a configuration cannot say.
//
// It never changes. Any number of goroutines and routers may use it at a time.
type Domain struct {
	object
	c         *C.kvroute_domain
	blockSize int
}

// NewDomain makes a domain. Requests are hashed by hasher, which may be closed afterwards. models are those its pods
// serve, as requests name them; none: any.
//
// Errors: ErrInvalidInput for one of llm-d's schemes, which no engine publishes.
func NewDomain(name string, hasher *Hasher, models ...string) (*Domain, error) {
	s, err := hasher.enter()
	if err != nil {
		return nil, err
	}
	defer hasher.leave(s)
	names, text := s.arena.texts(models), s.arena.text(name)
	var c *C.kvroute_domain
	err = s.check(C.kvroute_domain_new(text.data, text.len, hasher.c, unsafe.SliceData(names), C.size_t(len(names)), &c,
		s.error))
	if err != nil {
		return nil, err
	}
	return newDomain(c), nil
}

func newDomain(c *C.kvroute_domain) *Domain {
	d := &Domain{c: c, blockSize: int(C.kvroute_domain_block_size(c))}
	d.own(func() { C.kvroute_domain_free(c) })
	return d
}

// Close frees the domain after the calls under way; see Router.Close. Pods that are of it live on.
func (d *Domain) Close() error {
	return d.close()
}

// Name is the domain's name.
func (d *Domain) Name() (string, error) {
	s, err := d.enter()
	if err != nil {
		return "", err
	}
	defer d.leave(s)
	name, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_domain_name(d.c, buffer, capacity, written, s.error)
	})
	return string(name), err
}

// BlockSize is tokens a block.
func (d *Domain) BlockSize() int {
	return d.blockSize
}

// SearchableBlocks is how many leading blocks of a prompt of so many tokens an engine can take from its cache: it always
// computes the last token. As many of the prompt's hashes are what to look up.
func (d *Domain) SearchableBlocks(tokens int) (int, error) {
	s, err := d.enter()
	if err != nil {
		return 0, err
	}
	defer d.leave(s)
	return int(C.kvroute_domain_searchable_blocks(d.c, C.size_t(max(0, tokens)))), nil
}

// Hash appends the hashes of a prompt's full blocks to hashes, as Hasher.Hash does.
func (d *Domain) Hash(hashes []uint64, tokenIDs []uint32, context *HashContext) ([]uint64, error) {
	s, err := d.enter()
	if err != nil {
		return nil, err
	}
	defer d.leave(s)
	hashes, room := withRoom(hashes, len(tokenIDs)/d.blockSize)
	var written C.size_t
	err = s.check(C.kvroute_domain_hash(d.c, (*C.uint32_t)(unsafe.SliceData(tokenIDs)), C.size_t(len(tokenIDs)),
		s.contextOrPlain(context), (*C.uint64_t)(unsafe.SliceData(room)), C.size_t(cap(room)), &written, s.error))
	if err != nil {
		return nil, err
	}
	return hashes[:len(hashes)+int(written)], nil
}

// AddDomain makes a cache domain known by its name, for pods that come later.
//
// Errors: ErrInvalidInput if the name belongs to a domain that hashes differently or serves other models.
func (r *Router) AddDomain(domain *Domain) error {
	s, err := r.enter()
	if err != nil {
		return err
	}
	defer r.leave(s)
	kept, err := domain.enter()
	if err != nil {
		return err
	}
	defer domain.leave(kept)
	return s.check(C.kvroute_router_add_domain(r.c, domain.c, s.error))
}

// Domain is the cache domain of this name: a pod's, the configuration's, or one that was added.
//
// Errors: ErrUnknownDomain.
func (r *Router) Domain(name string) (*Domain, error) {
	s, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer r.leave(s)
	text := s.arena.text(name)
	var c *C.kvroute_domain
	if err := s.check(C.kvroute_router_domain(r.c, text.data, text.len, &c, s.error)); err != nil {
		return nil, err
	}
	return newDomain(c), nil
}

// PodMatch is what one pod has of a query.
type PodMatch struct {
	// Pod is the pod.
	Pod PodID
	// Blocks are leading blocks it can use.
	Blocks TierBlocks
	// Predicted are leading blocks that this router sent to it.
	Predicted int
	// Speculative are those of them that were sent a moment ago, and that its events do not tell of yet.
	Speculative int
}

// Lookup looks up what every pod of domain has of the blocks hashes, cut by the caller where an engine would cut them
// (Domain.SearchableBlocks). The answer has the pods that have any, in order of their ids.
func (r *Router) Lookup(domain *Domain, hashes []uint64) ([]PodMatch, error) {
	s, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer r.leave(s)
	kept, err := domain.enter()
	if err != nil {
		return nil, err
	}
	defer domain.leave(kept)
	var written C.size_t
	for room := array[C.kvroute_pod_match](&s.arena, 64); ; room = array[C.kvroute_pod_match](&s.arena, int(written)) {
		status := C.kvroute_router_lookup(r.c, domain.c, (*C.uint64_t)(unsafe.SliceData(hashes)),
			C.size_t(len(hashes)), s.workspace, &room[0], C.size_t(len(room)), &written, s.error)
		if status == C.KVROUTE_BUFFER_TOO_SMALL {
			continue
		}
		if err := s.check(status); err != nil {
			return nil, err
		}
		matches := make([]PodMatch, written)
		for at, match := range room[:written] {
			matches[at] = PodMatch{
				PodID(match.pod), tierBlocks(&match.blocks), int(match.predicted), int(match.speculative),
			}
		}
		return matches, nil
	}
}
