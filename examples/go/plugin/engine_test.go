package plugin

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-zeromq/zmq4"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
)

const blockSize = 16

// engine answers what vLLM does of itself, and publishes KV events over ZeroMQ.
type engine struct {
	url, host, port string
	publisher       zmq4.Socket
	sequence        uint64
}

func startEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{publisher: zmq4.NewPub(context.Background())}
	if err := e.publisher.Listen("tcp://127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.publisher.Close() })
	// By a name in place of the asterisk the engine would say that it connects, and the router is to listen.
	_, port, _ := strings.Cut(e.publisher.Addr().String(), ":")
	answers := map[string]string{
		"/v1/models": `{"data": [{"id": "tiny", "root": "tiny-llama", "max_model_len": 4096}]}`,
		"/version":   `{"version": "0.32.0"}`,
		"/metrics": `vllm:num_requests_running{model_name="tiny"} 0
vllm:num_requests_waiting{model_name="tiny"} 0
vllm:kv_cache_usage_perc{model_name="tiny"} 0
vllm:cache_config_info{block_size="16",num_gpu_blocks="2000",enable_prefix_caching="True"} 1.0
`,
		"/kv_event_sources": fmt.Sprintf(
			`{"0": {"enable_kv_cache_events": true, "publisher": "zmq", "endpoint": "tcp://*:%s", "topic": ""}}`,
			port),
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer, ok := answers[r.URL.Path]; ok {
			fmt.Fprint(w, answer)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	e.url = server.URL
	e.host, e.port, _ = strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	return e
}

// endpoint is the engine as a picker knows it.
func (e *engine) endpoint(name string) scheduling.Endpoint {
	return scheduling.NewEndpoint(&datalayer.EndpointMetadata{
		NamespacedName: types.NamespacedName{Namespace: "default", Name: name}, PodName: name, Address: e.host, Port: e.port,
	}, datalayer.NewMetrics(), nil)
}

// store publishes that the engine holds the blocks of these tokens, as vLLM 0.32 writes it.
func (e *engine) store(t *testing.T, tokenIDs []uint32) {
	t.Helper()
	hashes := make([]any, len(tokenIDs)/blockSize)
	for at := range hashes {
		hashes[at] = uint64(1000 + at)
	}
	tokens := make([]any, len(tokenIDs))
	for at, token := range tokenIDs {
		tokens[at] = uint64(token)
	}
	event := []any{"BlockStored", hashes, nil, tokens, uint64(blockSize), nil, "GPU"}
	payload := msgpack(nil, []any{1.7e9, []any{event}, uint64(0)})
	sequence := binary.BigEndian.AppendUint64(nil, e.sequence)
	e.sequence++
	if err := e.publisher.SendMulti(zmq4.NewMsgFrom([]byte{}, sequence, payload)); err != nil {
		t.Fatal(err)
	}
}

// msgpack appends a value of the few kinds that events have.
func msgpack(to []byte, value any) []byte {
	switch value := value.(type) {
	case nil:
		return append(to, 0xc0)
	case float64:
		return binary.BigEndian.AppendUint64(append(to, 0xcb), math.Float64bits(value))
	case uint64:
		return binary.BigEndian.AppendUint64(append(to, 0xcf), value)
	case string:
		return append(append(to, 0xd9, byte(len(value))), value...)
	case []any:
		to = binary.BigEndian.AppendUint32(append(to, 0xdd), uint32(len(value)))
		for _, part := range value {
			to = msgpack(to, part)
		}
		return to
	default:
		panic(fmt.Sprintf("no kind of %T", value))
	}
}

// parameters are those of a scorer for these engines.
func parameters(engines ...*engine) json.RawMessage {
	urls := []string{}
	for _, engine := range engines {
		urls = append(urls, engine.url)
	}
	document, _ := json.Marshal(map[string]any{
		"pods": urls, "blockSize": blockSize, "tokenizer": "../../../testdata/tokenize",
	})
	return document
}
