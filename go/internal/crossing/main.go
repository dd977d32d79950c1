// What one decision costs when Go asks for it; see benches/examples/crossing.rs. `cargo xtask crossing` runs it.
package main

import (
	"fmt"
	"log"
	"slices"
	"time"

	kvroute "github.com/kvroute/kvroute/go"
)

const (
	pods      = 64
	blockSize = 16
	most      = 32 << 10
	rounds    = 15
)

func main() {
	config := kvroute.Config{Domains: map[string]kvroute.DomainConfig{"m": {BlockSize: blockSize}}}
	for pod := range pods {
		config.Pods = append(config.Pods, kvroute.PodConfig{Name: fmt.Sprint("pod-", pod), Domain: "m"})
	}
	router, err := kvroute.New(config)
	check(err)
	defer router.Close()
	first, err := router.FindPod("pod-0", 0)
	check(err)
	stored := kvroute.BlocksStored{BlockSize: blockSize}
	for token := range uint32(most) {
		stored.TokenIDs = append(stored.TokenIDs, token)
	}
	for block := range uint64(most / blockSize) {
		stored.Hashes = append(stored.Hashes, block+1)
	}
	_, err = router.ApplyEvents(first, stored)
	check(err)

	for _, tokens := range []int{16, 1 << 10, 8 << 10, most} {
		calls := max(20, 2_000_000/(tokens+100))
		var figures []float64
		for round := -1; round < rounds; round++ {
			start := time.Now()
			for range calls {
				request := kvroute.Request{TokenIDs: stored.TokenIDs[:tokens], Now: start}
				_, err := router.Decide(&request)
				check(err)
			}
			if round >= 0 {
				figures = append(figures, float64(time.Since(start).Nanoseconds())/float64(calls))
			}
		}
		slices.Sort(figures)
		fmt.Printf("crossing go %d %.0f\n", tokens, figures[rounds/2])
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
