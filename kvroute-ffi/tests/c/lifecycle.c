/*
 * A gateway's day, from the configuration to the last request: what a first program does, in order.
 */
#include "check.h"

#define SECOND ((uint64_t)1000000000)

static const char CONFIG[] =
    "policy:\n"
    "  decode:\n"
    "    scorers:\n"
    "      kv-cache: {weight: 5}\n"
    "      prefix: {weight: 3}\n"
    "      session: {weight: 2}\n"
    "      load: {weight: 1}\n"
    "      external: {cheap: {weight: 4}}\n"
    "  prefill: {max_uncached_tokens: 64}\n"
    "sessions:\n"
    "  key: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
    "domains:\n"
    "  llama: {block_size: 16, models: [llama]}\n"
    "pods:\n"
    "  - {name: decode-0, domain: llama, role: decode}\n"
    "  - {name: decode-1, domain: llama, role: decode}\n"
    "  - {name: prefill-0, domain: llama, role: prefill}\n";

/* 160 tokens are 10 blocks; the last token is always computed, so 9 of them can be found. */
#define PROMPT 160
#define BLOCKS (PROMPT / 16)

static kvroute_error *error;
static kvroute_router *router;
static kvroute_workspace *workspace;
static uint64_t decode_0, decode_1, prefill_0;
static uint32_t prompt[PROMPT];

static uint64_t find(const char *name) {
  uint64_t pod = KVROUTE_NO_POD;
  OK(kvroute_router_find_pod(router, name, strlen(name), 0, &pod, error));
  CHECK(pod != KVROUTE_NO_POD);
  return pod;
}

static kvroute_request request_of(size_t tokens) {
  kvroute_request request = KVROUTE_INIT(kvroute_request);
  request.token_ids = prompt;
  request.token_ids_len = tokens;
  request.model = str("llama");
  return request;
}

static uint64_t in_flight(void) {
  kvroute_router_counters counters = KVROUTE_INIT(kvroute_router_counters);
  OK(kvroute_router_read_counters(router, &counters, error));
  return counters.in_flight;
}

static kvroute_pod_counters counters_of(uint64_t pod) {
  kvroute_pod_counters counters = KVROUTE_INIT(kvroute_pod_counters);
  OK(kvroute_router_read_pod_counters(router, pod, &counters, error));
  return counters;
}

/* The text that a call writes once its buffer is as large as it says; to be freed. */
static char *explanation(const kvroute_router *of, int32_t format) {
  size_t needed = 0, written = 0;
  char *text;
  REFUSED(KVROUTE_BUFFER_TOO_SMALL,
          kvroute_router_explain(of, workspace, format, NULL, 0, &needed, error));
  text = malloc(needed);
  REQUIRE(text != NULL);
  OK(kvroute_router_explain(of, workspace, format, text, needed, &written, error));
  CHECK(written == needed - 1 && written == strlen(text));
  return text;
}

static void explanation_of(const kvroute_router *of, int32_t format, const char *what) {
  char *text = explanation(of, format);
  if (strstr(text, what) == NULL) {
    fprintf(stderr, "\"%s\" is not in:\n%s\n", what, text);
    exit(1);
  }
  ++checks;
  free(text);
}

static void explanation_says(int32_t format, const char *what) {
  explanation_of(router, format, what);
}

/* Pods say what they can do, and what they are doing. */
static void the_configuration_makes_the_fleet(void) {
  uint64_t pods[3];
  char name[32];
  size_t written = 0;
  uint32_t rank = 9;
  OK(kvroute_config_check(CONFIG, strlen(CONFIG), error));
  OK(kvroute_router_from_config(CONFIG, strlen(CONFIG), &router, error));
  decode_0 = find("decode-0");
  decode_1 = find("decode-1");
  prefill_0 = find("prefill-0");
  OK(kvroute_router_pods(router, pods, 3, &written, error));
  CHECK_NUMBER(3, written);
  OK(kvroute_router_pod_name(router, decode_1, name, sizeof name, &written, &rank, error));
  CHECK_TEXT("decode-1", name);
  CHECK_NUMBER(0, rank);
  OK(kvroute_router_report_load(router, decode_0, 2, 0, 0.25F, error));
  OK(kvroute_router_report_load(router, decode_1, 2, 0, 0.25F, error));
}

/* A prompt that nobody has is computed by the prefill pod, and both pods are booked. */
static void a_new_prompt_takes_a_pair_of_pods(void) {
  kvroute_request request = request_of(PROMPT);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  bool known = false;
  request.session_id = str("conversation-7");
  OK(kvroute_router_dispatch(router, &request, 1 * SECOND, workspace, &decision, error));
  CHECK(decision.pod == decode_0 || decision.pod == decode_1);
  CHECK_NUMBER(prefill_0, decision.prefill_pod);
  CHECK_NUMBER(0, decision.matched_tokens);
  CHECK_NUMBER(PROMPT, decision.prefill_uncached_tokens);
  CHECK_NUMBER(3, decision.candidates);
  explanation_says(KVROUTE_EXPLAIN_TEXT, "profile prefill");
  explanation_says(KVROUTE_EXPLAIN_JSON, "\"prefill-0\"");

  CHECK_NUMBER(1, in_flight());
  CHECK_NUMBER(PROMPT, counters_of(prefill_0).booked_prefill_tokens);
  CHECK_NUMBER(1, counters_of(decision.pod).booked_requests);
  OK(kvroute_router_first_token(router, decision.ticket, &known, error));
  CHECK(known);
  CHECK_NUMBER(0, counters_of(prefill_0).booked_prefill_tokens);
  OK(kvroute_router_finish(router, decision.ticket, KVROUTE_FINISH_COMPLETED, 0, &known, error));
  CHECK(known);
  OK(kvroute_router_finish(router, decision.ticket, KVROUTE_FINISH_COMPLETED, 0, &known, error));
  CHECK(!known);
  CHECK_NUMBER(0, in_flight());
  CHECK_NUMBER(0, counters_of(decision.pod).booked_requests);
}

/* The engine of decode-1 says that it stored the prompt: it is chosen, without a prefill pod. */
static void events_bring_requests_to_the_cache(void) {
  uint64_t names[BLOCKS];
  kvroute_kv_event event = KVROUTE_INIT(kvroute_kv_event);
  kvroute_apply_report report = KVROUTE_INIT(kvroute_apply_report);
  kvroute_request request = request_of(PROMPT);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  size_t block;
  for (block = 0; block < BLOCKS; ++block) {
    names[block] = 1000 + block;
  }
  event.kind = KVROUTE_EVENT_STORED;
  event.block_hashes = names;
  event.block_hashes_len = BLOCKS;
  event.token_ids = prompt;
  event.token_ids_len = PROMPT;
  event.block_size = 16;
  OK(kvroute_router_forget_predictions(router, decode_0, error));
  OK(kvroute_router_forget_predictions(router, decode_1, error));
  OK(kvroute_router_apply_events(router, decode_1, &event, 1, &report, error));
  CHECK_NUMBER(KVROUTE_OUTCOME_APPLIED, report.outcome);
  CHECK_NUMBER(BLOCKS, report.blocks_stored);
  CHECK_NUMBER(KVROUTE_TRUST_EXACT, counters_of(decode_1).trust);

  OK(kvroute_router_decide(router, &request, 2 * SECOND, workspace, &decision, error));
  CHECK_NUMBER(decode_1, decision.pod);
  CHECK_NUMBER(KVROUTE_NO_POD, decision.prefill_pod);
  CHECK_NUMBER(9, decision.matched_blocks[KVROUTE_TIER_GPU]);
  CHECK_NUMBER(144, decision.matched_tokens);
  CHECK_NUMBER(PROMPT - 144, decision.uncached_tokens);
  CHECK_NUMBER(0, decision.ticket);
  explanation_says(KVROUTE_EXPLAIN_TEXT, "9/9 blocks");
}

/* What the index knows can be asked without deciding. */
static void a_lookup_tells_what_each_pod_has(void) {
  kvroute_domain *domain = NULL;
  uint64_t hashes[BLOCKS];
  kvroute_pod_match matches[3];
  size_t written = 0;
  OK(kvroute_router_domain(router, "llama", 5, &domain, error));
  CHECK_NUMBER(16, kvroute_domain_block_size(domain));
  OK(kvroute_domain_hash(domain, prompt, PROMPT, NULL, hashes, BLOCKS, &written, error));
  CHECK_NUMBER(BLOCKS, written);
  OK(kvroute_router_lookup(router, domain, hashes, written, workspace, matches, 3, &written,
                           error));
  /* prefill-0 is in it with what was sent there. */
  CHECK_NUMBER(2, written);
  CHECK(matches[0].pod == decode_1 || matches[1].pod == decode_1);
  CHECK_NUMBER(BLOCKS, matches[matches[1].pod == decode_1].blocks[KVROUTE_TIER_GPU]);
  kvroute_domain_free(domain);
}

/* A client that comes back with a token is sent where it was. */
static void a_session_token_brings_the_client_back(void) {
  kvroute_request request = request_of(8);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  char token[256];
  size_t written = 0;
  OK(kvroute_router_session_token(router, decode_0, KVROUTE_NO_POD, 3 * SECOND, token,
                                  sizeof token, &written, error));
  request.session_token.data = token;
  request.session_token.len = written;
  OK(kvroute_router_decide(router, &request, 4 * SECOND, workspace, &decision, error));
  CHECK_NUMBER(decode_0, decision.pod);
}

/* A scorer of our own outweighs the session. */
static void a_score_column_has_its_say(void) {
  kvroute_request request = request_of(8);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  uint64_t pods[2];
  const double values[2] = {0.0, 1.0};
  kvroute_score_column column;
  pods[0] = decode_0;
  pods[1] = decode_1;
  column.scorer = str("cheap");
  column.pods = pods;
  column.values = values;
  column.len = 2;
  request.scores = &column;
  request.scores_len = 1;
  OK(kvroute_router_decide(router, &request, 5 * SECOND, workspace, &decision, error));
  CHECK_NUMBER(decode_1, decision.pod);
  explanation_says(KVROUTE_EXPLAIN_TEXT, "cheap 1.000 x 4");
}

/* The fleet's policy changes while requests are in flight: the pod with the adapter, and whom to ask if it does not
   answer. */
static void another_policy_takes_over(void) {
  static const char policy[] =
      "policy:\n"
      "  decode:\n"
      "    scorers: {lora-affinity: {weight: 1}}\n"
      "    fallbacks: 4\n";
  const kvroute_str sql = str("sql");
  kvroute_hash_context context = KVROUTE_INIT(kvroute_hash_context);
  kvroute_request request = request_of(8);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  kvroute_str only = str("decode-0");
  uint64_t next_best[4];
  size_t written = 0;
  OK(kvroute_router_dispatch(router, &request, 5 * SECOND, workspace, &decision, error));
  CHECK_NUMBER(KVROUTE_REASON_PICKED, decision.reason);
  CHECK_NUMBER(0, decision.fallbacks_len);
  OK(kvroute_router_set_policy(router, policy, strlen(policy), error));
  CHECK_NUMBER(1, in_flight());
  OK(kvroute_router_finish(router, decision.ticket, KVROUTE_FINISH_COMPLETED, 0, NULL, error));

  OK(kvroute_router_report_adapters(router, decode_0, 1, NULL, 0, NULL, 0, error));
  OK(kvroute_router_report_adapters(router, decode_1, 1, &sql, 1, NULL, 0, error));
  OK(kvroute_router_report_adapters(router, prefill_0, 2, &sql, 1, &sql, 1, error));
  context.lora_name = sql;
  request.context = &context;
  request.model = str("");
  OK(kvroute_router_decide(router, &request, 5 * SECOND, workspace, &decision, error));
  CHECK_NUMBER(decode_1, decision.pod);
  CHECK_NUMBER(1, decision.fallbacks_len);
  OK(kvroute_workspace_fallbacks(workspace, next_best, 4, &written, error));
  CHECK_NUMBER(1, written);
  CHECK_NUMBER(decode_0, next_best[0]);
  explanation_says(KVROUTE_EXPLAIN_JSON, "\"adapter\":\"running\"");

  /* Somebody before us has chosen already. */
  request.has_subset = 1;
  request.subset = &only;
  request.subset_len = 1;
  OK(kvroute_router_decide(router, &request, 5 * SECOND, workspace, &decision, error));
  CHECK_NUMBER(decode_0, decision.pod);
  CHECK_NUMBER(0, decision.fallbacks_len);
  request.subset_len = 0;
  REFUSED(KVROUTE_NO_CANDIDATE,
          kvroute_router_decide(router, &request, 5 * SECOND, workspace, &decision, error));
  OK(kvroute_router_set_policy(router, CONFIG, strlen(CONFIG), error));
}

/* A router made by hand: its own bounds, and pods that differ in speed. */
static void a_faster_pod_gets_more(void) {
  static const char filtered[] =
      "{\"policy\":{\"preset\":\"cost\",\"decode\":{\"filters\":[\"overload\"]}}}";
  kvroute_router_options options = KVROUTE_INIT(kvroute_router_options);
  kvroute_pod_options of_pod = KVROUTE_INIT(kvroute_pod_options);
  kvroute_request request = request_of(32);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  kvroute_router *made = NULL;
  kvroute_domain *domain = NULL;
  uint64_t slow, fast;
  request.model = str("");
  options.preset = str("cost");
  options.has_prefill = 1;
  options.prefill_min_prompt_tokens = 33;
  options.prefill_max_load = -1;
  options.speculation_ttl_ns = -1;
  options.overload_waiting = 3;
  options.overload_kv_usage = 2;
  OK(kvroute_router_domain(router, "llama", 5, &domain, error));
  OK(kvroute_router_new(&options, &made, error));
  of_pod.name = str("slow");
  of_pod.domain = domain;
  OK(kvroute_router_add_pod(made, &of_pod, &slow, error));
  of_pod.name = str("fast");
  of_pod.capacity = 1.5;
  OK(kvroute_router_add_pod(made, &of_pod, &fast, error));
  OK(kvroute_router_decide(made, &request, 1, workspace, &decision, error));
  CHECK_NUMBER(fast, decision.pod);
  CHECK_NUMBER(KVROUTE_NO_POD, decision.prefill_pod);
  OK(kvroute_router_report_load(made, fast, 0, 2, 1, error));
  OK(kvroute_router_decide(made, &request, 1, workspace, &decision, error));
  explanation_of(made, KVROUTE_EXPLAIN_JSON, "\"capacity\":1.5,\"overloaded\":false");
  OK(kvroute_router_report_load(made, fast, 0, 3, 0, error));
  OK(kvroute_router_decide(made, &request, 1, workspace, &decision, error));
  explanation_of(made, KVROUTE_EXPLAIN_JSON, "\"capacity\":1.5,\"overloaded\":true");
  OK(kvroute_router_set_policy(made, filtered, strlen(filtered), error));
  OK(kvroute_router_decide(made, &request, 1, workspace, &decision, error));
  CHECK_NUMBER(slow, decision.pod);
  kvroute_domain_free(domain);
  kvroute_router_free(made);
}

/* A pod is drained, and removed when it is empty. Who still holds its id is told so. */
static void a_pod_leaves(void) {
  kvroute_request request = request_of(PROMPT);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  OK(kvroute_router_set_accepting(router, decode_1, 0, error));
  OK(kvroute_router_decide(router, &request, 6 * SECOND, workspace, &decision, error));
  CHECK_NUMBER(decode_0, decision.pod);
  OK(kvroute_router_remove_pod(router, decode_1, error));
  REFUSED(KVROUTE_UNKNOWN_POD, kvroute_router_set_accepting(router, decode_1, 1, error));
  CHECK(strlen(kvroute_error_message(error, NULL)) > 0);
}

/* A request that never ends is forgotten after its time. */
static void time_passes(void) {
  kvroute_request request = request_of(32);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  size_t expired = 9;
  OK(kvroute_router_dispatch(router, &request, 10 * SECOND, workspace, &decision, error));
  OK(kvroute_router_expire(router, 609 * SECOND, &expired, error));
  CHECK_NUMBER(0, expired);
  OK(kvroute_router_expire(router, 610 * SECOND, &expired, error));
  CHECK_NUMBER(1, expired);
  CHECK_NUMBER(0, in_flight());
}

/* Recovery keeps the fleet and forgets the rest; ids are new. */
static void a_recovered_router_begins_anew(void) {
  uint64_t before = decode_0;
  OK(kvroute_router_recover(router, error));
  REFUSED(KVROUTE_UNKNOWN_POD, kvroute_router_set_accepting(router, before, 1, error));
  decode_0 = find("decode-0");
  CHECK(decode_0 != before);
  CHECK_NUMBER(0, counters_of(decode_0).predicted_blocks);
  REFUSED(KVROUTE_UNKNOWN_POD,
          kvroute_router_find_pod(router, "decode-1", 8, 0, &decode_1, error));
}

int main(void) {
  uint32_t at;
  for (at = 0; at < PROMPT; ++at) {
    prompt[at] = 7 * at + 1;
  }
  error = kvroute_error_new();
  workspace = kvroute_workspace_new();
  the_configuration_makes_the_fleet();
  a_new_prompt_takes_a_pair_of_pods();
  events_bring_requests_to_the_cache();
  a_lookup_tells_what_each_pod_has();
  a_session_token_brings_the_client_back();
  a_score_column_has_its_say();
  another_policy_takes_over();
  a_faster_pod_gets_more();
  a_pod_leaves();
  time_passes();
  a_recovered_router_begins_anew();
  kvroute_workspace_free(workspace);
  kvroute_router_free(router);
  kvroute_error_free(error);
  return finished();
}
