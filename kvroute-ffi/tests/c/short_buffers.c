/*
 * Buffers that are too small, or just large enough.
 */
#include "bad_input.h"

/* `call(buffer, capacity)` refuses every capacity below `needed`, and takes that one. */
typedef int32_t (*filling)(void *buffer, size_t capacity);

static void short_buffers(size_t needed, size_t written, filling call) {
  CHECK(needed > 1);
  SHORT(needed, call(NULL, 0));
  SHORT(needed, call(out.text, 0));
  SHORT(needed, call(out.text, 1));
  SHORT(needed, call(out.text, needed - 1));
  OK(call(out.text, needed));
  CHECK_NUMBER(written, out.written);
  /* Nothing is written behind what fits. */
  settle();
  OK(call(out.text, sizeof out.text));
  CHECK_NUMBER(written, out.written);
  settle();
}

/* The same for texts, which need a NUL more than they have. */
static void short_texts(filling call) {
  size_t len;
  OK(call(out.text, sizeof out.text));
  len = strlen(out.text);
  CHECK_NUMBER(len, out.written);
  settle();
  short_buffers(len + 1, len, call);
}

static int32_t hashes(void *buffer, size_t capacity) {
  return kvroute_hasher_hash(hasher, tokens, TOKENS, NULL, buffer, capacity, &out.written, error);
}

static int32_t domain_hashes(void *buffer, size_t capacity) {
  return kvroute_domain_hash(domain, tokens, TOKENS, NULL, buffer, capacity, &out.written, error);
}

static int32_t pods(void *buffer, size_t capacity) {
  return kvroute_router_pods(router, buffer, capacity, &out.written, error);
}

static int32_t domain_name(void *buffer, size_t capacity) {
  return kvroute_domain_name(domain, buffer, capacity, &out.written, error);
}

static int32_t pod_name(void *buffer, size_t capacity) {
  return kvroute_router_pod_name(router, pod, buffer, capacity, &out.written, NULL, error);
}

static int32_t pod_name_of_decision(void *buffer, size_t capacity) {
  return kvroute_workspace_pod_name(workspace, pod, buffer, capacity, &out.written, NULL, error);
}

static int32_t fallbacks(void *buffer, size_t capacity) {
  return kvroute_workspace_fallbacks(workspace, buffer, capacity, &out.written, error);
}

static int32_t status(void *buffer, size_t capacity) {
  return kvroute_router_status(router, buffer, capacity, &out.written, error);
}

static int32_t schema(void *buffer, size_t capacity) {
  return kvroute_config_schema(buffer, capacity, &out.written, error);
}

static int32_t session_token(void *buffer, size_t capacity) {
  return kvroute_router_session_token(router, pod, KVROUTE_NO_POD, 1, buffer, capacity,
                                      &out.written, error);
}

static int32_t json(void *buffer, size_t capacity) {
  return kvroute_router_explain(router, workspace, KVROUTE_EXPLAIN_JSON, buffer, capacity,
                                &out.written, error);
}

static int32_t record(void *buffer, size_t capacity) {
  kvroute_request request = good_request();
  return kvroute_router_record(router, &request, workspace, NULL, 0, buffer, capacity, &out.written,
                               error);
}

static int32_t outcome(void *buffer, size_t capacity) {
  return kvroute_log_outcome(ticket, KVROUTE_FINISH_FAILED, 7, 1, buffer, capacity, &out.written,
                             error);
}

static char recorded[1 << 13];

static int32_t replay(void *buffer, size_t capacity) {
  return kvroute_log_replay(recorded, strlen(recorded), CONFIG, strlen(CONFIG), buffer, capacity,
                            &out.written, error);
}

static int32_t log_schema(void *buffer, size_t capacity) {
  return kvroute_log_schema(buffer, capacity, &out.written, error);
}

static int32_t text(void *buffer, size_t capacity) {
  return kvroute_router_explain(router, workspace, KVROUTE_EXPLAIN_TEXT, buffer, capacity,
                                &out.written, error);
}

static int32_t environment(void *buffer, size_t capacity) {
  kvroute_str name = str("ENABLE_PREFIX_AWARE_SCORER"), value = str("true");
  return kvroute_config_from_env(&name, &value, 1, buffer, capacity, &out.written, NULL, 0, NULL,
                                 error);
}

static int32_t environment_notes(void *buffer, size_t capacity) {
  kvroute_str name = str("ENABLE_PREFIX_AWARE_SCORER"), value = str("true");
  char document[4096];
  size_t written = 0;
  /* No place at all would say that notes are not wanted. */
  return kvroute_config_from_env(&name, &value, 1, document, sizeof document, &written,
                                 buffer == NULL ? out.text : buffer, capacity, &out.written, error);
}

static int32_t endpoint_picker(void *buffer, size_t capacity) {
  return kvroute_config_from_endpoint_picker(ENDPOINT_PICKER, strlen(ENDPOINT_PICKER), buffer,
                                             capacity, &out.written, NULL, 0, NULL, error);
}

static int32_t endpoint_picker_notes(void *buffer, size_t capacity) {
  char document[4096];
  size_t written = 0;
  return kvroute_config_from_endpoint_picker(ENDPOINT_PICKER, strlen(ENDPOINT_PICKER), document,
                                             sizeof document, &written,
                                             buffer == NULL ? out.text : buffer, capacity,
                                             &out.written, error);
}

static uint64_t known_hashes[3];

static int32_t lookup(void *buffer, size_t capacity) {
  return kvroute_router_lookup(router, domain, known_hashes, 3, workspace, buffer, capacity,
                               &out.written, error);
}

static void buffers_that_are_too_small(void) {
  const kvroute_str only = str("b");
  kvroute_request request = good_request();
  size_t written = 0;
  request.has_subset = 1;
  request.subset = &only;
  request.subset_len = 1;
  OK(kvroute_router_dispatch(router, &request, 1, workspace, &out.decision, error));
  settle();
  OK(kvroute_domain_hash(domain, tokens, TOKENS, NULL, known_hashes, 3, &written, error));
  short_buffers(3, 3, hashes);
  short_buffers(3, 3, domain_hashes);
  short_buffers(2, 2, pods);
  short_texts(domain_name);
  short_texts(pod_name);
  short_texts(pod_name_of_decision);
  short_texts(status);
  short_texts(schema);
  short_texts(session_token);
  short_texts(json);
  short_texts(text);
  short_texts(record);
  short_texts(outcome);
  short_texts(log_schema);
  OK(record(recorded, sizeof recorded));
  settle();
  short_texts(replay);
  short_texts(environment);
  short_texts(environment_notes);
  short_texts(endpoint_picker);
  short_texts(endpoint_picker_notes);
  /* One pod stored the prompt, and both were sent it. */
  short_buffers(2, 2, lookup);
}

static void the_next_best_pods_need_room(void) {
  static const char policy[] = "{\"policy\":{\"decode\":{\"fallbacks\":3}}}";
  kvroute_pod_options options = good_pod();
  kvroute_request request = good_request();
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  uint64_t id = KVROUTE_NO_POD;
  OK(kvroute_router_decide(router, &request, 1, workspace, &decision, error));
  CHECK_NUMBER(0, decision.fallbacks_len);
  YES(kvroute_workspace_fallbacks(workspace, NULL, 0, &out.written, error));
  OK(kvroute_router_add_pod(router, &options, &id, error));
  OK(kvroute_router_set_policy(router, policy, strlen(policy), error));
  OK(kvroute_router_decide(router, &request, 1, workspace, &decision, error));
  /* There are not more. */
  CHECK_NUMBER(2, decision.fallbacks_len);
  settle();
  NO(KVROUTE_NULL_POINTER, fallbacks(NULL, 8));
  short_buffers(2, 2, fallbacks);
}

int main(void) {
  set_up();
  buffers_that_are_too_small();
  the_next_best_pods_need_room();
  return tear_down();
}
