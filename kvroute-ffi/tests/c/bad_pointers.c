/*
 * Pointers that are NULL, or handles of something else: refused by every function, in every place.
 *
 *   bad_pointers [freed]      with `freed`, handles that were freed too, which memory checkers mind
 */
#include "bad_input.h"

#define NULLS(call) NO(KVROUTE_NULL_POINTER, call)
#define WRONG(call) NO(KVROUTE_INVALID_HANDLE, call)

static const uint8_t BATCH[] = {0x93, 0xc0, 0x90, 0x00};

static void nothing_is_made_of_null(void) {
  kvroute_hasher_options options = good_hasher();
  NULLS(kvroute_hasher_new(NULL, &out.hasher, error));
  NULLS(kvroute_hasher_new(&options, NULL, error));
  NULLS(kvroute_hasher_hash(NULL, tokens, TOKENS, NULL, out.numbers, 8, &out.written, error));
  NULLS(kvroute_hasher_hash(hasher, NULL, TOKENS, NULL, out.numbers, 8, &out.written, error));
  NULLS(kvroute_hasher_hash(hasher, tokens, TOKENS, NULL, NULL, 8, &out.written, error));
  NULLS(kvroute_hasher_hash(hasher, tokens, TOKENS, NULL, out.numbers, 8, NULL, error));
  YES(kvroute_hasher_hash(hasher, NULL, 0, NULL, NULL, 0, &out.written, error));

  NULLS(kvroute_domain_new(NULL, 1, hasher, NULL, 0, &out.domain, error));
  NULLS(kvroute_domain_new("d", 1, NULL, NULL, 0, &out.domain, error));
  NULLS(kvroute_domain_new("d", 1, hasher, NULL, 1, &out.domain, error));
  NULLS(kvroute_domain_new("d", 1, hasher, NULL, 0, NULL, error));
  NULLS(kvroute_domain_name(NULL, out.text, 8, &out.written, error));
  NULLS(kvroute_domain_name(domain, NULL, 8, &out.written, error));
  NULLS(kvroute_domain_name(domain, out.text, 8, NULL, error));
  CHECK_NUMBER(0, kvroute_domain_block_size(NULL));
  CHECK_NUMBER(0, kvroute_domain_searchable_blocks(NULL, 100));
  NULLS(kvroute_domain_hash(NULL, tokens, TOKENS, NULL, out.numbers, 8, &out.written, error));
  NULLS(kvroute_domain_hash(domain, NULL, TOKENS, NULL, out.numbers, 8, &out.written, error));
  NULLS(kvroute_domain_hash(domain, tokens, TOKENS, NULL, NULL, 8, &out.written, error));
  NULLS(kvroute_domain_hash(domain, tokens, TOKENS, NULL, out.numbers, 8, NULL, error));

  NULLS(kvroute_config_check(NULL, 1, error));
  NULLS(kvroute_config_schema(NULL, sizeof out.text, &out.written, error));
  NULLS(kvroute_config_schema(out.text, sizeof out.text, NULL, error));
  NULLS(kvroute_router_new(NULL, NULL, error));
  NULLS(kvroute_router_from_config(NULL, 1, &out.router, error));
  NULLS(kvroute_router_from_config(CONFIG, strlen(CONFIG), NULL, error));
}

static void environment_variables_need_their_places(void) {
  kvroute_str name = str("ENABLE_PREFIX_AWARE_SCORER"), value = str("true");
  char *text = out.text;
  size_t len = 4096, notes_written = 0;
  NULLS(kvroute_config_from_env(NULL, &value, 1, text, len, &out.written, NULL, 0, NULL, error));
  NULLS(kvroute_config_from_env(&name, NULL, 1, text, len, &out.written, NULL, 0, NULL, error));
  NULLS(kvroute_config_from_env(&name, &value, 1, NULL, len, &out.written, NULL, 0, NULL, error));
  NULLS(kvroute_config_from_env(&name, &value, 1, text, len, NULL, NULL, 0, NULL, error));
  NULLS(kvroute_config_from_env(&name, &value, 1, text, len, &out.written, NULL, len,
                                &notes_written, error));
  NULLS(kvroute_config_from_env(&name, &value, 1, text, len, &out.written, text + len, len, NULL,
                                error));
  YES(kvroute_config_from_env(&name, &value, 1, text, len, &out.written, NULL, 0, NULL, error));
}

static void so_does_the_configuration_of_the_endpoint_picker(void) {
  const size_t picker_len = strlen(ENDPOINT_PICKER);
  char *text = out.text;
  size_t len = 4096, notes_written = 0;
#define READ(picker, to, to_written, notes, notes_len, notes_to)                               \
  kvroute_config_from_endpoint_picker(picker, picker_len, to, len, to_written, notes, notes_len, \
                                      notes_to, error)
  NULLS(READ(NULL, text, &out.written, NULL, 0, NULL));
  NULLS(READ(ENDPOINT_PICKER, NULL, &out.written, NULL, 0, NULL));
  NULLS(READ(ENDPOINT_PICKER, text, NULL, NULL, 0, NULL));
  NULLS(READ(ENDPOINT_PICKER, text, &out.written, NULL, len, &notes_written));
  NULLS(READ(ENDPOINT_PICKER, text, &out.written, text + len, len, NULL));
  YES(READ(ENDPOINT_PICKER, text, &out.written, NULL, 0, NULL));
#undef READ
}

static void a_router_is_needed_for_all_of_these(void) {
  kvroute_pod_options options = good_pod();
  kvroute_kv_event event = good_event();
  kvroute_request request = good_request();
  NULLS(kvroute_router_recover(NULL, error));
  NULLS(kvroute_router_set_policy(NULL, "{}", 2, error));
  NULLS(kvroute_router_add_domain(NULL, domain, error));
  NULLS(kvroute_router_domain(NULL, "m", 1, &out.domain, error));
  NULLS(kvroute_router_expire(NULL, 1, &out.written, error));
  NULLS(kvroute_router_status(NULL, out.text, 8, &out.written, error));
  NULLS(kvroute_router_add_pod(NULL, &options, &out.id, error));
  NULLS(kvroute_router_remove_pod(NULL, pod, error));
  NULLS(kvroute_router_find_pod(NULL, "a", 1, 0, &out.id, error));
  NULLS(kvroute_router_pods(NULL, out.numbers, 8, &out.written, error));
  NULLS(kvroute_router_pod_name(NULL, pod, out.text, 8, &out.written, &out.rank, error));
  NULLS(kvroute_router_report_load(NULL, pod, 0, 0, 0, error));
  NULLS(kvroute_router_forget_load(NULL, pod, error));
  NULLS(kvroute_router_report_adapters(NULL, pod, 1, NULL, 0, NULL, 0, error));
  NULLS(kvroute_router_set_accepting(NULL, pod, 0, error));
  NULLS(kvroute_router_apply(NULL, pod, 0, BATCH, sizeof BATCH, &out.report, error));
  NULLS(kvroute_router_apply_topic(NULL, "kv@a@m", 6, 0, 0, BATCH, sizeof BATCH, &out.report,
                                   error));
  NULLS(kvroute_router_apply_events(NULL, pod, &event, 1, &out.report, error));
  NULLS(kvroute_router_apply_trtllm(NULL, pod, (const uint8_t *)"[]", 2, 0, &out.report, error));
  NULLS(kvroute_router_abandon_gap(NULL, pod, 0, error));
  NULLS(kvroute_router_forget_predictions(NULL, pod, error));
  NULLS(kvroute_router_decide(NULL, &request, 1, workspace, &out.decision, error));
  NULLS(kvroute_router_dispatch(NULL, &request, 1, workspace, &out.decision, error));
  NULLS(kvroute_router_first_token(NULL, ticket, &out.known, error));
  NULLS(kvroute_router_finish(NULL, ticket, 0, 0, &out.known, error));
  NULLS(kvroute_router_session_token(NULL, pod, 0, 1, out.text, 512, &out.written, error));
  NULLS(kvroute_router_explain(NULL, workspace, 0, out.text, 8, &out.written, error));
  NULLS(kvroute_router_record(NULL, &request, workspace, NULL, 0, out.text, 8, &out.written, error));
  NULLS(kvroute_router_lookup(NULL, domain, names, 3, workspace, out.matches, 8, &out.written,
                              error));
  NULLS(kvroute_router_read_counters(NULL, &out.counters, error));
  NULLS(kvroute_router_read_pod_counters(NULL, pod, &out.pod_counters, error));
}

static void so_is_everything_else_that_is_not_optional(void) {
  kvroute_pod_options no_domain = good_pod();
  kvroute_request request = good_request();
  NULLS(kvroute_router_add_domain(router, NULL, error));
  NULLS(kvroute_router_domain(router, NULL, 1, &out.domain, error));
  NULLS(kvroute_router_set_policy(router, NULL, 1, error));
  NULLS(kvroute_router_report_adapters(router, pod, 1, NULL, 1, NULL, 0, error));
  NULLS(kvroute_router_report_adapters(router, pod, 1, NULL, 0, NULL, 1, error));
  NULLS(kvroute_workspace_fallbacks(NULL, out.numbers, 8, &out.written, error));
  NULLS(kvroute_workspace_fallbacks(workspace, out.numbers, 8, NULL, error));
  NULLS(kvroute_router_domain(router, "m", 1, NULL, error));
  NULLS(kvroute_router_status(router, NULL, sizeof out.text, &out.written, error));
  NULLS(kvroute_router_status(router, out.text, sizeof out.text, NULL, error));
  NULLS(kvroute_router_add_pod(router, NULL, &out.id, error));
  no_domain.domain = NULL;
  NULLS(kvroute_router_add_pod(router, &no_domain, &out.id, error));
  no_domain.domain = domain;
  NULLS(kvroute_router_add_pod(router, &no_domain, NULL, error));
  NULLS(kvroute_router_find_pod(router, NULL, 1, 0, &out.id, error));
  NULLS(kvroute_router_find_pod(router, "a", 1, 0, NULL, error));
  NULLS(kvroute_router_pods(router, NULL, 8, &out.written, error));
  NULLS(kvroute_router_pods(router, out.numbers, 8, NULL, error));
  NULLS(kvroute_router_pod_name(router, pod, NULL, 8, &out.written, &out.rank, error));
  NULLS(kvroute_router_pod_name(router, pod, out.text, 8, NULL, &out.rank, error));
  NULLS(kvroute_workspace_pod_name(NULL, pod, out.text, 8, &out.written, &out.rank, error));
  NULLS(kvroute_workspace_pod_name(workspace, pod, NULL, 8, &out.written, &out.rank, error));
  NULLS(kvroute_workspace_pod_name(workspace, pod, out.text, 8, NULL, &out.rank, error));
  NULLS(kvroute_router_apply(router, pod, 0, NULL, 1, &out.report, error));
  NULLS(kvroute_router_apply_topic(router, NULL, 6, 0, 0, BATCH, sizeof BATCH, &out.report,
                                   error));
  NULLS(kvroute_router_apply_topic(router, "kv@a@m", 6, 0, 0, NULL, 1, &out.report, error));
  NULLS(kvroute_router_apply_events(router, pod, NULL, 1, &out.report, error));
  NULLS(kvroute_router_apply_trtllm(router, pod, NULL, 1, 0, &out.report, error));
  NULLS(kvroute_router_decide(router, NULL, 1, workspace, &out.decision, error));
  NULLS(kvroute_router_decide(router, &request, 1, NULL, &out.decision, error));
  NULLS(kvroute_router_decide(router, &request, 1, workspace, NULL, error));
  NULLS(kvroute_router_dispatch(router, NULL, 1, workspace, &out.decision, error));
  NULLS(kvroute_router_dispatch(router, &request, 1, NULL, &out.decision, error));
  NULLS(kvroute_router_dispatch(router, &request, 1, workspace, NULL, error));
  NULLS(kvroute_router_session_token(router, pod, 0, 1, NULL, 512, &out.written, error));
  NULLS(kvroute_router_session_token(router, pod, 0, 1, out.text, 512, NULL, error));
  NULLS(kvroute_router_record(router, NULL, workspace, NULL, 0, out.text, 4096, &out.written,
                              error));
  NULLS(kvroute_router_record(router, &request, NULL, NULL, 0, out.text, 4096, &out.written,
                              error));
  NULLS(kvroute_router_record(router, &request, workspace, NULL, 0, NULL, 1 << 16, &out.written,
                              error));
  NULLS(kvroute_router_record(router, &request, workspace, NULL, 0, out.text, 4096, NULL, error));
  NULLS(kvroute_log_outcome(1, 0, 0, 1, NULL, 4096, &out.written, error));
  NULLS(kvroute_log_outcome(1, 0, 0, 1, out.text, 4096, NULL, error));
  NULLS(kvroute_log_schema(NULL, sizeof out.text, &out.written, error));
  NULLS(kvroute_log_schema(out.text, sizeof out.text, NULL, error));
  NULLS(kvroute_log_replay(NULL, 1, "{}", 2, out.text, 4096, &out.written, error));
  NULLS(kvroute_router_explain(router, NULL, 0, out.text, 8, &out.written, error));
  NULLS(kvroute_router_explain(router, workspace, 0, NULL, 1 << 20, &out.written, error));
  NULLS(kvroute_router_explain(router, workspace, 0, out.text, 4096, NULL, error));
  NULLS(kvroute_router_lookup(router, NULL, names, 3, workspace, out.matches, 8, &out.written,
                              error));
  NULLS(kvroute_router_lookup(router, domain, NULL, 3, workspace, out.matches, 8, &out.written,
                              error));
  NULLS(kvroute_router_lookup(router, domain, names, 3, NULL, out.matches, 8, &out.written,
                              error));
  NULLS(kvroute_router_lookup(router, domain, names, 3, workspace, out.matches, 8, NULL, error));
  NULLS(kvroute_router_read_counters(router, NULL, error));
  NULLS(kvroute_router_read_pod_counters(router, pod, NULL, error));
}

/* What structs point to. */
static void pointers_in_structs_count_too(void) {
  kvroute_hasher_options options = good_hasher();
  kvroute_hash_context context = KVROUTE_INIT(kvroute_hash_context);
  kvroute_pod_options of_pod = good_pod();
  kvroute_request request = good_request();
  kvroute_kv_event event = good_event();
  kvroute_score_column column = {{"cheap", 5}, NULL, NULL, 1};
  const double score = 1;
  const kvroute_str no_name = {NULL, 1};
#define IN(place, call) (place = 1, NULLS(call), place = 0)
  IN(options.seed.len, kvroute_hasher_new(&options, &out.hasher, error));
  IN(options.none_hash.len, kvroute_hasher_new(&options, &out.hasher, error));
#define HASH                                                                              \
  kvroute_hasher_hash(hasher, tokens, TOKENS, &context, out.numbers, 8, &out.written, error)
  IN(context.lora_name.len, HASH);
  IN(context.lora_path.len, HASH);
  IN(context.cache_salt.len, HASH);
  IN(context.multimodal_len, HASH);
  IN(context.prompt_embeds_len, HASH);
#undef HASH
#define ADD kvroute_router_add_pod(router, &of_pod, &out.id, error)
  IN(of_pod.labels_len, ADD);
  IN(of_pod.groups_len, ADD);
  IN(of_pod.adapters_len, ADD);
  of_pod.name.data = NULL;
  NULLS(ADD);
#undef ADD
#define DECIDE kvroute_router_dispatch(router, &request, 1, workspace, &out.decision, error)
  request.token_ids = NULL;
  NULLS(DECIDE);
  request.token_ids = tokens;
  IN(request.text.len, DECIDE);
  IN(request.model.len, DECIDE);
  IN(request.session_id.len, DECIDE);
  IN(request.session_token.len, DECIDE);
  IN(request.subset_len, DECIDE);
  request.has_subset = 1;
  IN(request.subset_len, DECIDE);
  request.subset = &no_name;
  IN(request.subset_len, DECIDE);
  request.has_subset = 0;
  IN(request.scores_len, DECIDE);
  request.scores = &column;
  IN(request.scores_len, DECIDE);
  column.pods = &pod;
  IN(request.scores_len, DECIDE);
  column.values = &score;
  request.scores_len = 1;
  column.scorer.data = NULL;
  NULLS(DECIDE);
#undef DECIDE
#define APPLY kvroute_router_apply_events(router, pod, &event, 1, &out.report, error)
  event.block_hashes = NULL;
  NULLS(APPLY);
  event = good_event();
  event.token_ids = NULL;
  NULLS(APPLY);
  event = good_event();
  IN(event.lora_name.len, APPLY);
  IN(event.cache_salt.len, APPLY);
  IN(event.extra_keys_len, APPLY);
#undef APPLY
#undef IN
}

static void these_may_be_null(void) {
  kvroute_request request = good_request();
  kvroute_router *made = NULL;
  size_t len = 7;
  OK(kvroute_router_new(NULL, &made, NULL));
  kvroute_router_free(made);
  OK(kvroute_router_expire(router, 1, NULL, NULL));
  OK(kvroute_router_pod_name(router, pod, out.text, 8, &out.written, NULL, NULL));
  OK(kvroute_router_decide(router, &request, 1, workspace, &out.decision, NULL));
  OK(kvroute_workspace_pod_name(workspace, pod, out.text, 8, &out.written, NULL, NULL));
  OK(kvroute_workspace_fallbacks(workspace, NULL, 0, &out.written, NULL));
  OK(kvroute_router_report_adapters(router, pod, 0, NULL, 0, NULL, 0, NULL));
  OK(kvroute_router_set_policy(router, CONFIG, strlen(CONFIG), NULL));
  OK(kvroute_router_apply_events(router, pod, NULL, 0, NULL, NULL));
  OK(kvroute_router_first_token(router, ticket, NULL, NULL));
  OK(kvroute_router_finish(router, ticket, 0, KVROUTE_CACHED_UNKNOWN, NULL, NULL));
  kvroute_error_free(NULL);
  kvroute_hasher_free(NULL);
  kvroute_domain_free(NULL);
  kvroute_router_free(NULL);
  kvroute_workspace_free(NULL);
  CHECK_NUMBER(KVROUTE_INVALID_HANDLE, kvroute_error_status(NULL));
  CHECK_TEXT("", kvroute_error_message(NULL, &len));
  CHECK_NUMBER(0, len);
  settle();
}

/* Handles that were swapped, and memory that is none. */
static void a_handle_of_another_kind_is_found_out(void) {
  kvroute_request request = good_request();
  kvroute_pod_options options = good_pod();
  uint64_t zeros[64] = {0};
  WRONG(kvroute_hasher_hash((kvroute_hasher *)domain, tokens, TOKENS, NULL, out.numbers, 8,
                            &out.written, error));
  WRONG(kvroute_domain_new("d", 1, (kvroute_hasher *)domain, NULL, 0, &out.domain, error));
  WRONG(kvroute_domain_name((kvroute_domain *)hasher, out.text, 8, &out.written, error));
  CHECK_NUMBER(0, kvroute_domain_block_size((kvroute_domain *)hasher));
  CHECK_NUMBER(0, kvroute_domain_searchable_blocks((kvroute_domain *)hasher, 100));
  WRONG(kvroute_workspace_pod_name((kvroute_workspace *)router, pod, out.text, 8, &out.written,
                                   &out.rank, error));
  WRONG(kvroute_router_record(router, &request, (kvroute_workspace *)router, NULL, 0, out.text, 8,
                              &out.written, error));
  WRONG(kvroute_workspace_fallbacks((kvroute_workspace *)router, out.numbers, 8, &out.written,
                                    error));
  WRONG(kvroute_router_set_policy((kvroute_router *)workspace, "{}", 2, error));
  WRONG(kvroute_router_pods((kvroute_router *)workspace, out.numbers, 8, &out.written, error));
  WRONG(kvroute_router_pods((kvroute_router *)zeros, out.numbers, 8, &out.written, error));
  WRONG(kvroute_router_pods((kvroute_router *)((char *)router + 1), out.numbers, 8, &out.written,
                            error));
  WRONG(kvroute_router_recover((kvroute_router *)error, error));
  WRONG(kvroute_router_add_domain(router, (kvroute_domain *)hasher, error));
  options.domain = (kvroute_domain *)router;
  WRONG(kvroute_router_add_pod(router, &options, &out.id, error));
  WRONG(kvroute_router_dispatch(router, &request, 1, (kvroute_workspace *)router, &out.decision,
                                error));
  WRONG(kvroute_router_lookup(router, (kvroute_domain *)hasher, names, 3, workspace, out.matches,
                              8, &out.written, error));
  /* Freeing does nothing then. */
  kvroute_hasher_free((kvroute_hasher *)domain);
  kvroute_domain_free((kvroute_domain *)hasher);
  kvroute_router_free((kvroute_router *)workspace);
  kvroute_workspace_free((kvroute_workspace *)router);
  kvroute_error_free((kvroute_error *)router);
  unchanged(__FILE__, __LINE__);
}

/* An error object that is none cannot be told, but the call must not have been made either. */
static void an_error_object_of_another_kind_stops_the_call(void) {
  kvroute_request request = good_request();
  kvroute_error *none = (kvroute_error *)router;
  CHECK_NUMBER(KVROUTE_INVALID_HANDLE,
               kvroute_router_dispatch(router, &request, 1, workspace, &out.decision, none));
  unchanged(__FILE__, __LINE__);
  CHECK_NUMBER(KVROUTE_INVALID_HANDLE, kvroute_router_remove_pod(router, pod, none));
  unchanged(__FILE__, __LINE__);
  CHECK_NUMBER(KVROUTE_INVALID_HANDLE, kvroute_error_status(none));
  CHECK_TEXT("", kvroute_error_message(none, NULL));
}

/* Volatile, because compilers know what free does. */
static void a_freed_handle_is_found_out(void) {
  kvroute_hasher_options options = good_hasher();
  kvroute_workspace *volatile gone_workspace = kvroute_workspace_new();
  kvroute_hasher *made = NULL;
  kvroute_hasher *volatile gone_hasher;
  kvroute_request request = good_request();
  OK(kvroute_hasher_new(&options, &made, error));
  gone_hasher = made;
  kvroute_hasher_free(gone_hasher);
  kvroute_workspace_free(gone_workspace);
  WRONG(kvroute_domain_new("d", 1, gone_hasher, NULL, 0, &out.domain, error));
  WRONG(kvroute_router_decide(router, &request, 1, gone_workspace, &out.decision, error));
  kvroute_hasher_free(gone_hasher);
  kvroute_workspace_free(gone_workspace);
  unchanged(__FILE__, __LINE__);
}

int main(int count, char **arguments) {
  set_up();
  nothing_is_made_of_null();
  environment_variables_need_their_places();
  so_does_the_configuration_of_the_endpoint_picker();
  a_router_is_needed_for_all_of_these();
  so_is_everything_else_that_is_not_optional();
  pointers_in_structs_count_too();
  a_handle_of_another_kind_is_found_out();
  an_error_object_of_another_kind_stops_the_call();
  if (count > 1 && strcmp(arguments[1], "freed") == 0) {
    a_freed_handle_is_found_out();
  }
  these_may_be_null();
  return tear_down();
}
