/*
 * Real pods behind a router: chats go to the pod that has their history in its cache.
 *
 *   cargo xtask install --io --prefix /tmp/kvroute
 *   export PKG_CONFIG_PATH=/tmp/kvroute/lib/pkgconfig LD_LIBRARY_PATH=/tmp/kvroute/lib
 *   cc fleet.c $(pkg-config --cflags --libs kvroute_io) -o fleet && ./fleet http://10.0.0.7:8000 /models/llama
 */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kvroute_io.h>

static const char BODY[] =
    "{\"model\": \"tiny\", \"messages\": [{\"role\": \"user\", \"content\": \"What is a KV cache?\"}]}";

static kvroute_error *error;

static void check(int32_t status) {
  if (status != KVROUTE_OK) {
    fprintf(stderr, "%s: %s\n", kvroute_status_name(status), kvroute_error_message(error, NULL));
    exit(1);
  }
}

/* Pods are asked what they are before they get requests; a gateway would answer 503 meanwhile. */
static void wait_for_a_pod(const kvroute_router *router) {
  const struct timespec moment = {0, 20 * 1000 * 1000};
  uint64_t pod;
  size_t pods = 0;
  int tries;
  for (tries = 0; tries < 500 && pods == 0; ++tries) {
    nanosleep(&moment, NULL);
    if (kvroute_router_pods(router, &pod, 1, &pods, error) == KVROUTE_BUFFER_TOO_SMALL) return;
  }
  if (pods == 0) {
    fprintf(stderr, "no pod answers\n");
    exit(1);
  }
}

int main(int count, char **arguments) {
  kvroute_fleet *fleet = NULL;
  kvroute_router *router = NULL;
  kvroute_tokenizer *tokenizer = NULL;
  kvroute_prompts *prompts = kvroute_prompts_new();
  kvroute_workspace *workspace = kvroute_workspace_new();
  kvroute_prompt prompt = KVROUTE_INIT(kvroute_prompt);
  kvroute_request request = KVROUTE_INIT(kvroute_request);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  char document[512], name[256], url[256];
  size_t name_len, url_len;
  uint32_t rank, ranks;
  uint64_t now_ns;

  if (count != 3) {
    fprintf(stderr, "usage: fleet URL FOLDER\n");
    return 2;
  }
  error = kvroute_error_new();
  snprintf(document, sizeof document, "fleet: {pods: [\"%s\"]}", arguments[1]);
  check(kvroute_fleet_start(document, strlen(document), NULL, &fleet, error));
  check(kvroute_fleet_router(fleet, &router, error));
  check(kvroute_tokenizer_new(arguments[2], strlen(arguments[2]), NULL, &tokenizer, error));
  wait_for_a_pod(router);

  /* A request comes in. Its token ids are the engine's; where they cannot be known, or not in time, there is its
     text, and the router goes by that. A list of prompts would be routed by the first. */
  check(kvroute_tokenizer_prompts(tokenizer, KVROUTE_ENDPOINT_CHAT_COMPLETIONS, (const uint8_t *)BODY,
                                  strlen(BODY), prompts, error));
  check(kvroute_prompts_get(prompts, 0, &prompt, error));
  printf("%zu tokens%.*s\n", prompt.token_ids_len, (int)prompt.reason.len,
         prompt.reason.len == 0 ? "" : prompt.reason.data);
  request.token_ids = prompt.token_ids;
  request.token_ids_len = prompt.token_ids_len;
  request.text = prompt.text;
  request.model.data = "tiny";
  request.model.len = 4;
  check(kvroute_fleet_now(fleet, &now_ns, error));
  check(kvroute_router_dispatch(router, &request, now_ns, workspace, &decision, error));
  check(kvroute_fleet_target(fleet, decision.pod, name, sizeof name, &name_len, url, sizeof url,
                             &url_len, &rank, &ranks, error));
  printf("it goes to %s, rank %" PRIu32 " of %" PRIu32 ", which has %" PRIu64 " of them in its cache\n", url,
         rank, ranks, decision.matched_tokens);

  /* It is forwarded there, and answered. */
  check(kvroute_router_first_token(router, decision.ticket, NULL, error));
  check(kvroute_router_finish(router, decision.ticket, KVROUTE_FINISH_COMPLETED, KVROUTE_CACHED_UNKNOWN, NULL, error));

  kvroute_tokenizer_free(tokenizer);
  kvroute_prompts_free(prompts);
  kvroute_workspace_free(workspace);
  kvroute_fleet_free(fleet);
  kvroute_router_free(router);
  kvroute_error_free(error);
  return 0;
}
