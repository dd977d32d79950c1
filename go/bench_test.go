package kvroute

import (
	"fmt"
	"testing"
	"time"
)

// Lengths of prompts; tokens.
var benchmarkPrompts = []int{1 << 10, 8 << 10, 32 << 10}

// routerThatKnows is a router with 8 pods, of which one has most of a prompt of so many tokens.
func routerThatKnows(tb testing.TB, tokens int) (*Router, []uint32) {
	const blockSize = 16
	config := Config{Domains: map[string]DomainConfig{"m": {BlockSize: blockSize}}}
	for pod := range 8 {
		config.Pods = append(config.Pods, PodConfig{Name: fmt.Sprint("pod-", pod), Domain: "m"})
	}
	router := must(New(config))(tb)
	tb.Cleanup(func() { router.Close() })
	prompt := make([]uint32, tokens)
	for at := range prompt {
		prompt[at] = uint32(at * 7919)
	}
	stored := BlocksStored{BlockSize: blockSize}
	for block := range tokens / blockSize * 3 / 4 {
		stored.Hashes = append(stored.Hashes, uint64(block)+1)
		stored.TokenIDs = append(stored.TokenIDs, prompt[block*blockSize:][:blockSize]...)
	}
	must(router.ApplyEvents(must(router.FindPod("pod-3", 0))(tb), stored))(tb)
	return router, prompt
}

// must is a value of which the test needs no error.
func must[T any](value T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return value
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, tokens := range benchmarkPrompts {
		b.Run(fmt.Sprint(tokens, "tokens"), func(b *testing.B) {
			router, prompt := routerThatKnows(b, tokens)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := router.Decide(&Request{TokenIDs: prompt}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// With a time, a session and a tenant; of the same prompt length, so that the difference is what they cost.
func BenchmarkDecideWithAllThatRequestsHave(b *testing.B) {
	router, prompt := routerThatKnows(b, benchmarkPrompts[0])
	request := Request{
		TokenIDs:  prompt,
		Context:   HashContext{CacheSalt: "tenant-a"},
		SessionID: "0f8fad5b-d9cb-469f-a165-70867728950e",
		Nonce:     1,
		Now:       time.Unix(1, 0),
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := router.Decide(&request); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDispatchToFinish(b *testing.B) {
	router, prompt := routerThatKnows(b, benchmarkPrompts[0])
	b.ReportAllocs()
	for b.Loop() {
		decision := must(router.Dispatch(&Request{TokenIDs: prompt}))(b)
		router.FirstToken(decision.Ticket)
		router.Finish(decision.Ticket, FinishCompleted, CachedUnknown)
	}
}

func BenchmarkDecideInParallel(b *testing.B) {
	router, prompt := routerThatKnows(b, benchmarkPrompts[0])
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			router.Decide(&Request{TokenIDs: prompt})
		}
	})
}

func BenchmarkEmptyCallIntoC(b *testing.B) {
	for b.Loop() {
		abiVersion()
	}
}

// What it costs that calls have a workspace each, and that Close waits for them.
func BenchmarkSeat(b *testing.B) {
	router, _ := routerThatKnows(b, 16)
	use := func() {
		s, err := router.enter()
		if err != nil {
			b.Error(err)
			return
		}
		router.leave(s)
	}
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			use()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				use()
			}
		})
	})
}

func BenchmarkExplain(b *testing.B) {
	router, prompt := routerThatKnows(b, benchmarkPrompts[0])
	var why Explanation
	for b.Loop() {
		must(router.Decide(&Request{TokenIDs: prompt, Explain: &why}))(b)
	}
}
