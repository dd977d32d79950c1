package kvroute

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const schemaFile = "../kvroute-core/config.schema.json"

// schema is what the test reads of a JSON Schema.
type schema struct {
	Ref        string             `json:"$ref"`
	Defs       map[string]*schema `json:"$defs"`
	Type       string             `json:"type"`
	Const      string             `json:"const"`
	Enum       []string           `json:"enum"`
	OneOf      []*schema          `json:"oneOf"`
	Items      *schema            `json:"items"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	// Values is false, or what an object's values are.
	Values json.RawMessage `json:"additionalProperties"`
}

// words are all values of the types that are words in documents, or words and objects.
var words = map[reflect.Type][]any{
	reflect.TypeFor[Preset]():         {PresetLLMDDemo, PresetCost, PresetAffinity},
	reflect.TypeFor[Operator]():       {OperatorIn, OperatorNotIn, OperatorExists, OperatorDoesNotExist},
	reflect.TypeFor[Role]():           {RoleBoth, RoleDecode, RolePrefill},
	reflect.TypeFor[CopyPolicy]():     {CopiesInfer, CopiesCount, CopiesSet},
	reflect.TypeFor[GapPolicy]():      {OnGapClear, OnGapReplay},
	reflect.TypeFor[MultimodalForm](): {MultimodalOffset, MultimodalIdentifier},
	reflect.TypeFor[VLLMEra]():        {VLLMIntLora, VLLMMultimodalIdentifier, VLLMMultimodalOffset, VLLMTagged},
	reflect.TypeFor[VLLMAlgorithm]():  {VLLMSHA256, VLLMSHA256CBOR, VLLMXXHash, VLLMXXHashCBOR, VLLMSHA256CBOR64Bit},
	reflect.TypeFor[FilterConfig](): {
		FilterAccepting, FilterModel, FilterRole(RoleDecode), FilterSubset, FilterLabels(LabelsConfig{}),
		FilterHealth(HealthConfig{}), FilterOverload, FilterLoraRoom, FilterAffinity(AffinityConfig{}),
	},
	reflect.TypeFor[PickerConfig](): {
		PickerMaxScore, PickerWeightedRandom, PickerPowerOfTwo, PickerSoftmax(SoftmaxConfig{}),
	},
	reflect.TypeFor[GuardConfig]():  {GuardConfig{}, GuardConfig{&SpillConfig{}}},
	reflect.TypeFor[WarmUpConfig](): {WarmUpConfig{}, WarmUpConfig{&WarmUpShare{}}},
	reflect.TypeFor[GroupKind](): {
		GroupKind{}, GroupKind{AttentionSlidingWindow, 1}, GroupKind{Attention: AttentionUnknown},
	},
}

func TestConfigHasTheKeysOfTheSchema(t *testing.T) {
	text := must(os.ReadFile(schemaFile))(t)
	var root schema
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	c := comparison{t, root.Defs}
	c.compare("", reflect.TypeFor[Config](), &root)
	built := must(ConfigSchema())(t)
	var committed, linked any
	json.Unmarshal(text, &committed)
	json.Unmarshal([]byte(built), &linked)
	if !reflect.DeepEqual(committed, linked) {
		t.Error("the library that is linked has another schema than the repository")
	}
}

type comparison struct {
	t    *testing.T
	defs map[string]*schema
}

func (c *comparison) compare(place string, of reflect.Type, with *schema) {
	for with.Ref != "" {
		with = c.defs[strings.TrimPrefix(with.Ref, "#/$defs/")]
	}
	if values, found := words[of]; found {
		c.compareWords(place, values, with)
		c.compareSettings(place, of, with)
		return
	}
	expected := map[reflect.Kind]string{
		reflect.Struct: "object", reflect.Map: "object", reflect.Slice: "array", reflect.String: "string",
		reflect.Uint32: "integer", reflect.Uint64: "integer", reflect.Int64: "integer", reflect.Float64: "number",
	}
	switch of.Kind() {
	case reflect.Pointer:
		c.compare(place, of.Elem(), with)
		return
	case reflect.Struct:
		c.compareKeys(place, of, with)
	case reflect.Map:
		var values schema
		if err := json.Unmarshal(with.Values, &values); err != nil {
			c.t.Errorf("%s: %v", place, err)
		}
		c.compare(place+".*", of.Elem(), &values)
	case reflect.Slice:
		c.compare(place+"[]", of.Elem(), with.Items)
	}
	if with.OneOf == nil && with.Type != expected[of.Kind()] {
		c.t.Errorf("%s is %v, but %q in the schema", place, of, with.Type)
	}
}

// compareKeys compares a struct's keys, and which of them can be left out, with those of an object, or of one that has
// one of several keys.
func (c *comparison) compareKeys(place string, of reflect.Type, with *schema) {
	properties := maps.Clone(with.Properties)
	for _, one := range with.OneOf {
		if properties == nil {
			properties = map[string]*schema{}
		}
		maps.Copy(properties, one.Properties)
	}
	for _, field := range reflect.VisibleFields(of) {
		if field.Anonymous {
			continue
		}
		key, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		property, found := properties[key]
		if !found {
			c.t.Errorf("%s.%s (%s) is not in the schema", place, key, field.Name)
			continue
		}
		delete(properties, key)
		if required := slices.Contains(with.Required, key); required != (options == "") {
			c.t.Errorf("%s.%s is required: %t, but its tag says %q", place, key, required, options)
		}
		c.compare(place+"."+key, field.Type, property)
	}
	for key := range properties {
		c.t.Errorf("%s.%s is missing in %v", place, key, of)
	}
}

// compareWords compares what values look like in documents with the alternatives of the schema.
func (c *comparison) compareWords(place string, values []any, with *schema) {
	expected := slices.Clone(with.Enum)
	for _, one := range with.OneOf {
		if one.Const != "" {
			expected = append(expected, one.Const)
		}
		expected = slices.AppendSeq(expected, maps.Keys(one.Properties))
	}
	var got []string
	for _, value := range values {
		text := must(json.Marshal(value))(c.t)
		var word string
		var object map[string]any
		if json.Unmarshal(text, &word) == nil {
			got = append(got, word)
		} else if json.Unmarshal(text, &object) == nil {
			got = slices.AppendSeq(got, maps.Keys(object))
		}
		back := reflect.New(reflect.TypeOf(value))
		if err := json.Unmarshal(text, back.Interface()); err != nil {
			c.t.Errorf("%s: %s cannot be read back: %v", place, text, err)
		}
		if again := must(json.Marshal(back.Interface()))(c.t); string(again) != string(text) {
			c.t.Errorf("%s: %s is read back as %s", place, text, again)
		}
	}
	slices.Sort(expected)
	slices.Sort(got)
	if !slices.Equal(got, expected) {
		c.t.Errorf("%s can be %q, in the schema %q", place, got, expected)
	}
}

// compareSettings compares the parts of what is a word or an object in documents.
func (c *comparison) compareSettings(place string, of reflect.Type, with *schema) {
	if of.Kind() != reflect.Struct {
		return
	}
	for _, field := range reflect.VisibleFields(of) {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		for _, one := range with.OneOf {
			if property, found := one.Properties[key]; found {
				c.compare(place+"."+key, field.Type, property)
			}
		}
	}
}

func TestTheZeroConfigIsAnEmptyDocument(t *testing.T) {
	if text := must(json.Marshal(Config{}))(t); string(text) != "{}" {
		t.Errorf("%s", text)
	}
	router := must(New(Config{}))(t)
	defer router.Close()
	if pods := must(router.Pods())(t); len(pods) != 0 {
		t.Error(pods)
	}
}

func TestZeroIsToldFromTheDefault(t *testing.T) {
	text := string(must(json.Marshal(Config{
		Policy: PolicyConfig{Decode: ProfileConfig{
			Filters: []FilterConfig{},
			Scorers: &ScorersConfig{
				KVCache: &KVCacheConfig{Credits: CreditsConfig{CPU: Ptr(0.0), Trust: TrustCreditsConfig{Exact: Ptr(0.0)}}},
			},
			WarmUp: &WarmUpConfig{},
			Guard:  &GuardConfig{},
		}},
		Sessions: SessionsConfig{Max: Ptr(uint64(0))},
		Requests: RequestsConfig{SpeculationMS: Ptr(uint64(0))},
		Overload: OverloadConfig{Waiting: Ptr(uint32(0))},
		Domains:  map[string]DomainConfig{"m": {BlockSize: 1, Scheme: SchemeConfig{Own: &OwnConfig{Seed: Ptr(uint64(0))}}}},
	}))(t))
	for _, part := range []string{
		`"filters":[]`, `"weight":0`, `"cpu":0`, `"exact":0`, `"max":0`, `"seed":0`, `"speculation_ms":0`, `"waiting":0`,
		`"warm_up":"none"`, `"guard":"none"`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not in %s", part, text)
		}
	}
	if err := CheckDocument(text); err != nil {
		t.Error(err)
	}
}

// everything is a configuration in which nothing is left out.
func everything() Config {
	trust := TrustCreditsConfig{Ptr(1.0), Ptr(1.0), Ptr(0.5), Ptr(0.0)}
	credits := CreditsConfig{Ptr(1.0), Ptr(0.5), Ptr(0.25), Ptr(0.0), trust}
	model := ModelConfig{0.01, Ptr(1e-5), Ptr(1e-9), Ptr(0.001)}
	scorers := &ScorersConfig{
		KVCache:      &KVCacheConfig{5, credits},
		Prefix:       &WeightConfig{3},
		Session:      &WeightConfig{2},
		Load:         &LoadConfig{1, 64},
		Cost:         &CostConfig{0.5, Ptr(0.0), credits},
		Latency:      &LatencyConfig{0.5, credits, model},
		TokenLoad:    &TokenLoadConfig{0.5, 1 << 20, credits},
		Queue:        &WeightConfig{0.25},
		Running:      &WeightConfig{0.25},
		KVUsage:      &WeightConfig{0.25},
		LoraAffinity: &WeightConfig{0.25},
		Topology:     &TopologyConfig{0.25, []TopologyLevel{{"zone", 0.5}}, map[string]string{"zone": "a"}},
		NoHitLRU:     &WeightConfig{0.25},
		External:     map[string]WeightConfig{"warmth": {1.5}},
	}
	labels := LabelsConfig{nil, []RequirementConfig{
		{"zone", OperatorNotIn, []string{"b"}}, {"spot", OperatorDoesNotExist, nil},
	}}
	profile := func(role Role, picker PickerConfig) ProfileConfig {
		filters := []FilterConfig{
			FilterAccepting, FilterModel, FilterRole(role), FilterSubset, FilterLabels(labels),
			FilterHealth(HealthConfig{2, Ptr(uint64(5))}), FilterOverload, FilterLoraRoom,
			FilterAffinity(AffinityConfig{Ptr(0.9), Ptr(uint64(250)), credits, model}),
		}
		return ProfileConfig{
			7, filters, scorers, picker, &WarmUpConfig{&WarmUpShare{Ptr(0.5), Ptr(uint64(0))}},
			&GuardConfig{&SpillConfig{2, Ptr(uint32(8)), 3}}, 2,
		}
	}
	prefill := profile(RolePrefill, PickerSoftmax(SoftmaxConfig{0.2}))
	return Config{
		Policy: PolicyConfig{
			PresetCost, SamplingConfig{Ptr(uint64(8)), Ptr(uint64(4)), Ptr(uint64(4))}, profile(RoleDecode, PickerMaxScore),
			&PrefillConfig{1024, 128, Ptr(uint64(1 << 20)), prefill},
		},
		Index:          IndexConfig{16, Ptr(uint64(1 << 20)), Ptr(uint64(100))},
		TextBlockBytes: 64,
		Sessions:       SessionsConfig{60, Ptr(uint64(10)), strings.Repeat("ab", 32)},
		Requests:       RequestsConfig{30, Ptr(uint64(10)), Ptr(uint64(1000))},
		Overload:       OverloadConfig{Ptr(uint32(4)), Ptr(0.75)},
		Domains: map[string]DomainConfig{
			"own":     {16, SchemeConfig{Own: &OwnConfig{Ptr(uint64(1)), MultimodalIdentifier}}, []string{"llama"}},
			"version": {16, SchemeConfig{VLLM: &VLLMConfig{VLLMSHA256, "0.33.0", "", Ptr("0"), "", 1}}, nil},
			"era":     {16, SchemeConfig{VLLM: &VLLMConfig{VLLMXXHash, "", VLLMTagged, nil, strings.Repeat("ab", 16), 0}}, nil},
		},
		Pods: []PodConfig{{
			"pod", 1, "own", RoleDecode, map[string]string{"zone": "a"}, 2,
			EventsConfig{
				CopiesSet, OnGapReplay, []GroupConfig{{0, GroupKind{Attention: AttentionFull}}, {1, GroupKind{AttentionSlidingWindow, 128}}},
				[]AdapterConfig{{1, "sql"}}, Ptr(uint64(0)), Ptr(uint64(0)), Ptr(uint64(5)),
			},
		}},
	}
}

func TestAConfigWithEverythingIsAcceptedAndReadBack(t *testing.T) {
	config := everything()
	router := must(New(config))(t)
	defer router.Close()
	text := must(json.Marshal(config))(t)
	var back Config
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, config) {
		t.Errorf("%s is read back as %+v", text, back)
	}
	// A pod that comes later has the same options.
	later := config.Pods[0]
	later.DPRank = 2
	must(router.AddPod(later))(t)
	pods := must(router.Status())(t).Pods
	pods[1].DPRank, pods[1].ID = pods[0].DPRank, pods[0].ID
	if len(pods) != 2 || !reflect.DeepEqual(pods[0], pods[1]) {
		t.Errorf("%+v", pods)
	}
}

func TestConfigurationsOfLLMDsEndpointPicker(t *testing.T) {
	files := must(filepath.Glob("../testdata/epp-config/*.yaml"))(t)
	for _, file := range files {
		config, notes, err := ConfigFromEndpointPicker(string(must(os.ReadFile(file))(t)))
		if err != nil || len(config.Policy.Decode.Filters) == 0 || slices.Contains(notes, "") {
			t.Errorf("%s: %+v, %q: %v", file, config, notes, err)
			continue
		}
		must(New(config))(t).Close()
	}
	if len(files) < 19 {
		t.Error(files)
	}
}

func TestEnvironmentOfLLMDsFirstScheduler(t *testing.T) {
	config, notes, err := ConfigFromEnv([]string{
		"HOME=/root", "ENABLE_KVCACHE_AWARE_SCORER=true", "KVCACHE_AWARE_SCORER_WEIGHT=5", "PD_ENABLED=true",
		"PREFILL_ENABLE_LOAD_AWARE_SCORER=true", "PD_PROMPT_LEN_THRESHOLD=4000", "HF_TOKEN=secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	scorers := config.Policy.Decode.Scorers
	if scorers == nil || scorers.KVCache == nil || scorers.KVCache.Weight != 5 || config.Policy.Prefill == nil {
		t.Errorf("%+v", config)
	}
	if len(notes) == 0 || !slices.ContainsFunc(notes, func(note string) bool { return strings.Contains(note, "HF_TOKEN") }) {
		t.Errorf("%q", notes)
	}
	must(New(config))(t).Close()
	for _, variable := range []string{"ENABLE_KVCACHE_AWARE_SCORE=true", "PD_ENABLED=\xff", "PD_ENABLED=maybe"} {
		if _, _, err := ConfigFromEnv([]string{variable}); !errors.Is(err, ErrInvalidInput) {
			t.Errorf("%q: %v", variable, err)
		}
	}
}
