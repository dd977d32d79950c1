package kvroute

/*
#include <stdlib.h>
#include <kvroute.h>
*/
import "C"

import "unsafe"

// arena is C memory that lasts for one call. Whatever C reads through more than one pointer is put together here:
// Go memory that holds pointers to Go memory must not be passed to C. Long arrays that are passed by one pointer (a
// prompt, a payload) stay where they are.
type arena struct {
	block []byte
	used  int
	// full are the blocks of this call that became too small; what is in them is still pointed to.
	full [][]byte
}

const (
	leastBlock = 4 << 10
	// mostKept bounds what one large call leaves behind.
	mostKept = 1 << 20
)

// room is so many bytes, all zero, aligned to 8.
func (a *arena) room(size int) []byte {
	aligned := (size + 7) &^ 7
	if aligned > len(a.block)-a.used {
		if a.block != nil {
			a.full = append(a.full, a.block)
		}
		next := max(leastBlock, 2*len(a.block), aligned)
		a.block = unsafe.Slice((*byte)(C.malloc(C.size_t(next))), next)
		a.used = 0
	}
	room := a.block[a.used:][:size]
	a.used += aligned
	clear(room)
	return room
}

// reset ends a call: all but one block is freed.
func (a *arena) reset() {
	for _, block := range a.full {
		release(block)
	}
	a.full, a.used = nil, 0
	if len(a.block) > mostKept {
		release(a.block)
		a.block = nil
	}
}

func (a *arena) free() {
	a.reset()
	release(a.block)
	a.block = nil
}

func release(block []byte) {
	C.free(unsafe.Pointer(unsafe.SliceData(block)))
}

// array is room for n values of C's, all zero.
func array[T any](a *arena, n int) []T {
	if n == 0 {
		return nil
	}
	var one T
	room := a.room(n * int(unsafe.Sizeof(one)))
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(room))), n)
}

// copied is a copy of values that are the same in C.
func copied[To, From any](a *arena, values []From) *To {
	to := array[From](a, len(values))
	copy(to, values)
	return (*To)(unsafe.Pointer(unsafe.SliceData(to)))
}

func (a *arena) text(text string) C.kvroute_str {
	if text == "" {
		return C.kvroute_str{}
	}
	room := a.room(len(text))
	copy(room, text)
	return C.kvroute_str{data: (*C.char)(unsafe.Pointer(unsafe.SliceData(room))), len: C.size_t(len(text))}
}

func (a *arena) texts(texts []string) []C.kvroute_str {
	all := array[C.kvroute_str](a, len(texts))
	for at, text := range texts {
		all[at] = a.text(text)
	}
	return all
}

func (a *arena) bytes(bytes []byte) C.kvroute_bytes {
	return C.kvroute_bytes{data: copied[C.uint8_t](a, bytes), len: C.size_t(len(bytes))}
}

// written is a text that C writes: fill is called again with more room until it fits.
func (s *seat) written(fill func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t) ([]byte, error) {
	buffer := make([]byte, 4<<10)
	for {
		var written C.size_t
		status := fill(chars(buffer), C.size_t(len(buffer)), &written)
		switch {
		case status == C.KVROUTE_OK:
			return buffer[:written], nil
		case status != C.KVROUTE_BUFFER_TOO_SMALL:
			return nil, s.failure(status)
		}
		// What is written may have grown by the next call.
		buffer = make([]byte, written+written/8)
	}
}

func chars(buffer []byte) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(buffer)))
}
