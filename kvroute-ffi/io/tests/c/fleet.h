/*
 * Fleets of the tests: documents with one pod, and waiting for it.
 */
#ifndef FLEET_H
#define FLEET_H

#include <time.h>

#include "../../../tests/c/check.h"
#include "kvroute_io.h"

/* A document with pods at this URL that is quick enough for tests; "" for none. */
static inline const char *document_of(const char *url) {
  static char document[1024];
  snprintf(document, sizeof document,
           "{\"router\": {\"policy\": {\"preset\": \"llm-d-demo\"}}, \"fleet\": {\"pods\": [%s%s%s], "
           "\"learn\": {\"interval_ms\": 200, \"timeout_ms\": 500, \"retry_ms\": 50, "
           "\"max_retry_ms\": 200}, \"scrape\": {\"interval_ms\": 50, \"timeout_ms\": 500}, "
           "\"drain_ms\": 100}}",
           *url == 0 ? "" : "\"", url, *url == 0 ? "" : "\"");
  return document;
}

static inline void nap(void) {
  const struct timespec moment = {0, 10 * 1000 * 1000};
  nanosleep(&moment, NULL);
}

/* Waits until a router has so many pods; answers the last of them. */
static inline uint64_t wait_for_pods(const kvroute_router *router, size_t count,
                                     kvroute_error *error) {
  uint64_t pods[4] = {KVROUTE_NO_POD};
  size_t written = 5;
  int naps;
  for (naps = 0; naps < 3000 && written != count; ++naps) {
    if (naps > 0) nap();
    OK(kvroute_router_pods(router, pods, 4, &written, error));
  }
  CHECK_NUMBER(count, written);
  return count == 0 ? KVROUTE_NO_POD : pods[count - 1];
}

#endif
