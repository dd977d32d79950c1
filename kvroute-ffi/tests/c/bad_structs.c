/*
 * Structs of another size than the library's.
 */
#include "bad_input.h"

/* A struct with room behind it, as a later version of the header would have it. */
#define TAIL 24
typedef union grown {
  size_t struct_size;
  kvroute_hasher_options hasher_options;
  kvroute_hash_context hash_context;
  kvroute_router_options router_options;
  kvroute_pod_options pod_options;
  kvroute_kv_event kv_event;
  kvroute_request request;
  places all;
  unsigned char bytes[sizeof(places) + TAIL];
} grown;

static grown place;

/* One function for each struct, that gives it to the library where it is. */
static int32_t give_hasher_options(void) {
  kvroute_hasher *made = NULL;
  int32_t status = kvroute_hasher_new(&place.hasher_options, &made, error);
  kvroute_hasher_free(made);
  return status;
}

static int32_t give_hash_context(void) {
  size_t written = 0;
  uint64_t hashes[8];
  return kvroute_hasher_hash(hasher, tokens, TOKENS, &place.hash_context, hashes, 8, &written,
                             error);
}

static int32_t give_context_in_request(void) {
  kvroute_request request = good_request();
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  request.context = &place.hash_context;
  return kvroute_router_decide(router, &request, 1, workspace, &decision, error);
}

static int32_t give_router_options(void) {
  kvroute_router *made = NULL;
  int32_t status = kvroute_router_new(&place.router_options, &made, error);
  kvroute_router_free(made);
  return status;
}

static int32_t give_pod_options(void) {
  uint64_t id = 0;
  int32_t status = kvroute_router_add_pod(router, &place.pod_options, &id, error);
  if (status == KVROUTE_OK) {
    REQUIRE_OK(kvroute_router_remove_pod(router, id, error));
  }
  return status;
}

static int32_t give_dispatch(void) {
  kvroute_request request = good_request();
  static char line[1 << 13];
  size_t written = 0;
  return kvroute_router_record(router, &request, workspace, (const void *)&place, 0, line,
                               sizeof line, &written, error);
}

static int32_t give_kv_event(void) {
  return kvroute_router_apply_events(router, pod, &place.kv_event, 1, NULL, error);
}

static int32_t give_request(void) {
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  return kvroute_router_decide(router, &place.request, 1, workspace, &decision, error);
}

static int32_t take_report(void) {
  return kvroute_router_apply_events(router, pod, NULL, 0, (void *)&place, error);
}

static int32_t take_report_of_batch(void) {
  return kvroute_router_apply(router, pod, 1, NULL, 0, (void *)&place, error);
}

static int32_t take_decision(void) {
  kvroute_request request = good_request();
  return kvroute_router_decide(router, &request, 1, workspace, (void *)&place, error);
}

static int32_t take_dispatch(void) {
  kvroute_request request = good_request();
  return kvroute_router_dispatch(router, &request, 1, workspace, (void *)&place, error);
}

static int32_t take_counters(void) {
  return kvroute_router_read_counters(router, (void *)&place, error);
}

static int32_t take_pod_counters(void) {
  return kvroute_router_read_pod_counters(router, pod, (void *)&place, error);
}

typedef int32_t (*give)(void);

/* Puts `size` bytes there that begin with `struct_size`; the rest of the place is filled with
   `behind`. */
static void put(const void *value, size_t size, size_t struct_size, int behind) {
  memset(&place, behind, sizeof place);
  memcpy(&place, value, size);
  place.struct_size = struct_size;
}

/* The size that a program states must be one that the library can know what to make of: at least `first`, that of the
   struct's first version, and not within a field. */
static void sizes_that_cannot_be(const void *value, size_t size, size_t first, give give) {
  const size_t wrong[] = {0,        1,        sizeof(size_t), first - sizeof(size_t), first - 1,
                          first + 1, size - 1, size + 1,       (1 << 16) + 8,          SIZE_MAX / 2,
                          SIZE_MAX};
  size_t at;
  for (at = 0; at < sizeof wrong / sizeof *wrong; ++at) {
    put(value, size, wrong[at], 0);
    NO(KVROUTE_STRUCT_SIZE, give());
  }
}

/* Of what goes in: the first version's is enough, and what lies behind it is not read; a later version's tail may be
   there as long as it says nothing. */
static void in(const void *value, size_t size, size_t first, give give) {
  sizes_that_cannot_be(value, size, first, give);
  put(value, first, first, 0x5a);
  YES(give());
  put(value, size, size, 0x5a);
  YES(give());
  put(value, size, size + TAIL, 0);
  YES(give());
  put(value, size, size + TAIL, 0);
  place.bytes[size + TAIL - 1] = 1;
  NO(KVROUTE_STRUCT_SIZE, give());
  put(value, size, size + TAIL, 0);
  place.bytes[size] = 1;
  NO(KVROUTE_STRUCT_SIZE, give());
}

/* Of what comes out: only what both know is written, whatever is there. */
static void out_of(size_t size, size_t first, give give) {
  size_t at;
  sizes_that_cannot_be(&untouched, size, first, give);
  put(&untouched, first, first, 0x5a);
  YES(give());
  CHECK_NUMBER(first, place.struct_size);
  for (at = first; at < sizeof place; ++at) {
    REQUIRE(place.bytes[at] == 0x5a);
  }
  put(&untouched, size, size + TAIL, 0x5a);
  YES(give());
  CHECK_NUMBER(size + TAIL, place.struct_size);
  for (at = size; at < sizeof place; ++at) {
    REQUIRE(place.bytes[at] == 0x5a);
  }
}

static void structs_of_other_versions(void) {
  kvroute_hasher_options hasher_options = good_hasher();
  kvroute_hash_context hash_context = KVROUTE_INIT(kvroute_hash_context);
  kvroute_router_options router_options = KVROUTE_INIT(kvroute_router_options);
  kvroute_pod_options pod_options = good_pod();
  kvroute_kv_event kv_event = KVROUTE_INIT(kvroute_kv_event);
  kvroute_request request = good_request();
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  kv_event.kind = KVROUTE_EVENT_REMOVED;
#define UP_TO(type, last) offsetof(type, last) + sizeof(((type *)0)->last)
#define IN(value, last, give) in(&value, sizeof value, UP_TO(kvroute_##value, last), give)
#define OUT_OF(type, last, give) out_of(sizeof(type), UP_TO(type, last), give)
  IN(hasher_options, reserved, give_hasher_options);
  IN(hash_context, prompt_embeds_len, give_hash_context);
  IN(hash_context, prompt_embeds_len, give_context_in_request);
  IN(router_options, max_requests, give_router_options);
  IN(pod_options, domain_name, give_pod_options);
  IN(kv_event, extra_keys_len, give_kv_event);
  IN(request, has_subset, give_request);
  IN(decision, contended, give_dispatch);
  OUT_OF(kvroute_apply_report, detail, take_report);
  OUT_OF(kvroute_apply_report, detail, take_report_of_batch);
  OUT_OF(kvroute_decision, contended, take_decision);
  OUT_OF(kvroute_decision, contended, take_dispatch);
  OUT_OF(kvroute_router_counters, view_bytes, take_counters);
  OUT_OF(kvroute_pod_counters, ignored, take_pod_counters);
#undef OUT_OF
#undef IN
#undef UP_TO
}

/* Events in a row are as far apart as the first says, and all say the same. */
static void an_array_of_events_has_one_size(void) {
  unsigned char row[2 * (sizeof(kvroute_kv_event) + TAIL)];
  const size_t stride = sizeof(kvroute_kv_event) + TAIL;
  kvroute_kv_event event = KVROUTE_INIT(kvroute_kv_event);
  const kvroute_kv_event *events = (const void *)row;
  event.kind = KVROUTE_EVENT_REMOVED;
  event.struct_size = stride;
  memset(row, 0, sizeof row);
  memcpy(row, &event, sizeof event);
  memcpy(row + stride, &event, sizeof event);
  YES(kvroute_router_apply_events(router, pod, events, 2, NULL, error));
  row[sizeof row - 1] = 1;
  NO(KVROUTE_STRUCT_SIZE, kvroute_router_apply_events(router, pod, events, 2, &out.report, error));
  row[sizeof row - 1] = 0;
  event.struct_size = sizeof event;
  memcpy(row + stride, &event, sizeof event);
  NO(KVROUTE_STRUCT_SIZE, kvroute_router_apply_events(router, pod, events, 2, &out.report, error));
}

int main(void) {
  set_up();
  structs_of_other_versions();
  an_array_of_events_has_one_size();
  return tear_down();
}
