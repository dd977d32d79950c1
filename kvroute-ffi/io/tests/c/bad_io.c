/*
 * What nobody should pass: NULL everywhere, handles of another kind, documents and folders that are none, prompts that are
 * not there. Nothing is written, and everything can be used afterwards.
 *
 *   bad_io FOLDER      FOLDER has a tokenizer
 */
#include "fleet.h"

static kvroute_error *error;
static char text[256];
static size_t written = 77;

#define NULLS(call) REFUSED(KVROUTE_NULL_POINTER, call)
#define INVALID(call) REFUSED(KVROUTE_INVALID_INPUT, call)
#define SAYS(words) CHECK(strstr(kvroute_error_message(error, NULL), words) != NULL)

/* Programs that were compiled with this header stay good: fields only come to the ends. */
static void layouts(void) {
#define FIELD(type, field, place) CHECK_NUMBER(place, offsetof(type, field))
  if (sizeof(void *) != 8) return;
  FIELD(kvroute_fleet_options, threads, 8);
  FIELD(kvroute_fleet_options, hold_events, 12);
  FIELD(kvroute_prompt, token_ids, 8);
  FIELD(kvroute_prompt, token_ids_len, 16);
  FIELD(kvroute_prompt, text, 24);
  FIELD(kvroute_prompt, reason, 40);
  FIELD(kvroute_tokenizer_options, chat_template, 8);
  FIELD(kvroute_tokenizer_options, chat_template_kwargs, 24);
  FIELD(kvroute_tokenizer_options, trust_request_chat_template, 40);
  FIELD(kvroute_tokenizer_options, exclude_tools_when_tool_choice_none, 44);
  FIELD(kvroute_tokenizer_options, cache_bytes, 48);
  FIELD(kvroute_tokenizer_options, max_text_bytes, 56);
  FIELD(kvroute_tokenizer_options, max_template_steps, 64);
  FIELD(kvroute_tokenizer_options, threads, 72);
  FIELD(kvroute_tokenizer_options, queue, 76);
  FIELD(kvroute_tokenizer_options, wait_ns, 80);
  FIELD(kvroute_tokenizer_counters, answered, 8);
  FIELD(kvroute_tokenizer_counters, evictions, 80);
#undef FIELD
}

static void fleets(void) {
  kvroute_fleet_options options = KVROUTE_INIT(kvroute_fleet_options);
  kvroute_fleet *fleet = NULL;
  kvroute_router *router = NULL;
  kvroute_prompts *prompts = kvroute_prompts_new();
  uint64_t now_ns = 77;
  const char *document = document_of("");
  const char *const wrong[] = {
      "router: [", "fleet: {pods: 7}", "fleet: {pods: [\"ftp://x\"]}", "fleet: {scrape: {interval_ms: 0}}",
      "router: {pods: [{name: a, domain: m}]}", "flet: {}", "router: {policy: {preset: nothing}}"};
  size_t at;
  for (at = 0; at < sizeof wrong / sizeof *wrong; ++at) {
    INVALID(kvroute_fleet_start(wrong[at], strlen(wrong[at]), NULL, &fleet, error));
    CHECK(*kvroute_error_message(error, NULL) != 0);
  }
  REFUSED(KVROUTE_INVALID_UTF8, kvroute_fleet_start("\xff", 1, NULL, &fleet, error));
  NULLS(kvroute_fleet_start(NULL, 1, NULL, &fleet, error));
  NULLS(kvroute_fleet_start(document, strlen(document), NULL, NULL, error));
  options.threads = 257;
  INVALID(kvroute_fleet_start(document, strlen(document), &options, &fleet, error));
  SAYS("threads");
  options.struct_size = 1;
  REFUSED(KVROUTE_STRUCT_SIZE,
          kvroute_fleet_start(document, strlen(document), &options, &fleet, error));
  CHECK(fleet == NULL);

  NULLS(kvroute_fleet_router(NULL, &router, error));
  NULLS(kvroute_fleet_now(NULL, &now_ns, error));
  NULLS(kvroute_fleet_target(NULL, 1, text, 9, &written, text, 9, &written, NULL, NULL, error));
  NULLS(kvroute_fleet_models(NULL, text, 9, &written, error));
  NULLS(kvroute_fleet_status(NULL, text, 9, &written, error));
  NULLS(kvroute_fleet_reconfigure(NULL, document, strlen(document), error));
  NULLS(kvroute_fleet_release_events(NULL, error));
  REFUSED(KVROUTE_INVALID_HANDLE, kvroute_fleet_now((const kvroute_fleet *)prompts, &now_ns, error));
  CHECK(router == NULL && now_ns == 77 && written == 77);
  kvroute_fleet_free(NULL);

  OK(kvroute_fleet_start(document, strlen(document), NULL, &fleet, error));
  NULLS(kvroute_fleet_router(fleet, NULL, error));
  NULLS(kvroute_fleet_now(fleet, NULL, error));
  NULLS(kvroute_fleet_models(fleet, text, 9, NULL, error));
  NULLS(kvroute_fleet_status(fleet, NULL, 1 << 20, &written, error));
  NULLS(kvroute_fleet_reconfigure(fleet, NULL, 1, error));
  REFUSED(KVROUTE_UNKNOWN_POD,
          kvroute_fleet_target(fleet, 1, text, 9, &written, text, 9, &written, NULL, NULL, error));
  CHECK_NUMBER(77, written);
  /* Without an error object a status is all there is. */
  CHECK(kvroute_fleet_router(fleet, &router, NULL) == KVROUTE_OK);
  kvroute_fleet_free(fleet);
  kvroute_router_free(router);
  kvroute_prompts_free(prompts);
}

static void tokenizers(const char *folder) {
  static const uint8_t BODY[] = "{\"prompt\": \"a\"}";
  const size_t body_len = sizeof BODY - 1;
  kvroute_tokenizer_options options = KVROUTE_INIT(kvroute_tokenizer_options);
  kvroute_tokenizer_counters counters = KVROUTE_INIT(kvroute_tokenizer_counters);
  kvroute_prompt prompt = KVROUTE_INIT(kvroute_prompt);
  kvroute_tokenizer *tokenizer = NULL;
  kvroute_prompts *prompts = kvroute_prompts_new();
  size_t len = strlen(folder);
  REFUSED(KVROUTE_TOKENIZER, kvroute_tokenizer_new("/nowhere", 8, NULL, &tokenizer, error));
  SAYS("/nowhere/tokenizer.json");
  NULLS(kvroute_tokenizer_new(NULL, 1, NULL, &tokenizer, error));
  NULLS(kvroute_tokenizer_new(folder, len, NULL, NULL, error));
  options.chat_template_kwargs = str("[1]");
  INVALID(kvroute_tokenizer_new(folder, len, &options, &tokenizer, error));
  SAYS("chat_template_kwargs");
  options.chat_template_kwargs = str("{\"enable_thinking\": false}");
  options.chat_template = str("{% for");
  REFUSED(KVROUTE_TOKENIZER, kvroute_tokenizer_new(folder, len, &options, &tokenizer, error));
  options.chat_template = str("");
  options.threads = 1025;
  REFUSED(KVROUTE_TOKENIZER, kvroute_tokenizer_new(folder, len, &options, &tokenizer, error));
  CHECK(tokenizer == NULL);
  options.threads = 0;
  options.max_text_bytes = 20;
  OK(kvroute_tokenizer_new(folder, len, &options, &tokenizer, error));

  NULLS(kvroute_tokenizer_prompts(NULL, 0, BODY, body_len, prompts, error));
  NULLS(kvroute_tokenizer_prompts(tokenizer, 0, NULL, 1, prompts, error));
  NULLS(kvroute_tokenizer_prompts(tokenizer, 0, BODY, body_len, NULL, error));
  INVALID(kvroute_tokenizer_prompts(tokenizer, 3, BODY, body_len, prompts, error));
  REFUSED(KVROUTE_REQUEST, kvroute_tokenizer_prompts(tokenizer, 0, NULL, 0, prompts, error));
  REFUSED(KVROUTE_REQUEST, kvroute_tokenizer_prompts(tokenizer, 1, BODY, body_len, prompts, error));
  REFUSED(KVROUTE_LIMIT,
          kvroute_tokenizer_encode(tokenizer, "twenty-one characters", 21, 0, prompts, error));
  REFUSED(KVROUTE_INVALID_UTF8, kvroute_tokenizer_encode(tokenizer, "\xff", 1, 0, prompts, error));
  NULLS(kvroute_tokenizer_encode(NULL, "a", 1, 0, prompts, error));
  NULLS(kvroute_tokenizer_encode(tokenizer, "a", 1, 0, NULL, error));
  NULLS(kvroute_tokenizer_segmentation(NULL, text, 9, &written, error));
  NULLS(kvroute_tokenizer_segmentation(tokenizer, NULL, 9, &written, error));
  NULLS(kvroute_tokenizer_read_counters(NULL, &counters, error));
  NULLS(kvroute_tokenizer_read_counters(tokenizer, NULL, error));
  counters.struct_size = 3;
  REFUSED(KVROUTE_STRUCT_SIZE, kvroute_tokenizer_read_counters(tokenizer, &counters, error));
  REFUSED(KVROUTE_INVALID_HANDLE,
          kvroute_tokenizer_encode((const kvroute_tokenizer *)prompts, "a", 1, 0, prompts, error));

  /* No call above was answered: there is no prompt. */
  NULLS(kvroute_prompts_count(NULL, &written, error));
  NULLS(kvroute_prompts_count(prompts, NULL, error));
  CHECK_NUMBER(77, written);
  OK(kvroute_prompts_count(prompts, &written, error));
  CHECK_NUMBER(0, written);
  NULLS(kvroute_prompts_get(NULL, 0, &prompt, error));
  INVALID(kvroute_prompts_get(prompts, 0, &prompt, error));
  INVALID(kvroute_prompts_get(prompts, (size_t)-1, &prompt, error));
  OK(kvroute_tokenizer_prompts(tokenizer, 0, BODY, body_len, prompts, error));
  NULLS(kvroute_prompts_get(prompts, 0, NULL, error));
  prompt.struct_size = 8;
  REFUSED(KVROUTE_STRUCT_SIZE, kvroute_prompts_get(prompts, 0, &prompt, error));
  prompt.struct_size = sizeof prompt;
  OK(kvroute_prompts_get(prompts, 0, &prompt, error));
  CHECK(prompt.token_ids_len > 0);
  kvroute_tokenizer_free(NULL);
  kvroute_tokenizer_free(tokenizer);
  kvroute_prompts_free(NULL);
  kvroute_prompts_free(prompts);
}

int main(int count, char **arguments) {
  REQUIRE(count == 2);
  error = kvroute_error_new();
  layouts();
  fleets();
  tokenizers(arguments[1]);
  kvroute_error_free(error);
  return finished();
}
