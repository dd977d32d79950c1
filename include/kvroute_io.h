/*
 * kvroute_io: what feeds a kvroute router from real engines. Pods, their KV events and loads; prompts' token ids.
 *
 * This file is generated (`cargo xtask header`), and says what kvroute.h does not: whatever is said there of objects,
 * arguments, errors and structs holds here too.
 *
 * # In short
 *
 *   kvroute_fleet_start(document, strlen(document), NULL, &fleet, error);
 *   kvroute_fleet_router(fleet, &router, error);
 *   kvroute_tokenizer_new(folder, strlen(folder), NULL, &tokenizer, error);
 *                                                                               for each request:
 *   kvroute_tokenizer_prompts(tokenizer, KVROUTE_ENDPOINT_CHAT_COMPLETIONS, body, body_len, prompts, error);
 *   kvroute_prompts_get(prompts, 0, &prompt, error);
 *   request.token_ids = prompt.token_ids, request.token_ids_len = prompt.token_ids_len, request.text = prompt.text;
 *   kvroute_fleet_now(fleet, &now_ns, error);
 *   kvroute_router_dispatch(router, &request, now_ns, workspace, &decision, error);
 *   kvroute_fleet_target(fleet, decision.pod, ... url ...);                     send it there
 *
 * examples/c/fleet.c is a whole program. C++ programs may prefer kvroute_io.hpp.
 *
 * # Building
 *
 *   cc program.c $(pkg-config --cflags --libs kvroute_io)             shared
 *   cc program.c $(pkg-config --cflags --libs kvroute_io-static)      static
 *
 * libkvroute_io has all of libkvroute in it, and is linked in its place: never both.
 *
 * # Objects
 *
 *   object              made by                                  freed by                   at one time
 *   kvroute_fleet       kvroute_fleet_start                      kvroute_fleet_free         any number
 *   kvroute_router      kvroute_fleet_router                     kvroute_router_free        any number, if const
 *   kvroute_tokenizer   kvroute_tokenizer_new                    kvroute_tokenizer_free     any number
 *   kvroute_prompts     kvroute_prompts_new                      kvroute_prompts_free       one thread
 *
 * Handles may be freed in any order: a router outlives its fleet. A process that forks has to start its fleets and
 * tokenizers after that, since threads are not taken along.
 *
 * # Threads, sockets, files
 *
 * A fleet and a tokenizer have threads of their own, which call nothing of the caller's. A fleet connects to pods over HTTP
 * and ZeroMQ, and reads the files that its document names; a tokenizer reads its folder, once.
 */

#ifndef KVROUTE_IO_H
#define KVROUTE_IO_H

#include "kvroute.h"

/// `/v1/completions`: `prompt` is a text, token ids, or a list of either.
#define KVROUTE_ENDPOINT_COMPLETIONS 0

/// `/v1/chat/completions`: `messages`, rendered by the chat template.
#define KVROUTE_ENDPOINT_CHAT_COMPLETIONS 1

/// `/v1/responses`: `instructions` and `input`, made into messages.
#define KVROUTE_ENDPOINT_RESPONSES 2

/// A router, and what keeps it in step with reality: pods come from a list, a file and DNS; each is asked what it is
/// before it gets its first request; its KV events are subscribed to, its load is scraped; one that does not answer gets
/// no requests until it does; one that leaves the list is drained and removed.
typedef struct kvroute_fleet kvroute_fleet;

/// Room for the prompts of one request. Make one a thread and use it again.
typedef struct kvroute_prompts kvroute_prompts;

/// A model's tokenizer and chat template, and threads that use them.
typedef struct kvroute_tokenizer kvroute_tokenizer;

/// How a fleet is started. All zero: the defaults.
typedef struct kvroute_fleet_options {
  /// `sizeof(kvroute_fleet_options)`.
  size_t struct_size;
  /// Threads that ask pods and read answers, 256 at most; those that follow events (`fleet.events.threads` in the
  /// document) are others. 0: 2.
  uint32_t threads;
  /// Not 0: events wait for `kvroute_fleet_release_events`.
  int32_t hold_events;
} kvroute_fleet_options;

/// A prompt as the engine will see it, or as text and why. Goes into a `kvroute_request` as it is: `token_ids`,
/// `token_ids_len` and `text` are its fields too.
typedef struct kvroute_prompt {
  /// `sizeof(kvroute_prompt)`.
  size_t struct_size;
  /// The engine's token ids; NULL if they are not known.
  const uint32_t *token_ids;
  /// How many.
  size_t token_ids_len;
  /// Without token ids: bytes that begin alike where conversations begin alike.
  kvroute_bytes text;
  /// Why there are no token ids, empty if there are: "overloaded", "media", "stored_conversation", "no_chat_template",
  /// "own_renderer", "not_reproducible"; there may come to be more.
  kvroute_str reason;
} kvroute_prompt;

/// How a tokenizer reads requests, and its bounds. All zero: the defaults.
typedef struct kvroute_tokenizer_options {
  /// `sizeof(kvroute_tokenizer_options)`.
  size_t struct_size;
  /// Template that the engines were given by `--chat-template`, in place of the model's: its source. Empty: the model's.
  kvroute_str chat_template;
  /// Arguments of the template that the engines were given by `--default-chat-template-kwargs`: a JSON object. Empty: none.
  kvroute_str chat_template_kwargs;
  /// Not 0: the engines accept a template in the request (`--trust-request-chat-template`). Its time and text are bounded,
  /// its memory is not.
  int32_t trust_request_chat_template;
  /// Not 0: the engines leave tools out where `tool_choice` is "none" (`--exclude-tools-when-tool-choice-none`).
  int32_t exclude_tools_when_tool_choice_none;
  /// Bytes of memory for the ids of text seen before. 0: 256 MiB; negative: none.
  int64_t cache_bytes;
  /// Bytes that a text, a request or a rendered chat may have; beyond is an error. 0: 16 MiB.
  uint64_t max_text_bytes;
  /// Steps a template may take (instructions of minijinja); beyond is an error. 0: 5 million.
  uint64_t max_template_steps;
  /// Threads that tokenize, 1024 at most. 0: 2.
  uint32_t threads;
  /// Requests that may wait for them; beyond, they are answered with text. 0: 256.
  uint32_t queue;
  /// Time after which a request is answered with text if it is not tokenized; nanoseconds. 0: 100 ms.
  uint64_t wait_ns;
} kvroute_tokenizer_options;

/// What a tokenizer has done since it was made.
typedef struct kvroute_tokenizer_counters {
  /// `sizeof(kvroute_tokenizer_counters)`.
  size_t struct_size;
  /// Requests that were answered by a thread, errors included.
  uint64_t answered;
  /// Requests answered with text because the queue was full.
  uint64_t queue_full;
  /// Requests answered with text because their time was over.
  uint64_t too_late;
  /// Requests during which the tokenizer panicked, answered with text: a defect.
  uint64_t panicked;
  /// Requests that stand in the queue now.
  uint64_t waiting;
  /// Bytes of text whose ids were found in the cache.
  uint64_t hit_bytes;
  /// Bytes of text that were encoded.
  uint64_t miss_bytes;
  /// Pieces of text in the cache now.
  uint64_t segments;
  /// Bytes of memory they take.
  uint64_t cache_bytes;
  /// Pieces that made room for others.
  uint64_t evictions;
} kvroute_tokenizer_counters;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// Makes the router of a document, YAML or JSON, and starts to feed it, in `*fleet`. In the document, `router` is what
/// `kvroute_router_from_config` takes, without pods, and `fleet` says where pods come from and how they are asked; a list
/// of URLs is enough:
///
///   fleet: {pods: ["http://10.0.0.7:8000", "http://10.0.0.8:8000"]}
///
/// Answers at once, while the pods are being asked. `options` may be NULL: the defaults.
///
/// Errors: `KVROUTE_INVALID_INPUT` with the place of the first thing that is wrong; or the system gives no threads or
/// sockets.
int32_t kvroute_fleet_start(const char *document,
                            size_t document_len,
                            const struct kvroute_fleet_options *options,
                            struct kvroute_fleet **fleet,
                            kvroute_error *error);

/// A handle of the fleet's router, in `*router`; to be freed, before the fleet or after it. All functions of kvroute.h
/// work with it, and all such handles are of one router, also what is poisoned. Adding and removing pods,
/// applying events and expiring requests are the fleet's. Without its fleet the router has no pods.
int32_t kvroute_fleet_router(const struct kvroute_fleet *fleet,
                             kvroute_router **router,
                             kvroute_error *error);

/// The time to pass to every function that wants `now_ns`, in `*now_ns`: that of the fleet's clock, which also the fleet
/// gives to its router. It counts from 1970 and follows the monotonic clock, whatever is done to the wall clock.
int32_t kvroute_fleet_now(const struct kvroute_fleet *fleet,
                          uint64_t *now_ns,
                          kvroute_error *error);

/// Where a pod of the router is: its name with a NUL behind it in `name`, and its URL (such as "http://10.0.0.7:8000")
/// in `url`. `rank`, which may be NULL, is set to the data-parallel rank that was picked, and `ranks`, which may be NULL, to
/// how many are behind that URL: if more than one, the request has to say which is meant (vLLM: the header
/// `X-data-parallel-rank`).
///
/// Errors: `KVROUTE_UNKNOWN_POD` if it left, or is joining this very moment; `KVROUTE_BUFFER_TOO_SMALL`: then one of
/// `*name_written` and `*url_written` is the capacity needed, and the other is as it was.
int32_t kvroute_fleet_target(const struct kvroute_fleet *fleet,
                             uint64_t pod,
                             char *name,
                             size_t name_capacity,
                             size_t *name_written,
                             char *url,
                             size_t url_capacity,
                             size_t *url_written,
                             uint32_t *rank,
                             uint32_t *ranks,
                             kvroute_error *error);

/// Writes the models and adapters that pods serve, a JSON array with a NUL behind it, into `buffer`. Each has `name`, `pods`
/// (names of those that serve it) and `is_partial`, and if known `root` and `max_model_len`. An adapter has `base`, the model
/// that its requests name in `kvroute_request.model`, and `lora` (`name`, `path`, `id`) for their
/// `kvroute_hash_context`; if `is_partial`, not all pods of `base` serve it, and requests need `pods` as their `subset`.
int32_t kvroute_fleet_models(const struct kvroute_fleet *fleet,
                             char *buffer,
                             size_t capacity,
                             size_t *written,
                             kvroute_error *error);

/// Writes what sources, pods, models and streams of events are at, a JSON object with a NUL behind it, into `buffer`. For a
/// look now and then: it costs what the pods are.
int32_t kvroute_fleet_status(const struct kvroute_fleet *fleet,
                             char *buffer,
                             size_t capacity,
                             size_t *written,
                             kvroute_error *error);

/// Goes on by another document: pods that are no longer named are drained, new ones are asked, those that are described
/// otherwise join anew, all others stay as they are; and the router chooses by the policy of its `router`. All else in
/// `router`, and `fleet.events`, counts only at the start.
///
/// Errors: those of `kvroute_fleet_start`; then nothing changes.
int32_t kvroute_fleet_reconfigure(const struct kvroute_fleet *fleet,
                                  const char *document,
                                  size_t document_len,
                                  kvroute_error *error);

/// Subscribes to the events of all pods that are there, and from now on to those of others as they come. For fleets that
/// were started with `hold_events`, once a snapshot was restored: only pods without events take one in.
int32_t kvroute_fleet_release_events(const struct kvroute_fleet *fleet,
                                     kvroute_error *error);

/// Stops a fleet and frees it; NULL is fine. Waits until its pods left the router, five seconds at most.
void kvroute_fleet_free(struct kvroute_fleet *fleet);

/// New room, for no prompts yet.
struct kvroute_prompts *kvroute_prompts_new(void);

/// How many prompts there are, in `*count`.
int32_t kvroute_prompts_count(struct kvroute_prompts *prompts, size_t *count, kvroute_error *error);

/// The prompt at `at`, from 0 on, in `*prompt`. What it points to is valid until the object is filled anew or freed.
///
/// Errors: `KVROUTE_INVALID_INPUT` if there are not so many.
int32_t kvroute_prompts_get(struct kvroute_prompts *prompts,
                            size_t at,
                            struct kvroute_prompt *prompt,
                            kvroute_error *error);

/// Frees the object; NULL is fine.
void kvroute_prompts_free(struct kvroute_prompts *prompts);

/// Reads a model's folder (`tokenizer.json`, and what lies beside it of its configuration and chat templates) and starts
/// threads that tokenize, in `*tokenizer`. `options` may be NULL: the defaults. Takes as long as reading does, a second for
/// large vocabularies.
///
/// Errors: `KVROUTE_TOKENIZER` with the file that cannot be read or is not what it should be, a chat template that does not
/// compile, or threads that the system does not give; `KVROUTE_INVALID_INPUT` names the option.
int32_t kvroute_tokenizer_new(const char *folder,
                              size_t folder_len,
                              const struct kvroute_tokenizer_options *options,
                              struct kvroute_tokenizer **tokenizer,
                              kvroute_error *error);

/// Fills `prompts` with those of a request: one, or as many as a list of prompts has. `endpoint` is a
/// `KVROUTE_ENDPOINT_...`, and `body` the request's, JSON. The caller waits for `kvroute_tokenizer_options.wait_ns` at
/// most; what is not tokenized then, or found the queue full, or has images, is one prompt without token ids, with its
/// text and the reason.
///
/// Errors: `KVROUTE_REQUEST` for what an engine would refuse too, with what is wrong and where; `KVROUTE_LIMIT` for a
/// bound of the options; `KVROUTE_TOKENIZER`. Then the prompts are those they were.
int32_t kvroute_tokenizer_prompts(const struct kvroute_tokenizer *tokenizer,
                                  int32_t endpoint,
                                  const uint8_t *body,
                                  size_t body_len,
                                  struct kvroute_prompts *prompts,
                                  kvroute_error *error);

/// Fills `prompts` with one, the ids of a text. `add_special_tokens` not 0: with those around it that the tokenizer has for
/// a single text. Special tokens in the text are read as such, as engines do. Encoded on the caller's thread, which
/// takes as long as it does, tens of milliseconds for a megabyte that was not seen before.
///
/// Errors: `KVROUTE_LIMIT` if it is longer than `max_text_bytes`, `KVROUTE_TOKENIZER` if the tokenizer fails on it. Then
/// the prompts are those they were.
int32_t kvroute_tokenizer_encode(const struct kvroute_tokenizer *tokenizer,
                                 const char *text,
                                 size_t text_len,
                                 int32_t add_special_tokens,
                                 struct kvroute_prompts *prompts,
                                 kvroute_error *error);

/// Writes whether text that was seen before is encoded again, with a NUL behind it, into `buffer`: "pieces" (texts are cut
/// at added tokens, and between them where no token can reach across), "added-tokens" (only at those), or "full: " and what
/// stands in the way.
int32_t kvroute_tokenizer_segmentation(const struct kvroute_tokenizer *tokenizer,
                                       char *buffer,
                                       size_t capacity,
                                       size_t *written,
                                       kvroute_error *error);

/// Fills `*counters` in.
int32_t kvroute_tokenizer_read_counters(const struct kvroute_tokenizer *tokenizer,
                                        struct kvroute_tokenizer_counters *counters,
                                        kvroute_error *error);

/// Frees a tokenizer; NULL is fine. What its threads have begun they finish by themselves.
void kvroute_tokenizer_free(struct kvroute_tokenizer *tokenizer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KVROUTE_IO_H */
