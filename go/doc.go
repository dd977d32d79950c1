/*
Package kvroute routes LLM requests to the pod that holds their prefix in its KV cache.

It knows, for every request and within microseconds, which pod of vLLM, SGLang or TensorRT-LLM has how much of the
prompt, and weighs that against load. It brings no threads, no sockets and no clock: events and requests come in, and
decisions go out.

	router, err := kvroute.New(kvroute.Config{
		Domains: map[string]kvroute.DomainConfig{"llama-3.1-8b": {BlockSize: 16}},
		Pods: []kvroute.PodConfig{
			{Name: "10.0.0.7:8000", Domain: "llama-3.1-8b"},
			{Name: "10.0.0.8:8000", Domain: "llama-3.1-8b"},
		},
	})

A gateway then calls

  - [Router.Apply] for each KV-event message of a pod,
  - [Router.Dispatch] for each request, [Router.FirstToken] and [Router.Finish] as it goes on,
  - [Router.Expire] every second, say,
  - [Router.Snapshot] before it stops and [Router.Restore] when it is started again, to go on with what was known.

The examples of this package are its tutorial: first the package's own, then those of [Router.Dispatch],
[Router.Apply], [Router.SessionToken], [Router.SetPolicy], [Router.Snapshot], [LogReplay], [NewFromDocument] and
[Hasher.Hash].

# Building

The package is a thin layer over libkvroute, a Rust library with a C interface. `cargo xtask install --prefix DIR` in
its repository builds and installs it; then only cgo, a C compiler and pkg-config are needed:

	PKG_CONFIG_PATH=DIR/lib/pkgconfig go build

The library is linked statically. With the build tag kvroute_shared it is a shared one, libkvroute.so, which must be
found when the program runs. A library of another ABI version is refused when linking or at start.

Go does not notice that a library was built anew or moved (golang.org/issue/24355, golang.org/issue/24544). Then
`go build -a` is needed once.

With the build tag kvroute_io the library is libkvroute_io (`cargo xtask install --io`), which has all of libkvroute, and
the package has two types more: Fleet, a router that finds its pods and follows them by itself, and Tokenizer, which turns
the bodies of requests into the token ids that the engine will compute.

# Goroutines

Any number of goroutines may use a [Router], [Hasher] or [Domain] at a time; each type says so. Close waits for the
calls under way, and later calls answer [ErrClosed]. What was never closed is freed once it is garbage, but Go does not
see how much memory of C's hangs on it: close what is large.

Nothing here blocks on anything but other calls, and those take microseconds. So nothing takes a context.Context. The
readers and writers of snapshots are waited for, but no call waits with them.

# Time

The library reads no clock. Requests bring their time in [Request.Now], and the zero time means time.Now(). It is wall
clock time, as nanoseconds since 1970, since the tokens that clients bring back ([Router.SessionToken]) may come from
another process. Whoever sets it in one call should set it in all: simulations and tests do.

# Errors

Failed calls changed nothing. Their errors are an [*Error] with a message that names what was wrong and where; use
errors.Is with [ErrUnknownPod], [ErrNoCandidate] and so on. What is wrong with an engine's events is no error, but in
the [ApplyReport]: one bad event does not cost the rest of its batch.

# Cost

A decision is one call into C, and one more if the policy asks for fallbacks and there are any. Without them it allocates
nothing in Go, once as many calls have run at a time as ever will, and nothing in C, once it has seen a prompt as long. `cargo xtask crossing` compares what it costs with other languages.

The token ids of a prompt are read where they lie. Everything else in a request is copied, a few bytes usually.

# Testing

The build tag debug collects garbage in every call, to find objects that are freed too soon.
*/
package kvroute
