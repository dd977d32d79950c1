//go:build kvroute_io

package kvroute

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const podAnswers = "../testdata/pods/vllm-connect-0"

// fakePod answers what a real vLLM 0.32 did.
func fakePod(t testing.TB) string {
	mux := http.NewServeMux()
	for path, file := range map[string]string{
		"/v1/models": "models.json", "/version": "version.json", "/metrics": "metrics.txt",
	} {
		body := must(os.ReadFile(filepath.Join(podAnswers, file)))(t)
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// quickly is a document of a fleet that is quick enough for tests.
func quickly(urls ...string) string {
	// Texts can be written as JSON.
	pods, _ := json.Marshal(append([]string{}, urls...))
	return fmt.Sprintf(`{"router": {"policy": {"preset": "llm-d-demo"}}, "fleet": {"pods": %s,
		"learn": {"interval_ms": 200, "timeout_ms": 500, "retry_ms": 50, "max_retry_ms": 200},
		"scrape": {"interval_ms": 50, "timeout_ms": 500}, "drain_ms": 100}}`, pods)
}

// until waits for so many pods in a router.
func until(t testing.TB, router *Router, count int) []PodID {
	for range 3000 {
		if pods := must(router.Pods())(t); len(pods) == count {
			return pods
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("there are never %d pods", count)
	return nil
}

func TestARequestGoesWhereAPodIs(t *testing.T) {
	url := fakePod(t)
	fleet := must(StartFleet(quickly(url), FleetOptions{Threads: 1}))(t)
	defer fleet.Close()
	router := fleet.Router()
	defer router.Close()
	pod := until(t, router, 1)[0]
	request := Request{TokenIDs: make([]uint32, 100), Model: "tiny", Names: true}
	decision := must(router.Dispatch(&request))(t)
	target := must(fleet.Target(decision.Pod))(t)
	if decision.Pod != pod || target != (Target{decision.Name, url, 0, 1}) {
		t.Errorf("%+v is at %+v", decision, target)
	}
	if !must(router.FirstToken(decision.Ticket))(t) || !must(router.Finish(decision.Ticket, FinishCompleted, 0))(t) {
		t.Error("it is not in flight")
	}

	models := map[string]Model{}
	for _, model := range must(fleet.Models())(t) {
		models[model.Name] = model
	}
	if tiny := models["tiny"]; tiny.MaxModelLen != 2048 || len(tiny.Pods) != 1 || tiny.IsPartial || tiny.Lora != nil {
		t.Errorf("%+v", tiny)
	}
	lora := models["lora-a"]
	if lora.Base != "tiny" || *lora.Lora != (Lora{Name: "lora-a", Path: "tiny-llama/lora-a"}) {
		t.Errorf("%+v", lora)
	}
	if status := must(fleet.Status())(t); !bytes.Contains(status, []byte(`"state":"ready"`)) || !json.Valid(status) {
		t.Errorf("%s", status)
	}
	if err := fleet.ReleaseEvents(); err != nil {
		t.Error(err)
	}
}

func TestTheClockOfAFleetIsThatOfItsRouter(t *testing.T) {
	fleet := must(StartFleet(quickly(fakePod(t)), FleetOptions{HoldEvents: true}))(t)
	defer fleet.Close()
	router := fleet.Router()
	defer router.Close()
	until(t, router, 1)
	if ahead := time.Until(fleet.Now()); ahead < -time.Minute || ahead > time.Minute {
		t.Errorf("%v from the wall clock", ahead)
	}
	// The zero time is the fleet's.
	must(router.Dispatch(&Request{TokenIDs: []uint32{1}}))(t)
	if expired := must(router.Expire(fleet.Now().Add(time.Second)))(t); expired != 0 {
		t.Errorf("%d expired at once", expired)
	}
	if expired := must(router.Expire(fleet.Now().Add(time.Hour)))(t); expired != 1 {
		t.Errorf("%d expired in the end", expired)
	}
}

func TestReconfiguringIsAllOrNothing(t *testing.T) {
	url := fakePod(t)
	fleet := must(StartFleet(quickly(url), FleetOptions{}))(t)
	defer fleet.Close()
	router := fleet.Router()
	defer router.Close()
	before := until(t, router, 1)[0]
	for _, document := range []string{
		`{"fleet": {"pods": [7]}}`, `{"router": {"policy": {"preset": "none"}}}`, `{"flet": {}}`, "fleet: [", "\xff",
	} {
		if err := fleet.Reconfigure(document); !errors.Is(err, ErrInvalidInput) {
			t.Errorf("%s: %v", document, err)
		}
	}
	if pods := until(t, router, 1); pods[0] != before {
		t.Error("another pod is there")
	}
	if err := fleet.Reconfigure(quickly()); err != nil {
		t.Fatal(err)
	}
	until(t, router, 0)
	if _, err := fleet.Target(before); !errors.Is(err, ErrUnknownPod) {
		t.Error(err)
	}
}

func TestARouterOutlivesItsFleet(t *testing.T) {
	fleet := must(StartFleet(quickly(fakePod(t)), FleetOptions{}))(t)
	router := fleet.Router()
	defer router.Close()
	until(t, router, 1)
	if err := router.Recover(); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	for range 2 {
		if err := fleet.Close(); err != nil {
			t.Error(err)
		}
	}
	until(t, router, 0)
	if _, err := router.Decide(&Request{TokenIDs: []uint32{1}}); !errors.Is(err, ErrNoCandidate) {
		t.Error(err)
	}
	if err := router.Recover(); err != nil {
		t.Error(err)
	}
	if fleet.Router() != router || fleet.Now().IsZero() {
		t.Error("what needs no fleet is gone with it")
	}
	for _, closed := range []*Fleet{fleet, {}} {
		_, target := closed.Target(1)
		_, models := closed.Models()
		_, status := closed.Status()
		for _, err := range []error{target, models, status, closed.Reconfigure(quickly()), closed.ReleaseEvents()} {
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}
	}
	if err := (&Fleet{}).Close(); err != nil {
		t.Error(err)
	}
}

func TestAPodThatHangsDoesNotKeepAFleetFromClosing(t *testing.T) {
	hanging := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer hanging.Close()
	fleet := must(StartFleet(quickly("http://"+hanging.Addr().String()), FleetOptions{}))(t)
	time.Sleep(50 * time.Millisecond)
	begun := time.Now()
	fleet.Close()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it takes %v", took)
	}
	fleet.Router().Close()
}

func TestDocumentsThatAreNoFleetAreRefused(t *testing.T) {
	for document, place := range map[string]string{
		"fleet: {pods: [ftp://x]}":                  "pods",
		"router: {pods: [{name: a, domain: m}]}":    "router.pods",
		`{"fleet": {"scrape": {"interval_ms": 1}}}`: "interval_ms",
	} {
		_, err := StartFleet(document, FleetOptions{})
		if !errors.Is(err, ErrInvalidInput) || !strings.Contains(err.Error(), place) {
			t.Errorf("%s: %v", document, err)
		}
	}
	if _, err := StartFleet("{}", FleetOptions{Threads: 257}); !errors.Is(err, ErrInvalidInput) {
		t.Error(err)
	}
}
