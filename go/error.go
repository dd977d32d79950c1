package kvroute

/*
#include <kvroute.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// Status says in what way a call failed. The numbers are those of kvroute.h.
type Status int32

// Mistakes of the caller (1xx), of data (2xx), states of things (3xx), and mistakes of the library (9xx).
const (
	StatusOK              Status = C.KVROUTE_OK
	StatusNullPointer     Status = C.KVROUTE_NULL_POINTER
	StatusInvalidInput    Status = C.KVROUTE_INVALID_INPUT
	StatusInvalidUTF8     Status = C.KVROUTE_INVALID_UTF8
	StatusStructSize      Status = C.KVROUTE_STRUCT_SIZE
	StatusBufferTooSmall  Status = C.KVROUTE_BUFFER_TOO_SMALL
	StatusInvalidHandle   Status = C.KVROUTE_INVALID_HANDLE
	StatusDecode          Status = C.KVROUTE_DECODE
	StatusNotReproducible Status = C.KVROUTE_NOT_REPRODUCIBLE
	StatusUnknownPod      Status = C.KVROUTE_UNKNOWN_POD
	StatusNoCandidate     Status = C.KVROUTE_NO_CANDIDATE
	StatusTokenizer       Status = C.KVROUTE_TOKENIZER
	StatusRequest         Status = C.KVROUTE_REQUEST
	StatusLimit           Status = C.KVROUTE_LIMIT
	StatusBusy            Status = C.KVROUTE_BUSY
	StatusPoisoned        Status = C.KVROUTE_POISONED
	StatusUnknownDomain   Status = C.KVROUTE_UNKNOWN_DOMAIN
	StatusInternal        Status = C.KVROUTE_INTERNAL
	StatusPanic           Status = C.KVROUTE_PANIC
)

// String is the status's name, such as "unknown-pod".
func (s Status) String() string {
	return C.GoString(C.kvroute_status_name(C.int32_t(s)))
}

// Error is why a call failed. A call that failed changed nothing.
//
// errors.As finds it in an error, and errors.Is compares it with the Err values of this package.
type Error struct {
	// Status says in what way it failed.
	Status Status
	// Message names what was wrong and where.
	Message string
}

// Error is the message with the package's name in front.
func (e *Error) Error() string {
	if e.Message == "" {
		return "kvroute: " + e.Status.String()
	}
	return "kvroute: " + e.Message
}

// Is says whether target is this package's Err value for the same status.
func (e *Error) Is(target error) bool {
	kind, ok := target.(*Error)
	if !ok || kind.Message != "" {
		return false
	}
	return kind.Status == e.Status || kind == ErrInvalidInput && e.Status == StatusInvalidUTF8
}

// ErrClosed is the answer of everything that was closed.
var ErrClosed = errors.New("kvroute: it is closed")

// Kinds of errors, for errors.Is.
var (
	// ErrInvalidInput: an argument or option is out of range, of the wrong shape, not UTF-8, or contradicts another.
	ErrInvalidInput = &Error{Status: StatusInvalidInput}
	// ErrDecode: bytes from an engine are not the format they should be.
	ErrDecode = &Error{Status: StatusDecode}
	// ErrNotReproducible: a block hash cannot be reproduced outside the engine.
	ErrNotReproducible = &Error{Status: StatusNotReproducible}
	// ErrUnknownPod: a pod that the router does not know.
	ErrUnknownPod = &Error{Status: StatusUnknownPod}
	// ErrUnknownDomain: a cache domain that the router does not know.
	ErrUnknownDomain = &Error{Status: StatusUnknownDomain}
	// ErrNoCandidate: every pod was dropped by a filter, or there is none.
	ErrNoCandidate = &Error{Status: StatusNoCandidate}
	// ErrTokenizer: a model's tokenizer cannot be read, is not what it should be, or fails.
	ErrTokenizer = &Error{Status: StatusTokenizer}
	// ErrRequest: a request that its engine would refuse as well: its body, or what its chat template says of it.
	ErrRequest = &Error{Status: StatusRequest}
	// ErrBusy: a router is to be recovered that its fleet uses.
	ErrBusy = &Error{Status: StatusBusy}
	// ErrLimit: a configured bound was reached.
	ErrLimit = &Error{Status: StatusLimit}
	// ErrPoisoned: a call that changed the router met a bug before; Router.Recover makes it usable again.
	ErrPoisoned = &Error{Status: StatusPoisoned}
	// ErrInternal: an error that the library has no status for.
	ErrInternal = &Error{Status: StatusInternal}
	// ErrPanic: the library has a bug. Please report it.
	ErrPanic = &Error{Status: StatusPanic}
)

// check is nil, or why the call in this seat failed.
func (s *seat) check(status C.int32_t) error {
	if status == C.KVROUTE_OK {
		return nil
	}
	return s.failure(status)
}

func (s *seat) failure(status C.int32_t) error {
	var length C.size_t
	message := C.kvroute_error_message(s.error, &length)
	return &Error{Status: Status(status), Message: string(unsafe.Slice((*byte)(unsafe.Pointer(message)), length))}
}

func invalid(format string, values ...any) error {
	return &Error{Status: StatusInvalidInput, Message: fmt.Sprintf(format, values...)}
}
