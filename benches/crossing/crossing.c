/* What one decision costs when C asks for it; see benches/examples/crossing.rs. */
#define _POSIX_C_SOURCE 199309L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvroute.h"

#define PODS 64
#define BLOCK_SIZE 16
#define MOST (32 * 1024)
#define ROUNDS 15

static uint32_t token_ids[MOST];
static uint64_t hashes[MOST / BLOCK_SIZE];

static void check(int32_t status, kvroute_error *error) {
  if (status != KVROUTE_OK) {
    fprintf(stderr, "%s: %s\n", kvroute_status_name(status), kvroute_error_message(error, NULL));
    exit(1);
  }
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(void) {
  kvroute_error *error = kvroute_error_new();
  char document[8192] = "domains: {m: {block_size: 16}}\npods:\n";
  for (int pod = 0; pod < PODS; pod++) {
    snprintf(document + strlen(document), 64, "  - {name: pod-%d, domain: m}\n", pod);
  }
  kvroute_router *router = NULL;
  check(kvroute_router_from_config(document, strlen(document), &router, error), error);
  uint64_t first = KVROUTE_NO_POD;
  check(kvroute_router_find_pod(router, "pod-0", 5, 0, &first, error), error);
  for (uint32_t at = 0; at < MOST; at++) token_ids[at] = at;
  for (uint64_t at = 0; at < MOST / BLOCK_SIZE; at++) hashes[at] = at + 1;
  kvroute_kv_event stored = KVROUTE_INIT(kvroute_kv_event);
  stored.block_hashes = hashes;
  stored.block_hashes_len = MOST / BLOCK_SIZE;
  stored.token_ids = token_ids;
  stored.token_ids_len = MOST;
  stored.block_size = BLOCK_SIZE;
  check(kvroute_router_apply_events(router, first, &stored, 1, NULL, error), error);

  kvroute_workspace *workspace = kvroute_workspace_new();
  size_t lengths[] = {16, 1024, 8 * 1024, MOST};
  for (size_t at = 0; at < sizeof lengths / sizeof *lengths; at++) {
    size_t tokens = lengths[at];
    int calls = (int)(2000000 / (tokens + 100));
    if (calls < 20) calls = 20;
    double rounds[ROUNDS];
    for (int round = -1; round < ROUNDS; round++) {
      double start = now();
      for (int call = 0; call < calls; call++) {
        kvroute_request request = KVROUTE_INIT(kvroute_request);
        kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
        request.token_ids = token_ids;
        request.token_ids_len = tokens;
        check(kvroute_router_decide(router, &request, 0, workspace, &decision, error), error);
      }
      if (round >= 0) rounds[round] = (now() - start) / calls;
    }
    qsort(rounds, ROUNDS, sizeof *rounds, ascending);
    printf("crossing c %zu %.0f\n", tokens, rounds[ROUNDS / 2]);
  }
  kvroute_workspace_free(workspace);
  kvroute_router_free(router);
  kvroute_error_free(error);
  return 0;
}
