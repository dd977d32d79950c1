package kvroute

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// busyRouter is a router of which there is something to tell in every place.
func busyRouter(t *testing.T) (*Router, PodID) {
	config := everything()
	config.Pods = append(config.Pods, PodConfig{Name: "prefills", Domain: "own", Role: RolePrefill})
	router := must(New(config))(t)
	t.Cleanup(func() { router.Close() })
	pod := must(router.FindPod("pod", 1))(t)
	if report := must(router.Apply(pod, 0, []byte("\xc1")))(t); report.Detail == "" {
		t.Errorf("%+v", report)
	}
	// The pod's batches are numbered per rank, and this one is of rank 0.
	batch := "\x93\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x91\x91\xb0AllBlocksCleared\x00"
	if report := must(router.Apply(pod, 1, []byte(batch)))(t); report.Ignored != IgnoredOtherRank {
		t.Errorf("%+v", report)
	}
	stored := BlocksStored{Hashes: []uint64{1}, TokenIDs: make([]uint32, 16), BlockSize: 16, Tier: TierCPU}
	must(router.ApplyEvents(pod, stored))(t)
	if err := router.ReportLoad(pod, 3, 2, 0.25); err != nil {
		t.Fatal(err)
	}
	return router, pod
}

func busyRequest(pod PodID) *Request {
	return &Request{
		TokenIDs: make([]uint32, 2000), SessionID: "alice", Now: time.Unix(1, 0), Explain: new(Explanation),
		Scores: []ScoreColumn{{"warmth", []PodID{pod}, []float64{0.5}}},
	}
}

func TestExplanationsAndStatusesLoseNothing(t *testing.T) {
	router, pod := busyRouter(t)
	must(router.Dispatch(busyRequest(pod)))(t)
	for _, document := range router.documents(t) {
		strict := json.NewDecoder(strings.NewReader(document.text))
		strict.DisallowUnknownFields()
		if err := strict.Decode(document.to); err != nil {
			t.Errorf("%T: %v in %s", document.to, err, document.text)
		}
		var before, after any
		json.Unmarshal([]byte(document.text), &before)
		json.Unmarshal(must(json.Marshal(document.to))(t), &after)
		compareDocuments(t, fmt.Sprintf("%T", document.to), before, after)
	}
}

// compareDocuments compares what was read with what is written again. An absent text is an empty one in Go.
func compareDocuments(t *testing.T, place string, before, after any) {
	t.Helper()
	switch before := before.(type) {
	case map[string]any:
		after := after.(map[string]any)
		for key := range after {
			if _, found := before[key]; !found {
				t.Errorf("%s.%s is not what the library writes", place, key)
			}
		}
		for key, value := range before {
			compareDocuments(t, place+"."+key, value, after[key])
		}
	case []any:
		for at, value := range before {
			compareDocuments(t, fmt.Sprintf("%s[%d]", place, at), value, after.([]any)[at])
		}
	default:
		if !reflect.DeepEqual(before, after) && !(before == nil && after == "") {
			t.Errorf("%s: %v is written as %v", place, before, after)
		}
	}
}

type document struct {
	text string
	to   any
}

// documents are the JSON of the last decision's explanation and of the router's status.
func (r *Router) documents(t *testing.T) []document {
	s := must(r.enter())(t)
	defer r.leave(s)
	return []document{
		{string(must(r.explanation(s, 0))(t)), &Explanation{}},
		{string(must(r.status(s))(t)), &RouterStatus{}},
	}
}

func TestExplanationsTellWhatTheDecisionSaw(t *testing.T) {
	router, pod := busyRouter(t)
	request := busyRequest(pod)
	decision := must(router.Dispatch(request))(t)
	why := request.Explain
	seen := why.Pods[*why.Picked]
	if seen.ID != decision.Pod || seen.Pod != "pod" || seen.DPRank != 1 || seen.MatchedBlocks != decision.MatchedBlocks || seen.Total != decision.Total {
		t.Errorf("%+v explains %+v", seen, decision)
	}
	if seen.Capacity != 2 || seen.Overloaded || seen.UncachedTokens != decision.UncachedTokens || why.Reason != decision.Reason {
		t.Errorf("%+v, %+v", seen, why)
	}
	if seen.Load == nil || *seen.Load != (LoadReport{3, 2, 0.25}) || seen.InFlight != 5 {
		t.Errorf("%+v", seen)
	}
	if why.Prefill == nil || why.Prefill.Pods[*why.Prefill.Picked].Pod != "prefills" || decision.Prefill.Pod == NoPod {
		t.Errorf("%+v", why.Prefill)
	}
	if why.Session == "" || !strings.Contains(why.String(), "> pod/1") || !strings.Contains(why.String(), "warmth 0.500 x 1.5") {
		t.Error(why)
	}

	// Also if no pod is left; but not if the request could not be looked at.
	if err := router.SetAccepting(pod, false); err != nil {
		t.Fatal(err)
	}
	if _, err := router.Decide(request); !errors.Is(err, ErrNoCandidate) {
		t.Fatal(err)
	}
	if why.Picked != nil || why.Pods[0].DroppedBy != "accepting" {
		t.Errorf("%+v", why)
	}
	request.SessionToken = "two sessions"
	if _, err := router.Decide(request); !errors.Is(err, ErrInvalidInput) || why.Profile != "" || why.String() != "" {
		t.Errorf("%v, %+v", err, why)
	}
}

func TestDecisionsSayWhyAndWhomElseToAsk(t *testing.T) {
	router := must(New(Config{
		Policy: PolicyConfig{Decode: ProfileConfig{
			Scorers:   &ScorersConfig{KVCache: &KVCacheConfig{Weight: 1}, LoraAffinity: &WeightConfig{0.5}},
			Guard:     &GuardConfig{&SpillConfig{Absolute: Ptr(uint32(1))}},
			Fallbacks: 9,
		}},
		Domains: map[string]DomainConfig{"m": {BlockSize: 4}},
		Pods:    []PodConfig{{Name: "a", Domain: "m"}, {Name: "b", Domain: "m"}, {Name: "c", Domain: "m"}},
	}))(t)
	defer router.Close()
	ids := must(router.Pods())(t)
	must(router.ApplyEvents(ids[0], BlocksStored{Hashes: []uint64{1}, TokenIDs: []uint32{1, 2, 3, 4}, BlockSize: 4, LoraName: "sql"}))(t)
	for _, pod := range ids[1:] {
		must(router.ApplyEvents(pod, CacheCleared{}))(t)
	}
	if err := errors.Join(
		router.ReportAdapters(ids[1], 1, []string{"sql"}, nil), router.ReportAdapters(ids[2], 1, nil, []string{"law"}),
	); err != nil {
		t.Fatal(err)
	}
	var why Explanation
	request := &Request{TokenIDs: []uint32{1, 2, 3, 4, 5}, Context: HashContext{LoraName: "sql"}, Explain: &why}
	decision := must(router.Decide(request))(t)
	if decision.Pod != ids[0] || decision.Reason != ReasonPicked || decision.Prefill.Reason != "" {
		t.Errorf("%+v", decision)
	}
	if !reflect.DeepEqual(decision.Fallbacks, []PodID{ids[1], ids[2]}) || !reflect.DeepEqual(why.Fallbacks, []int{1, 2}) {
		t.Errorf("%+v, %+v", decision, why)
	}
	for at, fit := range []AdapterFit{AdapterUnknown, AdapterRunning, AdapterFull} {
		if why.Pods[at].Adapter != fit {
			t.Errorf("%+v", why.Pods[at])
		}
	}
	if err := router.ReportLoad(ids[0], 30, 0, 0); err != nil {
		t.Fatal(err)
	}
	decision = must(router.Dispatch(request))(t)
	if decision.Pod == ids[0] || decision.Reason != ReasonSpilled || why.Reason != ReasonSpilled || *why.Overruled != 0 {
		t.Errorf("%+v, %+v", decision, why)
	}
	// What was sent there is expected there.
	domain := must(router.Domain("m"))(t)
	defer domain.Close()
	matches := must(router.Lookup(domain, must(domain.Hash(nil, request.TokenIDs, &request.Context))(t)))(t)
	if len(matches) != 2 || matches[0].Speculative != 0 || matches[1].Pod != decision.Pod || matches[1].Speculative != 1 {
		t.Errorf("%+v", matches)
	}
	must(router.Finish(decision.Ticket, FinishFailed, CachedUnknown))(t)
	if status := must(router.Status())(t); status.Pods[1].Failures+status.Pods[2].Failures != 1 {
		t.Errorf("%+v", status.Pods)
	}
}

func TestRecordsAreMadeAgain(t *testing.T) {
	router, pod := busyRouter(t)
	request := busyRequest(pod)
	var line string
	request.Record = &line
	decision := must(router.Dispatch(request))(t)
	if strings.Contains(line, "token_ids") || !strings.Contains(line, fmt.Sprintf(`"ticket":%d,`, decision.Ticket)) {
		t.Error(line)
	}
	replayed := must(LogReplay(line, everything().Policy))(t)
	why := request.Explain
	if !replayed.AsRecorded || *replayed.Decode.Picked != *why.Picked || len(replayed.Decode.Scores) != len(why.Pods[*why.Picked].Scores) {
		t.Errorf("%+v", replayed)
	}
	if replayed.Prefill == nil || replayed.Decode.MatchedTokens != decision.MatchedTokens {
		t.Errorf("%+v", replayed)
	}
	other := must(LogReplay(line, PolicyConfig{Decode: ProfileConfig{Scorers: &ScorersConfig{Queue: &WeightConfig{1}}}}))(t)
	if other.AsRecorded || other.Prefill != nil || other.Decode.Scores[0].Scorer != "queue" {
		t.Errorf("%+v", other)
	}
	end := must(LogOutcome(decision.Ticket, FinishCompleted, 7, time.Unix(2, 0)))(t)
	checkFailures(t, []failure{
		{"no line", failed(LogReplay("", PolicyConfig{})), ErrDecode, ""},
		{"an end", failed(LogReplay(end, PolicyConfig{})), ErrInvalidInput, "request's end"},
		{"no policy", failed(LogReplay(line, PolicyConfig{Preset: "x"})), ErrInvalidInput, "preset"},
		{"bytes", failed(LogReplay(notUTF8, PolicyConfig{})), ErrInvalidInput, "UTF-8"},
		{"finish", failed(LogOutcome(1, "eaten", 0, time.Time{})), ErrInvalidInput, "eaten"},
		{"cached", failed(LogOutcome(1, FinishFailed, -2, time.Time{})), ErrInvalidInput, "-2"},
	})
	if schema := must(LogSchema())(t); !strings.Contains(schema, "kvroute_log") {
		t.Error(schema)
	}

	request.RecordPrompt = true
	if err := router.SetAccepting(pod, false); err != nil {
		t.Fatal(err)
	}
	if _, err := router.Dispatch(request); !errors.Is(err, ErrNoCandidate) || !strings.Contains(line, "token_ids") {
		t.Error(err, line)
	}
	request.SessionToken = "two sessions"
	if _, err := router.Dispatch(request); !errors.Is(err, ErrInvalidInput) || line != "" {
		t.Error(err, line)
	}
}

func TestDecisionsNameTheirPodsIfAsked(t *testing.T) {
	router, pod := busyRouter(t)
	request := busyRequest(pod)
	if decision := must(router.Decide(request))(t); decision.Name != "" || decision.Prefill.Name != "" {
		t.Errorf("%+v", decision)
	}
	request.Names = true
	decision := must(router.Decide(request))(t)
	if decision.Name != "pod" || decision.DPRank != 1 || decision.Prefill.Name != "prefills" || decision.Prefill.DPRank != 0 {
		t.Errorf("%+v", decision)
	}
}

func TestStatusAndCountersAgree(t *testing.T) {
	router, pod := busyRouter(t)
	decision := must(router.Dispatch(busyRequest(pod)))(t)
	must(router.Finish(decision.Ticket, FinishCompleted, 0))(t)
	must(router.Dispatch(busyRequest(pod)))(t)
	status, counters := must(router.Status())(t), must(router.Counters())(t)
	if status.Counters != counters || counters.InFlight != 1 || counters.Sessions != 1 || counters.Index.Blocks == 0 {
		t.Errorf("%+v, %+v", status.Counters, counters)
	}
	of, counted := status.Pods[0], must(router.PodCounters(pod))(t)
	same := PodCounters{of.Trust, of.Accepting, of.Stream, of.ParkedBlocks, of.Audit, of.Booked, of.Predicted.Blocks}
	if !reflect.DeepEqual(same, counted) || counted.Stream.Ignored[IgnoredOtherRank] != 1 || counted.Booked.Requests != 1 {
		t.Errorf("%+v, %+v", same, counted)
	}
}

// More pods than any first buffer has room for.
func TestAnswersMayBeLong(t *testing.T) {
	router := must(New(Config{
		Policy:  PolicyConfig{Sampling: SamplingConfig{Above: Ptr(uint64(1000))}},
		Domains: map[string]DomainConfig{"m": {BlockSize: 1}},
	}))(t)
	defer router.Close()
	stored := BlocksStored{Hashes: []uint64{1}, TokenIDs: []uint32{7}, BlockSize: 1}
	const pods = 150
	for pod := range pods {
		added := must(router.AddPod(PodConfig{Name: fmt.Sprintf("%d%s", pod, strings.Repeat("-", pod)), Domain: "m"}))(t)
		must(router.ApplyEvents(added, stored))(t)
	}
	domain := must(router.Domain("m"))(t)
	defer domain.Close()
	matches := must(router.Lookup(domain, must(domain.Hash(nil, []uint32{7}, nil))(t)))(t)
	ids, status := must(router.Pods())(t), must(router.Status())(t)
	if len(matches) != pods || len(ids) != pods || len(status.Pods) != pods {
		t.Error(len(matches), len(ids), len(status.Pods))
	}
	for at, id := range ids {
		if name, _, err := router.PodName(id); err != nil || name != status.Pods[at].Name {
			t.Error(name, err)
		}
	}
	var why Explanation
	must(router.Decide(&Request{TokenIDs: []uint32{7, 8}, Explain: &why}))(t)
	if len(why.Pods) != pods {
		t.Error(len(why.Pods))
	}
}

func TestEventsOfAllKindsReachTheIndex(t *testing.T) {
	router := must(New(Config{Domains: map[string]DomainConfig{"m": {BlockSize: 2}}}))(t)
	defer router.Close()
	pod := must(router.AddPod(PodConfig{Name: "a", Domain: "m"}))(t)
	applied := func(events ...Event) ApplyReport {
		t.Helper()
		report := must(router.ApplyEvents(pod, events...))(t)
		if report.Outcome != OutcomeApplied {
			t.Errorf("%+v", report)
		}
		return report
	}
	matched := func(request Request) TierBlocks {
		t.Helper()
		return must(router.Decide(&request))(t).MatchedBlocks
	}
	prompt := []uint32{1, 2, 3, 4, 5}
	context := HashContext{LoraName: "sql", CacheSalt: "tenant", Multimodal: []MultimodalItem{{"image", 1, 2}}}
	applied(BlocksStored{
		Hashes: []uint64{11}, TokenIDs: prompt[:2], BlockSize: 2, LoraName: "sql", GroupKind: &GroupKind{},
		ExtraKeys: []ExtraKey{{Kind: ExtraKeyMultimodal, Key: "image", Offset: 1}, {Kind: ExtraKeyText, Key: "tenant"}},
	}, BlocksStored{
		Hashes: []uint64{12}, Parent: Ptr(uint64(11)), TokenIDs: prompt[2:4], BlockSize: 2, LoraName: "sql", Tier: TierGPU,
		ExtraKeys: []ExtraKey{{Kind: ExtraKeyMultimodal, Key: "image", Offset: -1}},
	})
	if got := matched(Request{TokenIDs: prompt, Context: context}); got != (TierBlocks{TierGPU: 2}) {
		t.Error(got)
	}
	context.CacheSalt = "another"
	if got := matched(Request{TokenIDs: prompt, Context: context}); got.Total() != 0 {
		t.Error(got)
	}
	applied(BlocksStored{Hashes: []uint64{21, 22}, TokenIDs: prompt[:4], BlockSize: 2, Tier: TierDisk})
	if got := matched(Request{TokenIDs: prompt}); got != (TierBlocks{TierDisk: 2}) || got.Total() != 2 {
		t.Error(got)
	}
	if report := applied(BlocksRemoved{Hashes: []uint64{22}, Tier: TierUnknown}, CacheCleared{}); report.BlocksRemoved != 4 {
		t.Errorf("%+v", report)
	}
	trtllm := `{"event_id":%d,"data":{"type":"stored","parent_hash":null,"blocks":[{"type":"stored_block","block_hash":31,
		"tokens":[{"type":"unique_token","token_id":1,"token_extra_id":0},{"type":"unique_token","token_id":2,"token_extra_id":0}],
		"lora_id":null,"cache_level":0,"priority":35}]},"window_size":%d}`
	for id, window := range []int{64, 128} {
		event := fmt.Appendf(nil, strings.ReplaceAll(trtllm, "\n", ""), id, window)
		if report := must(router.ApplyTRTLLM(pod, event, 128))(t); report.BlocksStored != uint64(id) {
			t.Errorf("%d: %+v", window, report)
		}
	}
	if got := matched(Request{TokenIDs: prompt}); got != (TierBlocks{TierGPU: 1}) {
		t.Error(got)
	}
}
