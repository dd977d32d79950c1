/*
 * Many threads on one router: batches, decisions, requests that begin and end, pods that come and
 * go, all at once, each thread with a workspace and an error object of its own. Then two threads on
 * one workspace. Under ThreadSanitizer this is the test that the header's threading rule is true.
 *
 *   threads [seconds]
 */
#define _POSIX_C_SOURCE 200112L

#include <pthread.h>
#include <time.h>

#include "check.h"

#define PODS 4
#define CLIENTS 3
#define PROMPT 64
#define BLOCK 4

static const char CONFIG[] =
    "{\"domains\":{\"m\":{\"block_size\":4}},\"pods\":["
    "{\"name\":\"0\",\"domain\":\"m\"},{\"name\":\"1\",\"domain\":\"m\"},"
    "{\"name\":\"2\",\"domain\":\"m\"},{\"name\":\"3\",\"domain\":\"m\"}]}";

static kvroute_router *router;
static uint64_t pods[PODS];
static double deadline;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static uint64_t next(uint64_t *random) {
  *random ^= *random << 13;
  *random ^= *random >> 7;
  *random ^= *random << 17;
  return *random;
}

/* One of eight families of prompts: the same beginning, and an end of its own. */
static void make_prompt(uint64_t *random, uint32_t *tokens) {
  uint32_t family = (uint32_t)(next(random) % 8), at;
  uint32_t common = (uint32_t)(next(random) % PROMPT);
  for (at = 0; at < PROMPT; ++at) {
    tokens[at] = at < common ? family * 1000 + at : (uint32_t)next(random) % 64;
  }
}

/* A pod's engine: stores and removes blocks, and sometimes loses its cache. One thread a pod, as
   its events have an order. */
static void *engine(void *argument) {
  uint64_t pod = *(uint64_t *)argument, random = pod * 2654435761U + 88172645463325252U, name = 0;
  kvroute_error *error = kvroute_error_new();
  while (now() < deadline) {
    uint32_t tokens[PROMPT];
    uint64_t blocks[PROMPT / BLOCK];
    size_t at;
    kvroute_kv_event event = KVROUTE_INIT(kvroute_kv_event);
    kvroute_apply_report report = KVROUTE_INIT(kvroute_apply_report);
    make_prompt(&random, tokens);
    event.block_hashes = blocks;
    event.block_hashes_len = PROMPT / BLOCK;
    event.kind = next(&random) % 8 == 0 ? KVROUTE_EVENT_REMOVED : KVROUTE_EVENT_STORED;
    if (event.kind == KVROUTE_EVENT_STORED) {
      name += PROMPT / BLOCK;
      event.token_ids = tokens;
      event.token_ids_len = PROMPT;
      event.block_size = BLOCK;
    }
    for (at = 0; at < PROMPT / BLOCK; ++at) {
      blocks[at] = name + at;
    }
    if (next(&random) % 500 == 0) {
      event.kind = KVROUTE_EVENT_CLEARED;
    }
    REQUIRE_OK(kvroute_router_apply_events(router, pod, &event, 1, &report, error));
    REQUIRE_OK(kvroute_router_report_load(router, pod, (uint32_t)(next(&random) % 20), 0, 0.5F,
                                          error));
  }
  kvroute_error_free(error);
  return NULL;
}

/* A gateway's worker: requests from their beginning to their end, some of them in a session. */
static void *client(void *argument) {
  uint64_t random = *(uint64_t *)argument, done = 0;
  kvroute_error *error = kvroute_error_new();
  kvroute_workspace *workspace = kvroute_workspace_new();
  while (now() < deadline) {
    uint32_t tokens[PROMPT];
    char session[2] = "a";
    kvroute_request request = KVROUTE_INIT(kvroute_request);
    kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
    uint64_t next_best[PODS];
    size_t next_best_len = 0;
    bool known = false;
    make_prompt(&random, tokens);
    request.token_ids = tokens;
    request.token_ids_len = PROMPT;
    if (next(&random) % 2 == 0) {
      session[0] = (char)('a' + next(&random) % 20);
      request.session_id = str(session);
    }
    REQUIRE_OK(kvroute_router_decide(router, &request, 1, workspace, &decision, error));
    REQUIRE(decision.candidates >= PODS && decision.matched_tokens < PROMPT);
    REQUIRE_OK(kvroute_router_dispatch(router, &request, 1, workspace, &decision, error));
    REQUIRE(decision.ticket != 0);
    REQUIRE_OK(kvroute_workspace_fallbacks(workspace, next_best, PODS, &next_best_len, error));
    REQUIRE(next_best_len == decision.fallbacks_len);
    if (next(&random) % 4 != 0) {
      REQUIRE_OK(kvroute_router_first_token(router, decision.ticket, &known, error));
      REQUIRE(known);
    }
    REQUIRE_OK(kvroute_router_finish(router, decision.ticket, (int32_t)(next(&random) % 3),
                                     (int64_t)decision.matched_tokens, &known, error));
    REQUIRE(known);
    REQUIRE_OK(kvroute_router_finish(router, decision.ticket, 0, KVROUTE_CACHED_UNKNOWN, &known,
                                     error));
    REQUIRE(!known);
    ++done;
  }
  kvroute_workspace_free(workspace);
  kvroute_error_free(error);
  *(uint64_t *)argument = done;
  return NULL;
}

/* Takes a snapshot while everything goes on, and gives it to a router that knows nothing yet. */
static void carry_over(kvroute_error *error) {
  static const char document[] = "{\"domains\":{\"m\":{\"block_size\":4}}}";
  static uint8_t chunk[KVROUTE_SNAPSHOT_CHUNK];
  kvroute_router *successor = NULL;
  kvroute_snapshot *snapshot = NULL;
  kvroute_restore *restore = kvroute_restore_new();
  kvroute_restored restored = KVROUTE_INIT(kvroute_restored);
  size_t written = 0;
  REQUIRE_OK(kvroute_router_from_config(document, strlen(document), &successor, error));
  REQUIRE_OK(kvroute_router_snapshot(router, 1, &snapshot, error));
  do {
    REQUIRE_OK(kvroute_snapshot_next(snapshot, router, chunk, sizeof chunk, &written, error));
    REQUIRE_OK(kvroute_restore_push(restore, chunk, written, error));
  } while (written > 0);
  REQUIRE_OK(kvroute_restore_finish(restore, successor, 1, &restored, error));
  REQUIRE(restored.pods == PODS + 1 && restored.pods_added == PODS + 1);
  REQUIRE(restored.pods_refused == 0 && restored.blocks_refused == 0);
  kvroute_restore_free(restore);
  kvroute_snapshot_free(snapshot);
  kvroute_router_free(successor);
}

/* Somebody who looks after the fleet: pods and policies come and go, requests expire, and it is all looked at.
   */
static void *keeper(void *argument) {
  static const char *const policies[] = {
      "{\"policy\":{\"preset\":\"cost\",\"decode\":{\"fallbacks\":2}}}",
      "{\"policy\":{\"preset\":\"affinity\"}}", "{}"};
  const kvroute_str adapter = str("sql");
  size_t round = 0;
  kvroute_error *error = kvroute_error_new();
  kvroute_domain *domain = NULL;
  static char status[1 << 16];
  (void)argument;
  REQUIRE_OK(kvroute_router_domain(router, "m", 1, &domain, error));
  while (now() < deadline) {
    kvroute_pod_options options = KVROUTE_INIT(kvroute_pod_options);
    kvroute_router_counters counters = KVROUTE_INIT(kvroute_router_counters);
    kvroute_pod_counters of_pod = KVROUTE_INIT(kvroute_pod_counters);
    uint64_t id = KVROUTE_NO_POD, ids[PODS + 1];
    size_t written = 0, expired = 0;
    options.name = str("guest");
    options.domain = domain;
    REQUIRE_OK(kvroute_router_add_pod(router, &options, &id, error));
    ++round;
    REQUIRE_OK(kvroute_router_set_policy(router, policies[round % 3], strlen(policies[round % 3]),
                                         error));
    REQUIRE_OK(kvroute_router_report_adapters(router, pods[round % PODS], 2, &adapter, round % 2,
                                              &adapter, 1, error));
    REQUIRE_OK(kvroute_router_set_accepting(router, id, 0, error));
    REQUIRE_OK(kvroute_router_set_accepting(router, id, 1, error));
    REQUIRE_OK(kvroute_router_pods(router, ids, PODS + 1, &written, error));
    REQUIRE(written == PODS + 1);
    REQUIRE_OK(kvroute_router_expire(router, 2, &expired, error));
    REQUIRE(expired == 0);
    REQUIRE_OK(kvroute_router_read_counters(router, &counters, error));
    REQUIRE(counters.in_flight <= CLIENTS);
    REQUIRE_OK(kvroute_router_read_pod_counters(router, pods[0], &of_pod, error));
    REQUIRE_OK(kvroute_router_status(router, status, sizeof status, &written, error));
    if (round % 8 == 1) {
      carry_over(error);
    }
    REQUIRE_OK(kvroute_router_remove_pod(router, id, error));
  }
  kvroute_domain_free(domain);
  kvroute_error_free(error);
  return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument) {
  REQUIRE(pthread_create(thread, NULL, run, argument) == 0);
}

static void everybody_at_once(double seconds) {
  pthread_t threads[PODS + CLIENTS + 1];
  uint64_t clients[CLIENTS] = {11, 12, 13}, done = 0;
  kvroute_error *error = kvroute_error_new();
  kvroute_router_counters counters = KVROUTE_INIT(kvroute_router_counters);
  kvroute_kv_event cleared = KVROUTE_INIT(kvroute_kv_event);
  size_t at, count = 0;
  cleared.kind = KVROUTE_EVENT_CLEARED;
  OK(kvroute_router_from_config(CONFIG, strlen(CONFIG), &router, error));
  OK(kvroute_router_pods(router, pods, PODS, &count, error));
  deadline = now() + seconds;
  for (at = 0; at < PODS; ++at) {
    start(&threads[at], engine, &pods[at]);
  }
  for (at = 0; at < CLIENTS; ++at) {
    start(&threads[PODS + at], client, &clients[at]);
  }
  start(&threads[PODS + CLIENTS], keeper, NULL);
  for (at = 0; at < PODS + CLIENTS + 1; ++at) {
    CHECK(pthread_join(threads[at], NULL) == 0);
  }
  for (at = 0; at < CLIENTS; ++at) {
    done += clients[at];
  }
  CHECK(done > 0);
  /* All requests ended, so nothing is booked; and when every cache is empty, nothing is left. */
  for (at = 0; at < PODS; ++at) {
    kvroute_pod_counters of = KVROUTE_INIT(kvroute_pod_counters);
    OK(kvroute_router_apply_events(router, pods[at], &cleared, 1, NULL, error));
    OK(kvroute_router_forget_predictions(router, pods[at], error));
    OK(kvroute_router_read_pod_counters(router, pods[at], &of, error));
    CHECK(of.events > 0);
    CHECK_NUMBER(0, of.booked_requests);
    CHECK_NUMBER(0, of.booked_prefill_tokens);
    CHECK_NUMBER(0, of.predicted_blocks);
  }
  OK(kvroute_router_read_counters(router, &counters, error));
  CHECK_NUMBER(0, counters.in_flight);
  CHECK_NUMBER(0, counters.expired);
  CHECK_NUMBER(0, counters.blocks);
  kvroute_router_free(router);
  kvroute_error_free(error);
  fprintf(stderr, "threads: %" PRIu64 " requests\n", done);
}

static kvroute_workspace *shared;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long busy;

/* Uses a workspace that another thread uses too: each call is made, or answered with KVROUTE_BUSY.
   */
static void *intruder(void *argument) {
  enum { LONG = 20000 };
  uint32_t *tokens = calloc(LONG, sizeof *tokens);
  unsigned long seen = 0;
  (void)argument;
  REQUIRE(tokens != NULL);
  while (seen == 0 && now() < deadline) {
    kvroute_request request = KVROUTE_INIT(kvroute_request);
    kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
    int32_t status;
    request.token_ids = tokens;
    request.token_ids_len = LONG;
    status = kvroute_router_decide(router, &request, 1, shared, &decision, NULL);
    REQUIRE(status == KVROUTE_OK || status == KVROUTE_BUSY);
    REQUIRE((status == KVROUTE_OK) == (decision.pod != KVROUTE_NO_POD));
    seen += status == KVROUTE_BUSY;
    pthread_mutex_lock(&lock);
    busy += seen;
    seen = busy;
    pthread_mutex_unlock(&lock);
  }
  free(tokens);
  return NULL;
}

static void two_threads_on_one_workspace_are_told_apart(void) {
  pthread_t threads[2];
  kvroute_error *error = kvroute_error_new();
  OK(kvroute_router_from_config(CONFIG, strlen(CONFIG), &router, error));
  shared = kvroute_workspace_new();
  deadline = now() + 30;
  start(&threads[0], intruder, NULL);
  start(&threads[1], intruder, NULL);
  CHECK(pthread_join(threads[0], NULL) == 0);
  CHECK(pthread_join(threads[1], NULL) == 0);
  CHECK(busy > 0);
  kvroute_workspace_free(shared);
  kvroute_router_free(router);
  kvroute_error_free(error);
}

int main(int count, char **arguments) {
  everybody_at_once(count > 1 ? strtod(arguments[1], NULL) : 2);
  two_threads_on_one_workspace_are_told_apart();
  return finished();
}
