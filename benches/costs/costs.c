/* What it costs to have a router: how soon it decides, and what pods that hold nothing take; see xtask/src/costs.rs.
   One argument: how many pods. */
#define _POSIX_C_SOURCE 199309L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kvroute.h"

#define TOKENS (8 * 1024)
#define ROUNDS 15
#define CALLS 200

static uint32_t token_ids[TOKENS];

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

/* Bytes of memory that are resident; 0 where the system does not tell. */
static double resident(void) {
  long size, pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file) return 0;
  if (fscanf(file, "%ld %ld", &size, &pages) != 2) pages = 0;
  fclose(file);
  return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* Threads of this process; 0 where the system does not tell. */
static double threads(void) {
  char line[256];
  int count = 0;
  FILE *file = fopen("/proc/self/status", "r");
  if (!file) return 0;
  while (fgets(line, sizeof line, file) && sscanf(line, "Threads: %d", &count) != 1) {
  }
  fclose(file);
  return count;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  int pods = argc == 2 ? atoi(argv[1]) : 0;
  size_t room = 64 * ((size_t)pods + 1), length;
  char *document = malloc(room);
  if (pods < 1 || !document) {
    fprintf(stderr, "usage: costs PODS\n");
    return 2;
  }
  length = (size_t)snprintf(document, room, "domains: {m: {block_size: 16}}\npods:\n");
  for (int pod = 0; pod < pods; pod++) {
    length += (size_t)snprintf(document + length, 64, "  - {name: pod-%d, domain: m}\n", pod);
  }
  for (uint32_t at = 0; at < TOKENS; at++) token_ids[at] = at;

  double before = resident(), start = now();
  kvroute_error *error = kvroute_error_new();
  kvroute_workspace *workspace = kvroute_workspace_new();
  kvroute_router *router = NULL;
  check(kvroute_router_from_config(document, length, &router, error), error);
  kvroute_request request = KVROUTE_INIT(kvroute_request);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  request.token_ids = token_ids;
  request.token_ids_len = TOKENS;
  check(kvroute_router_decide(router, &request, 0, workspace, &decision, error), error);
  double first = now() - start, memory = resident() - before;

  double rounds[ROUNDS];
  for (int round = 0; round < ROUNDS; round++) {
    start = now();
    for (int call = 0; call < CALLS; call++) {
      check(kvroute_router_decide(router, &request, 0, workspace, &decision, error), error);
    }
    rounds[round] = (now() - start) / CALLS;
  }
  qsort(rounds, ROUNDS, sizeof *rounds, ascending);
  printf("%.0f %.0f %.0f %.0f\n", first, memory, rounds[ROUNDS / 2], threads());
  kvroute_workspace_free(workspace);
  kvroute_router_free(router);
  kvroute_error_free(error);
  free(document);
  return 0;
}
