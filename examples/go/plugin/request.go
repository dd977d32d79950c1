package plugin

import (
	"encoding/json"
	"errors"
	"fmt"

	kvroute "github.com/kvroute/kvroute/go"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
)

// What is kept of a request.
const (
	promptKey plugin.StateKey = "kvroute prompt"
	ticketKey plugin.StateKey = "kvroute ticket"
)

// prompt is one as the engine will see it. Nobody changes it once it is made.
type prompt struct {
	tokenIDs []uint32
	context  kvroute.HashContext
}

// Clone is asked for by the picker's state; what never changes can be shared.
func (p *prompt) Clone() plugin.StateData { return p }

// ticket is that of a request in flight.
type ticket kvroute.Ticket

// Clone is a copy.
func (t ticket) Clone() plugin.StateData { return t }

// read makes token ids of what the picker has read of a request's body.
//
// The picker's types keep what is in them and nothing else: a message's tool calls, for one, are gone (v1.4.0). Chats with
// them come out shorter here than in the engine, and match up to the first of them.
func (s *Scorer) read(request *scheduling.LLMRequest) (*prompt, error) {
	if request.Body == nil {
		return nil, errors.New("the request has no body")
	}
	var asked any
	var endpoint kvroute.Endpoint
	switch body := request.Body; {
	case body.Completions != nil:
		asked, endpoint = body.Completions, kvroute.EndpointCompletions
	case body.ChatCompletions != nil:
		asked, endpoint = body.ChatCompletions, kvroute.EndpointChatCompletions
	case body.Responses != nil:
		asked, endpoint = body.Responses, kvroute.EndpointResponses
	default:
		return nil, errors.New("a conversation that is stored elsewhere has no prompt")
	}
	document, err := withModel(asked, request.TargetModel)
	if err != nil {
		return nil, err
	}
	prompts, err := s.tokenizer.Prompts(endpoint, document)
	if err != nil {
		return nil, err
	}
	first := prompts[0]
	if len(first.TokenIDs) == 0 {
		return nil, fmt.Errorf("no token ids: %s", first.Reason)
	}
	context, err := s.context(request.TargetModel)
	if err != nil {
		return nil, err
	}
	context.CacheSalt = request.Body.CacheSalt()
	return &prompt{first.TokenIDs, context}, nil
}

// withModel is a body as JSON, with the model it was sent for: the picker keeps that elsewhere.
func withModel(body any, model string) ([]byte, error) {
	document, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(document, &fields); err != nil {
		return nil, err
	}
	if fields["model"], err = json.Marshal(model); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// context is what a model's blocks depend on besides their tokens: of an adapter its name, path and number.
func (s *Scorer) context(model string) (kvroute.HashContext, error) {
	models, err := s.fleet.Models()
	if err != nil {
		return kvroute.HashContext{}, err
	}
	for _, served := range models {
		if served.Name == model && served.Lora != nil {
			lora := served.Lora
			return kvroute.HashContext{LoraName: lora.Name, LoraPath: lora.Path, LoraID: lora.ID}, nil
		}
	}
	return kvroute.HashContext{}, nil
}
