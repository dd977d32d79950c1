package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	kvroute "github.com/kvroute/kvroute/go"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
)

// Parameters are those of the scorer in an EndpointPickerConfig. Unknown ones are refused.
type Parameters struct {
	// Pods are URLs of engines; each address behind a name, such as that of a headless service, is a pod. At least one.
	Pods []string `json:"pods"`
	// BlockSize is tokens a block, as the engines have it (vLLM's --block-size).
	BlockSize uint32 `json:"blockSize"`
	// Tokenizer is the folder of the engines' model, with tokenizer.json.
	Tokenizer string `json:"tokenizer"`
	// Known is what pods cannot say themselves, as fleet.known in kvroute's configuration; usually nothing.
	Known json.RawMessage `json:"known,omitempty"`
	// MaxBytes bounds the memory of the index; 0: 4 GiB.
	MaxBytes uint64 `json:"maxBytes,omitempty"`
}

// domainName is what the one cache domain is called.
const domainName = "pool"

// Register makes the scorer known to a picker: to be called before its runner starts.
func Register() {
	plugin.Register(Type, Factory)
}

// Factory makes a scorer of its parameters, and begins to follow the pods; it ends when the handle's context does.
//
// Errors: what is wrong with the parameters; a tokenizer that cannot be read.
func Factory(name string, parameters json.RawMessage, handle plugin.Handle) (plugin.Plugin, error) {
	scorer, err := newScorer(handle.Context(), name, parameters)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", Type, name, err)
	}
	return scorer, nil
}

func newScorer(ctx context.Context, name string, text json.RawMessage) (*Scorer, error) {
	var parameters Parameters
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&parameters); err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	document, err := parameters.document()
	if err != nil {
		return nil, err
	}
	tokenizer, err := kvroute.NewTokenizer(parameters.Tokenizer, kvroute.TokenizerOptions{})
	if err != nil {
		return nil, err
	}
	fleet, err := kvroute.StartFleet(document, kvroute.FleetOptions{})
	if err != nil {
		return nil, errors.Join(err, tokenizer.Close())
	}
	domain, err := fleet.Router().Domain(domainName)
	if err != nil {
		return nil, errors.Join(err, fleet.Router().Close(), fleet.Close(), tokenizer.Close())
	}
	s := &Scorer{
		name:      plugin.TypedName{Type: Type, Name: name},
		fleet:     fleet,
		router:    fleet.Router(),
		domain:    domain,
		tokenizer: tokenizer,
		requests:  plugin.NewPluginState(ctx),
	}
	context.AfterFunc(ctx, func() {
		// Calls under way end first; later ones answer that it is closed, and score nothing.
		_ = errors.Join(s.router.Close(), s.fleet.Close(), s.domain.Close(), s.tokenizer.Close())
	})
	return s, nil
}

// document is the parameters as kvroute's configuration.
func (p *Parameters) document() (string, error) {
	if len(p.Pods) == 0 {
		return "", errors.New("parameters: pods: none")
	}
	if p.BlockSize == 0 {
		return "", errors.New("parameters: blockSize: none; it is what the engines were started with")
	}
	pods := make([]any, len(p.Pods))
	for at, url := range p.Pods {
		pods[at] = map[string]any{"url": url, "resolve": true, "domain": domainName}
	}
	router := map[string]any{
		"domains": map[string]any{domainName: map[string]any{"block_size": p.BlockSize}},
		// The picker has chosen when the router is told of it: it is to agree with any choice.
		"policy": map[string]any{"decode": map[string]any{"filters": []string{"subset"}}},
	}
	if p.MaxBytes > 0 {
		router["index"] = map[string]any{"max_bytes": p.MaxBytes}
	}
	fleet := map[string]any{"pods": pods}
	if p.Known != nil {
		fleet["known"] = p.Known
	}
	document, err := json.Marshal(map[string]any{"router": router, "fleet": fleet})
	return string(document), err
}
