package kvroute

// The library is found by pkg-config. It is linked statically, so that a program is one file to ship; the build tag
// kvroute_shared links with the shared library instead. With the build tag kvroute_io it is libkvroute_io, which has all
// of libkvroute. The macros mean nothing to C: without them Go would take the package that it has built with another
// library (golang.org/issue/73033).

/*
#cgo !kvroute_shared,!kvroute_io pkg-config: kvroute-static
#cgo kvroute_shared,!kvroute_io pkg-config: kvroute
#cgo !kvroute_shared,kvroute_io pkg-config: kvroute_io-static
#cgo kvroute_shared,kvroute_io pkg-config: kvroute_io
#cgo kvroute_shared CFLAGS: -DKVROUTE_SHARED
#cgo kvroute_io CFLAGS: -DKVROUTE_IO
#include <kvroute.h>
*/
import "C"

import "fmt"

func init() {
	// Refers to a symbol that has the version in its name: another library does not even link.
	C.kvroute_abi_1()
	if got := abiVersion(); got != C.KVROUTE_ABI_VERSION {
		panic(fmt.Sprintf("kvroute: built for ABI version %d of libkvroute, but version %d was loaded",
			C.KVROUTE_ABI_VERSION, got))
	}
}

// abiVersion is the least that a call can do; the benchmarks measure it.
func abiVersion() uint32 {
	return uint32(C.kvroute_abi_version())
}

// Version is the version of the library that runs, such as "1.2.3".
func Version() string {
	return C.GoString(C.kvroute_version())
}
