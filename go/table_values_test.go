package kvroute

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// How the shared test table writes values.

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
