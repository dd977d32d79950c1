//go:build debug

package kvroute

import "runtime"

// collectIfDebugging collects garbage at the moments at which an object that is not kept alive would be freed too soon,
// and lets the cleanups run.
func collectIfDebugging() {
	runtime.GC()
	runtime.Gosched()
}
