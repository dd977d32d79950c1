/*
 * Values that are none: texts that are not UTF-8, numbers out of range, options that make nothing,
 * requests that contradict themselves, pods that are not there.
 */
#include "bad_input.h"

#define INVALID(call) NO(KVROUTE_INVALID_INPUT, call)
#define NOT_UTF8(call) NO(KVROUTE_INVALID_UTF8, call)

#define DECIDE kvroute_router_decide(router, &request, 1, workspace, &out.decision, error)
#define DISPATCH kvroute_router_dispatch(router, &request, 1, workspace, &out.decision, error)
#define APPLY kvroute_router_apply_events(router, pod, &event, 1, &out.report, error)
#define ADD kvroute_router_add_pod(router, &of_pod, &out.id, error)
#define HASHER kvroute_hasher_new(&options, &out.hasher, error)
#define HASH                                                                              \
  kvroute_hasher_hash(hasher, tokens, TOKENS, &context, out.numbers, 8, &out.written, error)
#define ROUTER kvroute_router_new(&of_router, &out.router, error)

static const kvroute_str BROKEN = {"a\xff", 2};

static void texts_that_are_not_utf8(void) {
  kvroute_hasher_options options = good_hasher();
  kvroute_hash_context context = KVROUTE_INIT(kvroute_hash_context);
  kvroute_router_options of_router = KVROUTE_INIT(kvroute_router_options);
  kvroute_pod_options of_pod = good_pod();
  kvroute_request request = good_request();
  kvroute_kv_event event = good_event();
  kvroute_label label;
  kvroute_adapter adapter;
  kvroute_multimodal_item item;
  kvroute_extra_key key;
  kvroute_score_column column;
  const double score = 1;
  kvroute_str empty = {NULL, 0};

#define WITH(place, call) (place = BROKEN, NOT_UTF8(call), place = empty)
  WITH(options.seed, HASHER);
  WITH(options.algorithm, HASHER);
  WITH(options.version, HASHER);
  WITH(options.model, HASHER);
  WITH(context.lora_name, HASH);
  WITH(context.lora_path, HASH);
  WITH(context.cache_salt, HASH);
  item.identifier = BROKEN;
  item.start = 0;
  item.length = 1;
  context.multimodal = &item;
  context.multimodal_len = 1;
  NOT_UTF8(HASH);
  WITH(of_router.preset, ROUTER);
  label.key = str("zone");
  label.value = BROKEN;
  of_pod.labels = &label;
  of_pod.labels_len = 1;
  NOT_UTF8(ADD);
  label.value = str("eu");
  WITH(label.key, ADD);
  of_pod.labels_len = 0;
  adapter.id = 1;
  adapter.name = BROKEN;
  of_pod.adapters = &adapter;
  of_pod.adapters_len = 1;
  NOT_UTF8(ADD);
  of_pod.adapters_len = 0;
  WITH(of_pod.name, ADD);
  WITH(request.model, DECIDE);
  WITH(request.session_id, DECIDE);
  WITH(request.session_token, DECIDE);
  request.has_subset = 1;
  request.subset = &BROKEN;
  request.subset_len = 1;
  NOT_UTF8(DECIDE);
  request = good_request();
  column.scorer = BROKEN;
  column.pods = &pod;
  column.values = &score;
  column.len = 1;
  request.scores = &column;
  request.scores_len = 1;
  NOT_UTF8(DECIDE);
  request = good_request();
  request.context = &context;
  NOT_UTF8(DISPATCH);
  /* A prompt as text is bytes: a client's request may be cut anywhere. */
  request.context = NULL;
  request.token_ids_len = 0;
  request.text.data = (const uint8_t *)BROKEN.data;
  request.text.len = BROKEN.len;
  YES(DECIDE);
  WITH(event.lora_name, APPLY);
  WITH(event.cache_salt, APPLY);
  key.block = 0;
  key.kind = KVROUTE_EXTRA_KEY_TEXT;
  key.key = BROKEN;
  key.offset = 0;
  event.extra_keys = &key;
  event.extra_keys_len = 1;
  NOT_UTF8(APPLY);
  key.kind = KVROUTE_EXTRA_KEY_MULTIMODAL;
  NOT_UTF8(APPLY);
#undef WITH

  NOT_UTF8(kvroute_domain_new(BROKEN.data, 2, hasher, NULL, 0, &out.domain, error));
  NOT_UTF8(kvroute_domain_new("d", 1, hasher, &BROKEN, 1, &out.domain, error));
  NOT_UTF8(kvroute_config_check(BROKEN.data, 2, error));
  NOT_UTF8(kvroute_router_from_config(BROKEN.data, 2, &out.router, error));
  NOT_UTF8(kvroute_router_set_policy(router, BROKEN.data, 2, error));
  NOT_UTF8(kvroute_router_report_adapters(router, pod, 1, &BROKEN, 1, NULL, 0, error));
  NOT_UTF8(kvroute_router_report_adapters(router, pod, 1, NULL, 0, &BROKEN, 1, error));
  NOT_UTF8(kvroute_router_domain(router, BROKEN.data, 2, &out.domain, error));
  NOT_UTF8(kvroute_router_find_pod(router, BROKEN.data, 2, 0, &out.id, error));
  NOT_UTF8(kvroute_router_apply_topic(router, BROKEN.data, 2, 0, 0, NULL, 0, &out.report, error));
  NOT_UTF8(kvroute_config_from_env(&BROKEN, &BROKEN, 1, out.text, 8, &out.written, NULL, 0, NULL,
                                   error));
}

static void numbers_out_of_range(void) {
  static const int32_t none[] = {-2, 17, INT32_MIN, INT32_MAX};
  static const float shares[] = {-0.5F, 1.5F};
  const float nan = strtof("nan", NULL), infinity = strtof("inf", NULL);
  size_t at;
  for (at = 0; at < sizeof none / sizeof *none; ++at) {
    kvroute_hasher_options options = good_hasher();
    kvroute_pod_options of_pod = good_pod();
    kvroute_kv_event event = good_event();
    kvroute_group group = {0, 0, 16, 0};
    kvroute_extra_key key = {0, 0, {"k", 1}, 0};
    options.scheme = none[at];
    INVALID(HASHER);
    options.scheme = KVROUTE_SCHEME_OWN;
    options.multimodal = none[at];
    INVALID(HASHER);
    of_pod.role = none[at];
    INVALID(ADD);
    of_pod.role = KVROUTE_ROLE_BOTH;
    of_pod.copies = none[at];
    INVALID(ADD);
    of_pod.copies = KVROUTE_COPIES_INFER;
    of_pod.on_gap = none[at];
    INVALID(ADD);
    of_pod.on_gap = KVROUTE_ON_GAP_CLEAR;
    group.kind = none[at];
    of_pod.groups = &group;
    of_pod.groups_len = 1;
    INVALID(ADD);
    event.kind = none[at];
    INVALID(APPLY);
    event.kind = KVROUTE_EVENT_STORED;
    event.tier = none[at];
    INVALID(APPLY);
    event.tier = KVROUTE_TIER_GPU;
    event.has_group_kind = 1;
    event.group_kind = none[at];
    INVALID(APPLY);
    event.has_group_kind = 0;
    key.kind = none[at];
    event.extra_keys = &key;
    event.extra_keys_len = 1;
    INVALID(APPLY);
    INVALID(kvroute_router_finish(router, ticket, none[at], 0, &out.known, error));
    INVALID(kvroute_router_explain(router, workspace, none[at], out.text, 8, &out.written, error));
  }
  for (at = 0; at < sizeof shares / sizeof *shares; ++at) {
    INVALID(kvroute_router_report_load(router, pod, 0, 0, shares[at], error));
  }
  INVALID(kvroute_router_report_load(router, pod, 0, 0, nan, error));
  INVALID(kvroute_router_report_load(router, pod, 0, 0, infinity, error));
  INVALID(kvroute_router_finish(router, ticket, 0, -2, &out.known, error));
  INVALID(kvroute_router_finish(router, ticket, 0, INT64_MIN, &out.known, error));
}

/* Numbers for which 0 is the default. */
static void numbers_that_options_cannot_be(void) {
  static const char *const none[] = {"-1", "nan", "inf", "-inf"};
  size_t at;
  for (at = 0; at < sizeof none / sizeof *none; ++at) {
    kvroute_router_options of_router = KVROUTE_INIT(kvroute_router_options);
    kvroute_pod_options of_pod = good_pod();
    of_router.overload_kv_usage = strtod(none[at], NULL);
    INVALID(ROUTER);
    of_pod.capacity = strtod(none[at], NULL);
    INVALID(ADD);
  }
}

/* One event that is none spoils the batch: those before it are not applied either. */
static void a_batch_of_events_is_applied_whole_or_not_at_all(void) {
  kvroute_kv_event events[2];
  events[0] = good_event();
  events[0].kind = KVROUTE_EVENT_CLEARED;
  events[1] = good_event();
  events[1].kind = 9;
  INVALID(kvroute_router_apply_events(router, pod, events, 2, &out.report, error));
  events[1] = good_event();
  events[1].reserved = 1;
  INVALID(kvroute_router_apply_events(router, pod, events, 2, &out.report, error));
}

static void options_that_make_nothing(void) {
  kvroute_hasher_options options = good_hasher();
  kvroute_router_options of_router = KVROUTE_INIT(kvroute_router_options);
  kvroute_pod_options of_pod = good_pod();
  kvroute_group group = {0, KVROUTE_GROUP_SLIDING_WINDOW, 0, 0};
  kvroute_label twice[2];
  const uint8_t key[31] = {0};
  kvroute_hasher *other = NULL;
  options.block_size = 0;
  INVALID(HASHER);
  options.block_size = 65537;
  INVALID(HASHER);
  options.block_size = 4;
  options.seed = str("10");
  INVALID(HASHER);
  options.has_seed = 1;
  options.seed = str("ten");
  INVALID(HASHER);
  options = good_hasher();
  options.reserved = 1;
  INVALID(HASHER);
  options = good_hasher();
  options.lookahead = 1;
  INVALID(HASHER);
  options = good_hasher();
  options.scheme = KVROUTE_SCHEME_VLLM;
  INVALID(HASHER);
  options.algorithm = str("sha256");
  INVALID(HASHER);
  options.version = str("soon");
  INVALID(HASHER);
  options.version = str("0.20.0");
  NO(KVROUTE_NOT_REPRODUCIBLE, HASHER);
  options.none_hash.data = key;
  options.none_hash.len = 31;
  INVALID(HASHER);
  of_router.preset = str("llm-d-dmo");
  INVALID(ROUTER);
  of_router = (kvroute_router_options)KVROUTE_INIT(kvroute_router_options);
  of_router.session_key.data = key;
  of_router.session_key.len = sizeof key;
  INVALID(ROUTER);
  of_router = (kvroute_router_options)KVROUTE_INIT(kvroute_router_options);
  of_router.text_block_bytes = 6;
  INVALID(ROUTER);
  of_router = (kvroute_router_options)KVROUTE_INIT(kvroute_router_options);
  of_router.max_requests = 262145;
  INVALID(ROUTER);
  of_router = (kvroute_router_options)KVROUTE_INIT(kvroute_router_options);
  of_router.prefill_max_uncached_tokens = 1;
  INVALID(ROUTER);
  of_router = (kvroute_router_options)KVROUTE_INIT(kvroute_router_options);
  of_router.prefill_min_prompt_tokens = 1;
  INVALID(ROUTER);
  of_router = (kvroute_router_options)KVROUTE_INIT(kvroute_router_options);
  of_router.prefill_max_load = -1;
  INVALID(ROUTER);
  of_pod.name = str("");
  INVALID(ADD);
  of_pod.name = str("a");
  INVALID(ADD);
  of_pod = good_pod();
  of_pod.domain_name = str("m");
  INVALID(ADD);
  of_pod.domain = NULL;
  of_pod.domain_name = str("n");
  NO(KVROUTE_UNKNOWN_DOMAIN, ADD);
  of_pod = good_pod();
  of_pod.groups = &group;
  of_pod.groups_len = 1;
  INVALID(ADD);
  group.window = 8;
  group.reserved = 1;
  INVALID(ADD);
  of_pod.groups_len = 0;
  twice[0].key = twice[1].key = str("zone");
  twice[0].value = twice[1].value = str("eu");
  of_pod.labels = twice;
  of_pod.labels_len = 2;
  INVALID(ADD);
  INVALID(kvroute_router_from_config("{\"pods\":3}", 10, &out.router, error));
  INVALID(kvroute_config_check("{\"pods\":3}", 10, error));

  /* A domain of the same name that hashes otherwise. */
  options = good_hasher();
  options.block_size = 8;
  OK(kvroute_hasher_new(&options, &other, error));
  settle();
  {
    kvroute_domain *same_name = NULL;
    OK(kvroute_domain_new("m", 1, other, NULL, 0, &same_name, error));
    INVALID(kvroute_router_add_domain(router, same_name, error));
    of_pod = good_pod();
    of_pod.domain = same_name;
    INVALID(ADD);
    kvroute_domain_free(same_name);
  }
  kvroute_hasher_free(other);
}

static void requests_that_contradict_themselves(void) {
  kvroute_request request = good_request();
  kvroute_hash_context context = KVROUTE_INIT(kvroute_hash_context);
  kvroute_multimodal_item items[2] = {{{"x", 1}, 8, 2}, {{"y", 1}, 0, 2}};
  kvroute_score_column columns[KVROUTE_MAX_SCORE_COLUMNS + 1];
  const kvroute_str name = {"a", 1};
  const double too_much = 1.5, fine = 0.5, nan = strtod("nan", NULL);
  size_t at;
  request.text.data = (const uint8_t *)"hello";
  request.text.len = 5;
  INVALID(DISPATCH);
  request = good_request();
  request.session_id = str("a");
  request.session_token = str("b");
  INVALID(DISPATCH);
  request = good_request();
  request.subset = &name;
  request.subset_len = 1;
  INVALID(DISPATCH);
  request = good_request();
  request.context = &context;
  context.lora_path = str("/adapters/sql");
  INVALID(DISPATCH);
  context.lora_path = str("");
  context.multimodal = items;
  context.multimodal_len = 2;
  INVALID(DISPATCH);
  request = good_request();
  for (at = 0; at < KVROUTE_MAX_SCORE_COLUMNS + 1; ++at) {
    columns[at].scorer = str("cheap");
    columns[at].pods = &pod;
    columns[at].values = &fine;
    columns[at].len = 1;
  }
  request.scores = columns;
  request.scores_len = KVROUTE_MAX_SCORE_COLUMNS + 1;
  INVALID(DISPATCH);
  request.scores_len = 2;
  INVALID(DISPATCH);
  request.scores_len = 1;
  columns[0].values = &too_much;
  INVALID(DISPATCH);
  columns[0].values = &nan;
  INVALID(DISPATCH);
  columns[0].values = &fine;
  columns[0].scorer = str("cheep");
  INVALID(DISPATCH);
}

static void pods_and_domains_that_are_not_there(void) {
  const uint8_t *json = (const uint8_t *)"[]";
  static const uint64_t none[] = {KVROUTE_NO_POD, 12345, UINT64_MAX};
  size_t at;
  for (at = 0; at < sizeof none / sizeof *none; ++at) {
#define UNKNOWN(call) NO(KVROUTE_UNKNOWN_POD, call)
    UNKNOWN(kvroute_router_remove_pod(router, none[at], error));
    UNKNOWN(kvroute_router_pod_name(router, none[at], out.text, 8, &out.written, &out.rank, error));
    UNKNOWN(kvroute_workspace_pod_name(workspace, none[at], out.text, 8, &out.written, &out.rank,
                                       error));
    UNKNOWN(kvroute_router_report_load(router, none[at], 0, 0, 0, error));
    UNKNOWN(kvroute_router_forget_load(router, none[at], error));
    UNKNOWN(kvroute_router_report_adapters(router, none[at], 1, NULL, 0, NULL, 0, error));
    UNKNOWN(kvroute_router_set_accepting(router, none[at], 0, error));
    UNKNOWN(kvroute_router_apply(router, none[at], 0, json, 2, &out.report, error));
    UNKNOWN(kvroute_router_apply_events(router, none[at], NULL, 0, &out.report, error));
    UNKNOWN(kvroute_router_apply_trtllm(router, none[at], json, 2, 0, &out.report, error));
    UNKNOWN(kvroute_router_abandon_gap(router, none[at], 0, error));
    UNKNOWN(kvroute_router_forget_predictions(router, none[at], error));
    UNKNOWN(kvroute_router_session_token(router, none[at], 0, 1, out.text, 512, &out.written,
                                         error));
    UNKNOWN(kvroute_router_read_pod_counters(router, none[at], &out.pod_counters, error));
  }
  /* A prefill pod may be gone by the time that the token is made. */
  YES(kvroute_router_session_token(router, pod, 12345, 1, out.text, 512, &out.written, error));
  UNKNOWN(kvroute_router_find_pod(router, "a", 1, 1, &out.id, error));
  NO(KVROUTE_UNKNOWN_DOMAIN, kvroute_router_domain(router, "n", 1, &out.domain, error));
  UNKNOWN(kvroute_router_apply_topic(router, "kv@z@m", 6, 0, 0, json, 2, &out.report, error));
#undef UNKNOWN
  INVALID(kvroute_router_apply_topic(router, "kv", 2, 0, 0, json, 2, &out.report, error));
  NO(KVROUTE_DECODE, kvroute_router_apply_trtllm(router, pod, json, 1, 0, &out.report, error));
}

int main(void) {
  set_up();
  texts_that_are_not_utf8();
  numbers_out_of_range();
  numbers_that_options_cannot_be();
  a_batch_of_events_is_applied_whole_or_not_at_all();
  options_that_make_nothing();
  requests_that_contradict_themselves();
  pods_and_domains_that_are_not_there();
  return tear_down();
}
