/*
 * What a case of the shared table has made so far, and how its arguments and answers are written.
 */
#ifndef TABLE_CASE_H
#define TABLE_CASE_H

#include <stdarg.h>

#include "lines.h"

#define MAX_NAMES 64
#define NAME_LEN 128
#define MAX_TOKEN_LEN 512

static kvroute_error *error;
static kvroute_router *router;
static kvroute_workspace *workspace;
/* The last decision that was made; `has_last` says whether there is one. */
static kvroute_decision last;
static bool has_last;

/* Names that the table gives to numbers. */
typedef struct names {
  char name[MAX_NAMES][NAME_LEN];
  uint64_t value[MAX_NAMES];
  size_t len;
} names;

static names pods, tickets, tokens;
static char session_tokens[MAX_NAMES][MAX_TOKEN_LEN];

/* Of the decision log, about the last decision for which it was asked. */
static char logged[1 << 14];

/* What a router knew when it was asked. */
static uint8_t snapshot_bytes[1 << 16];
static size_t snapshot_len;

/* What the step answers. */
static char answer[1 << 16];
static size_t answer_len;

static void say(const char *format, ...) {
  va_list values;
  int len;
  va_start(values, format);
  len = vsnprintf(answer + answer_len, sizeof answer - answer_len, format, values);
  va_end(values);
  REQUIRE(len >= 0 && (size_t)len < sizeof answer - answer_len);
  answer_len += (size_t)len;
}

/* A word of an answer, after a space unless it is the first. */
static const char *space(void) { return answer_len == 0 ? "" : " "; }

static uint64_t *place_of(names *of, const char *name) {
  size_t at;
  for (at = 0; at < of->len; ++at) {
    if (strcmp(of->name[at], name) == 0) {
      return &of->value[at];
    }
  }
  return NULL;
}

static void give_name(names *of, const char *name, uint64_t value) {
  uint64_t *place = place_of(of, name);
  if (place == NULL) {
    REQUIRE(of->len < MAX_NAMES && strlen(name) < NAME_LEN);
    strcpy(of->name[of->len], name);
    place = &of->value[of->len++];
  }
  *place = value;
}

static uint64_t named_value(names *of, const char *name) {
  uint64_t *place = place_of(of, name);
  if (place == NULL) {
    failed(__FILE__, __LINE__, name);
    return 0;
  }
  return *place;
}

static uint64_t pod_of(const char *name) {
  return strcmp(name, "?") == 0 ? UINT64_MAX : named_value(&pods, name);
}

static const char *name_of(uint64_t pod) {
  size_t at;
  for (at = 0; at < pods.len; ++at) {
    if (pods.value[at] == pod) {
      return pods.name[at];
    }
  }
  return "?";
}

/* Learns the names of the router's pods: `name`, or `name/rank`. */
static void learn(void) {
  uint64_t ids[MAX_NAMES];
  size_t len = 0, at, written = 0;
  REQUIRE_OK(kvroute_router_pods(router, ids, MAX_NAMES, &len, error));
  for (at = 0; at < len; ++at) {
    char name[NAME_LEN];
    uint32_t rank = 0;
    REQUIRE_OK(
        kvroute_router_pod_name(router, ids[at], name, NAME_LEN - 16, &written, &rank, error));
    if (rank != 0) {
      sprintf(name + written, "/%" PRIu32, rank);
    }
    give_name(&pods, name, ids[at]);
  }
}

static void begin_case(void) {
  kvroute_router_free(router);
  kvroute_workspace_free(workspace);
  router = NULL;
  workspace = kvroute_workspace_new();
  pods.len = tickets.len = tokens.len = 0;
  has_last = false;
  logged[0] = 0;
  snapshot_len = 0;
}

/* Ranges and numbers joined by `+`; to be freed. */
static uint32_t *token_ranges(const char *text, size_t *len) {
  uint32_t *ids = room(0, sizeof *ids);
  *len = 0;
  while (*text != 0 && *text != '-') {
    uint32_t from = (uint32_t)number(text), to = from + 1;
    const char *end = text + strcspn(text, "+"), *dots = strstr(text, "..");
    if (dots != NULL && dots < end) {
      to = (uint32_t)number(dots + 2);
    }
    ids = realloc(ids, (*len + (to - from) + 1) * sizeof *ids);
    REQUIRE(ids != NULL);
    for (; from < to; ++from) {
      ids[(*len)++] = from;
    }
    text = *end == '+' ? end + 1 : end;
  }
  return ids;
}

/* A text of the line as it stands there; all zero if it was not given. */
static kvroute_str plain(const words *line, const char *key) {
  kvroute_str none = {NULL, 0};
  const char *value = optional(line, key);
  return value == NULL ? none : str(value);
}

/* Names separated by commas, cut in place; `-`, and what was not given, is none. */
static size_t names_of(char *list, kvroute_str *of) {
  size_t len = 0;
  char *next;
  if (list == NULL || strcmp(list, "-") == 0) {
    return 0;
  }
  for (; list != NULL; list = next) {
    next = strchr(list, ',');
    if (next != NULL) {
      *next++ = 0;
    }
    REQUIRE(len < MAX_NAMES);
    of[len++] = str(list);
  }
  return len;
}

static uint64_t now_of(const words *line) {
  const char *seconds = optional(line, "now");
  return seconds == NULL ? 0 : (uint64_t)(strtod(seconds, NULL) * 1e9 + 0.5);
}

static kvroute_hash_context context_of(const words *line) {
  kvroute_hash_context context = KVROUTE_INIT(kvroute_hash_context);
  context.lora_name = plain(line, "lora");
  context.cache_salt = plain(line, "salt");
  return context;
}

/* The nth word without `=` behind the verb. */
static const char *positional(const words *line, size_t nth) {
  size_t at, seen = 0;
  for (at = 1; at < line->len; ++at) {
    if (strchr(line->word[at], '=') == NULL && seen++ == nth) {
      return line->word[at];
    }
  }
  failed(__FILE__, __LINE__, "a positional argument is missing");
  return "";
}

#endif
