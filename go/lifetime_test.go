package kvroute

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestEverythingThatIsClosedSaysSo(t *testing.T) {
	router := must(New(everything()))(t)
	domain := must(router.Domain("own"))(t)
	hasher := must(NewHasher(HasherOptions{BlockSize: 4}))(t)
	open := must(router.Domain("own"))(t)
	defer open.Close()
	for _, closer := range []interface{ Close() error }{router, domain, hasher} {
		for range 2 {
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	// Zero values were never open.
	for _, closed := range []any{router, domain, hasher, &Router{}, &Domain{}, &Hasher{}} {
		value := reflect.ValueOf(closed)
		for at := range value.NumMethod() {
			name, method := value.Type().Method(at).Name, value.Method(at)
			if name == "Close" || name == "BlockSize" {
				continue
			}
			var arguments []reflect.Value
			for argument := range method.Type().NumIn() {
				switch of := method.Type().In(argument); {
				case method.Type().IsVariadic() && argument == method.Type().NumIn()-1:
				case of == reflect.TypeFor[*Request]():
					arguments = append(arguments, reflect.ValueOf(&Request{}))
				case of == reflect.TypeFor[*Domain]():
					arguments = append(arguments, reflect.ValueOf(open))
				default:
					arguments = append(arguments, reflect.Zero(of))
				}
			}
			results := method.Call(arguments)
			if err, _ := results[len(results)-1].Interface().(error); !errors.Is(err, ErrClosed) {
				t.Errorf("%T.%s of a closed one: %v", closed, name, err)
			}
		}
	}
	living := must(New(everything()))(t)
	defer living.Close()
	checkFailures(t, []failure{
		{"a closed hasher's domain", failed(NewDomain("m", hasher)), ErrClosed, ""},
		{"a closed domain's lookup", failed(living.Lookup(domain, nil)), ErrClosed, ""},
		{"a closed domain's name", living.AddDomain(domain), ErrClosed, ""},
	})
}

func TestWhatIsMadeOfOthersOutlivesThem(t *testing.T) {
	hasher := must(NewHasher(HasherOptions{BlockSize: 4}))(t)
	domain := must(NewDomain("m", hasher, "llama"))(t)
	hasher.Close()
	router := must(New(Config{}))(t)
	defer router.Close()
	if err := router.AddDomain(domain); err != nil {
		t.Fatal(err)
	}
	name, size, hashes := must(domain.Name())(t), domain.BlockSize(), must(domain.Hash(nil, make([]uint32, 9), nil))(t)
	if name != "m" || size != 4 || len(hashes) != 2 {
		t.Error(name, size, hashes)
	}
	domain.Close()
	pod := must(router.AddPod(PodConfig{Name: "a", Domain: "m"}))(t)
	decision := must(router.Decide(&Request{TokenIDs: make([]uint32, 9), Model: "llama"}))(t)
	if decision.Pod != pod {
		t.Error(decision)
	}
	if _, err := router.Decide(&Request{Model: "gpt"}); !errors.Is(err, ErrNoCandidate) {
		t.Error(err)
	}
}

func TestCloseWaitsForTheCallsUnderWay(t *testing.T) {
	prompt := make([]uint32, 4000)
	for round := range 60 {
		router := must(New(everything()))(t)
		var running, started sync.WaitGroup
		for worker := range 8 {
			started.Add(1)
			start(&running, func() {
				started.Done()
				var err error
				// Recover gives the pods new ids.
				for call := worker; err == nil || errors.Is(err, ErrUnknownPod); call++ {
					var pod PodID
					switch call % 4 {
					case 0:
						_, err = router.Decide(&Request{TokenIDs: prompt})
					case 1:
						_, err = router.Status()
					case 2:
						if pod, err = router.FindPod("pod", 1); err == nil {
							_, err = router.ApplyEvents(pod, CacheCleared{})
						}
					case 3:
						err = router.Recover()
					}
				}
				if !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			})
		}
		started.Wait()
		time.Sleep(time.Duration(round) * 20 * time.Microsecond)
		for range 2 {
			start(&running, func() { router.Close() })
		}
		running.Wait()
	}
}

func start(running *sync.WaitGroup, work func()) {
	running.Add(1)
	go func() {
		defer running.Done()
		work()
	}()
}

func TestGoroutinesShareARouter(t *testing.T) {
	router := must(New(Config{
		Domains: map[string]DomainConfig{"m": {BlockSize: 4}},
		Pods:    []PodConfig{{Name: "a", Domain: "m"}, {Name: "b", Domain: "m"}},
	}))(t)
	defer router.Close()
	domain := must(router.Domain("m"))(t)
	defer domain.Close()
	rounds := 200
	if testing.Short() {
		rounds = 10
	}
	var running sync.WaitGroup
	for worker := range 32 {
		start(&running, func() {
			// Each worker has a pod, prompts and a session of its own.
			name := fmt.Sprint("worker-", worker)
			pod := must(router.AddPod(PodConfig{Name: name, Domain: "m"}))(t)
			prompt := make([]uint32, 40)
			for round := range rounds {
				for at := range prompt {
					prompt[at] = uint32(worker<<16 | round)
				}
				stored := BlocksStored{Hashes: []uint64{uint64(round)}, TokenIDs: prompt[:4], BlockSize: 4}
				if report := must(router.ApplyEvents(pod, stored))(t); report.Outcome != OutcomeApplied {
					t.Errorf("%+v", report)
				}
				var why Explanation
				request := Request{TokenIDs: prompt, SessionID: name}
				if round%16 == 0 {
					request.Explain = &why
				}
				decision := must(router.Dispatch(&request))(t)
				if request.Explain != nil && (why.PromptTokens != len(prompt) || why.Picked == nil) {
					t.Errorf("%+v explains another request", why)
				}
				hashes := must(domain.Hash(nil, prompt, nil))(t)
				if len(must(router.Lookup(domain, hashes[:9]))(t)) == 0 {
					t.Error("what was dispatched is nowhere")
				}
				if known := must(router.FirstToken(decision.Ticket))(t); !known {
					t.Error("the ticket is not known")
				}
				if known := must(router.Finish(decision.Ticket, FinishCompleted, CachedUnknown))(t); !known {
					t.Error("the ticket is not known any more")
				}
			}
			if err := router.RemovePod(pod); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if n := must(router.Counters())(t); n.InFlight != 0 || n.Untracked != 0 || n.Index.Blocks != 0 {
		t.Errorf("%+v", n)
	}
	state, seats := router.lifetime.state.Load(), len(*router.lifetime.seats.Load())
	if callsOf(state) != 0 || seats > 33 {
		t.Errorf("%d calls, %d seats", callsOf(state), seats)
	}
}

func TestWhatNobodyClosesIsFreedByTheCollector(t *testing.T) {
	var freed atomic.Int32
	const made = 20
	for range made {
		new(object).own(func() { freed.Add(1) })
	}
	kept := new(object)
	kept.own(func() { t.Error("freed while it is used") })
	for try := 0; freed.Load() < made && try < 500; try++ {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if freed.Load() != made {
		t.Errorf("%d of %d were freed", freed.Load(), made)
	}
	s := must(kept.enter())(t)
	kept.lifetime.free = func() {}
	kept.leave(s)
	kept.close()
}

// Calls on a router that nobody else refers to: the collector must not free it under their feet.
func TestACallKeepsItsRouterAlive(t *testing.T) {
	for range 20 {
		if _, err := must(New(Config{}))(t).Status(); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
	}
}

func TestPoliciesAreReplacedUnderRequests(t *testing.T) {
	router := must(New(Config{
		Domains: map[string]DomainConfig{"m": {BlockSize: 4}},
		Pods:    []PodConfig{{Name: "a", Domain: "m"}, {Name: "b", Domain: "m"}, {Name: "c", Domain: "m"}},
	}))(t)
	defer router.Close()
	// Each names another number of the next best pods.
	policies := []PolicyConfig{
		{Decode: ProfileConfig{Scorers: &ScorersConfig{Load: &LoadConfig{Weight: 1}}}},
		{Decode: ProfileConfig{Fallbacks: 1, Scorers: &ScorersConfig{Cost: &CostConfig{Weight: 1}}}},
		{Decode: ProfileConfig{Fallbacks: 2, Scorers: &ScorersConfig{Queue: &WeightConfig{1}}}},
	}
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	var running, replacing sync.WaitGroup
	var ended atomic.Bool
	start(&replacing, func() {
		for round := 0; !ended.Load(); round++ {
			if err := router.SetPolicy(policies[round%len(policies)]); err != nil {
				t.Error(err)
			}
		}
	})
	if err := router.SetPolicy(policies[0]); err != nil {
		t.Fatal(err)
	}
	for worker := range 4 {
		start(&running, func() {
			for round := range rounds {
				var why Explanation
				decision, err := router.Dispatch(&Request{TokenIDs: []uint32{1, 2, 3, 4, uint32(worker), uint32(round)}, Explain: &why})
				if err != nil || why.Pods[0].Scores[0].Scorer != []string{"load", "cost", "queue"}[len(decision.Fallbacks)] {
					t.Errorf("%+v, %+v: %v", decision, why, err)
				}
				must(router.Finish(decision.Ticket, FinishCompleted, CachedUnknown))(t)
			}
		})
	}
	running.Wait()
	ended.Store(true)
	replacing.Wait()
	if n := must(router.Counters())(t); n.InFlight != 0 {
		t.Errorf("%+v", n)
	}
}

func TestClosedRoutersGiveTheirMemoryBack(t *testing.T) {
	prompt := make([]uint32, 16<<10)
	for at := range prompt {
		prompt[at] = uint32(at)
	}
	use := func(times int) int {
		for range times {
			router := must(New(everything()))(t)
			pod := must(router.AddPod(PodConfig{Name: "more", Domain: "own", Role: RoleDecode}))(t)
			stored := BlocksStored{TokenIDs: prompt, BlockSize: 16}
			for block := range len(prompt) / 16 {
				stored.Hashes = append(stored.Hashes, uint64(block))
			}
			must(router.ApplyEvents(pod, stored))(t)
			var why Explanation
			must(router.Dispatch(&Request{TokenIDs: prompt, Explain: &why}))(t)
			must(NewFromDocument("{}"))(t).Close()
			failed(NewFromDocument("x"))
			failed(NewHasher(HasherOptions{}))
			must(router.Domain("own"))(t).Close()
			router.Close()
		}
		runtime.GC()
		return residentBytes(t)
	}
	before := use(100)
	if grown := use(400) - before; grown > 16<<20 {
		t.Errorf("400 routers left %d KiB behind", grown>>10)
	}
}

func residentBytes(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	return must(strconv.Atoi(string(bytes.Fields(text)[1])))(t) * os.Getpagesize()
}

func TestSeatsOfOneCallLeaveRoomForTheNext(t *testing.T) {
	var a arena
	defer a.free()
	for _, size := range []int{0, 1, 7, 8, 5000, 3, 100_000, 2 << 20, 16} {
		room := a.room(size)
		if len(room) != size || bytes.Count(room, []byte{0}) != size {
			t.Errorf("%d bytes: %d, not all zero", size, len(room))
		}
		for at := range room {
			room[at] = 0xff
		}
		if place := reflect.ValueOf(room).Pointer(); place%8 != 0 {
			t.Errorf("%d bytes at %x", size, place)
		}
	}
	a.reset()
	if len(a.block) > mostKept || a.full != nil {
		t.Errorf("%d bytes are kept", len(a.block))
	}
}

func TestCallsWithoutARouterGiveTheirMemoryBack(t *testing.T) {
	environ := make([]string, 50)
	for at := range environ {
		environ[at] = fmt.Sprintf("SOME_VARIABLE_%d=%s", at, strings.Repeat("x", 2500))
	}
	read := func() {
		if _, _, err := ConfigFromEnv(environ); err == nil {
			t.Fatal("no scorer is enabled")
		}
	}
	for range 20 {
		read()
	}
	before := residentBytes(t)
	for range 200 {
		read()
	}
	if more := residentBytes(t) - before; more > 8<<20 {
		t.Errorf("200 calls with 130 KB each left %d KB behind", more>>10)
	}
}
