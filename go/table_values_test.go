package kvroute

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// How the shared test table writes values and decisions.

func (c *tableCase) number(text string) uint64 {
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return number
}

func number32(c *tableCase, a arguments, name string) uint32 {
	return uint32(c.number(a.named[name]))
}

func (c *tableCase) float(text string) float64 {
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return number
}

func (c *tableCase) bytes(text string) []byte {
	if text == "-" {
		return nil
	}
	bytes, err := hex.DecodeString(text)
	if err != nil {
		c.t.Fatal(err)
	}
	return bytes
}

// names reads names separated by commas; of "-" and of nothing there are none, but not nil.
func names(text string) []string {
	if text == "-" || text == "" {
		return []string{}
	}
	return strings.Split(text, ",")
}

func (c *tableCase) now(a arguments) time.Time {
	if seconds, found := a.named["now"]; found {
		return time.Unix(0, int64(c.float(seconds)*1e9))
	}
	return time.Unix(0, 0)
}

func (c *tableCase) numbers(text string) []uint64 {
	var numbers []uint64
	for number := range strings.SplitSeq(text, ",") {
		numbers = append(numbers, c.number(number))
	}
	return numbers
}

// tokenIDs reads ranges and numbers joined by "+".
func (c *tableCase) tokenIDs(text string) []uint32 {
	if text == "-" {
		return nil
	}
	var ids []uint32
	for part := range strings.SplitSeq(text, "+") {
		first, end, isRange := strings.Cut(part, "..")
		if !isRange {
			ids = append(ids, uint32(c.number(first)))
			continue
		}
		for id := c.number(first); id < c.number(end); id++ {
			ids = append(ids, uint32(id))
		}
	}
	return ids
}

func (c *tableCase) shown(d Decision) string {
	c.last = d
	b := d.MatchedBlocks
	shown := fmt.Sprintf("pod=%s total=%.3f matched=%d,%d,%d,%d matched_tokens=%d uncached_tokens=%d candidates=%d",
		c.name(d.Pod), d.Total, b[TierGPU], b[TierCPU], b[TierDisk], b[TierExternal], d.MatchedTokens,
		d.UncachedTokens, d.Candidates)
	prefillReason := ""
	if p := d.Prefill; p.Pod != NoPod {
		shown += fmt.Sprintf(" prefill=%s prefill_total=%.3f prefill_matched_tokens=%d prefill_uncached_tokens=%d",
			c.name(p.Pod), p.Total, p.MatchedTokens, p.UncachedTokens)
		if p.Reason != ReasonPicked {
			prefillReason = fmt.Sprintf(" prefill_reason=%s", p.Reason)
		}
	}
	if d.Reason != ReasonPicked {
		shown += fmt.Sprintf(" reason=%s", d.Reason)
	}
	shown += prefillReason
	var fallbacks []string
	for _, pod := range d.Fallbacks {
		fallbacks = append(fallbacks, c.name(pod))
	}
	if fallbacks != nil {
		shown += " fallbacks=" + strings.Join(fallbacks, ",")
	}
	return shown
}
