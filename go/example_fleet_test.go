//go:build kvroute_io

package kvroute_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	kvroute "github.com/kvroute/kvroute/go"
)

// A chat comes in, is tokenized as its engine will do, and goes to the pod that has its history.
func ExampleStartFleet() {
	pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A real pod says more, of its load for one.
		if r.URL.Path == "/v1/models" {
			fmt.Fprint(w, `{"data": [{"id": "tiny", "root": "tiny-llama"}]}`)
			return
		}
		http.NotFound(w, r)
	}))
	defer pod.Close()

	document := fmt.Sprintf("fleet: {pods: [%q], known: {block_size: 16}}", pod.URL)
	fleet, err := kvroute.StartFleet(document, kvroute.FleetOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer fleet.Close()
	router := fleet.Router()
	defer router.Close()
	tokenizer, err := kvroute.NewTokenizer("../testdata/tokenize", kvroute.TokenizerOptions{Wait: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	defer tokenizer.Close()
	// Pods get no requests before they said what they are.
	for pods, _ := router.Pods(); len(pods) == 0; pods, _ = router.Pods() {
		time.Sleep(10 * time.Millisecond)
	}

	body := `{"model": "tiny", "messages": [{"role": "user", "content": "What is a KV cache?"}]}`
	prompts, err := tokenizer.Prompts(kvroute.EndpointChatCompletions, []byte(body))
	if err != nil {
		log.Fatal(err)
	}
	request := kvroute.Request{TokenIDs: prompts[0].TokenIDs, Text: prompts[0].Text, Model: "tiny"}
	decision, err := router.Dispatch(&request)
	if err != nil {
		log.Fatal(err)
	}
	target, err := fleet.Target(decision.Pod)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("to the pod:", target.URL == pod.URL, "tokens:", len(prompts[0].TokenIDs) > 0)
	if _, err := router.Finish(decision.Ticket, kvroute.FinishCompleted, -1); err != nil {
		log.Fatal(err)
	}
	// Output:
	// to the pod: true tokens: true
}
