package kvroute

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The shared test table; testdata/bindings/README.md says how it is written.
const table = "../testdata/bindings/cases.txt"

func TestEveryCaseOfTheSharedTable(t *testing.T) {
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for title, lines := range casesOf(t, string(text)) {
		t.Run(title, func(t *testing.T) {
			c := &tableCase{t: t, router: &Router{}, pods: map[string]PodID{"?": ^PodID(0)},
				tickets: map[string]Ticket{}, tokens: map[string]string{}}
			defer func() { c.router.Close() }()
			for _, line := range lines {
				c.run(line)
			}
		})
		steps += len(lines)
	}
	if steps < 100 {
		t.Errorf("the table has %d steps only", steps)
	}
}

// tableLine is one step.
type tableLine struct {
	number int
	text   string
}

func casesOf(t *testing.T, text string) map[string][]tableLine {
	cases := map[string][]tableLine{}
	title := ""
	for at, line := range strings.Split(text, "\n") {
		if name, found := strings.CutPrefix(line, "case "); found {
			if title = name; cases[title] != nil {
				t.Fatalf("line %d: a second case of this title", at+1)
			}
		} else if line != "" && line[0] != '#' {
			cases[title] = append(cases[title], tableLine{at + 1, line})
		}
	}
	return cases
}

// tableCase is what a case has made so far.
type tableCase struct {
	t       *testing.T
	router  *Router
	pods    map[string]PodID
	tickets map[string]Ticket
	tokens  map[string]string
	last    Decision
	why     Explanation
	// line is of the decision log, about the last decision for which it was asked.
	line string
	// snapshot is what a router knew when it was asked.
	snapshot bytes.Buffer
}

// arguments of a step: positional ones, then key=value.
type arguments struct {
	positional []string
	named      map[string]string
}

func argumentsOf(rest string) arguments {
	a := arguments{named: map[string]string{}}
	for _, word := range strings.Fields(rest) {
		if key, value, found := strings.Cut(word, "="); found {
			a.named[key] = value
		} else {
			a.positional = append(a.positional, word)
		}
	}
	return a
}

func (c *tableCase) run(line tableLine) {
	c.t.Helper()
	step, expected, isExpected := strings.Cut(line.text, " => ")
	verb, rest, _ := strings.Cut(step, " ")
	got, err := c.step(verb, rest)
	var failed *Error
	if errors.As(err, &failed) {
		got = fmt.Sprintf("error %v %s", failed.Status, failed.Message)
	} else if err != nil {
		got = "error " + err.Error()
	}
	if isExpected && got != expected || !isExpected && err != nil {
		c.t.Errorf("line %d: %s\n     got %s\nexpected %s", line.number, step, got, expected)
	}
}

func (c *tableCase) step(verb, rest string) (string, error) {
	a := argumentsOf(rest)
	switch verb {
	case "router":
		router, err := NewFromDocument(rest)
		if err != nil {
			return "", err
		}
		c.router = router
		return "", c.learn()
	case "policy":
		return "", c.router.SetPolicyFromDocument(rest)
	case "llm-d":
		return c.endpointPicker(rest)
	case "pod":
		return "", c.addPod(a)
	case "remove":
		return "", c.router.RemovePod(c.pod(a.positional[0]))
	case "accept":
		return "", c.router.SetAccepting(c.pod(a.positional[0]), a.positional[1] == "true")
	case "load":
		return "", c.router.ReportLoad(c.pod(a.positional[0]), number32(c, a, "running"), number32(c, a, "waiting"),
			float32(c.float(a.named["kv_usage"])))
	case "unload":
		return "", c.router.ForgetLoad(c.pod(a.positional[0]))
	case "adapters":
		return "", c.router.ReportAdapters(c.pod(a.positional[0]), number32(c, a, "max"), names(a.named["running"]),
			names(a.named["waiting"]))
	case "apply":
		return outcomeText(c.router.Apply(c.pod(a.positional[0]), c.number(a.named["sequence"]), c.bytes(a.named["payload"])))
	case "topic":
		return outcomeText(c.router.ApplyTopic(a.positional[0], number32(c, a, "rank"), c.number(a.named["sequence"]),
			c.bytes(a.named["payload"])))
	case "stored", "removed", "cleared":
		return outcomeText(c.router.ApplyEvents(c.pod(a.positional[0]), c.event(verb, a)))
	case "abandon":
		return "", c.router.AbandonGap(c.pod(a.positional[0]), c.number(a.named["sequence"]))
	case "forget":
		return "", c.router.ForgetPredictions(c.pod(a.positional[0]))
	case "hash":
		hashes, err := c.hashes(a)
		return strings.Trim(fmt.Sprint(hashes), "[]"), err
	case "lookup":
		return c.lookup(a)
	case "journal":
		return "", c.router.JournalHeld(c.pod(a.positional[0]), int(c.number(a.named["most"])))
	case "take":
		return c.take(a)
	case "held":
		return c.held(a)
	case "decide":
		decision, err := c.router.Decide(c.request(a))
		if err != nil {
			return "", err
		}
		return c.shown(decision), nil
	case "dispatch":
		decision, err := c.router.Dispatch(c.request(a))
		if err != nil {
			return "", err
		}
		c.tickets[a.positional[0]] = decision.Ticket
		return fmt.Sprintf("%s retries=%d contended=%t", c.shown(decision), decision.Retries, decision.Contended), nil
	case "first_token":
		return boolText(c.router.FirstToken(c.tickets[a.positional[0]]))
	case "finish":
		cached := CachedUnknown
		if given, found := a.named["cached"]; found {
			cached = int(c.number(given))
		}
		return boolText(c.router.Finish(c.tickets[a.positional[0]], Finish(a.positional[1]), cached))
	case "outcome":
		cached := CachedUnknown
		if given, found := a.named["cached"]; found {
			cached = int(c.number(given))
		}
		return LogOutcome(c.tickets[a.positional[0]], Finish(a.positional[1]), cached, c.now(a))
	case "recorded":
		return c.line, nil
	case "replay":
		replayed, err := LogReplayFromDocument(c.line, rest)
		return strconv.FormatBool(replayed.AsRecorded), err
	case "snapshot":
		c.snapshot.Reset()
		return "", c.router.Snapshot(&c.snapshot, c.now(a))
	case "restore":
		return c.restore(a)
	case "expire":
		expired, err := c.router.Expire(c.now(a))
		return strconv.Itoa(expired), err
	case "token":
		token, err := c.router.SessionToken(c.last.Pod, c.last.Prefill.Pod, c.now(a))
		c.tokens[a.positional[0]] = token
		return "", err
	case "counters":
		n, err := c.router.Counters()
		return fmt.Sprintf("in_flight=%d sessions=%d expired=%d untracked=%d", n.InFlight, n.Sessions, n.Expired, n.Untracked), err
	case "stream":
		return c.stream(a)
	case "trust":
		counters, err := c.router.PodCounters(c.pod(a.positional[0]))
		return string(counters.Trust), err
	case "says":
		if text := c.why.String(); !strings.Contains(text, rest) {
			c.t.Errorf("%q is not in:\n%s", rest, text)
		}
		return "", nil
	case "reset":
		if err := c.router.Recover(); err != nil {
			return "", err
		}
		return "", c.learn()
	}
	c.t.Fatalf("no step is called %q", verb)
	return "", nil
}

// endpointPicker makes the router choose as llm-d's configuration says.
func (c *tableCase) endpointPicker(document string) (string, error) {
	config, notes, err := ConfigFromEndpointPicker(document)
	if err != nil {
		return "", err
	}
	var shown strings.Builder
	encoder := json.NewEncoder(&shown)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(notes); err != nil {
		return "", err
	}
	return strings.TrimSpace(shown.String()), c.router.SetPolicy(config.Policy)
}

// restore gives the snapshot to the router there is now; what is absent is null in the table.
func (c *tableCase) restore(a arguments) (string, error) {
	file := c.snapshot.Bytes()
	if keep, found := a.named["keep"]; found {
		file = file[:c.number(keep)]
	}
	report, err := c.router.Restore(bytes.NewReader(file), c.now(a))
	if err != nil {
		return "", err
	}
	document, err := json.Marshal(report)
	absent := strings.NewReplacer(`"id":0`, `"id":null`, `"refusal":""`, `"refusal":null`)
	return absent.Replace(string(document)), errors.Join(err, c.learn())
}

// learn learns the names of the router's pods.
func (c *tableCase) learn() error {
	pods, err := c.router.Pods()
	for _, pod := range pods {
		name, rank, err := c.router.PodName(pod)
		if err != nil {
			return err
		}
		if rank != 0 {
			name = fmt.Sprintf("%s/%d", name, rank)
		}
		c.pods[name] = pod
	}
	return err
}

func (c *tableCase) addPod(a arguments) error {
	name, rank, _ := strings.Cut(a.positional[0], "/")
	config := PodConfig{Name: name, Domain: a.named["domain"], Role: Role(a.named["role"])}
	if rank != "" {
		config.DPRank = uint32(c.number(rank))
	}
	if capacity, found := a.named["capacity"]; found {
		config.Capacity = c.float(capacity)
	}
	if key, value, found := strings.Cut(a.named["label"], ":"); found {
		config.Labels = map[string]string{key: value}
	}
	if _, err := c.router.AddPod(config); err != nil {
		return err
	}
	return c.learn()
}

func (c *tableCase) pod(name string) PodID {
	pod, found := c.pods[name]
	if !found {
		c.t.Fatalf("no pod is called %q", name)
	}
	return pod
}

func (c *tableCase) name(pod PodID) string {
	for name, id := range c.pods {
		if id == pod {
			return name
		}
	}
	return "?"
}

func (c *tableCase) event(verb string, a arguments) Event {
	tier := TierGPU
	if name, found := a.named["tier"]; found {
		tier = tierOf(name)
	}
	switch verb {
	case "removed":
		return BlocksRemoved{Hashes: c.numbers(a.named["hashes"]), Tier: tier}
	case "cleared":
		return CacheCleared{}
	}
	event := BlocksStored{
		Hashes:    c.numbers(a.named["hashes"]),
		TokenIDs:  c.tokenIDs(a.named["tokens"]),
		BlockSize: uint32(c.number(a.named["block_size"])),
		Tier:      tier,
		LoraName:  a.named["lora"],
		CacheSalt: a.named["salt"],
	}
	if parent, found := a.named["parent"]; found {
		event.Parent = Ptr(c.number(parent))
	}
	return event
}

func outcomeText(report ApplyReport, err error) (string, error) {
	outcome := string(report.Outcome)
	switch {
	case report.Ignored != "":
		outcome = "ignored:" + string(report.Ignored)
	case report.Resync == ResyncGap:
		outcome = fmt.Sprintf("resync:gap:%d", report.ReplayFrom)
	case report.Resync != "":
		outcome = "resync:" + string(report.Resync)
	}
	return fmt.Sprintf("%s events=%d stored=%d removed=%d", outcome, report.Events, report.BlocksStored, report.BlocksRemoved), err
}

func boolText(value bool, err error) (string, error) {
	return strconv.FormatBool(value), err
}

func (c *tableCase) context(a arguments) HashContext {
	return HashContext{LoraName: a.named["lora"], CacheSalt: a.named["salt"]}
}

func (c *tableCase) hashes(a arguments) ([]uint64, error) {
	domain, err := c.router.Domain(a.positional[0])
	if err != nil {
		return nil, err
	}
	defer domain.Close()
	context := c.context(a)
	return domain.Hash(nil, c.tokenIDs(a.named["tokens"]), &context)
}

func (c *tableCase) lookup(a arguments) (string, error) {
	domain, err := c.router.Domain(a.positional[0])
	if err != nil {
		return "", err
	}
	defer domain.Close()
	ids := c.tokenIDs(a.named["tokens"])
	hashes, err := domain.Hash(nil, ids, nil)
	if err != nil {
		return "", err
	}
	searchable, err := domain.SearchableBlocks(len(ids))
	if err != nil {
		return "", err
	}
	matches, err := c.router.Lookup(domain, hashes[:searchable])
	var shown []string
	for _, match := range matches {
		b := match.Blocks
		shown = append(shown, fmt.Sprintf("%s=%d,%d,%d,%d,%d,%d", c.name(match.Pod), b[TierGPU], b[TierCPU], b[TierDisk],
			b[TierExternal], match.Predicted, match.Speculative))
	}
	return strings.Join(shown, " "), err
}

func (c *tableCase) request(a arguments) *Request {
	request := &Request{
		Context:      c.context(a),
		Model:        a.named["model"],
		SessionID:    a.named["session"],
		SessionToken: c.tokens[a.named["token"]],
		Now:          c.now(a),
		Explain:      &c.why,
	}
	if tokens, found := a.named["tokens"]; found {
		request.TokenIDs = c.tokenIDs(tokens)
	}
	if text, found := a.named["text"]; found {
		request.Text = string(c.bytes(text))
	}
	if nonce, found := a.named["nonce"]; found {
		request.Nonce = c.number(nonce)
	}
	if record, found := a.named["record"]; found {
		request.Record, request.RecordPrompt = &c.line, record == "prompt"
	}
	if subset, found := a.named["subset"]; found {
		request.Subset = names(subset)
	}
	if scores, found := a.named["scores"]; found {
		scorer, pairs, _ := strings.Cut(scores, ":")
		column := ScoreColumn{Scorer: scorer}
		for pair := range strings.SplitSeq(pairs, ",") {
			colon := strings.LastIndex(pair, ":")
			column.Pods = append(column.Pods, c.pod(pair[:colon]))
			column.Values = append(column.Values, c.float(pair[colon+1:]))
		}
		request.Scores = []ScoreColumn{column}
	}
	if known, found := a.named["known"]; found {
		for told := range strings.SplitSeq(known, ",") {
			colon := strings.LastIndex(told, ":")
			blocks := c.number(told[colon+1:])
			told = told[:colon]
			colon = strings.LastIndex(told, ":")
			request.Known = append(request.Known,
				KnownPrefix{c.pod(told[:colon]), tierOf(told[colon+1:]), uint32(blocks)})
		}
	}
	return request
}

func (c *tableCase) take(a arguments) (string, error) {
	changes, since, err := c.router.TakeHeld(c.pod(a.positional[0]), int(c.number(a.named["most"])))
	var shown []string
	for _, flag := range []struct {
		is   bool
		name string
	}{{since.Cleared, "cleared"}, {since.ListAgain, "list-again"}, {since.IsPlain, "plain"}, {since.HasMore, "more"}} {
		if flag.is {
			shown = append(shown, flag.name)
		}
	}
	for _, change := range changes {
		sign := "-"
		if change.IsHeld {
			sign = "+"
		}
		shown = append(shown, sign+blockText(change.HeldBlock))
	}
	return strings.Join(shown, " "), err
}

func (c *tableCase) held(a arguments) (string, error) {
	var shown []string
	for cursor := uint64(0); cursor != HeldEnd; {
		page, next, err := c.router.ListHeld(c.pod(a.positional[0]), cursor, int(c.number(a.named["most"])))
		if err != nil {
			return "", err
		}
		for _, block := range page {
			shown = append(shown, blockText(block))
		}
		cursor = next
	}
	slices.Sort(shown)
	return strings.Join(shown, " "), nil
}

func blockText(block HeldBlock) string {
	return fmt.Sprintf("%d:%s:%d", block.Group, block.Tier, block.Hash)
}

func (c *tableCase) stream(a arguments) (string, error) {
	counters, err := c.router.PodCounters(c.pod(a.positional[0]))
	if err != nil {
		return "", err
	}
	s := counters.Stream
	shown := fmt.Sprintf("batches=%d events=%d stored=%d removed=%d gaps=%d restarts=%d resyncs=%d", s.Batches, s.Events,
		s.BlocksStored, s.BlocksRemoved, s.Gaps, s.Restarts, s.Resyncs)
	for _, reason := range ignoreReasons {
		if s.Ignored[reason] > 0 {
			shown += fmt.Sprintf(" ignored.%s=%d", reason, s.Ignored[reason])
		}
	}
	return shown, nil
}
