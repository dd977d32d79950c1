//go:build kvroute_io

package kvroute

/*
#include <kvroute_io.h>
*/
import "C"

import (
	"encoding/json"
	"time"
	"unsafe"
)

// Tokenizer is a model's tokenizer and chat template, and threads of the library's that use them.
//
// Any number of goroutines may use it at a time.
type Tokenizer struct {
	object
	c *C.kvroute_tokenizer
}

// TokenizerOptions say how a tokenizer reads requests, and its bounds; the zero value: the defaults.
type TokenizerOptions struct {
	// ChatTemplate is the source of the one that the engines were given by --chat-template, in place of the model's.
	ChatTemplate string
	// ChatTemplateArguments are what the engines were given by --default-chat-template-kwargs.
	ChatTemplateArguments map[string]any
	// TrustRequestChatTemplate is whether the engines accept a template in the request (--trust-request-chat-template). Its
	// time and text are bounded, its memory is not.
	TrustRequestChatTemplate bool
	// ExcludeToolsWhenToolChoiceNone is whether the engines leave tools out where tool_choice is "none"
	// (--exclude-tools-when-tool-choice-none).
	ExcludeToolsWhenToolChoiceNone bool
	// CacheBytes is memory for the ids of text seen before. 0: 256 MiB; negative: none.
	CacheBytes int64
	// MaxTextBytes is what a text, a request or a rendered chat may have; beyond is an error. 0: 16 MiB.
	MaxTextBytes uint64
	// MaxTemplateSteps is what a template may take (instructions of minijinja); beyond is an error. 0: 5 million.
	MaxTemplateSteps uint64
	// Threads that tokenize, 1024 at most. 0: 2.
	Threads uint32
	// Queue is requests that may wait for them; beyond, they are answered with text. 0: 256.
	Queue uint32
	// Wait is the time after which a request is answered with text if it is not tokenized. 0: 100 ms.
	Wait time.Duration
}

// Endpoint says which request a body is.
type Endpoint int32

const (
	// EndpointCompletions is /v1/completions: prompt is a text, token ids, or a list of either.
	EndpointCompletions Endpoint = C.KVROUTE_ENDPOINT_COMPLETIONS
	// EndpointChatCompletions is /v1/chat/completions: messages, rendered by the chat template.
	EndpointChatCompletions Endpoint = C.KVROUTE_ENDPOINT_CHAT_COMPLETIONS
	// EndpointResponses is /v1/responses: instructions and input, made into messages.
	EndpointResponses Endpoint = C.KVROUTE_ENDPOINT_RESPONSES
)

// Prompt is one as the engine will see it, or as text and why. TokenIDs and Text are what Request has too.
type Prompt struct {
	// TokenIDs are the engine's; nil if they are not known.
	TokenIDs []uint32
	// Text, without token ids, is bytes that begin alike where conversations begin alike.
	Text string
	// Reason is why there are no token ids, empty if there are: "overloaded", "media", "stored_conversation",
	// "no_chat_template", "own_renderer", "not_reproducible"; there may come to be more.
	Reason string
}

// TokenizerCounters are what a tokenizer has done since it was made.
type TokenizerCounters struct {
	// Answered are requests that were answered by a thread, errors included.
	Answered uint64
	// QueueFull are requests answered with text because the queue was full.
	QueueFull uint64
	// TooLate are requests answered with text because their time was over.
	TooLate uint64
	// Panicked are requests during which the tokenizer panicked, answered with text: a defect.
	Panicked uint64
	// Waiting are requests that stand in the queue now.
	Waiting uint64
	// HitBytes are bytes of text whose ids were found in the cache, and MissBytes those that were encoded.
	HitBytes, MissBytes uint64
	// Segments are pieces of text in the cache now, CacheBytes the memory they take, and Evictions those that made room.
	Segments, CacheBytes, Evictions uint64
}

// NewTokenizer reads a model's folder (tokenizer.json, and what lies beside it of its configuration and chat templates)
// and starts threads that tokenize.
//
// Errors: ErrTokenizer with the file that cannot be read or is not what it should be, or a chat template that does not
// compile; ErrInvalidInput names the option.
func NewTokenizer(folder string, options TokenizerOptions) (*Tokenizer, error) {
	s := newSeat(0)
	defer s.free()
	raw := &array[C.kvroute_tokenizer_options](&s.arena, 1)[0]
	raw.struct_size = C.sizeof_kvroute_tokenizer_options
	raw.chat_template = s.arena.text(options.ChatTemplate)
	if options.ChatTemplateArguments != nil {
		document, err := json.Marshal(options.ChatTemplateArguments)
		if err != nil {
			return nil, invalid("chat template arguments: %v", err)
		}
		raw.chat_template_kwargs = s.arena.text(string(document))
	}
	if options.TrustRequestChatTemplate {
		raw.trust_request_chat_template = 1
	}
	if options.ExcludeToolsWhenToolChoiceNone {
		raw.exclude_tools_when_tool_choice_none = 1
	}
	if options.Wait < 0 {
		return nil, invalid("wait is %v", options.Wait)
	}
	raw.cache_bytes = C.int64_t(options.CacheBytes)
	raw.max_text_bytes = C.uint64_t(options.MaxTextBytes)
	raw.max_template_steps = C.uint64_t(options.MaxTemplateSteps)
	raw.threads, raw.queue = C.uint32_t(options.Threads), C.uint32_t(options.Queue)
	raw.wait_ns = C.uint64_t(options.Wait)
	text := s.arena.text(folder)
	var c *C.kvroute_tokenizer
	if err := s.check(C.kvroute_tokenizer_new(text.data, text.len, raw, &c, s.error)); err != nil {
		return nil, err
	}
	t := &Tokenizer{c: c}
	t.own(func() { C.kvroute_tokenizer_free(c) })
	return t, nil
}

// Close frees the tokenizer after the calls under way. Every later call answers ErrClosed; closing again does nothing.
//
// It always answers nil.
func (t *Tokenizer) Close() error {
	return t.close()
}

// Prompts are those of a request: one, or as many as a list of prompts has. It answers after TokenizerOptions.Wait at
// most; what is not tokenized then, or found the queue full, or has images, is one prompt with its text and the reason.
//
// Errors: ErrRequest for what an engine would refuse too, with what is wrong and where; ErrLimit for a bound of the
// options; ErrTokenizer.
func (t *Tokenizer) Prompts(endpoint Endpoint, body []byte) ([]Prompt, error) {
	return t.fill(func(s *seat, prompts *C.kvroute_prompts) C.int32_t {
		data := (*C.uint8_t)(unsafe.SliceData(body))
		return C.kvroute_tokenizer_prompts(t.c, C.int32_t(endpoint), data, C.size_t(len(body)), prompts, s.error)
	})
}

// Encode is the ids of a text; with addSpecialTokens those around it that the tokenizer has for a single text. Special
// tokens in the text are read as such, as engines do. It takes as long as encoding does.
//
// Errors: ErrLimit if it is longer than MaxTextBytes; ErrTokenizer if the tokenizer fails on it.
func (t *Tokenizer) Encode(text string, addSpecialTokens bool) ([]uint32, error) {
	var special C.int32_t
	if addSpecialTokens {
		special = 1
	}
	prompts, err := t.fill(func(s *seat, prompts *C.kvroute_prompts) C.int32_t {
		data := (*C.char)(unsafe.Pointer(unsafe.StringData(text)))
		return C.kvroute_tokenizer_encode(t.c, data, C.size_t(len(text)), special, prompts, s.error)
	})
	if err != nil {
		return nil, err
	}
	return prompts[0].TokenIDs, nil
}

// fill is what a call puts into prompts, copied out.
func (t *Tokenizer) fill(call func(s *seat, prompts *C.kvroute_prompts) C.int32_t) ([]Prompt, error) {
	s, err := t.enter()
	if err != nil {
		return nil, err
	}
	defer t.leave(s)
	prompts := C.kvroute_prompts_new()
	defer C.kvroute_prompts_free(prompts)
	if err := s.check(call(s, prompts)); err != nil {
		return nil, err
	}
	var count C.size_t
	if err := s.check(C.kvroute_prompts_count(prompts, &count, s.error)); err != nil {
		return nil, err
	}
	filled := make([]Prompt, count)
	raw := &array[C.kvroute_prompt](&s.arena, 1)[0]
	raw.struct_size = C.sizeof_kvroute_prompt
	for at := range filled {
		if err := s.check(C.kvroute_prompts_get(prompts, C.size_t(at), raw, s.error)); err != nil {
			return nil, err
		}
		reason := unsafe.Slice((*byte)(unsafe.Pointer(raw.reason.data)), raw.reason.len)
		if len(reason) == 0 {
			ids := unsafe.Slice((*uint32)(unsafe.Pointer(raw.token_ids)), raw.token_ids_len)
			filled[at].TokenIDs = append(make([]uint32, 0, len(ids)), ids...)
			continue
		}
		text := unsafe.Slice((*byte)(unsafe.Pointer(raw.text.data)), raw.text.len)
		filled[at].Text, filled[at].Reason = string(text), string(reason)
	}
	return filled, nil
}

// Segmentation is whether text that was seen before is encoded again: "pieces" (texts are cut at added tokens, and between
// them where no token can reach across), "added-tokens" (only at those), or "full: " and what stands in the way.
func (t *Tokenizer) Segmentation() (string, error) {
	s, err := t.enter()
	if err != nil {
		return "", err
	}
	defer t.leave(s)
	text, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_tokenizer_segmentation(t.c, buffer, capacity, written, s.error)
	})
	return string(text), err
}

// Counters are what it has done so far.
func (t *Tokenizer) Counters() (TokenizerCounters, error) {
	s, err := t.enter()
	if err != nil {
		return TokenizerCounters{}, err
	}
	defer t.leave(s)
	raw := &array[C.kvroute_tokenizer_counters](&s.arena, 1)[0]
	raw.struct_size = C.sizeof_kvroute_tokenizer_counters
	if err := s.check(C.kvroute_tokenizer_read_counters(t.c, raw, s.error)); err != nil {
		return TokenizerCounters{}, err
	}
	return TokenizerCounters{
		Answered: uint64(raw.answered), QueueFull: uint64(raw.queue_full), TooLate: uint64(raw.too_late),
		Panicked: uint64(raw.panicked), Waiting: uint64(raw.waiting),
		HitBytes: uint64(raw.hit_bytes), MissBytes: uint64(raw.miss_bytes),
		Segments: uint64(raw.segments), CacheBytes: uint64(raw.cache_bytes), Evictions: uint64(raw.evictions),
	}, nil
}
