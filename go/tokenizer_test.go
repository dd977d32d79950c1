//go:build kvroute_io

package kvroute

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const tokenizerFolder = "../testdata/tokenize"

func TestTokenIDsAreThoseOfTheEngine(t *testing.T) {
	tokenizers := map[string]*Tokenizer{}
	for _, name := range []string{"chat_template.jinja", "chat_template_parts.jinja"} {
		template := string(must(os.ReadFile(tokenizerFolder + "/" + name))(t))
		options := TokenizerOptions{ChatTemplate: template, Wait: time.Minute}
		tokenizers[name] = must(NewTokenizer(tokenizerFolder, options))(t)
		defer tokenizers[name].Close()
	}
	endpoints := map[string]Endpoint{
		"completions": EndpointCompletions, "chat": EndpointChatCompletions, "responses": EndpointResponses,
	}
	compared := 0
	lines := strings.Split(strings.TrimSpace(string(must(os.ReadFile(tokenizerFolder+"/requests.jsonl"))(t))), "\n")
	for number, line := range lines {
		var request struct {
			Endpoint, Template, Error string
			Status                    int
			Body                      json.RawMessage
			TokenIDs                  [][]uint32 `json:"token_ids"`
		}
		if err := json.Unmarshal([]byte(line), &request); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(request.Body), "truncate_prompt_tokens") {
			continue
		}
		template := request.Template
		if template == "" {
			template = "chat_template.jinja"
		}
		prompts, err := tokenizers[template].Prompts(endpoints[request.Endpoint], request.Body)
		switch {
		case request.Status == 200 && request.TokenIDs != nil:
			compared++
			if err != nil || len(prompts) != len(request.TokenIDs) {
				t.Errorf("line %d: %d prompts, %v", number+1, len(prompts), err)
				continue
			}
			for at, prompt := range prompts {
				if !slices.Equal(prompt.TokenIDs, request.TokenIDs[at]) || prompt.Text != "" || prompt.Reason != "" {
					t.Errorf("line %d: %+v", number+1, prompt)
				}
			}
		case strings.Contains(request.Error, "unknown role"):
			compared++
			if !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "unknown role: alien") {
				t.Errorf("line %d: %v", number+1, err)
			}
		}
	}
	if compared < 100 {
		t.Errorf("%d compared", compared)
	}
	tokenizer := tokenizers["chat_template.jinja"]
	counters := must(tokenizer.Counters())(t)
	if counters.HitBytes == 0 || counters.Segments == 0 || counters.TooLate+counters.QueueFull+counters.Panicked != 0 {
		t.Errorf("%+v", counters)
	}
	if segmentation := must(tokenizer.Segmentation())(t); segmentation != "pieces" {
		t.Error(segmentation)
	}
}

func TestTextsAreEncoded(t *testing.T) {
	tokenizer := must(NewTokenizer(tokenizerFolder, TokenizerOptions{}))(t)
	defer tokenizer.Close()
	for _, one := range []struct {
		text    string
		special bool
		ids     []uint32
	}{{"a", true, []uint32{0, 70}}, {"a", false, []uint32{70}}, {"", false, nil}} {
		if ids := must(tokenizer.Encode(one.text, one.special))(t); !slices.Equal(ids, one.ids) {
			t.Errorf("%q: %v", one.text, ids)
		}
	}
}

func TestPromptsThatAreNotKnownAreText(t *testing.T) {
	tokenizer := must(NewTokenizer(tokenizerFolder, TokenizerOptions{Wait: time.Minute}))(t)
	defer tokenizer.Close()
	body := `{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]}`
	prompts := must(tokenizer.Prompts(EndpointChatCompletions, []byte(body)))(t)
	if want := (Prompt{Text: body[1:], Reason: "media"}); len(prompts) != 1 || prompts[0].Reason != want.Reason ||
		prompts[0].Text != want.Text || prompts[0].TokenIDs != nil {
		t.Errorf("%+v", prompts)
	}
	router := must(New(everything()))(t)
	defer router.Close()
	must(router.Decide(&Request{TokenIDs: prompts[0].TokenIDs, Text: prompts[0].Text}))(t)
}

func TestNobodyWaitsForLong(t *testing.T) {
	options := TokenizerOptions{Threads: 1, Queue: 1, Wait: 20 * time.Millisecond, CacheBytes: -1}
	tokenizer := must(NewTokenizer(tokenizerFolder, options))(t)
	defer tokenizer.Close()
	var text strings.Builder
	for word := range 60_000 {
		fmt.Fprintf(&text, "zebra%d ", word*7919)
	}
	body := []byte(fmt.Sprintf(`{"prompt": %q}`, text.String()))
	begun := time.Now()
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			prompts, err := tokenizer.Prompts(EndpointCompletions, body)
			if err != nil || len(prompts) != 1 || prompts[0].Reason != "overloaded" {
				t.Error(len(prompts), err)
			}
		}()
	}
	all.Wait()
	counters := must(tokenizer.Counters())(t)
	if took := time.Since(begun); took > 10*time.Second || counters.TooLate+counters.QueueFull != 8 {
		t.Errorf("%v: %+v", took, counters)
	}
}

func TestTokenizersRefuseWhatTheyCannotUse(t *testing.T) {
	for what, one := range map[string]struct {
		folder  string
		options TokenizerOptions
		err     error
	}{
		"no folder":       {"/nowhere", TokenizerOptions{}, ErrTokenizer},
		"not UTF-8":       {"\xff", TokenizerOptions{}, ErrInvalidInput},
		"a bad template":  {tokenizerFolder, TokenizerOptions{ChatTemplate: "{% for"}, ErrTokenizer},
		"bad arguments":   {tokenizerFolder, TokenizerOptions{ChatTemplateArguments: map[string]any{"x": t.Run}}, ErrInvalidInput},
		"too many":        {tokenizerFolder, TokenizerOptions{Threads: 1025}, ErrTokenizer},
		"a negative time": {tokenizerFolder, TokenizerOptions{Wait: -1}, ErrInvalidInput},
	} {
		if _, err := NewTokenizer(one.folder, one.options); !errors.Is(err, one.err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	tokenizer := must(NewTokenizer(tokenizerFolder, TokenizerOptions{MaxTextBytes: 30}))(t)
	_, empty := tokenizer.Prompts(EndpointCompletions, nil)
	_, endpoint := tokenizer.Prompts(Endpoint(3), []byte("{}"))
	_, long := tokenizer.Encode(strings.Repeat("x", 31), false)
	for _, one := range [][2]error{{empty, ErrRequest}, {endpoint, ErrInvalidInput}, {long, ErrLimit}} {
		if !errors.Is(one[0], one[1]) {
			t.Error(one[0])
		}
	}
	for range 2 {
		if err := tokenizer.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, closed := range []*Tokenizer{tokenizer, {}} {
		_, prompts := closed.Prompts(EndpointCompletions, nil)
		_, encoded := closed.Encode("a", false)
		_, segmentation := closed.Segmentation()
		_, counters := closed.Counters()
		for _, err := range []error{prompts, encoded, segmentation, counters} {
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}
	}
}
