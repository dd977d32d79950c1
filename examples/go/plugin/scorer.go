// Package plugin is a scorer for endpoint pickers that are written in Go: those of the Gateway API Inference Extension, and
// what is built on it, such as llm-d's. It tells how much of a request's prompt each endpoint has in its KV cache, as the
// engines' own events say.
//
// It needs the build tag kvroute_io, and libkvroute_io where pkg-config finds it.
package plugin

import (
	"context"
	"net"

	kvroute "github.com/kvroute/kvroute/go"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
)

// Type is what an EndpointPickerConfig calls the scorer.
const Type = "kvroute-prefix-scorer"

var (
	_ scheduling.Scorer               = &Scorer{}
	_ requestcontrol.PreRequest       = &Scorer{}
	_ requestcontrol.ResponseComplete = &Scorer{}
)

// Scorer rates endpoints by how much of a prompt they have cached. Any number of goroutines may use it at a time.
type Scorer struct {
	name      plugin.TypedName
	fleet     *kvroute.Fleet
	router    *kvroute.Router
	domain    *kvroute.Domain
	tokenizer *kvroute.Tokenizer
	// What requests are at between their hooks; the picker's own, which forgets what is never completed.
	requests *plugin.PluginState
}

// TypedName is the type and the name in the configuration.
func (s *Scorer) TypedName() plugin.TypedName { return s.name }

// Category: it prefers where KV is.
func (s *Scorer) Category() scheduling.ScorerCategory { return scheduling.Affinity }

// Score is the share of the prompt that each endpoint has, 0 to 1: of its tokens, those in the leading blocks that the
// endpoint holds in any tier, or was sent a moment ago; where its engine tells nothing, those it was ever sent. It is
// absolute: what nobody has is 0 for all.
//
// A prompt that cannot be made into token ids (images, a tokenizer that is too busy) is 0 for all too, so that other
// scorers decide.
func (s *Scorer) Score(ctx context.Context, _ *scheduling.CycleState, request *scheduling.LLMRequest,
	endpoints []scheduling.Endpoint) map[scheduling.Endpoint]float64 {
	scores := make(map[scheduling.Endpoint]float64, len(endpoints))
	for _, endpoint := range endpoints {
		scores[endpoint] = 0
	}
	prompt, err := s.read(request)
	if err != nil {
		log.FromContext(ctx).V(1).Info("the prompt is not scored", "plugin", s.name, "reason", err.Error())
		return scores
	}
	s.requests.Write(request.RequestId, promptKey, prompt)
	cached, err := s.cachedTokens(prompt)
	if err != nil {
		log.FromContext(ctx).Error(err, "no scores", "plugin", s.name)
		return scores
	}
	for _, endpoint := range endpoints {
		tokens := cached[address(endpoint.GetMetadata())]
		scores[endpoint] = float64(tokens) / float64(len(prompt.tokenIDs))
	}
	return scores
}

// cachedTokens are leading tokens of the prompt that pods have, by their addresses; those that have none are left out.
func (s *Scorer) cachedTokens(prompt *prompt) (map[string]int, error) {
	// An engine always computes the last token, so the block with it is not looked for.
	searchable, err := s.domain.SearchableBlocks(len(prompt.tokenIDs))
	if err != nil {
		return nil, err
	}
	size := s.domain.BlockSize()
	hashes, err := s.domain.Hash(nil, prompt.tokenIDs[:searchable*size], &prompt.context)
	if err != nil {
		return nil, err
	}
	matches, err := s.router.Lookup(s.domain, hashes)
	if err != nil {
		return nil, err
	}
	cached := make(map[string]int, len(matches))
	for _, match := range matches {
		// Its name is its address: Factory gives it no other.
		name, _, err := s.router.PodName(match.Pod)
		if err != nil {
			continue // It left this very moment.
		}
		// Of data-parallel ranks behind one address the picker sees one endpoint.
		cached[name] = max(cached[name], s.blocks(match)*size)
	}
	return cached, nil
}

// blocks are leading blocks that a pod is expected to have: those it tells of, or that were sent to it a moment ago. Of one
// that tells nothing, all that were sent to it and are remembered.
func (s *Scorer) blocks(match kvroute.PodMatch) int {
	known := max(match.Blocks.Total(), match.Speculative)
	if match.Predicted <= known {
		return known
	}
	counters, err := s.router.PodCounters(match.Pod)
	if err != nil || counters.Stream.Batches > 0 {
		return known
	}
	return match.Predicted
}

// PreRequest notes where the request goes. Until that engine's events tell of its blocks, requests with the same prefix
// find them there; without that a burst with a new prefix would scatter.
func (s *Scorer) PreRequest(ctx context.Context, request *scheduling.LLMRequest, result *scheduling.SchedulingResult) {
	prompt, err := plugin.ReadPluginStateKey[*prompt](s.requests, request.RequestId, promptKey)
	if err != nil || result == nil {
		return
	}
	primary := result.ProfileResults[result.PrimaryProfileName]
	if primary == nil || len(primary.TargetEndpoints) == 0 {
		return
	}
	target := address(primary.TargetEndpoints[0].GetMetadata())
	decision, err := s.router.Dispatch(&kvroute.Request{
		TokenIDs: prompt.tokenIDs, Context: prompt.context, Subset: []string{target},
	})
	if err != nil {
		// It is none of the fleet's pods, or does not take requests as far as the fleet knows.
		log.FromContext(ctx).V(1).Info("not noted", "plugin", s.name, "endpoint", target, "reason", err.Error())
		return
	}
	s.requests.Write(request.RequestId, ticketKey, ticket(decision.Ticket))
}

// ResponseComplete gives back what PreRequest noted, whatever became of the request.
func (s *Scorer) ResponseComplete(_ context.Context, request *scheduling.LLMRequest, _ *requestcontrol.Response,
	_ *datalayer.EndpointMetadata) {
	held, err := plugin.ReadPluginStateKey[ticket](s.requests, request.RequestId, ticketKey)
	s.requests.Delete(request.RequestId)
	if err == nil {
		// The hook does not tell whether it failed, nor what the engine had cached. A ticket that expired is no error.
		_, _ = s.router.Finish(kvroute.Ticket(held), kvroute.FinishCompleted, -1)
	}
}

// address is where an endpoint serves, as pods of the fleet are named: host and port.
func address(endpoint *datalayer.EndpointMetadata) string {
	return net.JoinHostPort(endpoint.GetIPAddress(), endpoint.GetPort())
}
