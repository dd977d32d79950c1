/*
 * Arrays and texts of lengths that cannot be, that are not aligned, or that are beyond a bound.
 */
#include "bad_input.h"

#define INVALID(call) NO(KVROUTE_INVALID_INPUT, call)

#define DISPATCH kvroute_router_dispatch(router, &request, 1, workspace, &out.decision, error)
#define APPLY kvroute_router_apply_events(router, pod, &event, 1, &out.report, error)
#define ADD kvroute_router_add_pod(router, &of_pod, &out.id, error)
#define HASH                                                                              \
  kvroute_hasher_hash(hasher, tokens, TOKENS, &context, out.numbers, 8, &out.written, error)

static void lengths_that_cannot_be(void) {
  static const size_t absurd[] = {SIZE_MAX, SIZE_MAX / 2 + 1};
  size_t at;
  for (at = 0; at < sizeof absurd / sizeof *absurd; ++at) {
    size_t len = absurd[at];
    kvroute_hash_context context = KVROUTE_INIT(kvroute_hash_context);
    kvroute_multimodal_item item = {{"x", 1}, 0, 1};
    kvroute_pod_options of_pod = good_pod();
    kvroute_request request = good_request();
    kvroute_kv_event event = good_event();
    kvroute_label label = {{"k", 1}, {"v", 1}};
    const kvroute_str name = {"a", 1};
    INVALID(kvroute_hasher_hash(hasher, tokens, len, NULL, out.numbers, 8, &out.written, error));
    INVALID(kvroute_config_check(CONFIG, len, error));
    INVALID(kvroute_router_set_policy(router, CONFIG, len, error));
    INVALID(kvroute_router_report_adapters(router, pod, 1, &name, len, NULL, 0, error));
    INVALID(kvroute_router_report_adapters(router, pod, 1, NULL, 0, &name, len, error));
    INVALID(kvroute_router_find_pod(router, "a", len, 0, &out.id, error));
    INVALID(kvroute_router_apply(router, pod, 0, (const uint8_t *)"", len, &out.report, error));
    INVALID(kvroute_router_apply_events(router, pod, &event, len, &out.report, error));
    INVALID(kvroute_router_lookup(router, domain, names, len, workspace, out.matches, 8,
                                  &out.written, error));
    context.multimodal = &item;
    context.multimodal_len = len;
    INVALID(HASH);
    of_pod.labels = &label;
    of_pod.labels_len = len;
    INVALID(ADD);
    request.token_ids_len = len;
    INVALID(DISPATCH);
    request = good_request();
    request.session_id.data = "a";
    request.session_id.len = len;
    INVALID(DISPATCH);
    request = good_request();
    request.has_subset = 1;
    request.subset = &name;
    request.subset_len = len;
    INVALID(DISPATCH);
    event.token_ids_len = len;
    INVALID(APPLY);
    event = good_event();
    event.block_hashes_len = len;
    INVALID(APPLY);
    /* A capacity is only an upper bound. */
    YES(kvroute_router_pods(router, out.numbers, len, &out.written, error));
  }
}

/* Arrays are read where they lie, so they must be aligned. Structs and places for answers need not
   be. */
static void arrays_that_are_not_aligned(void) {
  unsigned char room[512] = {0};
  const void *odd = room + 1;
  void *odd_place = room + 1;
  kvroute_request request = good_request();
  kvroute_kv_event event = good_event();
  kvroute_pod_options of_pod = good_pod();
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  uint64_t id = 0;
  INVALID(kvroute_hasher_hash(hasher, odd, TOKENS, NULL, out.numbers, 8, &out.written, error));
  INVALID(kvroute_router_lookup(router, domain, odd, 3, workspace, out.matches, 8, &out.written,
                                error));
  request.token_ids = odd;
  INVALID(DISPATCH);
  request = good_request();
  request.scores = odd;
  request.scores_len = 1;
  INVALID(DISPATCH);
  request = good_request();
  request.has_subset = 1;
  request.subset = odd;
  request.subset_len = 1;
  INVALID(DISPATCH);
  INVALID(kvroute_router_report_adapters(router, pod, 1, odd, 1, NULL, 0, error));
  event.block_hashes = odd;
  INVALID(APPLY);
  event = good_event();
  event.token_ids = odd;
  INVALID(APPLY);
  of_pod.labels = odd;
  of_pod.labels_len = 1;
  INVALID(ADD);

  request = good_request();
  memcpy(odd_place, &decision, sizeof decision);
  OK(kvroute_router_decide(router, &request, 1, workspace, odd_place, error));
  memcpy(&decision, odd, sizeof decision);
  CHECK_NUMBER(pod, decision.pod);
  memcpy(odd_place, &request, sizeof request);
  YES(kvroute_router_decide(router, odd, 1, workspace, &out.decision, error));
  OK(kvroute_router_find_pod(router, "a", 1, 0, odd_place, error));
  memcpy(&id, odd, sizeof id);
  CHECK_NUMBER(pod, id);
  OK(kvroute_router_pods(router, odd_place, 8, &out.written, error));
  memcpy(&id, odd, sizeof id);
  CHECK(out.written == 2 && id == pod);
  OK(kvroute_workspace_fallbacks(workspace, odd_place, 8, &out.written, error));
  settle();
}

/* Zeroed memory that is not touched costs nothing; the bound is checked before the prompt is read.
   */
static void a_prompt_beyond_the_bound(void) {
  const size_t bound = 268435456;
  uint32_t *prompt = calloc(bound + 1, sizeof *prompt);
  kvroute_request request = good_request();
  if (prompt == NULL) {
    return;
  }
  request.token_ids = prompt;
  request.token_ids_len = bound + 1;
  NO(KVROUTE_LIMIT, DISPATCH);
  free(prompt);
}

int main(void) {
  set_up();
  lengths_that_cannot_be();
  arrays_that_are_not_aligned();
  a_prompt_beyond_the_bound();
  return tear_down();
}
