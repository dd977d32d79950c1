/*
 * The shared test table: every case through the C ABI. testdata/bindings/README.md describes the
 * format.
 *
 *   table testdata/bindings/cases.txt
 */
#include "table_document.h"
#include "table_request.h"

/* In the order of KVROUTE_IGNORED_... . */
static const char *const REASONS[] = {
    "duplicate",       "other-rank",  "unknown-tag",   "malformed",       "not-a-block",
    "unknown-tier",    "unknown-block", "sparse",      "block-size",      "bigrams",
    "unknown-adapter", "memory",      "parked-full",   "contradiction",   "too-many-groups"};
static const char *const TRUST[] = {"load-only", "approximate", "degraded", "exact"};
static const char *const TIERS[] = {"gpu", "cpu", "disk", "external"};
static const char *const ROLES[] = {"both", "decode", "prefill"};
static const char *const FINISHES[] = {"completed", "failed", "cancelled"};

#define COUNT(list) (sizeof(list) / sizeof *(list))

static int32_t place_in(const char *const *list, size_t len, const char *name) {
  size_t at;
  for (at = 0; at < len; ++at) {
    if (strcmp(list[at], name) == 0) {
      return (int32_t)at;
    }
  }
  failed(__FILE__, __LINE__, name);
  return -1;
}

static int32_t say_report(int32_t status, const kvroute_apply_report *report) {
  if (status != KVROUTE_OK) {
    return status;
  }
  switch (report->outcome) {
    case KVROUTE_OUTCOME_APPLIED: say("applied"); break;
    case KVROUTE_OUTCOME_PARKED: say("parked"); break;
    case KVROUTE_OUTCOME_IGNORED: say("ignored:%s", REASONS[report->reason]); break;
    default:
      REQUIRE(report->outcome == KVROUTE_OUTCOME_NEEDS_RESYNC);
      switch (report->reason) {
        case KVROUTE_RESYNC_GAP: say("resync:gap:%" PRIu64, report->replay_from); break;
        case KVROUTE_RESYNC_RESTARTED: say("resync:restarted"); break;
        default: say("resync:undecodable");
      }
  }
  say(" events=%" PRIu64 " stored=%" PRIu64 " removed=%" PRIu64, report->events,
      report->blocks_stored, report->blocks_removed);
  return status;
}

static kvroute_domain *domain_of(const char *name) {
  kvroute_domain *domain = NULL;
  REQUIRE_OK(kvroute_router_domain(router, name, strlen(name), &domain, error));
  return domain;
}

static int32_t add_pod(const words *line) {
  kvroute_pod_options options = KVROUTE_INIT(kvroute_pod_options);
  kvroute_domain *domain = domain_of(needed(line, "domain"));
  const char *name = positional(line, 0), *slash = strchr(name, '/');
  const char *role = optional(line, "role"), *capacity = optional(line, "capacity");
  char *label = optional(line, "label");
  kvroute_label pair;
  uint64_t id = 0;
  int32_t status;
  options.name.data = name;
  options.name.len = slash == NULL ? strlen(name) : (size_t)(slash - name);
  options.dp_rank = slash == NULL ? 0 : (uint32_t)number(slash + 1);
  options.domain = domain;
  options.capacity = capacity == NULL ? 0 : strtod(capacity, NULL);
  options.role = role == NULL ? KVROUTE_ROLE_BOTH : place_in(ROLES, COUNT(ROLES), role);
  if (label != NULL) {
    char *colon = strchr(label, ':');
    *colon = 0;
    pair.key = str(label);
    pair.value = str(colon + 1);
    options.labels = &pair;
    options.labels_len = 1;
  }
  status = kvroute_router_add_pod(router, &options, &id, error);
  if (status == KVROUTE_OK) {
    give_name(&pods, name, id);
  }
  kvroute_domain_free(domain);
  return status;
}

static int32_t load(const words *line) {
  return kvroute_router_report_load(
      router, pod_of(positional(line, 0)), (uint32_t)number(needed(line, "running")),
      (uint32_t)number(needed(line, "waiting")), strtof(needed(line, "kv_usage"), NULL), error);
}

static int32_t adapters(const words *line) {
  kvroute_str running[MAX_NAMES], waiting[MAX_NAMES];
  size_t running_len = names_of(optional(line, "running"), running);
  size_t waiting_len = names_of(optional(line, "waiting"), waiting);
  return kvroute_router_report_adapters(router, pod_of(positional(line, 0)),
                                        (uint32_t)number(needed(line, "max")), running,
                                        running_len, waiting, waiting_len, error);
}

static int32_t apply(const words *line) {
  kvroute_apply_report report = KVROUTE_INIT(kvroute_apply_report);
  uint64_t pod = pod_of(positional(line, 0)), sequence = number(needed(line, "sequence"));
  kvroute_bytes payload = bytes_of(needed(line, "payload"));
  int32_t status = kvroute_router_apply(router, pod, sequence, payload.data, payload.len, &report,
                                        error);
  return say_report(status, &report);
}

static int32_t topic(const words *line) {
  kvroute_apply_report report = KVROUTE_INIT(kvroute_apply_report);
  kvroute_str topic = str(positional(line, 0));
  kvroute_bytes payload = bytes_of(needed(line, "payload"));
  int32_t status = kvroute_router_apply_topic(
      router, topic.data, topic.len, (uint32_t)number(needed(line, "rank")),
      number(needed(line, "sequence")), payload.data, payload.len, &report, error);
  return say_report(status, &report);
}

static int32_t typed_event(const words *line, int32_t kind) {
  kvroute_apply_report report = KVROUTE_INIT(kvroute_apply_report);
  kvroute_kv_event event = KVROUTE_INIT(kvroute_kv_event);
  uint64_t *hashes = NULL;
  uint32_t *ids = NULL;
  const char *tier = optional(line, "tier"), *parent = optional(line, "parent");
  int32_t status;
  event.kind = kind;
  event.tier = tier == NULL ? KVROUTE_TIER_GPU : place_in(TIERS, COUNT(TIERS), tier);
  if (kind != KVROUTE_EVENT_CLEARED) {
    event.block_hashes = hashes = numbers(needed(line, "hashes"), &event.block_hashes_len);
  }
  if (kind == KVROUTE_EVENT_STORED) {
    event.token_ids = ids = token_ranges(needed(line, "tokens"), &event.token_ids_len);
    event.block_size = (uint32_t)number(needed(line, "block_size"));
    event.has_parent = parent != NULL;
    event.parent = parent == NULL ? 0 : number(parent);
    event.lora_name = plain(line, "lora");
    event.cache_salt = plain(line, "salt");
  }
  status = kvroute_router_apply_events(router, pod_of(positional(line, 0)), &event, 1, &report,
                                       error);
  free(hashes);
  free(ids);
  return say_report(status, &report);
}

/* Hashes a prompt as a domain does; the hashes are to be freed. */
static int32_t hash_prompt(const kvroute_domain *domain, const words *line, uint64_t **hashes,
                           size_t *written, size_t *tokens_len) {
  kvroute_hash_context context = context_of(line);
  uint32_t *ids = token_ranges(needed(line, "tokens"), tokens_len);
  size_t capacity = *tokens_len / kvroute_domain_block_size(domain);
  int32_t status;
  *hashes = room(capacity, sizeof **hashes);
  status = kvroute_domain_hash(domain, ids, *tokens_len, &context, *hashes, capacity, written,
                               error);
  free(ids);
  return status;
}

static int32_t hash(const words *line) {
  kvroute_domain *domain = domain_of(positional(line, 0));
  uint64_t *hashes;
  size_t written = 0, tokens_len, at;
  int32_t status = hash_prompt(domain, line, &hashes, &written, &tokens_len);
  for (at = 0; at < written; ++at) {
    say("%s%" PRIu64, space(), hashes[at]);
  }
  free(hashes);
  kvroute_domain_free(domain);
  return status;
}

static int32_t lookup(const words *line) {
  kvroute_domain *domain = domain_of(positional(line, 0));
  kvroute_pod_match matches[MAX_NAMES];
  uint64_t *hashes;
  size_t written = 0, tokens_len, searchable, at;
  REQUIRE_OK(hash_prompt(domain, line, &hashes, &written, &tokens_len));
  searchable = kvroute_domain_searchable_blocks(domain, tokens_len);
  REQUIRE_OK(kvroute_router_lookup(router, domain, hashes, searchable, workspace, matches,
                                   MAX_NAMES, &written, error));
  for (at = 0; at < written; ++at) {
    const uint32_t *blocks = matches[at].blocks;
    say("%s%s=%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32, space(),
        name_of(matches[at].pod), blocks[0], blocks[1], blocks[2], blocks[3],
        matches[at].predicted, matches[at].speculative);
  }
  free(hashes);
  kvroute_domain_free(domain);
  return KVROUTE_OK;
}

static void say_block(const char *sign, const kvroute_held_block *block) {
  say("%s%s%" PRIu32 ":%s:%" PRIu64, space(), sign, block->group, TIERS[block->tier], block->hash);
}

static int32_t take(const words *line) {
  static const char *const FLAGS[] = {"cleared", "list-again", "plain", "more"};
  kvroute_held_change changes[64];
  size_t written = 0, at, most = (size_t)number(needed(line, "most"));
  uint32_t flags = 0;
  int32_t status;
  REQUIRE(most <= COUNT(changes));
  status = kvroute_router_take_held(router, pod_of(positional(line, 0)), changes, most, &written,
                                    &flags, error);
  for (at = 0; at < COUNT(FLAGS); ++at) {
    if (flags >> at & 1) {
      say("%s%s", space(), FLAGS[at]);
    }
  }
  for (at = 0; at < written; ++at) {
    say_block(changes[at].is_held ? "+" : "-", &changes[at].block);
  }
  return status;
}

static int as_text(const void *one, const void *other) {
  return strcmp((const char *)one, (const char *)other);
}

static int32_t held(const words *line) {
  static char shown[64][64];
  kvroute_held_block page[64];
  size_t written = 0, at, count = 0, most = (size_t)number(needed(line, "most"));
  uint64_t cursor = 0;
  REQUIRE(most <= COUNT(page));
  while (cursor != KVROUTE_HELD_END) {
    int32_t status = kvroute_router_list_held(router, pod_of(positional(line, 0)), &cursor, page,
                                              most, &written, error);
    if (status != KVROUTE_OK) {
      return status;
    }
    for (at = 0; at < written; ++at, ++count) {
      REQUIRE(count < COUNT(shown));
      snprintf(shown[count], sizeof *shown, "%" PRIu32 ":%s:%" PRIu64, page[at].group,
               TIERS[page[at].tier], page[at].hash);
    }
  }
  qsort(shown, count, sizeof *shown, as_text);
  for (at = 0; at < count; ++at) {
    say("%s%s", space(), shown[at]);
  }
  return KVROUTE_OK;
}

static int32_t first_token(const words *line) {
  bool known = false;
  uint64_t ticket = named_value(&tickets, positional(line, 0));
  int32_t status = kvroute_router_first_token(router, ticket, &known, error);
  say(known ? "true" : "false");
  return status;
}

static int32_t finish(const words *line) {
  bool known = false;
  uint64_t ticket = named_value(&tickets, positional(line, 0));
  const char *cached = optional(line, "cached");
  int32_t status = kvroute_router_finish(
      router, ticket, place_in(FINISHES, COUNT(FINISHES), positional(line, 1)),
      cached == NULL ? KVROUTE_CACHED_UNKNOWN : (int64_t)number(cached), &known, error);
  say(known ? "true" : "false");
  return status;
}

static int32_t outcome(const words *line) {
  static char text[1 << 10];
  size_t written = 0;
  uint64_t ticket = named_value(&tickets, positional(line, 0));
  const char *cached = optional(line, "cached");
  int32_t status = kvroute_log_outcome(
      ticket, place_in(FINISHES, COUNT(FINISHES), positional(line, 1)),
      cached == NULL ? KVROUTE_CACHED_UNKNOWN : (int64_t)number(cached), now_of(line), text,
      sizeof text, &written, error);
  say("%s", text);
  return status;
}

static int32_t snapshot(const words *line) {
  kvroute_snapshot *snapshot = NULL;
  size_t written = 0;
  REQUIRE_OK(kvroute_router_snapshot(router, now_of(line), &snapshot, error));
  snapshot_len = 0;
  do {
    REQUIRE_OK(kvroute_snapshot_next(snapshot, router, snapshot_bytes + snapshot_len,
                                     sizeof snapshot_bytes - snapshot_len, &written, error));
    snapshot_len += written;
  } while (written > 0);
  kvroute_snapshot_free(snapshot);
  return KVROUTE_OK;
}

static int32_t restore(const words *line) {
  static char report[1 << 14];
  const char *keep = optional(line, "keep");
  size_t len = keep == NULL ? snapshot_len : (size_t)number(keep), written = 0;
  kvroute_restore *restore = kvroute_restore_new();
  int32_t status;
  REQUIRE(len <= snapshot_len);
  REQUIRE_OK(kvroute_restore_push(restore, snapshot_bytes, len, error));
  status = kvroute_restore_finish(restore, router, now_of(line), NULL, error);
  if (status == KVROUTE_OK) {
    REQUIRE_OK(kvroute_restore_report(restore, report, sizeof report, &written, error));
    say("%s", report);
    learn();
  }
  kvroute_restore_free(restore);
  return status;
}

static int32_t expire(const words *line) {
  size_t expired = 0;
  int32_t status = kvroute_router_expire(router, now_of(line), &expired, error);
  say("%zu", expired);
  return status;
}

static int32_t seal(const words *line) {
  size_t written = 0;
  uint64_t at = tokens.len;
  int32_t status;
  REQUIRE(has_last && at < MAX_NAMES);
  status = kvroute_router_session_token(router, last.pod, last.prefill_pod, now_of(line),
                                        session_tokens[at], MAX_TOKEN_LEN, &written, error);
  if (status == KVROUTE_OK) {
    give_name(&tokens, positional(line, 0), at);
  }
  return status;
}

static int32_t counters(void) {
  kvroute_router_counters of = KVROUTE_INIT(kvroute_router_counters);
  int32_t status = kvroute_router_read_counters(router, &of, error);
  say("in_flight=%" PRIu64 " sessions=%" PRIu64 " expired=%" PRIu64 " untracked=%" PRIu64,
      of.in_flight, of.sessions, of.expired, of.untracked);
  return status;
}

static int32_t stream(const words *line) {
  kvroute_pod_counters of = KVROUTE_INIT(kvroute_pod_counters);
  int32_t status =
      kvroute_router_read_pod_counters(router, pod_of(positional(line, 0)), &of, error);
  size_t reason;
  say("batches=%" PRIu64 " events=%" PRIu64 " stored=%" PRIu64 " removed=%" PRIu64, of.batches,
      of.events, of.blocks_stored, of.blocks_removed);
  say(" gaps=%" PRIu64 " restarts=%" PRIu64 " resyncs=%" PRIu64, of.gaps, of.restarts, of.resyncs);
  for (reason = 0; reason < COUNT(REASONS); ++reason) {
    if (of.ignored[reason] > 0) {
      say(" ignored.%s=%" PRIu64, REASONS[reason], of.ignored[reason]);
    }
  }
  return status;
}

static int32_t trust(const words *line) {
  kvroute_pod_counters of = KVROUTE_INIT(kvroute_pod_counters);
  int32_t status =
      kvroute_router_read_pod_counters(router, pod_of(positional(line, 0)), &of, error);
  say("%s", TRUST[of.trust]);
  return status;
}

static int32_t reset(void) {
  int32_t status = kvroute_router_recover(router, error);
  learn();
  return status;
}

static int32_t step(char *text) {
  char *space_at = strchr(text, ' ');
  const char *rest = space_at == NULL ? "" : space_at + 1;
  words line;
#define IS(name) (strncmp(text, name, sizeof name - 1) == 0 && strchr(" ", text[sizeof name - 1]))
  if (IS("case")) return begin_case(), KVROUTE_OK;
  if (IS("router")) return make_router(rest);
  if (IS("policy")) return kvroute_router_set_policy(router, rest, strlen(rest), error);
  if (IS("replay")) return replay(rest);
  if (IS("llm-d")) return endpoint_picker(rest);
  if (IS("says")) return says(rest);
#undef IS
  line = split(text);
#define IS(name) (strcmp(line.word[0], name) == 0)
  if (IS("pod")) return add_pod(&line);
  if (IS("remove")) return kvroute_router_remove_pod(router, pod_of(positional(&line, 0)), error);
  if (IS("accept")) {
    return kvroute_router_set_accepting(router, pod_of(positional(&line, 0)),
                                        strcmp(positional(&line, 1), "true") == 0, error);
  }
  if (IS("load")) return load(&line);
  if (IS("unload")) return kvroute_router_forget_load(router, pod_of(positional(&line, 0)), error);
  if (IS("adapters")) return adapters(&line);
  if (IS("apply")) return apply(&line);
  if (IS("topic")) return topic(&line);
  if (IS("stored")) return typed_event(&line, KVROUTE_EVENT_STORED);
  if (IS("removed")) return typed_event(&line, KVROUTE_EVENT_REMOVED);
  if (IS("cleared")) return typed_event(&line, KVROUTE_EVENT_CLEARED);
  if (IS("abandon")) {
    return kvroute_router_abandon_gap(router, pod_of(positional(&line, 0)),
                                      number(needed(&line, "sequence")), error);
  }
  if (IS("forget")) {
    return kvroute_router_forget_predictions(router, pod_of(positional(&line, 0)), error);
  }
  if (IS("hash")) return hash(&line);
  if (IS("lookup")) return lookup(&line);
  if (IS("journal")) {
    return kvroute_router_journal_held(router, pod_of(positional(&line, 0)),
                                       (size_t)number(needed(&line, "most")), error);
  }
  if (IS("take")) return take(&line);
  if (IS("held")) return held(&line);
  if (IS("decide")) return decide(&line, NULL);
  if (IS("dispatch")) return decide(&line, positional(&line, 0));
  if (IS("first_token")) return first_token(&line);
  if (IS("finish")) return finish(&line);
  if (IS("outcome")) return outcome(&line);
  if (IS("recorded")) {
    say("%s", logged);
    return KVROUTE_OK;
  }
  if (IS("snapshot")) return snapshot(&line);
  if (IS("restore")) return restore(&line);
  if (IS("expire")) return expire(&line);
  if (IS("token")) return seal(&line);
  if (IS("counters")) return counters();
  if (IS("stream")) return stream(&line);
  if (IS("trust")) return trust(&line);
  if (IS("reset")) return reset();
#undef IS
  failed(__FILE__, __LINE__, text);
  return KVROUTE_OK;
}

int main(int count, char **arguments) {
  char *text, *rest, *line;
  unsigned long number_of_line = 0;
  REQUIRE(count == 2);
  error = kvroute_error_new();
  text = rest = read_file(arguments[1]);
  while ((line = next_line(&rest)) != NULL) {
    char *expected = strstr(line, " => ");
    int32_t status;
    ++number_of_line;
    if (line[0] == 0 || line[0] == '#') {
      continue;
    }
    if (expected != NULL) {
      *expected = 0;
      expected += strlen(" => ");
    }
    answer[answer_len = 0] = 0;
    status = step(line);
    if (status != KVROUTE_OK) {
      answer_len = 0;
      say("error %s %s", kvroute_status_name(status), kvroute_error_message(error, NULL));
    }
    ++checks;
    if (expected == NULL ? status != KVROUTE_OK : strcmp(expected, answer) != 0) {
      fprintf(stderr, "%s:%lu:\n  expected %s\n  answered %s\n", arguments[1], number_of_line,
              expected == NULL ? "success" : expected, answer);
      return 1;
    }
  }
  CHECK(checks > 200);
  kvroute_router_free(router);
  kvroute_workspace_free(workspace);
  kvroute_error_free(error);
  free(text);
  return finished();
}
