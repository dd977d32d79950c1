/*
 * What the tests of bad input share: a router with some life in it, places for answers, and a
 * canary. After each refused call everything must be as before: the router, by its own account, and
 * every place.
 */
#ifndef BAD_INPUT_H
#define BAD_INPUT_H

#include "check.h"

static const char CONFIG[] =
    "{\"domains\":{\"m\":{\"block_size\":4}},"
    "\"policy\":{\"decode\":{\"scorers\":{\"kv-cache\":{\"weight\":2},\"load\":{\"weight\":1},"
    "\"external\":{\"cheap\":{\"weight\":3}}}}},"
    "\"sessions\":{\"key\":\"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"},"
    "\"pods\":[{\"name\":\"a\",\"domain\":\"m\"},{\"name\":\"b\",\"domain\":\"m\"}]}";

static const char ENDPOINT_PICKER[] =
    "{\"apiVersion\":\"llm-d.ai/v1alpha1\",\"kind\":\"EndpointPickerConfig\","
    "\"plugins\":[{\"type\":\"queue-scorer\"},{\"type\":\"openai-parser\"}],"
    "\"schedulingProfiles\":[{\"name\":\"default\",\"plugins\":[{\"pluginRef\":\"queue-scorer\"}]}]}";

#define TOKENS 12

static kvroute_error *error;
static kvroute_router *router;
static kvroute_workspace *workspace;
static kvroute_hasher *hasher;
static kvroute_domain *domain;
static uint64_t pod, ticket;
static uint32_t tokens[TOKENS];
/* Names of the blocks that the tokens make. */
static const uint64_t names[] = {1, 2, 3};

/* Every kind of place that answers are written to. */
typedef struct places {
  kvroute_apply_report report;
  kvroute_decision decision;
  kvroute_router_counters counters;
  kvroute_pod_counters pod_counters;
  kvroute_pod_match matches[8];
  uint64_t numbers[8];
  char text[1 << 16];
  size_t written;
  uint64_t id;
  uint32_t rank;
  bool known;
  kvroute_hasher *hasher;
  kvroute_domain *domain;
  kvroute_router *router;
} places;

static places out, untouched;
static char status_before[1 << 13], status_now[1 << 13];

static void tell_status(char *buffer) {
  size_t written = 0;
  REQUIRE_OK(kvroute_router_status(router, buffer, sizeof status_now, &written, error));
}

/* Makes the places fresh. */
static void fresh(void) { memcpy(&out, &untouched, sizeof out); }

/* Notes how things are now: what is refused from here on must leave them so. */
static void settle(void) {
  fresh();
  tell_status(status_before);
}

static void unchanged(const char *file, int line) {
  tell_status(status_now);
  if (strcmp(status_before, status_now) != 0) {
    fprintf(stderr, "%s:%d: a refused call changed the router:\n%s\n%s\n", file, line,
            status_before, status_now);
    exit(1);
  }
  if (memcmp(&out, &untouched, sizeof out) != 0) {
    failed(file, line, "a refused call wrote an answer");
  }
  ++checks;
}

/* The call is refused with this status and a message, and changes nothing. */
#define NO(status, call) \
  (REFUSED(status, call), CHECK(*kvroute_error_message(error, NULL) != 0), \
   unchanged(__FILE__, __LINE__))

/* The buffer is too small: the capacity that would do is told, and nothing else happens. */
#define SHORT(needed, call)                                                                 \
  (REFUSED(KVROUTE_BUFFER_TOO_SMALL, call), CHECK_NUMBER(needed, out.written),               \
   out.written = untouched.written, unchanged(__FILE__, __LINE__))

/* The call is fine. */
#define YES(call) (OK(call), settle())

static inline kvroute_request good_request(void) {
  kvroute_request request = KVROUTE_INIT(kvroute_request);
  request.token_ids = tokens;
  request.token_ids_len = TOKENS;
  return request;
}

static inline kvroute_kv_event good_event(void) {
  kvroute_kv_event event = KVROUTE_INIT(kvroute_kv_event);
  event.kind = KVROUTE_EVENT_STORED;
  event.block_hashes = names;
  event.block_hashes_len = 3;
  event.token_ids = tokens;
  event.token_ids_len = TOKENS;
  event.block_size = 4;
  return event;
}

static inline kvroute_pod_options good_pod(void) {
  kvroute_pod_options options = KVROUTE_INIT(kvroute_pod_options);
  options.name = str("c");
  options.domain = domain;
  return options;
}

static inline kvroute_hasher_options good_hasher(void) {
  kvroute_hasher_options options = KVROUTE_INIT(kvroute_hasher_options);
  options.block_size = 4;
  return options;
}

static void set_up(void) {
  kvroute_hasher_options options = good_hasher();
  kvroute_request request = good_request();
  kvroute_kv_event event = good_event();
  uint32_t at;
  for (at = 0; at < TOKENS; ++at) {
    tokens[at] = at;
  }
  memset(&untouched, 0xa5, sizeof untouched);
  untouched.report.struct_size = sizeof untouched.report;
  untouched.decision.struct_size = sizeof untouched.decision;
  untouched.counters.struct_size = sizeof untouched.counters;
  untouched.pod_counters.struct_size = sizeof untouched.pod_counters;
  fresh();
  error = kvroute_error_new();
  workspace = kvroute_workspace_new();
  OK(kvroute_hasher_new(&options, &hasher, error));
  OK(kvroute_router_from_config(CONFIG, strlen(CONFIG), &router, error));
  OK(kvroute_router_domain(router, "m", 1, &domain, error));
  OK(kvroute_router_find_pod(router, "a", 1, 0, &pod, error));
  OK(kvroute_router_apply_events(router, pod, &event, 1, NULL, error));
  OK(kvroute_router_dispatch(router, &request, 1, workspace, &out.decision, error));
  ticket = out.decision.ticket;
  settle();
}

static int tear_down(void) {
  kvroute_domain_free(domain);
  kvroute_hasher_free(hasher);
  kvroute_workspace_free(workspace);
  kvroute_router_free(router);
  kvroute_error_free(error);
  return finished();
}

#endif
