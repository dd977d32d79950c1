package plugin

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/scheduling/picker"
	epp "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/scheduling"
)

// build makes a scorer as a picker does: by its type in the registry.
func build(t *testing.T, parameters json.RawMessage) *Scorer {
	t.Helper()
	Register()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	handle := plugin.NewEppHandle(ctx, func() []types.NamespacedName { return nil })
	made, err := plugin.Registry[Type]("kv", parameters, handle)
	if err != nil {
		t.Fatal(err)
	}
	return made.(*Scorer)
}

// completion is a request with a long prompt that begins with these words.
func completion(id, words string) *scheduling.LLMRequest {
	return &scheduling.LLMRequest{RequestId: id, TargetModel: "tiny", Body: &scheduling.LLMRequestBody{
		Completions: &scheduling.CompletionsRequest{Prompt: strings.Repeat(words+" ", 100)},
	}}
}

// eventually tries until it is so, 30 seconds at most.
func eventually(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if isSo() {
			return
		}
	}
	t.Fatalf("%s: not within 30 s", what)
}

// ready waits until all engines take requests.
func ready(t *testing.T, s *Scorer, engines int) {
	t.Helper()
	eventually(t, "the pods are known", func() bool {
		pods, err := s.router.Pods()
		return err == nil && len(pods) == engines
	})
}

func TestEndpointsAreScoredByWhatTheirEventsSay(t *testing.T) {
	a, b := startEngine(t), startEngine(t)
	s := build(t, parameters(a, b))
	ready(t, s, 2)
	request := completion("1", "How does a KV cache work?")
	read, err := s.read(request)
	if err != nil {
		t.Fatal(err)
	}
	endpoints := []scheduling.Endpoint{a.endpoint("a"), b.endpoint("b")}
	score := func() (float64, float64) {
		scores := s.Score(context.Background(), scheduling.NewCycleState(), request, endpoints)
		return scores[endpoints[0]], scores[endpoints[1]]
	}
	if of, another := score(); of != 0 || another != 0 {
		t.Errorf("nobody has it, and yet %v and %v", of, another)
	}
	// Half of the blocks. What is published before a subscription arrives reaches nobody, so it is said again.
	held := len(read.tokenIDs) / blockSize / 2 * blockSize
	eventually(t, "events arrive", func() bool {
		b.store(t, read.tokenIDs[:held])
		_, of := score()
		return of > 0
	})
	of, another := score()
	if want := float64(held) / float64(len(read.tokenIDs)); of != 0 || another != want {
		t.Errorf("%v and %v, not 0 and %v", of, another, want)
	}
	// Another tenant's salt is another prompt.
	request.Body.Completions.CacheSalt = "tenant"
	if _, salted := score(); salted != 0 {
		t.Errorf("a salted prompt finds %v", salted)
	}
}

func TestThePickersOwnProfileSendsARequestWhereItsPrefixIs(t *testing.T) {
	a, b, c := startEngine(t), startEngine(t), startEngine(t)
	s := build(t, parameters(a, b, c))
	ready(t, s, 3)
	request := completion("1", "Where does this go?")
	read, err := s.read(request)
	if err != nil {
		t.Fatal(err)
	}
	endpoints := []scheduling.Endpoint{a.endpoint("a"), b.endpoint("b"), c.endpoint("c")}
	profile := epp.NewSchedulerProfile().WithPicker(picker.NewMaxScorePicker(1))
	if err := profile.AddPlugins(epp.NewWeightedScorer(s, 2)); err != nil {
		t.Fatal(err)
	}
	held := len(read.tokenIDs) / blockSize * blockSize
	eventually(t, "events arrive", func() bool {
		c.store(t, read.tokenIDs[:held])
		return s.Score(context.Background(), nil, request, endpoints)[endpoints[2]] > 0
	})
	for range 20 {
		result, err := profile.Run(context.Background(), request, scheduling.NewCycleState(), endpoints)
		if err != nil {
			t.Fatal(err)
		}
		if target := result.TargetEndpoints[0].GetMetadata().PodName; target != "c" {
			t.Fatalf("it goes to %s", target)
		}
	}
}

func TestWhatWasSentAMomentAgoCountsUntilTheRequestEnds(t *testing.T) {
	a, b := startEngine(t), startEngine(t)
	s := build(t, parameters(a, b))
	ready(t, s, 2)
	endpoints := []scheduling.Endpoint{a.endpoint("a"), b.endpoint("b")}
	send := func(id string) *scheduling.SchedulingResult {
		request := completion(id, "A prefix that many share.")
		s.Score(context.Background(), nil, request, endpoints)
		sent := &scheduling.SchedulingResult{
			PrimaryProfileName: "default",
			ProfileResults:     map[string]*scheduling.ProfileRunResult{"default": {TargetEndpoints: endpoints[1:]}},
		}
		s.PreRequest(context.Background(), request, sent)
		return sent
	}
	end := func(id string) {
		s.ResponseComplete(context.Background(), completion(id, "A prefix that many share."), nil, nil)
	}
	score := func() float64 {
		scores := s.Score(context.Background(), nil, completion("next", "A prefix that many share."), endpoints)
		if scores[endpoints[0]] != 0 {
			t.Errorf("the other one has %v of it", scores[endpoints[0]])
		}
		return scores[endpoints[1]]
	}
	inFlight := func(want uint64) {
		t.Helper()
		if counters, err := s.router.Counters(); err != nil || counters.InFlight != want {
			t.Errorf("%d in flight, not %d; %v", counters.InFlight, want, err)
		}
	}

	// An engine that tells of its blocks is expected to have them until the request ends, and then what it tells counts.
	eventually(t, "events arrive", func() bool {
		b.store(t, make([]uint32, blockSize))
		pod, err := s.router.FindPod(address(endpoints[1].GetMetadata()), 0)
		if err != nil {
			return false
		}
		counters, err := s.router.PodCounters(pod)
		return err == nil && counters.Stream.Batches > 0
	})
	sent := send("1")
	if of := score(); of < 0.8 {
		t.Errorf("the next one of the burst finds %v", of)
	}
	inFlight(1)
	end("1")
	inFlight(0)
	if of := score(); of != 0 {
		t.Errorf("its engine told of no such block, and yet %v", of)
	}
	// The hooks of a request that was never scored change nothing.
	s.PreRequest(context.Background(), completion("unknown", "x"), sent)
	end("unknown")
	inFlight(0)
}

func TestWhatAnEngineThatTellsNothingWasSentIsRemembered(t *testing.T) {
	a := startEngine(t)
	s := build(t, parameters(a))
	ready(t, s, 1)
	endpoints := []scheduling.Endpoint{a.endpoint("a")}
	request := completion("1", "No events are published.")
	if of := s.Score(context.Background(), nil, request, endpoints)[endpoints[0]]; of != 0 {
		t.Errorf("nothing was sent, and yet %v", of)
	}
	s.PreRequest(context.Background(), request, &scheduling.SchedulingResult{
		PrimaryProfileName: "default",
		ProfileResults:     map[string]*scheduling.ProfileRunResult{"default": {TargetEndpoints: endpoints}},
	})
	s.ResponseComplete(context.Background(), request, nil, nil)
	if of := s.Score(context.Background(), nil, request, endpoints)[endpoints[0]]; of < 0.8 {
		t.Errorf("it was sent there, and yet %v", of)
	}
}

func TestChatsAreRenderedAndImagesScoreNothing(t *testing.T) {
	a := startEngine(t)
	s := build(t, parameters(a))
	ready(t, s, 1)
	endpoints := []scheduling.Endpoint{a.endpoint("a")}
	chat := func(content scheduling.Content) *scheduling.LLMRequest {
		return &scheduling.LLMRequest{RequestId: "1", TargetModel: "tiny", Body: &scheduling.LLMRequestBody{
			ChatCompletions: &scheduling.ChatCompletionsRequest{
				Messages: []scheduling.Message{{Role: "user", Content: content}},
			},
		}}
	}
	text := chat(scheduling.Content{Raw: strings.Repeat("Tell me of caches. ", 40)})
	read, err := s.read(text)
	if err != nil {
		t.Fatal(err)
	}
	held := len(read.tokenIDs) / blockSize * blockSize
	eventually(t, "events arrive", func() bool {
		a.store(t, read.tokenIDs[:held])
		return s.Score(context.Background(), nil, text, endpoints)[endpoints[0]] > 0.9
	})
	image := chat(scheduling.Content{Structured: []scheduling.ContentBlock{
		{Type: "image_url", ImageURL: scheduling.ImageBlock{Url: "data:image/png;base64,AAAA"}},
	}})
	scores := s.Score(context.Background(), nil, image, endpoints)
	if score, ok := scores[endpoints[0]]; !ok || score != 0 {
		t.Errorf("an image scores %v (%v)", score, ok)
	}
	empty := &scheduling.LLMRequest{RequestId: "2", TargetModel: "tiny"}
	if score := s.Score(context.Background(), nil, empty, endpoints)[endpoints[0]]; score != 0 {
		t.Errorf("nothing scores %v", score)
	}
}

func TestParametersThatAreWrongAreNamed(t *testing.T) {
	handle := plugin.NewEppHandle(context.Background(), nil)
	for parameters, said := range map[string]string{
		`{"pods": ["http://a:1"], "blockSize": 16, "blocksize2": 1}`:                          "blocksize2",
		`{"blockSize": 16, "tokenizer": "x"}`:                                                 "pods: none",
		`{"pods": ["http://a:1"], "tokenizer": "x"}`:                                          "blockSize: none",
		`{"pods": ["http://a:1"], "blockSize": 16, "tokenizer": "/no/such/folder"}`:           "/no/such/folder",
		`{"pods": ["ftp://a:1"], "blockSize": 16, "tokenizer": "../../../testdata/tokenize"}`: "fleet.pods[0].url",
	} {
		_, err := Factory("kv", json.RawMessage(parameters), handle)
		if err == nil || !strings.Contains(err.Error(), said) || !strings.Contains(err.Error(), Type) {
			t.Errorf("%s: %v", parameters, err)
		}
	}
}
