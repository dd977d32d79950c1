//go:build !debug

package kvroute

func collectIfDebugging() {}
