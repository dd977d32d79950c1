// Three pods, a system prompt that many requests share, and where each request should go.
//
//	cargo xtask install --prefix /opt/kvroute
//	PKG_CONFIG_PATH=/opt/kvroute/lib/pkgconfig go run .
package main

import (
	"fmt"
	"log"
	"slices"

	kvroute "github.com/kvroute/kvroute/go"
)

const blockSize = 16

func main() {
	router, err := kvroute.New(kvroute.Config{
		Domains: map[string]kvroute.DomainConfig{"llama": {BlockSize: blockSize}},
		Pods: []kvroute.PodConfig{
			{Name: "pod-a", Domain: "llama"},
			{Name: "pod-b", Domain: "llama"},
			{Name: "pod-c", Domain: "llama"},
		},
	})
	check(err)
	defer router.Close()

	// Pod b computed the system prompt and says so. Engines publish such events as batches of bytes, which a gateway
	// hands to router.Apply as they come from the socket.
	systemPrompt := tokenIDs(0, 4*blockSize)
	podB, err := router.FindPod("pod-b", 0)
	check(err)
	report, err := router.ApplyEvents(podB, kvroute.BlocksStored{
		Hashes:    []uint64{101, 102, 103, 104},
		TokenIDs:  systemPrompt,
		BlockSize: blockSize,
	})
	check(err)
	fmt.Printf("events: %s, %d blocks\n\n", report.Outcome, report.BlocksStored)

	// Two users ask something under that prompt, a third under none.
	for user, prompt := range [][]uint32{
		slices.Concat(systemPrompt, tokenIDs(1000, 40)),
		slices.Concat(systemPrompt, tokenIDs(2000, 40)),
		tokenIDs(3000, 80),
	} {
		var why kvroute.Explanation
		decision, err := router.Dispatch(&kvroute.Request{TokenIDs: prompt, Nonce: 1, Names: true, Explain: &why})
		check(err)
		fmt.Printf("request %d goes to %s: %d of %d tokens are cached\n%s\n", user+1, decision.Name,
			decision.MatchedTokens, len(prompt), &why)

		// The engine answers: the first token is there, then the last, and it counted what it found in its cache.
		_, err = router.FirstToken(decision.Ticket)
		check(err)
		_, err = router.Finish(decision.Ticket, kvroute.FinishCompleted, decision.MatchedTokens)
		check(err)
	}
}

// tokenIDs is count token ids from first on; a gateway has a tokenizer for this.
func tokenIDs(first uint32, count int) []uint32 {
	ids := make([]uint32, count)
	for at := range ids {
		ids[at] = first + uint32(at)
	}
	return ids
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
