package kvroute

import (
	"testing"
	"time"
)

func TestDecidingAllocatesNothing(t *testing.T) {
	router, prompt := routerThatKnows(t, 1024)
	pod := must(router.FindPod("pod-3", 0))(t)
	payload := []byte("\x93\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x91\x91\xb0AllBlocksCleared\x00")
	hasher := must(NewHasher(HasherOptions{BlockSize: 16}))(t)
	defer hasher.Close()
	hashes := make([]uint64, 0, 64)
	sequence := uint64(0)
	calls := map[string]func() error{
		"Decide": func() error { return failed(router.Decide(&Request{TokenIDs: prompt})) },
		"Decide, with a text": func() error {
			return failed(router.Decide(&Request{Text: "Where is my parcel?", Now: time.Unix(1, 0)}))
		},
		"Decide, with all that requests have": func() error {
			return failed(router.Decide(&Request{
				TokenIDs:  []uint32{1, 2, 3},
				Context:   HashContext{LoraName: "sql", CacheSalt: "tenant", Multimodal: []MultimodalItem{{"a", 1, 1}}},
				Model:     "llama",
				SessionID: "alice",
				Subset:    []string{"pod-1", "pod-3"},
				Nonce:     7,
			}))
		},
		"Dispatch, FirstToken, Finish": func() error {
			decision, err := router.Dispatch(&Request{TokenIDs: prompt})
			if err != nil {
				return err
			}
			if _, err := router.FirstToken(decision.Ticket); err != nil {
				return err
			}
			return failed(router.Finish(decision.Ticket, FinishCompleted, 0))
		},
		"Apply": func() error {
			sequence++
			return failed(router.Apply(pod, sequence, payload))
		},
		"ReportLoad":     func() error { return router.ReportLoad(pod, 1, 2, 0.5) },
		"ReportAdapters": func() error { return router.ReportAdapters(pod, 4, []string{"sql"}, nil) },
		"Hash":           func() error { return failed(hasher.Hash(hashes, prompt, nil)) },
	}
	for name, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if allocations := testing.AllocsPerRun(100, func() { call() }); allocations != 0 {
			t.Errorf("%s allocates %v times", name, allocations)
		}
	}
}
