/*
 * A fleet from beginning to end: a pod joins, is routed to, leaves and comes back; the router outlives its fleet.
 *
 *   fleet URL      URL is where a pod answers
 */
#define _POSIX_C_SOURCE 200809L
#include "fleet.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static kvroute_error *error;
static char text[1 << 16];
static size_t written;

static kvroute_fleet *start(const char *document, int32_t hold_events) {
  kvroute_fleet *fleet = NULL;
  kvroute_fleet_options options = KVROUTE_INIT(kvroute_fleet_options);
  options.threads = 1;
  options.hold_events = hold_events;
  OK(kvroute_fleet_start(document, strlen(document), &options, &fleet, error));
  return fleet;
}

static kvroute_router *router_of(const kvroute_fleet *fleet) {
  kvroute_router *router = NULL;
  OK(kvroute_fleet_router(fleet, &router, error));
  return router;
}

static void routes(const kvroute_fleet *fleet, const kvroute_router *router, uint64_t pod,
                   const char *url) {
  kvroute_request request = KVROUTE_INIT(kvroute_request);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  kvroute_workspace *workspace = kvroute_workspace_new();
  uint32_t prompt[100], rank = 9, ranks = 9, known_rank = 9;
  uint64_t now_ns = 0, later_ns = 0;
  bool known = false;
  char name[64], address[64], known_name[64];
  size_t name_len = 0, url_len = 0, at;
  for (at = 0; at < 100; ++at) prompt[at] = (uint32_t)at;
  request.token_ids = prompt;
  request.token_ids_len = 100;
  request.model = str("tiny");
  OK(kvroute_fleet_now(fleet, &now_ns, error));
  CHECK(now_ns / 1000000000 >= (uint64_t)time(NULL) - 60);
  OK(kvroute_router_dispatch(router, &request, now_ns, workspace, &decision, error));
  CHECK_NUMBER(pod, decision.pod);

  OK(kvroute_fleet_target(fleet, pod, name, sizeof name, &name_len, address, sizeof address,
                          &url_len, &rank, &ranks, error));
  CHECK_TEXT(url, address);
  CHECK_NUMBER(strlen(url), url_len);
  CHECK_NUMBER(0, rank);
  CHECK_NUMBER(1, ranks);
  OK(kvroute_router_pod_name(router, pod, known_name, sizeof known_name, &written, &known_rank, error));
  CHECK_TEXT(known_name, name);
  CHECK_NUMBER(written, name_len);
  /* Each of the two buffers says by itself what it needs, and nothing else is written. */
  name_len = url_len = 0;
  REFUSED(KVROUTE_BUFFER_TOO_SMALL,
          kvroute_fleet_target(fleet, pod, name, sizeof name, &name_len, address, 3, &url_len, NULL,
                               NULL, error));
  CHECK_NUMBER(strlen(url) + 1, url_len);
  CHECK_NUMBER(0, name_len);
  url_len = 0;
  REFUSED(KVROUTE_BUFFER_TOO_SMALL,
          kvroute_fleet_target(fleet, pod, name, 3, &name_len, address, sizeof address, &url_len,
                               NULL, NULL, error));
  CHECK_NUMBER(strlen(known_name) + 1, name_len);
  CHECK_NUMBER(0, url_len);

  OK(kvroute_router_first_token(router, decision.ticket, NULL, error));
  OK(kvroute_router_finish(router, decision.ticket, KVROUTE_FINISH_COMPLETED, KVROUTE_CACHED_UNKNOWN, &known, error));
  CHECK(known);
  OK(kvroute_fleet_now(fleet, &later_ns, error));
  CHECK(later_ns >= now_ns);
  kvroute_workspace_free(workspace);
}

static void tells(const kvroute_fleet *fleet) {
  size_t needed = 0;
  OK(kvroute_fleet_models(fleet, text, sizeof text, &written, error));
  CHECK(strstr(text, "{\"name\":\"lora-a\",\"base\":\"tiny\",\"lora\":{\"name\":\"lora-a\",\"path\":"
                     "\"tiny-llama/lora-a\",\"id\":0}") != NULL);
  CHECK(strstr(text, "\"name\":\"tiny\"") != NULL && strstr(text, "\"max_model_len\":2048") != NULL);
  REFUSED(KVROUTE_BUFFER_TOO_SMALL, kvroute_fleet_models(fleet, text, 2, &needed, error));
  CHECK_NUMBER(written + 1, needed);
  OK(kvroute_fleet_status(fleet, text, sizeof text, &written, error));
  CHECK_NUMBER(strlen(text), written);
  CHECK(strstr(text, "\"state\":\"ready\"") != NULL && strstr(text, "\"sources\":[") != NULL);
}

/* A pod that takes connections and never answers does not keep anybody from stopping. */
static void stops_beside_a_pod_that_hangs(void) {
  struct sockaddr_in address;
  socklen_t size = sizeof address;
  char url[64];
  kvroute_fleet *fleet;
  time_t begun = time(NULL);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 8) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
  sprintf(url, "http://127.0.0.1:%d", ntohs(address.sin_port));
  fleet = start(document_of(url), 0);
  nap();
  kvroute_fleet_free(fleet);
  CHECK(time(NULL) - begun < 10);
  close(listener);
}

int main(int count, char **arguments) {
  kvroute_fleet *fleet;
  kvroute_router *router, *other;
  uint64_t pod, again, now_ns = 0;
  char none[64];
  REQUIRE(count == 2);
  error = kvroute_error_new();
  fleet = start(document_of(arguments[1]), 0);
  router = router_of(fleet);
  pod = wait_for_pods(router, 1, error);
  routes(fleet, router, pod, arguments[1]);
  tells(fleet);

  /* A document that is wrong changes nothing, wherever it is wrong. */
  REFUSED(KVROUTE_INVALID_INPUT, kvroute_fleet_reconfigure(fleet, "fleet: {pods: [7]}", 18, error));
  REFUSED(KVROUTE_INVALID_INPUT,
          kvroute_fleet_reconfigure(fleet, "router: {policy: {preset: none}}", 32, error));
  CHECK_NUMBER(pod, wait_for_pods(router, 1, error));
  OK(kvroute_fleet_reconfigure(fleet, document_of(""), strlen(document_of("")), error));
  wait_for_pods(router, 0, error);
  REFUSED(KVROUTE_UNKNOWN_POD, kvroute_fleet_target(fleet, pod, none, 64, &written, none, 64,
                                                    &written, NULL, NULL, error));
  OK(kvroute_fleet_reconfigure(fleet, document_of(arguments[1]), strlen(document_of(arguments[1])),
                               error));
  again = wait_for_pods(router, 1, error);
  CHECK(again != pod);

  /* All handles are of one router, which only its last owner can recover. */
  other = router_of(fleet);
  CHECK_NUMBER(again, wait_for_pods(other, 1, error));
  REFUSED(KVROUTE_BUSY, kvroute_router_recover(other, error));
  OK(kvroute_fleet_now(fleet, &now_ns, error));
  kvroute_fleet_free(fleet);
  OK(kvroute_router_expire(router, now_ns, NULL, error));
  wait_for_pods(router, 0, error);
  kvroute_router_free(router);
  OK(kvroute_router_recover(other, error));
  kvroute_router_free(other);

  /* Started held, its router may take a snapshot before events come; released twice is released. */
  fleet = start(document_of(arguments[1]), 1);
  router = router_of(fleet);
  wait_for_pods(router, 1, error);
  OK(kvroute_fleet_release_events(fleet, error));
  OK(kvroute_fleet_release_events(fleet, error));
  kvroute_router_free(router);
  kvroute_fleet_free(fleet);

  stops_beside_a_pod_that_hangs();
  kvroute_error_free(error);
  return finished();
}
