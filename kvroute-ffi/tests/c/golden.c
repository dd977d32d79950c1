/*
 * Block hashes against vectors that others computed: vLLM itself, CPython, llm-d, Dynamo and SMG.
 *
 *   golden FILE      FILE is what `flatten golden testdata/hashes` wrote
 */
#include "lines.h"

static kvroute_error *error;

/* A context, and what it points to. */
typedef struct context {
  kvroute_hash_context raw;
  kvroute_multimodal_item *items;
  kvroute_bytes *embeds;
} context;

static context context_of(const words *line) {
  context made;
  char *items = optional(line, "mm"), *embeds = optional(line, "embeds");
  kvroute_hash_context raw = KVROUTE_INIT(kvroute_hash_context);
  size_t at;
  raw.lora_name = text_of(optional(line, "lora"));
  raw.lora_path = text_of(optional(line, "path"));
  raw.cache_salt = text_of(optional(line, "salt"));
  raw.multimodal_len = items == NULL ? 0 : parts(items, ',');
  made.items = room(raw.multimodal_len, sizeof *made.items);
  for (at = 0; at < raw.multimodal_len; ++at) {
    char *start = strchr(items, ':') + 1, *length = strchr(start, ':') + 1;
    made.items[at].start = (uint32_t)number(start);
    made.items[at].length = (uint32_t)number(length);
    made.items[at].identifier = text_of(items);
    items = length + strcspn(length, ",") + 1;
  }
  raw.prompt_embeds_len = embeds == NULL ? 0 : parts(embeds, ',');
  made.embeds = room(raw.prompt_embeds_len, sizeof *made.embeds);
  for (at = 0; at < raw.prompt_embeds_len; ++at) {
    char *next = embeds + strcspn(embeds, ",") + 1;
    made.embeds[at] = bytes_of(embeds);
    embeds = next;
  }
  raw.multimodal = made.items;
  raw.prompt_embeds = made.embeds;
  made.raw = raw;
  return made;
}

/* Hashes the vector's prompt as it says; answers how many hashes were compared. */
static size_t hash(const words *line) {
  kvroute_hasher_options options = hasher_options_of(line);
  context with = context_of(line);
  kvroute_hasher *hasher = NULL;
  size_t tokens_len, needed_len = 0, written = 0, at, compared;
  uint32_t *tokens = token_list(needed(line, "tokens"), &tokens_len);
  uint64_t *hashes;
  char *expected = needed(line, "hashes");

  OK(kvroute_hasher_new(&options, &hasher, error));
  if (tokens_len >= options.block_size) {
    REFUSED(KVROUTE_BUFFER_TOO_SMALL, kvroute_hasher_hash(hasher, tokens, tokens_len, &with.raw,
                                                          NULL, 0, &needed_len, error));
  }
  CHECK_NUMBER(tokens_len / options.block_size, needed_len);
  hashes = room(needed_len, sizeof *hashes);
  OK(kvroute_hasher_hash(hasher, tokens, tokens_len, &with.raw, hashes, needed_len, &written,
                         error));
  CHECK_NUMBER(needed_len, written);
  compared = parts(expected, ',');
  for (at = 0; at < compared; ++at) {
    size_t block = (size_t)number(expected);
    char *value = strchr(expected, ':') + 1;
    CHECK(block < written);
    CHECK_NUMBER(number(value), hashes[block]);
    expected = value + strcspn(value, ",") + 1;
  }
  kvroute_hasher_free(hasher);
  free(with.items);
  free(with.embeds);
  free(tokens);
  free(hashes);
  return compared;
}

/* A root made of the seed is the engine's own `NONE_HASH`: both begin the same chain. */
static void root(const words *line) {
  kvroute_hasher_options by_seed = hasher_options_of(line), by_root = by_seed;
  kvroute_hasher *hasher = NULL;
  uint32_t tokens[16] = {1, 2, 3};
  uint64_t hashes[2] = {0, 0};
  size_t written = 0;
  by_seed.none_hash.len = 0;
  OK(kvroute_hasher_new(&by_seed, &hasher, error));
  OK(kvroute_hasher_hash(hasher, tokens, 16, NULL, &hashes[0], 1, &written, error));
  kvroute_hasher_free(hasher);
  by_root.seed.data = NULL;
  by_root.seed.len = 0;
  by_root.has_seed = 0;
  OK(kvroute_hasher_new(&by_root, &hasher, error));
  OK(kvroute_hasher_hash(hasher, tokens, 16, NULL, &hashes[1], 1, &written, error));
  kvroute_hasher_free(hasher);
  CHECK_NUMBER(hashes[0], hashes[1]);
}

/* A root that is drawn at random in each engine. */
static void refuse(const words *line) {
  kvroute_hasher_options options = hasher_options_of(line);
  kvroute_hasher *hasher = NULL;
  REFUSED(KVROUTE_NOT_REPRODUCIBLE, kvroute_hasher_new(&options, &hasher, error));
  CHECK(hasher == NULL);
  CHECK(strstr(kvroute_error_message(error, NULL), "set PYTHONHASHSEED") != NULL);
}

/* llm-d's keys are what it looks up, not what an engine publishes. */
static void no_domain_hashes_as_llmd(int32_t scheme) {
  kvroute_hasher_options options = KVROUTE_INIT(kvroute_hasher_options);
  kvroute_hasher *hasher = NULL;
  kvroute_domain *domain = NULL;
  options.scheme = scheme;
  options.block_size = 16;
  OK(kvroute_hasher_new(&options, &hasher, error));
  REFUSED(KVROUTE_INVALID_INPUT, kvroute_domain_new("d", 1, hasher, NULL, 0, &domain, error));
  CHECK(domain == NULL);
  kvroute_hasher_free(hasher);
}

int main(int count, char **arguments) {
  char *text, *rest, *line;
  size_t vectors = 0, hashes = 0, roots = 0, refused = 0;
  REQUIRE(count == 2);
  error = kvroute_error_new();
  text = rest = read_file(arguments[1]);
  while ((line = next_line(&rest)) != NULL) {
    words cut = split(line);
    if (strcmp(cut.word[0], "hash") == 0) {
      hashes += hash(&cut);
      ++vectors;
    } else if (strcmp(cut.word[0], "root") == 0) {
      root(&cut);
      ++roots;
    } else if (strcmp(cut.word[0], "refuse") == 0) {
      refuse(&cut);
      ++refused;
    } else {
      failed(__FILE__, __LINE__, cut.word[0]);
    }
  }
  no_domain_hashes_as_llmd(KVROUTE_SCHEME_LLMD_CBOR_FNV);
  no_domain_hashes_as_llmd(KVROUTE_SCHEME_LLMD_XXH64);
  /* 120 + 53 + 18 + 10 vectors with 374 + 155 + 109 + 138 hashes; 4 follow an adapter that no
     request has. */
  CHECK_NUMBER(201, vectors);
  CHECK_NUMBER(776 - 4, hashes);
  CHECK_NUMBER(18, roots);
  CHECK_NUMBER(2, refused);
  free(text);
  kvroute_error_free(error);
  return finished();
}
