/*
 * Requests of the shared table, and the decisions that answer them.
 */
#ifndef TABLE_REQUEST_H
#define TABLE_REQUEST_H

#include "table_case.h"

/* In the order of KVROUTE_REASON_... . */
static const char *const WHY[] = {"picked", "spilled", "warm-up"};

static void say_fallbacks(const kvroute_decision *made) {
  uint64_t next_best[MAX_NAMES];
  size_t written = 0, at;
  REQUIRE_OK(kvroute_workspace_fallbacks(workspace, next_best, MAX_NAMES, &written, error));
  REQUIRE(written == made->fallbacks_len);
  for (at = 0; at < written; ++at) {
    say("%s%s", at == 0 ? " fallbacks=" : ",", name_of(next_best[at]));
  }
}

static void say_decision(const kvroute_decision *made) {
  const uint32_t *blocks = made->matched_blocks;
  say("pod=%s total=%.3f matched=%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32, name_of(made->pod),
      made->total, blocks[0], blocks[1], blocks[2], blocks[3]);
  say(" matched_tokens=%" PRIu64 " uncached_tokens=%" PRIu64 " candidates=%" PRIu64,
      made->matched_tokens, made->uncached_tokens, made->candidates);
  if (made->prefill_pod != KVROUTE_NO_POD) {
    say(" prefill=%s prefill_total=%.3f prefill_matched_tokens=%" PRIu64
        " prefill_uncached_tokens=%" PRIu64,
        name_of(made->prefill_pod), made->prefill_total, made->prefill_matched_tokens,
        made->prefill_uncached_tokens);
  }
  if (made->reason != KVROUTE_REASON_PICKED) {
    say(" reason=%s", WHY[made->reason]);
  }
  if (made->prefill_reason != KVROUTE_REASON_PICKED) {
    say(" prefill_reason=%s", WHY[made->prefill_reason]);
  }
  say_fallbacks(made);
}

/* `scorer:name:value,name:value`; a name may have colons of its own. */
static void fill_column(char *text, kvroute_score_column *column, uint64_t *of, double *values) {
  char *pair = strchr(text, ':'), *next;
  *pair++ = 0;
  column->scorer = str(text);
  for (column->len = 0; pair != NULL; pair = next) {
    char *value;
    next = strchr(pair, ',');
    if (next != NULL) {
      *next++ = 0;
    }
    value = strrchr(pair, ':');
    *value++ = 0;
    of[column->len] = pod_of(pair);
    values[column->len++] = strtod(value, NULL);
  }
  column->pods = of;
  column->values = values;
}

/* `name:tier:blocks,name:tier:blocks`; a name may have colons of its own. */
static size_t fill_known(char *text, kvroute_known_prefix *known) {
  static const char *const NAMES[] = {"gpu", "cpu", "disk", "external"};
  size_t len = 0;
  char *part = text, *next;
  for (; part != NULL; part = next, ++len) {
    char *blocks, *tier;
    int32_t at = 0;
    next = strchr(part, ',');
    if (next != NULL) {
      *next++ = 0;
    }
    blocks = strrchr(part, ':');
    *blocks++ = 0;
    tier = strrchr(part, ':');
    *tier++ = 0;
    while (strcmp(NAMES[at], tier) != 0) {
      ++at;
    }
    REQUIRE(len < MAX_NAMES);
    known[len].pod = pod_of(part);
    known[len].tier = at;
    known[len].blocks = (uint32_t)number(blocks);
  }
  return len;
}

/* Takes a decision down for the log; `made` is what a dispatch answered. */
static void take_down(const kvroute_request *request, const char *how,
                      const kvroute_decision *made) {
  uint32_t flags = strcmp(how, "prompt") == 0 ? KVROUTE_RECORD_PROMPT : 0;
  size_t written = 0;
  REQUIRE_OK(kvroute_router_record(router, request, workspace, made, flags, logged, sizeof logged,
                                   &written, NULL));
}

static int32_t decide(const words *line, const char *ticket) {
  kvroute_request request = KVROUTE_INIT(kvroute_request);
  kvroute_decision made = KVROUTE_INIT(kvroute_decision);
  kvroute_hash_context context = context_of(line);
  kvroute_score_column column;
  kvroute_str subset[MAX_NAMES];
  uint64_t of[MAX_NAMES];
  double values[MAX_NAMES];
  kvroute_known_prefix told[MAX_NAMES];
  char *known = optional(line, "known");
  char *ids = optional(line, "tokens"), *text = optional(line, "text");
  char *scores = optional(line, "scores"), *nonce = optional(line, "nonce");
  char *only = optional(line, "subset");
  const char *token = optional(line, "token"), *record = optional(line, "record");
  uint32_t *token_ids = token_ranges(ids == NULL ? "-" : ids, &request.token_ids_len);
  uint64_t now = now_of(line);
  int32_t status;
  request.token_ids = token_ids;
  request.context = &context;
  request.model = plain(line, "model");
  request.session_id = plain(line, "session");
  if (text != NULL) {
    request.text = bytes_of(text);
  }
  if (token != NULL) {
    request.session_token = str(session_tokens[named_value(&tokens, token)]);
  }
  if (scores != NULL) {
    fill_column(scores, &column, of, values);
    request.scores = &column;
    request.scores_len = 1;
  }
  if (known != NULL) {
    request.known = told;
    request.known_len = fill_known(known, told);
  }
  request.has_subset = only != NULL;
  request.subset_len = names_of(only, subset);
  request.subset = subset;
  request.has_nonce = nonce != NULL;
  request.nonce = nonce == NULL ? 0 : number(nonce);
  status = ticket == NULL
               ? kvroute_router_decide(router, &request, now, workspace, &made, error)
               : kvroute_router_dispatch(router, &request, now, workspace, &made, error);
  if (record != NULL) {
    take_down(&request, record, ticket == NULL || status != KVROUTE_OK ? NULL : &made);
  }
  free(token_ids);
  if (status != KVROUTE_OK) {
    return status;
  }
  last = made;
  has_last = true;
  say_decision(&made);
  if (ticket != NULL) {
    give_name(&tickets, ticket, made.ticket);
    say(" retries=%" PRIu32 " contended=%s", made.retries, made.contended ? "true" : "false");
  }
  return status;
}

#endif
