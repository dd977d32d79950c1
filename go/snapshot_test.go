package kvroute

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// successor is a router that knows the cache domains and no pods.
func successor(t *testing.T) *Router {
	config := everything()
	config.Pods = nil
	router := must(New(config))(t)
	t.Cleanup(func() { router.Close() })
	return router
}

// snapshotOf is a router's, and what it would decide.
func snapshotOf(t *testing.T, router *Router) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := router.Snapshot(&file, time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestARouterGoesOnWhereAnotherStopped(t *testing.T) {
	router, pod := busyRouter(t)
	request := busyRequest(pod)
	ticket := must(router.Dispatch(request))(t).Ticket
	must(router.Finish(ticket, FinishCompleted, CachedUnknown))(t)
	file := snapshotOf(t, router)
	request.Scores, request.Explain = nil, nil
	before := must(router.Decide(request))(t)
	for _, reader := range []io.Reader{bytes.NewReader(file), iotest.OneByteReader(bytes.NewReader(file))} {
		router := successor(t)
		report := must(router.Restore(reader, time.Unix(1, 0)))(t)
		if len(report.Pods) != 2 || report.Sessions != 1 || report.SessionsLeftOut != 0 {
			t.Errorf("%+v", report)
		}
		for _, restored := range report.Pods {
			if !restored.Added || restored.Refusal != "" || restored.ID != must(router.FindPod(restored.Name, restored.DPRank))(t) {
				t.Errorf("%+v", restored)
			}
		}
		if blocks := report.Pods[0].Blocks; blocks.Held != 1 || blocks.Refused != 0 {
			t.Errorf("%+v", blocks)
		}
		// Loads are of their moment.
		if err := router.ReportLoad(must(router.FindPod("pod", 1))(t), 3, 2, 0.25); err != nil {
			t.Fatal(err)
		}
		after := must(router.Decide(request))(t)
		if after.Total != before.Total || after.MatchedTokens != before.MatchedTokens {
			t.Errorf("%+v was %+v", after, before)
		}
	}
	again := must(router.Restore(bytes.NewReader(file), time.Unix(1, 0)))(t).Pods[0]
	if again.Added || again.Blocks != nil || again.Refusal != RefusalInUse {
		t.Errorf("%+v", again)
	}
}

func TestSnapshotsThatAreNotWholeChangeNothing(t *testing.T) {
	router, _ := busyRouter(t)
	file := snapshotOf(t, router)
	other := successor(t)
	damaged := bytes.Clone(file)
	damaged[len(file)/2] ^= 1
	restored := func(bytes ...[]byte) error {
		var readers []io.Reader
		for _, of := range bytes {
			readers = append(readers, strings.NewReader(string(of)))
		}
		return failed(other.Restore(io.MultiReader(readers...), time.Time{}))
	}
	checkFailures(t, []failure{
		{"nothing", restored(), ErrDecode, "byte 0"},
		{"a text", restored([]byte("kvroute, a snapshot")), ErrDecode, "no snapshot"},
		{"cut off", restored(file[:len(file)-1]), ErrDecode, "ends here"},
		{"damaged", restored(damaged), ErrDecode, "checksum"},
		{"twice", restored(file, file), ErrDecode, "something follows the end"},
		{"no time", failed(other.Restore(bytes.NewReader(file), time.Unix(-1, 0))), ErrInvalidInput, "now"},
		{"no time to begin", router.Snapshot(io.Discard, time.Unix(-1, 0)), ErrInvalidInput, "now"},
	})
	if pods := must(other.Pods())(t); len(pods) != 0 {
		t.Error(pods)
	}
}

// writing is a writer.
type writing func([]byte) (int, error)

func (w writing) Write(bytes []byte) (int, error) { return w(bytes) }

func TestReadersAndWritersThatFailEndIt(t *testing.T) {
	router, _ := busyRouter(t)
	file := snapshotOf(t, router)
	full := errors.New("the disk is full")
	writes := 0
	err := router.Snapshot(writing(func(bytes []byte) (int, error) {
		writes++
		return 0, full
	}), time.Time{})
	if !errors.Is(err, full) || writes != 1 {
		t.Error(err, writes)
	}
	err = router.Snapshot(writing(func(bytes []byte) (int, error) { return len(bytes) - 1, nil }), time.Time{})
	if !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
	other := successor(t)
	gone := io.MultiReader(bytes.NewReader(file), iotest.ErrReader(full))
	if _, err := other.Restore(gone, time.Time{}); !errors.Is(err, full) || len(must(other.Pods())(t)) != 0 {
		t.Error(err)
	}
}

// Whoever wants the router for himself does not wait for a reader or a writer.
func TestWhatHappensToTheRouterMeanwhileIsNoticed(t *testing.T) {
	router, _ := busyRouter(t)
	file := snapshotOf(t, router)
	err := router.Snapshot(writing(func(bytes []byte) (int, error) { return len(bytes), router.Recover() }), time.Time{})
	checkFailures(t, []failure{{"recovered", err, ErrInvalidInput, "reset"}})
	closing := successor(t)
	reader := io.MultiReader(bytes.NewReader(file[:9]), readerThat(func() { closing.Close() }), bytes.NewReader(file[9:]))
	if _, err := closing.Restore(reader, time.Time{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	err = router.Snapshot(writing(func(bytes []byte) (int, error) { return len(bytes), router.Close() }), time.Time{})
	if !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// readerThat does something and has nothing.
type readerThat func()

func (do readerThat) Read([]byte) (int, error) {
	do()
	return 0, io.EOF
}
