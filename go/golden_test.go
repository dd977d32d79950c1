package kvroute

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Block hashes that others computed; testdata/hashes/README.md says who.
const hashVectors = "../testdata/hashes/"

// vector is what the files have of one prompt; each has some of it.
type vector struct {
	ID     string
	Family string
	// vLLM's
	Algo         string
	Seed         *string `json:"pythonhashseed"`
	NoneHash     hexes   `json:"none_hash"`
	BlockSize    uint32  `json:"block_size"`
	Lora         *struct{ Name, Path string }
	CacheSalt    string `json:"cache_salt"`
	Items        []item `json:"mm"`
	PromptEmbeds any    `json:"prompt_embeds"`
	Blocks       []block
	// the others'
	TokenIDs    prompt   `json:"token_ids"`
	Tokens      prompt   `json:"tokens"`
	Hashes      []string `json:"hashes"`
	HashIndices []int    `json:"hash_indices"`
	Keys        []string `json:"keys"`
	Name        string
	Algorithm   string
	Model       string
	LLMDSeed    string `json:"seed"`
	Extras      any
}

type block struct {
	Hash      hexes
	ExtraKeys json.RawMessage `json:"extra_keys"`
}

type item struct {
	Identifier            string
	Offset, Start, Length uint32
}

type hexes []byte

func (h *hexes) UnmarshalJSON(data []byte) error {
	var digits *string
	err := json.Unmarshal(data, &digits)
	if digits != nil {
		*h, err = hex.DecodeString(*digits)
	}
	return err
}

// prompt is token ids, or those to repeat until a count is reached.
type prompt []uint32

func (p *prompt) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]uint32)(p))
	}
	var cycle struct {
		Repeat []uint32
		Count  int
	}
	err := json.Unmarshal(data, &cycle)
	for len(*p) < cycle.Count {
		*p = append(*p, cycle.Repeat[len(*p)%len(cycle.Repeat)])
	}
	return err
}

func readVectors(t *testing.T, file string, to any) {
	t.Helper()
	text, err := os.ReadFile(hashVectors + file)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		t.Fatal(file, ": ", err)
	}
}

func low64(hash []byte) uint64 {
	return binary.BigEndian.Uint64(hash[len(hash)-8:])
}

func (v *vector) context() *HashContext {
	context := &HashContext{CacheSalt: v.CacheSalt}
	if v.Lora != nil {
		context.LoraName, context.LoraPath = v.Lora.Name, v.Lora.Path
	}
	for _, item := range v.Items {
		context.Multimodal = append(context.Multimodal, MultimodalItem{item.Identifier, item.Offset + item.Start, item.Length})
	}
	switch embeds := v.PromptEmbeds.(type) {
	case []any: // the keys
		for _, key := range embeds {
			bytes, _ := hex.DecodeString(key.(string))
			context.PromptEmbeds = append(context.PromptEmbeds, bytes)
		}
	case map[string]any: // the tensor, of which each block's rows are hashed
		bytes, _ := hex.DecodeString(embeds["bytes_hex"].(string))
		row := len(bytes) / int(embeds["shape"].([]any)[0].(float64))
		for block := range slices.Chunk(bytes, row*int(v.BlockSize)) {
			key := sha256.Sum256(block)
			context.PromptEmbeds = append(context.PromptEmbeds, key[:])
		}
	}
	return context
}

// untaggedContext is that of a vector that gives extra keys only, in an older version's form.
func (v *vector) untaggedContext() *HashContext {
	context := &HashContext{CacheSalt: "tenant-a"}
	if strings.HasSuffix(v.ID, "salt_only") {
		return context
	}
	var keys []any
	json.Unmarshal(v.Blocks[0].ExtraKeys, &keys)
	identifier, isText := keys[1].(string)
	if !isText {
		identifier = keys[1].([]any)[0].(string)
	}
	context.LoraName = "lora-a"
	context.Multimodal = []MultimodalItem{{identifier, 3, 20}}
	return context
}

func hashed(t *testing.T, options HasherOptions, tokenIDs []uint32, context *HashContext) []uint64 {
	t.Helper()
	hasher := must(NewHasher(options))(t)
	defer hasher.Close()
	return must(hasher.Hash(nil, tokenIDs, context))(t)
}

func TestEveryHashOfVLLMIsReproduced(t *testing.T) {
	var file struct {
		Vectors []vector
		Roots   []vector `json:"none_hashes"`
	}
	readVectors(t, "vllm.json", &file)
	hashes := 0
	for _, v := range file.Vectors {
		options := HasherOptions{
			Scheme: HashSchemeVLLM, BlockSize: v.BlockSize, Algorithm: VLLMAlgorithm(v.Algo), Version: "0.32.0",
			NoneHash: v.NoneHash,
		}
		if v.NoneHash == nil {
			options.Seed = v.Seed
		}
		context := v.context()
		switch v.Family {
		case "untagged":
			options.Version, context = "0.19.0", v.untaggedContext()
		case "untagged_mm_str":
			options.Version, context = "0.11.1", v.untaggedContext()
		case "cbor_64bit":
			options.Version = "0.9.0"
			// One block in the middle has an adapter, which no request would.
			odd := slices.IndexFunc(v.Blocks, func(b block) bool { return string(b.ExtraKeys) != "null" })
			if odd >= 0 {
				v.Blocks, v.TokenIDs = v.Blocks[:odd], v.TokenIDs[:odd*int(v.BlockSize)]
			}
		}
		got := hashed(t, options, v.TokenIDs, context)
		if len(got) != len(v.Blocks) {
			t.Fatalf("%s: %d hashes, expected %d", v.ID, len(got), len(v.Blocks))
		}
		for at, block := range v.Blocks {
			if got[at] != low64(block.Hash) {
				t.Errorf("%s block %d: %d, expected %d", v.ID, at, got[at], low64(block.Hash))
			}
			hashes++
		}
	}
	if len(file.Vectors) != 120 || hashes != 370 {
		t.Errorf("%d vectors, %d hashes", len(file.Vectors), hashes)
	}
	refused := 0
	for _, root := range file.Roots {
		_, err := NewHasher(HasherOptions{
			Scheme: HashSchemeVLLM, BlockSize: 16, Algorithm: VLLMAlgorithm(root.Algo), Version: "0.32.0", Seed: root.Seed,
		})
		if root.NoneHash == nil {
			if !errors.Is(err, ErrNotReproducible) {
				t.Errorf("%s: %v", root.Algo, err)
			}
			refused++
		} else if err != nil {
			t.Errorf("%s: %v", root.Algo, err)
		}
	}
	if refused != 2 {
		t.Errorf("%d roots were refused", refused)
	}
}

func TestPicklesAreThoseOfCPython(t *testing.T) {
	var file struct{ Vectors []vector }
	readVectors(t, "pickle.json", &file)
	hashes := 0
	for _, v := range file.Vectors {
		got := hashed(t, HasherOptions{
			Scheme: HashSchemeVLLM, BlockSize: v.BlockSize, Algorithm: VLLMSHA256, Version: "0.32.0", NoneHash: v.NoneHash,
		}, v.TokenIDs, v.context())
		for at, digits := range v.Hashes {
			if v.HashIndices != nil {
				at = v.HashIndices[at]
			}
			expected, _ := hex.DecodeString(digits)
			if got[at] != low64(expected) {
				t.Errorf("%s block %d", v.ID, at)
			}
			hashes++
		}
	}
	if hashes != 155 {
		t.Errorf("%d hashes", hashes)
	}
}

func TestEveryRequestKeyOfLLMDIsReproduced(t *testing.T) {
	var vectors []vector
	readVectors(t, "llm-d.json", &vectors)
	keys := 0
	for _, v := range vectors {
		scheme := HashScheme("llm-d-" + v.Algorithm)
		if scheme != HashSchemeLLMDCBORFNV && scheme != HashSchemeLLMDXXH64 {
			continue
		}
		context, model := &HashContext{}, v.Model
		if strings.HasPrefix(v.Name, "LoRA") {
			context.LoraName, model = v.Model, "some-base-model"
		}
		if v.Extras != nil {
			// Items that fall into the blocks as the vector lists them.
			context.Multimodal = []MultimodalItem{{"img-hash-a", 4, 20}, {"img-hash-b", 24, 8}, {"salt-x", 50, 100}}
		}
		got := hashed(t, HasherOptions{Scheme: scheme, BlockSize: v.BlockSize, Seed: &v.LLMDSeed, Model: model}, v.Tokens, context)
		if expected := decimals(t, v.Keys); !slices.Equal(got, expected) {
			t.Errorf("%s (%s): %d, expected %d", v.Name, v.Algorithm, got, expected)
		}
		keys += len(got)
	}
	if keys != 109 {
		t.Errorf("%d keys", keys)
	}
}

func TestTheOwnSchemeIsThatOfDynamoAndSMG(t *testing.T) {
	var file struct{ Vectors []vector }
	readVectors(t, "own-scheme.json", &file)
	for _, v := range file.Vectors {
		got := hashed(t, HasherOptions{BlockSize: v.BlockSize}, v.TokenIDs, nil)
		if expected := decimals(t, v.Hashes); !slices.Equal(got, expected) {
			t.Errorf("%s: %d, expected %d", v.ID, got, expected)
		}
		seeded := hashed(t, HasherOptions{BlockSize: v.BlockSize, Seed: Ptr("1337")}, v.TokenIDs, nil)
		if !slices.Equal(got, seeded) {
			t.Errorf("%s: the default seed is another", v.ID)
		}
	}
	if len(file.Vectors) != 10 {
		t.Errorf("%d vectors", len(file.Vectors))
	}
}

func decimals(t *testing.T, texts []string) []uint64 {
	t.Helper()
	var numbers []uint64
	for _, text := range texts {
		numbers = append(numbers, must(strconv.ParseUint(text, 10, 64))(t))
	}
	return numbers
}
