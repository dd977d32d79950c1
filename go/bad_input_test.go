package kvroute

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

const notUTF8 = "a\xff"

// stranger is an id that names no pod.
const stranger = ^PodID(0)

func onePod(t testing.TB) (*Router, PodID) {
	t.Helper()
	router := must(New(Config{
		Policy: PolicyConfig{Decode: ProfileConfig{Scorers: &ScorersConfig{
			External: map[string]WeightConfig{"warmth": {1}},
		}}},
		Domains: map[string]DomainConfig{"m": {BlockSize: 4}},
		Pods:    []PodConfig{{Name: "a", Domain: "m"}},
	}))(t)
	t.Cleanup(func() { router.Close() })
	return router, must(router.FindPod("a", 0))(t)
}

// failure is one error that a call with such an input must answer.
type failure struct {
	name   string
	err    error
	is     error
	saying string
}

func checkFailures(t *testing.T, failures []failure) {
	t.Helper()
	for _, f := range failures {
		var failed *Error
		if !errors.Is(f.err, f.is) || !strings.Contains(fmt.Sprint(f.err), f.saying) {
			t.Errorf("%s: got %v, expected %v saying %q", f.name, f.err, f.is, f.saying)
		} else if f.is != ErrClosed && (!errors.As(f.err, &failed) || failed.Message == "") {
			t.Errorf("%s: %v says nothing", f.name, f.err)
		}
	}
}

func failed[T any](_ T, err error) error { return err }

func TestBadRequestsAreRefused(t *testing.T) {
	router, pod := onePod(t)
	with := func(request Request) error {
		err := failed(router.Decide(&request))
		if booked := failed(router.Dispatch(&request)); fmt.Sprint(booked) != fmt.Sprint(err) {
			t.Errorf("Decide: %v, Dispatch: %v", err, booked)
		}
		return err
	}
	tokens := []uint32{1, 2, 3, 4, 5}
	column := func(scorer string, pods []PodID, values ...float64) Request {
		return Request{TokenIDs: tokens, Scores: []ScoreColumn{{scorer, pods, values}}}
	}
	pods := []PodID{pod}
	checkFailures(t, []failure{
		{"text and tokens", with(Request{TokenIDs: tokens, Text: "x"}), ErrInvalidInput, "token_ids and text"},
		{"two sessions", with(Request{TokenIDs: tokens, SessionID: "a", SessionToken: "b"}), ErrInvalidInput, "session"},
		{"model", with(Request{TokenIDs: tokens, Model: notUTF8}), ErrInvalidInput, "not UTF-8 from byte 1"},
		{"salt", with(Request{TokenIDs: tokens, Context: HashContext{CacheSalt: notUTF8}}), ErrInvalidInput, "cache_salt"},
		{"adapter", with(Request{TokenIDs: tokens, Context: HashContext{LoraID: 1}}), ErrInvalidInput, "lora_name"},
		{"items", with(Request{TokenIDs: tokens, Context: HashContext{Multimodal: []MultimodalItem{{"b", 3, 1}, {"a", 1, 1}}}}),
			ErrInvalidInput, ""},
		{"a stranger's column", with(column("nobody", pods, 1)), ErrInvalidInput, "nobody"},
		{"subset", with(Request{TokenIDs: tokens, Subset: []string{"a", notUTF8}}), ErrInvalidInput, "subset"},
		{"nobody's subset", with(Request{TokenIDs: tokens, Subset: []string{"b"}}), ErrNoCandidate, `1 by filter "subset"`},
		{"empty subset", with(Request{TokenIDs: tokens, Subset: []string{}}), ErrNoCandidate, `1 by filter "subset"`},
		{"too few values", with(column("warmth", pods)), ErrInvalidInput, "1 pods and 0 values"},
		{"NaN", with(column("warmth", pods, math.NaN())), ErrInvalidInput, ""},
		{"negative", with(column("warmth", pods, -0.5)), ErrInvalidInput, ""},
		{"infinite", with(column("warmth", pods, math.Inf(1))), ErrInvalidInput, ""},
		{"17 columns", with(Request{TokenIDs: tokens, Scores: make([]ScoreColumn, 17)}), ErrInvalidInput, "at most 16"},
		{"before 1970", with(Request{TokenIDs: tokens, Now: time.Unix(-1, 0)}), ErrInvalidInput, "1969"},
		{"far future", with(Request{TokenIDs: tokens, Now: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}), ErrInvalidInput, "3000"},
	})
	if n := must(router.Counters())(t); n.InFlight != 0 {
		t.Error("a refused request is booked")
	}
	// Nothing is fine, and pods that are gone are passed over.
	for _, request := range []Request{
		{}, {TokenIDs: []uint32{}}, {Scores: []ScoreColumn{}}, {TokenIDs: []uint32{math.MaxUint32}},
		column("warmth", []PodID{stranger}, 1), column("warmth", nil),
		{Context: HashContext{Multimodal: []MultimodalItem{}, PromptEmbeds: [][]byte{nil}}},
		{Text: notUTF8}, {Nonce: math.MaxUint64, Now: time.Unix(0, 0)},
	} {
		if _, err := router.Decide(&request); err != nil {
			t.Errorf("%+v: %v", request, err)
		}
	}
}

func TestBadPodsAndDomainsAreRefused(t *testing.T) {
	router, pod := onePod(t)
	add := func(config PodConfig) error { return failed(router.AddPod(config)) }
	events := func(events EventsConfig) error { return add(PodConfig{Name: "b", Domain: "m", Events: events}) }
	checkFailures(t, []failure{
		{"no domain", add(PodConfig{Name: "b", Domain: "n"}), ErrUnknownDomain, `"n"`},
		{"no name", add(PodConfig{Domain: "m"}), ErrInvalidInput, ""},
		{"there already", add(PodConfig{Name: "a", Domain: "m"}), ErrInvalidInput, "already"},
		{"name", add(PodConfig{Name: notUTF8, Domain: "m"}), ErrInvalidInput, "UTF-8"},
		{"domain's name", add(PodConfig{Name: "b", Domain: notUTF8}), ErrInvalidInput, "UTF-8"},
		{"role", add(PodConfig{Name: "b", Domain: "m", Role: "chef"}), ErrInvalidInput, `role is "chef"`},
		{"copies", events(EventsConfig{Copies: "x"}), ErrInvalidInput, `copies is "x"`},
		{"gap", events(EventsConfig{OnGap: "x"}), ErrInvalidInput, `on_gap is "x"`},
		{"kind", events(EventsConfig{Groups: []GroupConfig{{0, GroupKind{Attention: "x"}}}}), ErrInvalidInput, `"x"`},
		{"capacity", add(PodConfig{Name: "b", Domain: "m", Capacity: -1}), ErrInvalidInput, "capacity"},
		{"no capacity", add(PodConfig{Name: "b", Domain: "m", Capacity: math.NaN()}), ErrInvalidInput, "capacity"},
		{"endless capacity", add(PodConfig{Name: "b", Domain: "m", Capacity: math.Inf(1)}), ErrInvalidInput, "capacity"},
		{"window", events(EventsConfig{Groups: []GroupConfig{{0, GroupKind{Attention: AttentionSlidingWindow}}}}), ErrInvalidInput, ""},
		{"removed", router.RemovePod(stranger), ErrUnknownPod, ""},
		{"found", failed(router.FindPod("b", 0)), ErrUnknownPod, ""},
		{"rank", failed(router.FindPod("a", 9)), ErrUnknownPod, ""},
		{"load", router.ReportLoad(pod, 0, 0, float32(math.NaN())), ErrInvalidInput, "NaN"},
		{"negative load", router.ReportLoad(pod, 0, 0, -1), ErrInvalidInput, ""},
		{"nobody's load", router.ReportLoad(NoPod, 0, 0, 0), ErrUnknownPod, ""},
		{"nobody's adapters", router.ReportAdapters(stranger, 1, nil, nil), ErrUnknownPod, ""},
		{"adapters", router.ReportAdapters(pod, 1, []string{"a", notUTF8}, nil), ErrInvalidInput, "running"},
		{"waiting adapters", router.ReportAdapters(pod, 1, nil, []string{notUTF8}), ErrInvalidInput, "waiting"},
		{"accepting", router.SetAccepting(stranger, true), ErrUnknownPod, ""},
		{"gap", router.AbandonGap(stranger, 0), ErrUnknownPod, ""},
		{"predictions", router.ForgetPredictions(stranger), ErrUnknownPod, ""},
		{"counters", failed(router.PodCounters(stranger)), ErrUnknownPod, ""},
		{"domain", failed(router.Domain("n")), ErrUnknownDomain, `"n"`},
		{"token", failed(router.SessionToken(pod, NoPod, time.Time{})), ErrInvalidInput, "key"},
		{"finish", failed(router.Finish(1, "eaten", 0)), ErrInvalidInput, "eaten"},
		{"cached", failed(router.Finish(1, FinishCompleted, -2)), ErrInvalidInput, "-2"},
		{"expire", failed(router.Expire(time.Unix(-5, 0))), ErrInvalidInput, "1969"},
	})
	if _, _, err := router.PodName(stranger); !errors.Is(err, ErrUnknownPod) {
		t.Error(err)
	}
	if known, err := router.Finish(math.MaxUint64, FinishCompleted, math.MaxInt); known || err != nil {
		t.Error(known, err)
	}
	if err := router.ReportLoad(pod, math.MaxUint32, math.MaxUint32, 1); err != nil {
		t.Error(err)
	}
	// More than any memory has is like no bound.
	most := Ptr(uint64(math.MaxUint64))
	if err := events(EventsConfig{MaxParked: most, MaxParkedBytes: most, MaxRetired: most}); err != nil {
		t.Error(err)
	}
}

func TestBadEventsAreRefusedOrReported(t *testing.T) {
	router, pod := onePod(t)
	apply := func(events ...Event) error { return failed(router.ApplyEvents(pod, events...)) }
	stored := func(change func(*BlocksStored)) error {
		event := BlocksStored{Hashes: []uint64{1}, TokenIDs: []uint32{1, 2, 3, 4}, BlockSize: 4}
		change(&event)
		return apply(event)
	}
	checkFailures(t, []failure{
		{"nil", apply(BlocksRemoved{}, nil), ErrInvalidInput, "event 1 is nil"},
		{"tier", stored(func(e *BlocksStored) { e.Tier = 9 }), ErrInvalidInput, "tier is 9"},
		{"removed tier", apply(BlocksRemoved{Tier: -2}), ErrInvalidInput, "tier is -2"},
		{"kind", stored(func(e *BlocksStored) { e.GroupKind = &GroupKind{Attention: "x"} }), ErrInvalidInput, `"x"`},
		{"adapter", stored(func(e *BlocksStored) { e.LoraName = notUTF8 }), ErrInvalidInput, "lora_name"},
		{"key", stored(func(e *BlocksStored) { e.ExtraKeys = []ExtraKey{{Kind: "x"}} }), ErrInvalidInput, `"x"`},
		{"key's block", stored(func(e *BlocksStored) { e.ExtraKeys = []ExtraKey{{Block: 7, Kind: ExtraKeyText}} }),
			ErrInvalidInput, "block 7"},
		{"a stranger's", failed(router.ApplyEvents(stranger)), ErrUnknownPod, ""},
		{"a stranger's batch", failed(router.Apply(stranger, 0, nil)), ErrUnknownPod, ""},
		{"topic", failed(router.ApplyTopic("x", 0, 0, nil)), ErrInvalidInput, `"x"`},
		{"topic's name", failed(router.ApplyTopic("kv@"+notUTF8+"@m", 0, 0, nil)), ErrInvalidInput, "UTF-8"},
		{"JSON", failed(router.ApplyTRTLLM(pod, []byte("x"), 0)), ErrDecode, ""},
	})
	if n := must(router.PodCounters(pod))(t); n.Stream.BlocksStored != 0 {
		t.Error("a refused event was applied")
	}
	for sequence, payload := range [][]byte{nil, {0xc1}, []byte("text"), {}} {
		report := must(router.Apply(pod, uint64(sequence), payload))(t)
		if report.Outcome != OutcomeNeedsResync || report.Resync != ResyncUndecodable || report.Detail == "" {
			t.Errorf("%v: %+v", payload, report)
		}
	}
	for name, event := range map[string]Event{
		"too few tokens": BlocksStored{Hashes: []uint64{1, 2}, TokenIDs: []uint32{1}, BlockSize: 4},
		"no block size":  BlocksStored{Hashes: []uint64{1}, TokenIDs: []uint32{1, 2, 3, 4}},
		"a far parent":   BlocksStored{Hashes: []uint64{1}, Parent: Ptr(uint64(math.MaxUint64)), TokenIDs: []uint32{1, 2, 3, 4}, BlockSize: 4},
		"unknown tier":   BlocksStored{Hashes: []uint64{1}, TokenIDs: []uint32{1, 2, 3, 4}, BlockSize: 4, Tier: TierUnknown},
	} {
		if report := must(router.ApplyEvents(pod, event))(t); report.Outcome == OutcomeApplied {
			t.Errorf("%s: %+v", name, report)
		}
	}
	for _, event := range []Event{BlocksStored{}, BlocksRemoved{}, CacheCleared{}} {
		must(router.ApplyEvents(pod, event))(t)
	}
	must(router.ApplyEvents(pod))(t)
}

func TestBadHashersDomainsAndDocumentsAreRefused(t *testing.T) {
	hasher := func(options HasherOptions) error { return failed(NewHasher(options)) }
	vllm := HasherOptions{Scheme: HashSchemeVLLM, BlockSize: 16, Algorithm: VLLMSHA256CBOR, Version: "0.32.0"}
	with := func(change func(*HasherOptions)) error {
		options := vllm
		change(&options)
		return hasher(options)
	}
	endpointPicker := func(document string) error {
		_, _, err := ConfigFromEndpointPicker(document)
		return err
	}
	llmd := must(NewHasher(HasherOptions{Scheme: HashSchemeLLMDCBORFNV, BlockSize: 16, Model: "m"}))(t)
	defer llmd.Close()
	tagged := must(NewHasher(vllm))(t)
	defer tagged.Close()
	router, _ := onePod(t)
	other := must(NewDomain("m", tagged))(t)
	defer other.Close()
	checkFailures(t, []failure{
		{"no size", hasher(HasherOptions{}), ErrInvalidInput, "0"},
		{"large size", hasher(HasherOptions{BlockSize: 1 << 20}), ErrInvalidInput, "1048576"},
		{"seed", hasher(HasherOptions{BlockSize: 16, Seed: Ptr("many")}), ErrInvalidInput, "seed"},
		{"scheme", hasher(HasherOptions{BlockSize: 16, Scheme: "md5"}), ErrInvalidInput, "md5"},
		{"form", hasher(HasherOptions{BlockSize: 16, Multimodal: "x"}), ErrInvalidInput, `"x"`},
		{"algorithm", with(func(o *HasherOptions) { o.Algorithm = "md5" }), ErrInvalidInput, "md5"},
		{"version", with(func(o *HasherOptions) { o.Version = "new" }), ErrInvalidInput, "new"},
		{"root", with(func(o *HasherOptions) { o.NoneHash = []byte{1} }), ErrInvalidInput, ""},
		{"random", with(func(o *HasherOptions) { o.Algorithm = VLLMXXHash }), ErrNotReproducible, "PYTHONHASHSEED"},
		{"llm-d", failed(NewDomain("n", llmd)), ErrInvalidInput, ""},
		{"domain's name", failed(NewDomain(notUTF8, tagged)), ErrInvalidInput, "UTF-8"},
		{"another domain", router.AddDomain(other), ErrInvalidInput, `"m"`},
		{"no path", failed(tagged.Hash(nil, make([]uint32, 16), &HashContext{LoraName: "a"})), ErrInvalidInput, "path"},
		{"document", CheckDocument("domains: 7"), ErrInvalidInput, "domains"},
		{"bytes", CheckDocument(notUTF8), ErrInvalidInput, "UTF-8"},
		{"router", failed(NewFromDocument("x: y")), ErrInvalidInput, "x"},
		{"NaN", failed(New(Config{Policy: PolicyConfig{Decode: ProfileConfig{Scorers: &ScorersConfig{
			Prefix: &WeightConfig{math.NaN()}}}}})), ErrInvalidInput, "NaN"},
		{"negative", failed(New(Config{Policy: PolicyConfig{Decode: ProfileConfig{Scorers: &ScorersConfig{
			Prefix: &WeightConfig{-1}}}}})), ErrInvalidInput, "weight"},
		{"picker", failed(New(Config{Policy: PolicyConfig{Decode: ProfileConfig{
			Picker: PickerSoftmax(SoftmaxConfig{-1})}}})), ErrInvalidInput, "policy.decode.picker.softmax.temperature"},
		{"overload", failed(New(Config{Overload: OverloadConfig{KVUsage: Ptr(-1.0)}})), ErrInvalidInput, "overload.kv_usage"},
		{"policy", router.SetPolicy(PolicyConfig{Preset: "cheapest"}), ErrInvalidInput, "policy.preset"},
		{"NaN in a policy", router.SetPolicy(PolicyConfig{Decode: ProfileConfig{
			Picker: PickerSoftmax(SoftmaxConfig{math.NaN()})}}), ErrInvalidInput, "NaN"},
		{"policy's document", router.SetPolicyFromDocument("decode: {}"), ErrInvalidInput, "decode"},
		{"the rest of it", router.SetPolicyFromDocument(`{"pods":[{"name":"a","domain":"n"}]}`), ErrInvalidInput, "pods[0]"},
		{"policy's bytes", router.SetPolicyFromDocument(notUTF8), ErrInvalidInput, "UTF-8"},
		{"endpoint picker", endpointPicker("kind: Pod"), ErrInvalidInput, "expected EndpointPickerConfig"},
		{"endpoint picker's bytes", endpointPicker(notUTF8), ErrInvalidInput, "UTF-8"},
		{"text blocks", failed(New(Config{TextBlockBytes: 7})), ErrInvalidInput, "text_block_bytes"},
	})
}

func TestErrorsAreToldApart(t *testing.T) {
	_, err := NewFromDocument("x: y")
	wrapped := fmt.Errorf("starting: %w", err)
	var failed *Error
	if !errors.Is(wrapped, ErrInvalidInput) || !errors.As(wrapped, &failed) || failed.Status != StatusInvalidInput {
		t.Error(wrapped)
	}
	if errors.Is(wrapped, ErrUnknownPod) || errors.Is(wrapped, ErrClosed) || errors.Is(ErrClosed, ErrInvalidInput) {
		t.Error("kinds are mixed up")
	}
	if errors.Is(err, &Error{Status: StatusInvalidInput, Message: "another"}) {
		t.Error("two messages are one error")
	}
	for status, name := range map[Status]string{StatusUnknownPod: "unknown-pod", StatusPanic: "panic", 7: "unknown"} {
		if status.String() != name {
			t.Error(status)
		}
	}
	if text := ErrLimit.Error(); text != "kvroute: limit" {
		t.Error(text)
	}
}
