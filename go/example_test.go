package kvroute_test

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"time"

	kvroute "github.com/kvroute/kvroute/go"
)

// two pods of one model, whose engines have blocks of 4 tokens.
func twoPods() *kvroute.Router {
	router, err := kvroute.New(kvroute.Config{
		Domains: map[string]kvroute.DomainConfig{"llama": {BlockSize: 4}},
		Pods:    []kvroute.PodConfig{{Name: "pod-a", Domain: "llama"}, {Name: "pod-b", Domain: "llama"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	return router
}

// A pod says what it holds, and a request goes there.
func Example() {
	router := twoPods()
	defer router.Close()

	podB, err := router.FindPod("pod-b", 0)
	if err != nil {
		log.Fatal(err)
	}
	report, err := router.ApplyEvents(podB, kvroute.BlocksStored{
		Hashes:    []uint64{71, 72},
		TokenIDs:  []uint32{1, 2, 3, 4, 5, 6, 7, 8},
		BlockSize: 4,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("events:", report.Outcome)

	decision, err := router.Decide(&kvroute.Request{TokenIDs: []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("to pod b:", decision.Pod == podB)
	fmt.Println("cached:", decision.MatchedTokens, "to compute:", decision.UncachedTokens)
	// Output:
	// events: applied
	// to pod b: true
	// cached: 8 to compute: 2
}

// A request from its arrival to its end, and why it went where it went.
func ExampleRouter_Dispatch() {
	router := twoPods()
	defer router.Close()

	prompt := []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	first, err := router.Dispatch(&kvroute.Request{TokenIDs: prompt, Nonce: 1})
	if err != nil {
		log.Fatal(err)
	}
	// The engine answers.
	router.FirstToken(first.Ticket)
	router.Finish(first.Ticket, kvroute.FinishCompleted, 0)

	// The same prompt again: no event has come, but the router remembers where it sent the first.
	var why kvroute.Explanation
	second, err := router.Dispatch(&kvroute.Request{TokenIDs: prompt, Nonce: 2, Explain: &why})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("same pod:", first.Pod == second.Pod)
	for _, score := range why.Pods[*why.Picked].Scores {
		fmt.Printf("%s: %.2f times %g\n", score.Scorer, score.Value, score.Weight)
	}
	fmt.Println(why.Pods[*why.Picked].Note)
	router.Finish(second.Ticket, kvroute.FinishCancelled, kvroute.CachedUnknown)
	// Output:
	// same pod: true
	// kv-cache: 0.00 times 0.6
	// session: 0.00 times 0.02
	// cost: 1.00 times 1
	// no KV events came from this pod yet
}

// Messages of vLLM have three frames: topic, sequence number and payload.
func ExampleRouter_Apply() {
	router := twoPods()
	defer router.Close()
	podA, err := router.FindPod("pod-a", 0)
	if err != nil {
		log.Fatal(err)
	}

	payload := []byte("\x93\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x91\x91\xb0AllBlocksCleared\x00")
	for _, sequence := range []uint64{0, 1, 1, 5} {
		report, err := router.Apply(podA, sequence, payload)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(sequence, report.Outcome)
	}
	counters, err := router.PodCounters(podA)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("gaps:", counters.Stream.Gaps, "trust:", counters.Trust)
	// Output:
	// 0 applied
	// 1 applied
	// 1 ignored
	// 5 applied
	// gaps: 1 trust: exact
}

// Clients bring a token back, so that conversations stay where they are even if another router gets the request.
func ExampleRouter_SessionToken() {
	config := kvroute.Config{
		Sessions: kvroute.SessionsConfig{Key: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"},
		Domains:  map[string]kvroute.DomainConfig{"llama": {BlockSize: 4}},
		Pods:     []kvroute.PodConfig{{Name: "pod-a", Domain: "llama"}, {Name: "pod-b", Domain: "llama"}},
	}
	one, err := kvroute.New(config)
	if err != nil {
		log.Fatal(err)
	}
	defer one.Close()
	other, err := kvroute.New(config)
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close()

	decision, err := one.Dispatch(&kvroute.Request{Text: "Where is my parcel?"})
	if err != nil {
		log.Fatal(err)
	}
	token, err := one.SessionToken(decision.Pod, decision.Prefill.Pod, time.Time{})
	if err != nil {
		log.Fatal(err)
	}
	next, err := other.Decide(&kvroute.Request{Text: "And when does it come?", SessionToken: token})
	if err != nil {
		log.Fatal(err)
	}
	before, _, _ := one.PodName(decision.Pod)
	after, _, _ := other.PodName(next.Pod)
	fmt.Println("same pod:", before == after)
	// Output:
	// same pod: true
}

// Another policy from now on: pods, what they hold and requests in flight stay.
func ExampleRouter_SetPolicy() {
	router := twoPods()
	defer router.Close()

	request := &kvroute.Request{TokenIDs: []uint32{1, 2, 3, 4, 5}}
	before, err := router.Dispatch(request)
	if err != nil {
		log.Fatal(err)
	}
	err = router.SetPolicy(kvroute.PolicyConfig{
		Preset: kvroute.PresetCost,
		Decode: kvroute.ProfileConfig{Fallbacks: 1},
	})
	if err != nil {
		log.Fatal(err)
	}
	after, err := router.Decide(request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("fallbacks:", len(before.Fallbacks), "then", len(after.Fallbacks))
	known, _ := router.Finish(before.Ticket, kvroute.FinishCompleted, 0)
	fmt.Println("still in flight:", known)
	// Output:
	// fallbacks: 0 then 1
	// still in flight: true
}

// Configuration documents are YAML or JSON, and strict about every key.
func ExampleNewFromDocument() {
	_, err := kvroute.NewFromDocument(`
domains:
  llama: {blocksize: 16}
`)
	fmt.Println(errors.Is(err, kvroute.ErrInvalidInput))
	fmt.Println(err)

	router, err := kvroute.NewFromDocument(`
domains:
  llama: {block_size: 16}
pods:
  - {name: pod-a, domain: llama, role: decode}
  - {name: pod-b, domain: llama, role: prefill}
policy:
  prefill: {max_uncached_tokens: 1024}
`)
	if err != nil {
		log.Fatal(err)
	}
	defer router.Close()
	decision, err := router.Decide(&kvroute.Request{TokenIDs: make([]uint32, 2000)})
	if err != nil {
		log.Fatal(err)
	}
	decodes, _, _ := router.PodName(decision.Pod)
	prefills, _, _ := router.PodName(decision.Prefill.Pod)
	fmt.Println(decodes, "answers,", prefills, "computes the prompt")
	// Output:
	// true
	// kvroute: domains.llama: unknown key `blocksize`; did you mean `block_size`? (line 3, column 11)
	// pod-a answers, pod-b computes the prompt
}

// What engines hash can be computed here too.
func ExampleHasher_Hash() {
	hasher, err := kvroute.NewHasher(kvroute.HasherOptions{
		Scheme:    kvroute.HashSchemeVLLM,
		Algorithm: kvroute.VLLMSHA256CBOR,
		Version:   "0.32.0",
		Seed:      kvroute.Ptr("0"),
		BlockSize: 16,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer hasher.Close()
	hashes, err := hasher.Hash(nil, make([]uint32, 40), &kvroute.HashContext{CacheSalt: "tenant-a"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(hashes), "full blocks")
	// Output:
	// 2 full blocks
}

// A gateway that is started again goes on with what the one before knew.
func ExampleRouter_Snapshot() {
	before := twoPods()
	defer before.Close()
	podB, err := before.FindPod("pod-b", 0)
	if err != nil {
		log.Fatal(err)
	}
	stored := kvroute.BlocksStored{Hashes: []uint64{71}, TokenIDs: []uint32{1, 2, 3, 4}, BlockSize: 4}
	if _, err := before.ApplyEvents(podB, stored); err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer
	if err := before.Snapshot(&file, time.Time{}); err != nil {
		log.Fatal(err)
	}

	router := twoPods()
	defer router.Close()
	report, err := router.Restore(&file, time.Time{})
	if err != nil {
		log.Fatal(err)
	}
	for _, pod := range report.Pods {
		fmt.Println(pod.Name, pod.Blocks.Held)
	}
	decision, err := router.Decide(&kvroute.Request{TokenIDs: []uint32{1, 2, 3, 4, 5}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("cached:", decision.MatchedTokens)
	// Output:
	// pod-a 0
	// pod-b 1
	// cached: 4
}

// A decision is written down as a line of JSON, and made again by another policy later.
func ExampleLogReplay() {
	router := twoPods()
	defer router.Close()
	var line string
	if _, err := router.Dispatch(&kvroute.Request{TokenIDs: []uint32{1, 2, 3, 4, 5}, Record: &line}); err != nil {
		log.Fatal(err)
	}
	for _, preset := range []kvroute.Preset{kvroute.PresetCost, kvroute.PresetAffinity} {
		replayed, err := kvroute.LogReplay(line, kvroute.PolicyConfig{Preset: preset})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(preset, replayed.AsRecorded)
	}
	// Output:
	// cost true
	// affinity false
}
