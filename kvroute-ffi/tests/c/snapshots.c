/*
 * What a router knows, to bytes and back: whole, cut off, damaged, in chunks of any size, and by calls that are wrong.
 */
#include "bad_input.h"

#define NULLS(call) NO(KVROUTE_NULL_POINTER, call)
#define WRONG(call) NO(KVROUTE_INVALID_HANDLE, call)
#define INVALID(call) NO(KVROUTE_INVALID_INPUT, call)

static const char SUCCESSOR[] = "{\"domains\":{\"m\":{\"block_size\":4}}}";

static unsigned char bytes[1 << 16];
static size_t bytes_len;

/* Notes what is in the router. */
static void take_snapshot(void) {
  kvroute_snapshot *snapshot = NULL;
  size_t written = 0;
  bytes_len = 0;
  OK(kvroute_router_snapshot(router, 7, &snapshot, error));
  do {
    OK(kvroute_snapshot_next(snapshot, router, bytes + bytes_len, KVROUTE_SNAPSHOT_CHUNK - bytes_len, &written,
                             error));
    bytes_len += written;
  } while (written > 0);
  OK(kvroute_snapshot_next(snapshot, router, NULL, 0, &written, error));
  CHECK_NUMBER(0, written);
  kvroute_snapshot_free(snapshot);
  CHECK(bytes_len > 100);
}

/* A restore that was given the first `len` bytes, `step` at a time; NULL, and `*status`, if it took them not. */
static kvroute_restore *taken_in(size_t len, size_t step, int32_t *status) {
  kvroute_restore *restore = kvroute_restore_new();
  size_t at;
  *status = KVROUTE_OK;
  for (at = 0; at < len && *status == KVROUTE_OK; at += step) {
    *status = kvroute_restore_push(restore, bytes + at, len - at < step ? len - at : step, error);
  }
  if (*status != KVROUTE_OK) {
    kvroute_restore_free(restore);
    return NULL;
  }
  return restore;
}

static kvroute_router *new_router(const char *document) {
  kvroute_router *made = NULL;
  OK(kvroute_router_from_config(document, strlen(document), &made, error));
  return made;
}

static void a_successor_decides_as_the_router_before(void) {
  static const size_t steps[] = {1, 7, sizeof bytes};
  size_t at;
  take_snapshot();
  for (at = 0; at < sizeof steps / sizeof *steps; ++at) {
    kvroute_router *successor = new_router(SUCCESSOR);
    kvroute_request request = good_request();
    kvroute_decision decision = KVROUTE_INIT(kvroute_decision), again = KVROUTE_INIT(kvroute_decision);
    kvroute_restored restored = KVROUTE_INIT(kvroute_restored);
    uint64_t a = 0;
    int32_t status;
    kvroute_restore *restore = taken_in(bytes_len, steps[at], &status);
    CHECK_NUMBER(KVROUTE_OK, status);
    OK(kvroute_restore_finish(restore, successor, 1, &restored, error));
    CHECK_NUMBER(2, restored.pods);
    CHECK_NUMBER(2, restored.pods_added);
    CHECK_NUMBER(0, restored.pods_refused);
    CHECK_NUMBER(3, restored.blocks);
    CHECK(restored.predicted_blocks > 0);
    CHECK_NUMBER(0, restored.blocks_refused + restored.sessions + restored.sessions_left_out);
    OK(kvroute_restore_report(restore, out.text, sizeof out.text, &out.written, error));
    CHECK(strstr(out.text, "\"name\":\"a\",\"dp_rank\":0,\"id\":") != NULL);
    kvroute_restore_free(restore);
    OK(kvroute_router_finish(router, ticket, KVROUTE_FINISH_COMPLETED, KVROUTE_CACHED_UNKNOWN, NULL, error));
    OK(kvroute_router_decide(router, &request, 1, workspace, &decision, error));
    OK(kvroute_router_find_pod(successor, "a", 1, 0, &a, error));
    OK(kvroute_router_decide(successor, &request, 1, workspace, &again, error));
    CHECK_NUMBER(pod, decision.pod);
    CHECK_NUMBER(a, again.pod);
    CHECK_NUMBER(decision.matched_tokens, again.matched_tokens);
    kvroute_router_free(successor);
  }
  settle();
}

/* Wherever it was cut off, and whichever of its bytes was changed. */
static void what_is_not_whole_changes_nothing(void) {
  kvroute_restore *restore;
  size_t at;
  int32_t status;
  take_snapshot();
  settle();
  for (at = 0; at < bytes_len; ++at) {
    restore = taken_in(at, sizeof bytes, &status);
    CHECK_NUMBER(KVROUTE_OK, status);
    INVALID(kvroute_restore_report(restore, out.text, sizeof out.text, &out.written, error));
    NO(KVROUTE_DECODE, kvroute_restore_finish(restore, router, 1, NULL, error));
    /* From then on too, whatever comes. */
    NO(KVROUTE_DECODE, kvroute_restore_push(restore, bytes + at, bytes_len - at, error));
    NO(KVROUTE_DECODE, kvroute_restore_finish(restore, router, 1, NULL, error));
    NO(KVROUTE_DECODE, kvroute_restore_report(restore, out.text, sizeof out.text, &out.written, error));
    kvroute_restore_free(restore);
    bytes[at] ^= 1;
    restore = taken_in(bytes_len, sizeof bytes, &status);
    if (restore != NULL) {
      /* A length that became larger. */
      NO(KVROUTE_DECODE, kvroute_restore_finish(restore, router, 1, NULL, error));
    }
    bytes[at] ^= 1;
    kvroute_restore_free(restore);
  }
  restore = taken_in(bytes_len, sizeof bytes, &status);
  NO(KVROUTE_DECODE, kvroute_restore_push(restore, bytes, 1, error));
  NO(KVROUTE_DECODE, kvroute_restore_finish(restore, router, 1, NULL, error));
  kvroute_restore_free(restore);
}

static void a_pod_in_use_is_left_as_it_is(void) {
  kvroute_restored restored = KVROUTE_INIT(kvroute_restored);
  int32_t status;
  kvroute_restore *restore;
  take_snapshot();
  restore = taken_in(bytes_len, sizeof bytes, &status);
  OK(kvroute_restore_finish(restore, router, 1, &restored, error));
  CHECK_NUMBER(0, restored.pods_added);
  CHECK(restored.pods_refused > 0);
  OK(kvroute_restore_report(restore, out.text, sizeof out.text, &out.written, error));
  CHECK(strstr(out.text, "\"blocks\":null,\"refusal\":\"in-use\"") != NULL);
  settle();
  /* It is given once. */
  INVALID(kvroute_restore_push(restore, bytes, 1, error));
  INVALID(kvroute_restore_finish(restore, router, 1, NULL, error));
  kvroute_restore_free(restore);
}

static void a_chunk_waits_for_a_buffer(void) {
  kvroute_snapshot *snapshot = NULL;
  size_t len, needed = 0;
  take_snapshot();
  OK(kvroute_router_snapshot(router, 7, &snapshot, error));
  settle();
  REFUSED(KVROUTE_BUFFER_TOO_SMALL, kvroute_snapshot_next(snapshot, router, NULL, 0, &needed, error));
  CHECK(needed > 0 && needed <= KVROUTE_SNAPSHOT_CHUNK);
  SHORT(needed, kvroute_snapshot_next(snapshot, router, (uint8_t *)out.text, needed - 1, &out.written, error));
  NULLS(kvroute_snapshot_next(snapshot, router, NULL, needed, &out.written, error));
  NULLS(kvroute_snapshot_next(snapshot, router, (uint8_t *)out.text, needed, NULL, error));
  OK(kvroute_snapshot_next(snapshot, router, (uint8_t *)out.text, needed, &len, error));
  CHECK_NUMBER(needed, len);
  CHECK(memcmp(out.text, bytes, len) == 0);
  kvroute_snapshot_free(snapshot);
  settle();
}

static void a_report_needs_room(void) {
  int32_t status;
  kvroute_router *successor = new_router(SUCCESSOR);
  kvroute_restore *restore = taken_in(bytes_len, sizeof bytes, &status);
  size_t needed = 0;
  OK(kvroute_restore_finish(restore, successor, 1, NULL, error));
  REFUSED(KVROUTE_BUFFER_TOO_SMALL, kvroute_restore_report(restore, NULL, 0, &needed, error));
  SHORT(needed, kvroute_restore_report(restore, out.text, needed - 1, &out.written, error));
  NULLS(kvroute_restore_report(restore, NULL, needed, &out.written, error));
  NULLS(kvroute_restore_report(restore, out.text, needed, NULL, error));
  OK(kvroute_restore_report(restore, out.text, needed, &out.written, error));
  CHECK_NUMBER(needed - 1, out.written);
  CHECK_NUMBER(out.written, strlen(out.text));
  kvroute_restore_free(restore);
  kvroute_router_free(successor);
  settle();
}

static void a_snapshot_belongs_to_its_router(void) {
  kvroute_router *other = new_router(CONFIG), *gone = new_router(CONFIG);
  kvroute_snapshot *snapshot = NULL, *of_gone = NULL;
  size_t len;
  OK(kvroute_router_snapshot(router, 7, &snapshot, error));
  OK(kvroute_router_snapshot(gone, 7, &of_gone, error));
  kvroute_router_free(gone);
  settle();
#define NEXT(of, from) kvroute_snapshot_next(of, from, (uint8_t *)out.text, sizeof out.text, &out.written, error)
  INVALID(NEXT(snapshot, other));
  INVALID(NEXT(of_gone, other));
  NULLS(NEXT(snapshot, NULL));
  WRONG(NEXT(snapshot, (kvroute_router *)workspace));
  OK(kvroute_snapshot_next(snapshot, router, (uint8_t *)out.text, sizeof out.text, &len, error));
  kvroute_snapshot_free(snapshot);
  OK(kvroute_router_snapshot(other, 7, &snapshot, error));
  OK(kvroute_router_recover(other, error));
  settle();
  INVALID(NEXT(snapshot, other));
#undef NEXT
  kvroute_snapshot_free(snapshot);
  kvroute_snapshot_free(of_gone);
  kvroute_router_free(other);
}

static void pointers_and_handles_that_are_none(void) {
  kvroute_restore *restore = kvroute_restore_new();
  kvroute_snapshot *snapshot = NULL;
  uint8_t *to = (uint8_t *)out.text;
  OK(kvroute_router_snapshot(router, 7, &snapshot, error));
  settle();
  NULLS(kvroute_router_snapshot(NULL, 7, &snapshot, error));
  NULLS(kvroute_router_snapshot(router, 7, NULL, error));
  WRONG(kvroute_router_snapshot((kvroute_router *)restore, 7, &snapshot, error));
  NULLS(kvroute_snapshot_next(NULL, router, to, 8, &out.written, error));
  WRONG(kvroute_snapshot_next((kvroute_snapshot *)restore, router, to, 8, &out.written, error));
  NULLS(kvroute_restore_push(NULL, bytes, 1, error));
  NULLS(kvroute_restore_push(restore, NULL, 1, error));
  INVALID(kvroute_restore_push(restore, bytes, SIZE_MAX, error));
  WRONG(kvroute_restore_push((kvroute_restore *)snapshot, bytes, 1, error));
  NULLS(kvroute_restore_finish(NULL, router, 1, NULL, error));
  NULLS(kvroute_restore_finish(restore, NULL, 1, NULL, error));
  WRONG(kvroute_restore_finish((kvroute_restore *)snapshot, router, 1, NULL, error));
  WRONG(kvroute_restore_finish(restore, (kvroute_router *)restore, 1, NULL, error));
  NULLS(kvroute_restore_report(NULL, out.text, 8, &out.written, error));
  WRONG(kvroute_restore_report((kvroute_restore *)router, out.text, 8, &out.written, error));
  YES(kvroute_restore_push(restore, NULL, 0, NULL));
  /* Freeing does nothing then. */
  kvroute_snapshot_free((kvroute_snapshot *)restore);
  kvroute_restore_free((kvroute_restore *)snapshot);
  kvroute_restore_free((kvroute_restore *)router);
  kvroute_snapshot_free(NULL);
  kvroute_restore_free(NULL);
  unchanged(__FILE__, __LINE__);
  kvroute_snapshot_free(snapshot);
  kvroute_restore_free(restore);
}

/* A struct of a size that cannot be is found out before anything is done. */
static void numbers_of_another_size(void) {
  static const size_t wrong[] = {0, sizeof(kvroute_restored) - 1, sizeof(kvroute_restored) + 1, SIZE_MAX};
  struct {
    kvroute_restored known;
    unsigned char tail[24];
  } grown;
  kvroute_router *successor = new_router(SUCCESSOR);
  int32_t status;
  kvroute_restore *restore = taken_in(bytes_len, sizeof bytes, &status);
  size_t at, pods_len = 0;
  for (at = 0; at < sizeof wrong / sizeof *wrong; ++at) {
    grown.known.struct_size = wrong[at];
    NO(KVROUTE_STRUCT_SIZE, kvroute_restore_finish(restore, successor, 1, &grown.known, error));
  }
  OK(kvroute_router_pods(successor, out.numbers, 8, &pods_len, error));
  CHECK_NUMBER(0, pods_len);
  memset(&grown, 0x5a, sizeof grown);
  grown.known.struct_size = sizeof grown;
  OK(kvroute_restore_finish(restore, successor, 1, &grown.known, error));
  CHECK_NUMBER(sizeof grown, grown.known.struct_size);
  CHECK_NUMBER(2, grown.known.pods);
  for (at = 0; at < sizeof grown.tail; ++at) {
    REQUIRE(grown.tail[at] == 0x5a);
  }
  kvroute_restore_free(restore);
  kvroute_router_free(successor);
  settle();
}

int main(void) {
  set_up();
  a_successor_decides_as_the_router_before();
  a_chunk_waits_for_a_buffer();
  a_report_needs_room();
  a_snapshot_belongs_to_its_router();
  pointers_and_handles_that_are_none();
  numbers_of_another_size();
  what_is_not_whole_changes_nothing();
  a_pod_in_use_is_left_as_it_is();
  return tear_down();
}
