/*
 * The library is the one that the header describes: its versions, its link-time symbol, and sizes
 * and places that programs of older headers count on.
 */
#include <stddef.h>

#include "check.h"

static void versions_are_those_of_the_header(void) {
  char text[32];
  CHECK_TEXT(KVROUTE_VERSION, kvroute_version());
  CHECK_NUMBER(KVROUTE_ABI_VERSION, kvroute_abi_version());
  sprintf(text, "%d.%d.%d", KVROUTE_VERSION_MAJOR, KVROUTE_VERSION_MINOR, KVROUTE_VERSION_PATCH);
  /* A pre-release has more behind it. */
  CHECK(strncmp(KVROUTE_VERSION, text, strlen(text)) == 0);
}

static void a_program_can_insist_on_its_abi(void) {
  void (*volatile symbol)(void) = kvroute_abi_1;
  CHECK(symbol != NULL);
  symbol();
}

static void every_status_has_a_name(void) {
  static const int32_t statuses[] = {
      KVROUTE_OK,           KVROUTE_NULL_POINTER,     KVROUTE_INVALID_INPUT,
      KVROUTE_INVALID_UTF8, KVROUTE_STRUCT_SIZE,      KVROUTE_BUFFER_TOO_SMALL,
      KVROUTE_INVALID_HANDLE, KVROUTE_DECODE,         KVROUTE_NOT_REPRODUCIBLE,
      KVROUTE_UNKNOWN_POD,  KVROUTE_NO_CANDIDATE,     KVROUTE_LIMIT,
      KVROUTE_BUSY,         KVROUTE_POISONED,         KVROUTE_UNKNOWN_DOMAIN,
      KVROUTE_INTERNAL,     KVROUTE_PANIC,            KVROUTE_TOKENIZER,
      KVROUTE_REQUEST};
  size_t at, other;
  for (at = 0; at < sizeof statuses / sizeof *statuses; ++at) {
    const char *name = kvroute_status_name(statuses[at]);
    CHECK(strcmp(name, "unknown") != 0);
    for (other = 0; other < at; ++other) {
      CHECK(strcmp(name, kvroute_status_name(statuses[other])) != 0);
    }
  }
  CHECK_TEXT("unknown", kvroute_status_name(-1));
  CHECK_TEXT("unknown", kvroute_status_name(INT32_MAX));
}

#define FIELD(type, field, place) CHECK_NUMBER(place, offsetof(type, field))

/* On machines of 64 bits; elsewhere pointers are smaller. */
static void places_stay(void) {
  if (sizeof(void *) != 8) {
    return;
  }
  /* The last field of each struct's first version. Fields may come behind it, none may move. */
  FIELD(kvroute_hasher_options, reserved, 108);
  FIELD(kvroute_hash_context, prompt_embeds_len, 88);
  FIELD(kvroute_router_options, max_requests, 104);
  FIELD(kvroute_pod_options, max_retired, 112);
  FIELD(kvroute_apply_report, detail, 56);
  FIELD(kvroute_kv_event, extra_keys_len, 136);
  FIELD(kvroute_request, has_subset, 124);
  FIELD(kvroute_decision, contended, 156);
  FIELD(kvroute_router_counters, view_bytes, 56);
  FIELD(kvroute_pod_counters, ignored, 160);
  /* What came behind it. */
  FIELD(kvroute_router_options, overload_kv_usage, 144);
  FIELD(kvroute_pod_options, capacity, 136);
  FIELD(kvroute_request, subset_len, 136);
  FIELD(kvroute_decision, fallbacks_len, 168);
  /* These have no struct_size: their sizes stay. */
  CHECK_NUMBER(16, sizeof(kvroute_str));
  CHECK_NUMBER(16, sizeof(kvroute_bytes));
  CHECK_NUMBER(24, sizeof(kvroute_multimodal_item));
  CHECK_NUMBER(32, sizeof(kvroute_label));
  CHECK_NUMBER(16, sizeof(kvroute_group));
  CHECK_NUMBER(24, sizeof(kvroute_adapter));
  CHECK_NUMBER(32, sizeof(kvroute_extra_key));
  CHECK_NUMBER(40, sizeof(kvroute_score_column));
  CHECK_NUMBER(48, sizeof(kvroute_pod_match));
}

int main(void) {
  versions_are_those_of_the_header();
  a_program_can_insist_on_its_abi();
  every_status_has_a_name();
  places_stay();
  return finished();
}
