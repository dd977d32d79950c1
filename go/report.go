package kvroute

/*
#include <kvroute.h>
*/
import "C"

import (
	"strings"
	"unsafe"
)

// ApplyReport is what became of one batch.
type ApplyReport struct {
	// Outcome is the gravest of any event in it.
	Outcome Outcome
	// Ignored is why something was left out, of OutcomeIgnored.
	Ignored IgnoreReason
	// Resync is why batches are needed, of OutcomeNeedsResync.
	Resync ResyncReason
	// ReplayFrom is the first sequence number to replay, of ResyncGap.
	ReplayFrom uint64
	// Events that were applied, parked or ignored.
	Events uint64
	// BlocksStored, further copies included.
	BlocksStored uint64
	// BlocksRemoved, copies included.
	BlocksRemoved uint64
	// Skipped is events that could not be read.
	Skipped uint64
	// Detail is what was found where something could not be read.
	Detail string
}

// Outcome is what became of events.
type Outcome string

const (
	// OutcomeApplied: the index shows it.
	OutcomeApplied Outcome = "applied"
	// OutcomeParked: blocks wait for their parent.
	OutcomeParked Outcome = "parked"
	// OutcomeIgnored: some or all of it was left out.
	OutcomeIgnored Outcome = "ignored"
	// OutcomeNeedsResync: batches are needed that were not there.
	OutcomeNeedsResync Outcome = "needs-resync"
)

var outcomes = []Outcome{
	C.KVROUTE_OUTCOME_APPLIED:      OutcomeApplied,
	C.KVROUTE_OUTCOME_PARKED:       OutcomeParked,
	C.KVROUTE_OUTCOME_IGNORED:      OutcomeIgnored,
	C.KVROUTE_OUTCOME_NEEDS_RESYNC: OutcomeNeedsResync,
}

// ResyncReason is why batches are needed.
type ResyncReason string

const (
	// ResyncGap: replay batches from ApplyReport.ReplayFrom on, or call Router.AbandonGap.
	ResyncGap ResyncReason = "gap"
	// ResyncRestarted: the engine restarted and its first batches were missed. Replay from 0 if that can be done.
	ResyncRestarted ResyncReason = "restarted"
	// ResyncUndecodable: the batch could not be read at all, so the pod's view was dropped; it heals as blocks are
	// announced again, and nothing is to be done.
	ResyncUndecodable ResyncReason = "undecodable"
)

var resyncReasons = []ResyncReason{
	C.KVROUTE_RESYNC_GAP:         ResyncGap,
	C.KVROUTE_RESYNC_RESTARTED:   ResyncRestarted,
	C.KVROUTE_RESYNC_UNDECODABLE: ResyncUndecodable,
}

// IgnoreReason is why something was left out.
type IgnoreReason string

const (
	// IgnoredDuplicate: the batch was applied before, byte for byte.
	IgnoredDuplicate IgnoreReason = "duplicate"
	// IgnoredOtherRank: the batch belongs to another data-parallel rank than the pod.
	IgnoredOtherRank IgnoreReason = "other-rank"
	// IgnoredUnknownTag: an event with a tag no known engine sends.
	IgnoredUnknownTag IgnoreReason = "unknown-tag"
	// IgnoredMalformed: an event with a missing or malformed field.
	IgnoredMalformed IgnoreReason = "malformed"
	// IgnoredNotABlock: an announcement that is not about whole blocks of token ids.
	IgnoredNotABlock IgnoreReason = "not-a-block"
	// IgnoredUnknownTier: a store into a tier that is not known.
	IgnoredUnknownTier IgnoreReason = "unknown-tier"
	// IgnoredUnknownBlock: a block whose place is not known, or a removal of one the pod does not hold.
	IgnoredUnknownBlock IgnoreReason = "unknown-block"
	// IgnoredSparse: masked blocks were left out and the rest cannot be placed.
	IgnoredSparse IgnoreReason = "sparse"
	// IgnoredBlockSize: a block size other than the cache domain's.
	IgnoredBlockSize IgnoreReason = "block-size"
	// IgnoredBigrams: EAGLE pairs in place of token ids.
	IgnoredBigrams IgnoreReason = "bigrams"
	// IgnoredUnknownAdapter: a LoRA adapter named by a number that the pod's options do not list.
	IgnoredUnknownAdapter IgnoreReason = "unknown-adapter"
	// IgnoredMemory: the index is at its memory bound.
	IgnoredMemory IgnoreReason = "memory"
	// IgnoredParkedFull: the place for blocks that wait for their parent is full.
	IgnoredParkedFull IgnoreReason = "parked-full"
	// IgnoredContradiction: a name was announced for another block than the one the pod holds under it.
	IgnoredContradiction IgnoreReason = "contradiction"
	// IgnoredTooManyGroups: the pod named more KV-cache groups than any engine has.
	IgnoredTooManyGroups IgnoreReason = "too-many-groups"
)

var ignoreReasons = []IgnoreReason{
	C.KVROUTE_IGNORED_DUPLICATE:       IgnoredDuplicate,
	C.KVROUTE_IGNORED_OTHER_RANK:      IgnoredOtherRank,
	C.KVROUTE_IGNORED_UNKNOWN_TAG:     IgnoredUnknownTag,
	C.KVROUTE_IGNORED_MALFORMED:       IgnoredMalformed,
	C.KVROUTE_IGNORED_NOT_A_BLOCK:     IgnoredNotABlock,
	C.KVROUTE_IGNORED_UNKNOWN_TIER:    IgnoredUnknownTier,
	C.KVROUTE_IGNORED_UNKNOWN_BLOCK:   IgnoredUnknownBlock,
	C.KVROUTE_IGNORED_SPARSE:          IgnoredSparse,
	C.KVROUTE_IGNORED_BLOCK_SIZE:      IgnoredBlockSize,
	C.KVROUTE_IGNORED_BIGRAMS:         IgnoredBigrams,
	C.KVROUTE_IGNORED_UNKNOWN_ADAPTER: IgnoredUnknownAdapter,
	C.KVROUTE_IGNORED_MEMORY:          IgnoredMemory,
	C.KVROUTE_IGNORED_PARKED_FULL:     IgnoredParkedFull,
	C.KVROUTE_IGNORED_CONTRADICTION:   IgnoredContradiction,
	C.KVROUTE_IGNORED_TOO_MANY_GROUPS: IgnoredTooManyGroups,
}

func reportOf(from *C.kvroute_apply_report) ApplyReport {
	report := ApplyReport{
		Outcome:       named(outcomes, from.outcome),
		Events:        uint64(from.events),
		BlocksStored:  uint64(from.blocks_stored),
		BlocksRemoved: uint64(from.blocks_removed),
		Skipped:       uint64(from.skipped),
	}
	switch report.Outcome {
	case OutcomeIgnored:
		report.Ignored = named(ignoreReasons, from.reason)
	case OutcomeNeedsResync:
		report.Resync = named(resyncReasons, from.reason)
		report.ReplayFrom = uint64(from.replay_from)
	}
	if from.detail[0] != 0 {
		detail := unsafe.Slice((*byte)(unsafe.Pointer(&from.detail[0])), len(from.detail))
		text, _, _ := strings.Cut(string(detail), "\x00")
		report.Detail = text
	}
	return report
}
