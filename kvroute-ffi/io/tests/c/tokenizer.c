/*
 * Requests that a real vLLM 0.32 answered: the same token ids, and the same refusals. Then bounds: a queue that is full and
 * a time that is over are answered with text.
 *
 *   tokenizer REQUESTS FOLDER      REQUESTS is what `flatten requests` wrote, FOLDER has a tokenizer
 */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "../../../tests/c/lines.h"
#include "kvroute_io.h"

static kvroute_error *error;
static const char *folder;

static kvroute_tokenizer *made(const kvroute_tokenizer_options *options) {
  kvroute_tokenizer *tokenizer = NULL;
  OK(kvroute_tokenizer_new(folder, strlen(folder), options, &tokenizer, error));
  return tokenizer;
}

/* The tokenizer with the chat template of this file. */
static kvroute_tokenizer *with_template(const char *name) {
  kvroute_tokenizer_options options = KVROUTE_INIT(kvroute_tokenizer_options);
  kvroute_tokenizer *tokenizer;
  char path[4096], *template;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  template = read_file(path);
  options.chat_template = str(template);
  options.wait_ns = UINT64_C(60000000000);
  tokenizer = made(&options);
  free(template);
  return tokenizer;
}

static void compare(const words *line, const kvroute_tokenizer *tokenizer, kvroute_prompts *prompts) {
  int32_t endpoint = (int32_t)number(needed(line, "endpoint"));
  kvroute_bytes body = bytes_of(needed(line, "body"));
  char *expected = optional(line, "ids");
  kvroute_prompt prompt = KVROUTE_INIT(kvroute_prompt);
  size_t count = 0, at;
  if (expected == NULL) {
    REFUSED(KVROUTE_REQUEST, kvroute_tokenizer_prompts(tokenizer, endpoint, body.data, body.len,
                                                       prompts, error));
    CHECK(strstr(kvroute_error_message(error, NULL), "unknown role: alien") != NULL);
    return;
  }
  OK(kvroute_tokenizer_prompts(tokenizer, endpoint, body.data, body.len, prompts, error));
  OK(kvroute_prompts_count(prompts, &count, error));
  CHECK_NUMBER(parts(expected, ':'), count);
  for (at = 0; at < count; ++at) {
    size_t ids_len = 0;
    char *end = strchr(expected, ':');
    uint32_t *ids;
    if (end != NULL) *end = 0;
    ids = token_list(expected, &ids_len);
    OK(kvroute_prompts_get(prompts, at, &prompt, error));
    CHECK_NUMBER(ids_len, prompt.token_ids_len);
    CHECK(memcmp(ids, prompt.token_ids, ids_len * sizeof *ids) == 0);
    CHECK(prompt.text.len == 0 && prompt.reason.len == 0);
    free(ids);
    expected = end + 1;
  }
}

static void as_the_engine(const char *requests) {
  kvroute_tokenizer *plain = with_template("chat_template.jinja");
  kvroute_tokenizer *parts = with_template("chat_template_parts.jinja");
  kvroute_tokenizer_counters counters = KVROUTE_INIT(kvroute_tokenizer_counters);
  kvroute_prompts *prompts = kvroute_prompts_new();
  char *text = read_file(requests), *rest = text, *next, said[64];
  unsigned long compared = 0;
  size_t written = 0;
  while ((next = next_line(&rest)) != NULL) {
    words line = split(next);
    compare(&line, number(needed(&line, "parts")) != 0 ? parts : plain, prompts);
    ++compared;
  }
  CHECK(compared > 100);
  OK(kvroute_tokenizer_read_counters(plain, &counters, error));
  CHECK(counters.answered > 0 && counters.answered < compared && counters.hit_bytes > 0);
  CHECK(counters.queue_full == 0 && counters.too_late == 0 && counters.panicked == 0);
  CHECK(counters.segments > 0 && counters.cache_bytes > 0 && counters.waiting == 0);
  OK(kvroute_tokenizer_segmentation(plain, said, sizeof said, &written, error));
  CHECK_TEXT("pieces", said);
  kvroute_prompts_free(prompts);
  kvroute_tokenizer_free(plain);
  kvroute_tokenizer_free(parts);
  free(text);
}

static void texts(void) {
  kvroute_tokenizer *tokenizer = made(NULL);
  kvroute_prompts *prompts = kvroute_prompts_new();
  kvroute_prompt prompt = KVROUTE_INIT(kvroute_prompt);
  const uint32_t expected[] = {0, 70};
  size_t count = 0;
  OK(kvroute_tokenizer_encode(tokenizer, "a", 1, 1, prompts, error));
  OK(kvroute_prompts_get(prompts, 0, &prompt, error));
  CHECK(prompt.token_ids_len == 2 && memcmp(prompt.token_ids, expected, sizeof expected) == 0);
  OK(kvroute_tokenizer_encode(tokenizer, "a", 1, 0, prompts, error));
  OK(kvroute_prompts_get(prompts, 0, &prompt, error));
  CHECK(prompt.token_ids_len == 1 && prompt.token_ids[0] == 70);
  /* A refusal leaves the prompts as they were. */
  REFUSED(KVROUTE_REQUEST, kvroute_tokenizer_prompts(tokenizer, KVROUTE_ENDPOINT_COMPLETIONS,
                                                     (const uint8_t *)"{}", 2, prompts, error));
  OK(kvroute_prompts_count(prompts, &count, error));
  CHECK_NUMBER(1, count);
  OK(kvroute_tokenizer_encode(tokenizer, NULL, 0, 0, prompts, error));
  OK(kvroute_prompts_get(prompts, 0, &prompt, error));
  CHECK_NUMBER(0, prompt.token_ids_len);
  kvroute_tokenizer_free(tokenizer);
  /* Prompts outlive their tokenizer. */
  OK(kvroute_prompts_count(prompts, &count, error));
  kvroute_prompts_free(prompts);
}

/* A long prompt of which nothing was seen, with no time to tokenize it. */
static void too_late(void) {
  enum { WORDS = 50000 };
  static const char CONFIG[] =
      "{\"domains\": {\"m\": {\"block_size\": 4}}, \"pods\": [{\"name\": \"a\", \"domain\": \"m\"}]}";
  kvroute_tokenizer_options options = KVROUTE_INIT(kvroute_tokenizer_options);
  kvroute_tokenizer_counters counters = KVROUTE_INIT(kvroute_tokenizer_counters);
  kvroute_prompts *prompts = kvroute_prompts_new();
  kvroute_prompt prompt = KVROUTE_INIT(kvroute_prompt);
  kvroute_request request = KVROUTE_INIT(kvroute_request);
  kvroute_decision decision = KVROUTE_INIT(kvroute_decision);
  kvroute_workspace *workspace = kvroute_workspace_new();
  kvroute_router *router = NULL;
  kvroute_tokenizer *tokenizer;
  char *body = room(WORDS, 16), *at = body;
  size_t word;
  time_t begun = time(NULL);
  at += sprintf(at, "{\"prompt\": \"");
  for (word = 0; word < WORDS; ++word) at += sprintf(at, "zebra%zu ", word * 7919);
  at += sprintf(at, "\"}");
  options.threads = 1;
  options.queue = 1;
  options.wait_ns = 1000000;
  tokenizer = made(&options);
  OK(kvroute_tokenizer_prompts(tokenizer, KVROUTE_ENDPOINT_COMPLETIONS, (const uint8_t *)body,
                               (size_t)(at - body), prompts, error));
  CHECK(time(NULL) - begun < 10);
  OK(kvroute_prompts_get(prompts, 0, &prompt, error));
  CHECK(prompt.token_ids == NULL && prompt.token_ids_len == 0);
  CHECK(prompt.reason.len == 10 && memcmp(prompt.reason.data, "overloaded", 10) == 0);
  CHECK(prompt.text.len == (size_t)(at - body) - 1);
  CHECK(memcmp(prompt.text.data, "\"prompt\"", 8) == 0);
  request.token_ids = prompt.token_ids;
  request.token_ids_len = prompt.token_ids_len;
  request.text = prompt.text;
  OK(kvroute_router_from_config(CONFIG, strlen(CONFIG), &router, error));
  OK(kvroute_router_decide(router, &request, 1, workspace, &decision, error));
  CHECK_NUMBER(1, decision.candidates);
  kvroute_router_free(router);
  kvroute_workspace_free(workspace);
  OK(kvroute_tokenizer_read_counters(tokenizer, &counters, error));
  CHECK(counters.too_late == 1 && counters.answered == 0);
  kvroute_tokenizer_free(tokenizer);
  kvroute_prompts_free(prompts);
  free(body);
}

int main(int count, char **arguments) {
  REQUIRE(count == 3);
  error = kvroute_error_new();
  folder = arguments[2];
  as_the_engine(arguments[1]);
  texts();
  too_late();
  kvroute_error_free(error);
  return finished();
}
