package kvroute

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// A recording of vLLM's own scheduler; testdata/captures/README.md says what is in it.
const capture = "../testdata/captures/sim-cbor-small.jsonl.gz"

// captureLine is its header, a published batch, or a query with each pod's answer.
type captureLine struct {
	// of the header
	VLLM      string `json:"vllm"`
	BlockSize uint32 `json:"block_size"`
	Algorithm string `json:"hash_algo"`
	NoneHash  string `json:"none_hash"`
	Pods      []any
	// of a batch
	Pod      int    `json:"b"`
	Sequence uint64 `json:"s"`
	Payload  []byte `json:"p"`
	// of a query
	TokenIDs []uint32  `json:"t"`
	Salt     string    `json:"salt"`
	Lora     [2]string `json:"lora"`
	Cached   []int     `json:"cached"`
	Full     []int     `json:"full"`
}

func TestEveryAnswerOfARecordedEngineIsEqual(t *testing.T) {
	for _, scheme := range []string{"native", "translated"} {
		t.Run(scheme, func(t *testing.T) { replay(t, scheme == "native") })
	}
}

func replay(t *testing.T, native bool) {
	file := must(os.Open(capture))(t)
	defer file.Close()
	lines := bufio.NewScanner(must(gzip.NewReader(file))(t))
	lines.Buffer(nil, 16<<20)
	next := func() (line captureLine, found bool) {
		if found = lines.Scan(); found {
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
		}
		return line, found
	}

	header, _ := next()
	config := DomainConfig{BlockSize: header.BlockSize}
	if native {
		config.Scheme.VLLM = &VLLMConfig{
			Algorithm: VLLMAlgorithm(header.Algorithm), Version: header.VLLM, NoneHash: header.NoneHash,
		}
	}
	router := must(New(Config{Domains: map[string]DomainConfig{"recorded": config}}))(t)
	defer router.Close()
	domain := must(router.Domain("recorded"))(t)
	defer domain.Close()
	var pods []PodID
	for pod := range header.Pods {
		pods = append(pods, must(router.AddPod(PodConfig{Name: fmt.Sprint("pod-", pod), Domain: "recorded"}))(t))
	}

	batches, answers, hits := 0, 0, 0
	for line, found := next(); found; line, found = next() {
		if line.Payload != nil {
			must(router.Apply(pods[line.Pod], line.Sequence, line.Payload))(t)
			batches++
			continue
		}
		context := HashContext{CacheSalt: line.Salt, LoraName: line.Lora[0], LoraPath: line.Lora[1]}
		hashes := must(domain.Hash(nil, line.TokenIDs, &context))(t)
		searchable := hashes[:must(domain.SearchableBlocks(len(line.TokenIDs)))(t)]
		cached, full := tokensOf(t, router, domain, searchable), tokensOf(t, router, domain, hashes)
		for pod, id := range pods {
			if cached[id] != line.Cached[pod] || full[id] != line.Full[pod] {
				t.Errorf("pod %d: %d of %d tokens, the engine had %d of %d", pod, cached[id], full[id], line.Cached[pod],
					line.Full[pod])
			}
			answers++
			if line.Cached[pod] > 0 {
				hits++
			}
		}
	}
	if batches != 1200 || answers != 796 || hits != 697 {
		t.Errorf("%d batches, %d answers, %d hits", batches, answers, hits)
	}
}

// tokensOf is the tokens that each pod has of some blocks.
func tokensOf(t *testing.T, router *Router, domain *Domain, hashes []uint64) map[PodID]int {
	tokens := map[PodID]int{}
	for _, match := range must(router.Lookup(domain, hashes))(t) {
		tokens[match.Pod] = match.Blocks.Total() * domain.BlockSize()
	}
	return tokens
}
