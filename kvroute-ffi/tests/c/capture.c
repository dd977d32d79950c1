/*
 * What simulated engines of vLLM published, and for every query what they themselves found in their
 * caches: the answers must be the same.
 *
 *   capture FILE      FILE is what `flatten capture .../sim-cbor-small.jsonl.gz` wrote
 */
#include "lines.h"

#define MAX_PODS 8

static kvroute_error *error;
static kvroute_router *router;
static kvroute_domain *domain;
static kvroute_workspace *workspace;
static uint64_t pods[MAX_PODS];
static size_t pods_len;
static unsigned long batches, queries, answers, hits;

static void engines(const words *line) {
  kvroute_hasher_options options = hasher_options_of(line);
  kvroute_hasher *hasher = NULL;
  size_t pod;
  OK(kvroute_hasher_new(&options, &hasher, error));
  OK(kvroute_domain_new("m", 1, hasher, NULL, 0, &domain, error));
  kvroute_hasher_free(hasher);
  OK(kvroute_router_new(NULL, &router, error));
  pods_len = (size_t)number(needed(line, "pods"));
  REQUIRE(pods_len <= MAX_PODS);
  for (pod = 0; pod < pods_len; ++pod) {
    char name[32];
    kvroute_pod_options of_pod = KVROUTE_INIT(kvroute_pod_options);
    sprintf(name, "pod-%zu", pod);
    of_pod.name = str(name);
    of_pod.domain = domain;
    of_pod.on_gap = KVROUTE_ON_GAP_REPLAY;
    OK(kvroute_router_add_pod(router, &of_pod, &pods[pod], error));
  }
}

static void batch(const words *line) {
  kvroute_bytes payload = bytes_of(needed(line, "payload"));
  kvroute_apply_report report = KVROUTE_INIT(kvroute_apply_report);
  uint64_t pod = number(needed(line, "pod"));
  OK(kvroute_router_apply(router, pods[pod], number(needed(line, "sequence")), payload.data,
                          payload.len, &report, error));
  /* Nothing is lost here, and what was evicted meanwhile only parks what hung off it. */
  CHECK(report.outcome == KVROUTE_OUTCOME_APPLIED || report.outcome == KVROUTE_OUTCOME_PARKED);
  ++batches;
}

/* Tokens that a pod has of the leading blocks. */
static uint64_t found(uint64_t pod, const uint64_t *hashes, size_t len) {
  kvroute_pod_match matches[MAX_PODS];
  size_t written = 0, at;
  int tier;
  uint64_t tokens = 0;
  OK(kvroute_router_lookup(router, domain, hashes, len, workspace, matches, MAX_PODS, &written,
                           error));
  for (at = 0; at < written; ++at) {
    for (tier = 0; tier < KVROUTE_MAX_TIERS && matches[at].pod == pod; ++tier) {
      tokens += matches[at].blocks[tier] * kvroute_domain_block_size(domain);
    }
  }
  return tokens;
}

static void query(const words *line) {
  kvroute_hash_context context = KVROUTE_INIT(kvroute_hash_context);
  size_t tokens_len, cached_len, full_len, written = 0, searchable, pod;
  uint32_t *tokens = token_list(needed(line, "tokens"), &tokens_len);
  uint64_t *cached = numbers(needed(line, "cached"), &cached_len);
  uint64_t *full = numbers(needed(line, "full"), &full_len);
  size_t capacity = tokens_len / kvroute_domain_block_size(domain);
  uint64_t *hashes = room(capacity, sizeof *hashes);
  context.lora_name = text_of(optional(line, "lora"));
  context.lora_path = text_of(optional(line, "path"));
  context.cache_salt = text_of(optional(line, "salt"));
  CHECK(cached_len == pods_len && full_len == pods_len);
  OK(kvroute_domain_hash(domain, tokens, tokens_len, &context, hashes, capacity, &written, error));
  searchable = kvroute_domain_searchable_blocks(domain, tokens_len);
  for (pod = 0; pod < pods_len; ++pod) {
    CHECK_NUMBER(cached[pod], found(pods[pod], hashes, searchable));
    CHECK_NUMBER(full[pod], found(pods[pod], hashes, written));
    hits += cached[pod] > 0;
    ++answers;
  }
  ++queries;
  free(tokens);
  free(cached);
  free(full);
  free(hashes);
}

int main(int count, char **arguments) {
  char *text, *rest, *line;
  REQUIRE(count == 2);
  error = kvroute_error_new();
  workspace = kvroute_workspace_new();
  text = rest = read_file(arguments[1]);
  while ((line = next_line(&rest)) != NULL) {
    words cut = split(line);
    if (strcmp(cut.word[0], "engines") == 0) {
      engines(&cut);
    } else if (strcmp(cut.word[0], "batch") == 0) {
      batch(&cut);
    } else {
      query(&cut);
    }
  }
  /* As testdata/captures/README.md counts them. */
  CHECK_NUMBER(1200, batches);
  CHECK_NUMBER(199, queries);
  CHECK_NUMBER(796, answers);
  CHECK_NUMBER(697, hits);
  free(text);
  kvroute_domain_free(domain);
  kvroute_workspace_free(workspace);
  kvroute_router_free(router);
  kvroute_error_free(error);
  return finished();
}
