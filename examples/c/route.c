/*
 * Three pods, a shared system prompt, and a request that goes where the prompt is cached.
 *
 *   cargo xtask install --prefix /tmp/kvroute
 *   export PKG_CONFIG_PATH=/tmp/kvroute/lib/pkgconfig LD_LIBRARY_PATH=/tmp/kvroute/lib
 *   cc route.c $(pkg-config --cflags --libs kvroute) -o route && ./route
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kvroute.h>

static const char CONFIG[] =
    "domains: {llama: {block_size: 16}}\n"
    "pods:\n"
    "  - {name: pod-a, domain: llama}\n"
    "  - {name: pod-b, domain: llama}\n"
    "  - {name: pod-c, domain: llama}\n";

static kvroute_error *error;

static void check(int32_t status) {
  if (status != KVROUTE_OK) {
    fprintf(stderr, "%s: %s\n", kvroute_status_name(status), kvroute_error_message(error, NULL));
    exit(1);
  }
}

int main(void) {
  kvroute_router *router = NULL;
  kvroute_workspace *workspace = kvroute_workspace_new();
  kvroute_request request = KVROUTE_INIT(kvroute_request);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  kvroute_kv_event stored = KVROUTE_INIT(kvroute_kv_event);
  uint32_t prompt[80]; /* 64 tokens of system prompt, 16 of the user's */
  const uint64_t blocks[] = {11, 12, 13, 14};
  uint64_t pod_b = KVROUTE_NO_POD, now_ns = 1;
  char text[4096];
  size_t at, written;

  error = kvroute_error_new();
  check(kvroute_router_from_config(CONFIG, strlen(CONFIG), &router, error));
  check(kvroute_router_find_pod(router, "pod-b", 5, 0, &pod_b, error));

  /* pod-b's engine says that it computed the system prompt. Engines of the vLLM family say so in
     messages, whose bytes go to kvroute_router_apply as they are. */
  for (at = 0; at < 80; ++at) prompt[at] = (uint32_t)(1000 + at);
  stored.kind = KVROUTE_EVENT_STORED;
  stored.block_hashes = blocks;
  stored.block_hashes_len = 4;
  stored.token_ids = prompt;
  stored.token_ids_len = 64;
  stored.block_size = 16;
  check(kvroute_router_apply_events(router, pod_b, &stored, 1, NULL, error));

  /* A request with that system prompt. */
  request.token_ids = prompt;
  request.token_ids_len = 80;
  check(kvroute_router_dispatch(router, &request, now_ns, workspace, &decision, error));
  check(kvroute_router_pod_name(router, decision.pod, text, sizeof text, &written, NULL, error));
  printf("%s has %" PRIu64 " of 80 tokens in its cache\n", text, decision.matched_tokens);
  check(kvroute_router_explain(router, workspace, KVROUTE_EXPLAIN_TEXT, text, sizeof text,
                               &written, error));
  printf("%s\n", text);

  /* It is sent there, answers, and ends. The engine says how much it really took from its cache. */
  check(kvroute_router_first_token(router, decision.ticket, NULL, error));
  check(kvroute_router_finish(router, decision.ticket, KVROUTE_FINISH_COMPLETED, 64, NULL, error));

  kvroute_workspace_free(workspace);
  kvroute_router_free(router);
  kvroute_error_free(error);
  return 0;
}
