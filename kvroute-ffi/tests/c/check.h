/*
 * What every test program here uses: checks that name their place, and the last line.
 *
 * `OK` and `REFUSED` expect a variable `kvroute_error *error` where they stand, and print its
 * message.
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvroute.h"

/* Counts; a program with threads uses REQUIRE in them. */
static unsigned long checks;

static inline void failed(const char *file, int line, const char *what) {
  fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  exit(1);
}

static inline void require_status(const char *file, int line, const char *call, int32_t expected,
                                  int32_t got, const kvroute_error *error) {
  if (expected != got) {
    fprintf(stderr, "%s:%d: %s\n  expected %s, got %s: %s\n", file, line, call,
            kvroute_status_name(expected), kvroute_status_name(got),
            kvroute_error_message(error, NULL));
    exit(1);
  }
}

static inline void require_number(const char *file, int line, const char *what, uint64_t expected,
                                  uint64_t got) {
  if (expected != got) {
    fprintf(stderr, "%s:%d: %s: expected %" PRIu64 ", got %" PRIu64 "\n", file, line, what,
            expected, got);
    exit(1);
  }
}

static inline void require_text(const char *file, int line, const char *expected, const char *got) {
  if (strcmp(expected, got) != 0) {
    fprintf(stderr, "%s:%d: expected \"%s\"\n  got \"%s\"\n", file, line, expected, got);
    exit(1);
  }
}

#define REQUIRE(condition) ((condition) ? (void)0 : failed(__FILE__, __LINE__, #condition))
#define CHECK(condition) (++checks, REQUIRE(condition))
#define CHECK_NUMBER(expected, got) \
  (++checks, require_number(__FILE__, __LINE__, #got, (uint64_t)(expected), (uint64_t)(got)))
#define CHECK_TEXT(expected, got) (++checks, require_text(__FILE__, __LINE__, expected, got))

#define REFUSED(status, call) \
  (++checks, require_status(__FILE__, __LINE__, #call, (status), (call), error))
#define OK(call) REFUSED(KVROUTE_OK, call)

/* As OK, without counting: for threads. */
#define REQUIRE_OK(call) require_status(__FILE__, __LINE__, #call, KVROUTE_OK, (call), error)

static inline kvroute_str str(const char *text) {
  kvroute_str view = {text, strlen(text)};
  return view;
}

static inline int finished(void) {
  printf("ok %lu checks\n", checks);
  return 0;
}

#endif
