/*
 * Steps of the shared table that take the rest of the line as one document.
 */
#ifndef TABLE_DOCUMENT_H
#define TABLE_DOCUMENT_H

#include "table_case.h"

static int32_t make_router(const char *document) {
  int32_t status;
  kvroute_router_free(router);
  router = NULL;
  status = kvroute_router_from_config(document, strlen(document), &router, error);
  if (status == KVROUTE_OK) {
    learn();
  }
  return status;
}

static int32_t endpoint_picker(const char *text) {
  static char document[1 << 14], notes[1 << 14];
  size_t written = 0, notes_written = 0;
  int32_t status = kvroute_config_from_endpoint_picker(
      text, strlen(text), document, sizeof document, &written, notes, sizeof notes, &notes_written,
      error);
  if (status != KVROUTE_OK) {
    return status;
  }
  say("%s", notes);
  return kvroute_router_set_policy(router, document, written, error);
}

static int32_t replay(const char *document) {
  static char text[1 << 14];
  size_t written = 0;
  int32_t status = kvroute_log_replay(logged, strlen(logged), document, strlen(document), text,
                                      sizeof text, &written, error);
  say(strstr(text, "\"as_recorded\":true") == NULL ? "false" : "true");
  return status;
}

static int32_t says(const char *text) {
  static char explanation[1 << 16];
  size_t written = 0;
  int32_t status = kvroute_router_explain(router, workspace, KVROUTE_EXPLAIN_TEXT, explanation,
                                          sizeof explanation, &written, error);
  if (status == KVROUTE_OK && strstr(explanation, text) == NULL) {
    fprintf(stderr, "\"%s\" is not in:\n%s\n", text, explanation);
    exit(1);
  }
  return status;
}

#endif
