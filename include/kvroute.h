/*
 * kvroute: routes LLM requests to the pod that already holds their prefix in its KV cache.
 *
 * This file is generated (`cargo xtask header`) and reads from top to bottom.
 *
 * # In short
 *
 *   kvroute_router_from_config(document, strlen(document), &router, error);
 *   kvroute_router_find_pod(router, "pod-a", 5, 0, &pod, error);
 *   kvroute_router_apply(router, pod, sequence, payload, payload_len, NULL, error);      for each message
 *   kvroute_router_dispatch(router, &request, now_ns, workspace, &decision, error);      for each request
 *   kvroute_router_first_token(router, decision.ticket, NULL, error);
 *   kvroute_router_finish(router, decision.ticket, KVROUTE_FINISH_COMPLETED, cached, NULL, error);
 *   kvroute_router_expire(router, now_ns, NULL, error);                                  every second
 *
 * examples/c/route.c is a whole program. C++ programs may prefer kvroute.hpp.
 *
 * # Building
 *
 *   cc program.c $(pkg-config --cflags --libs kvroute)             shared
 *   cc program.c $(pkg-config --cflags --libs kvroute-static)      static
 *
 * # Objects
 *
 *   object              made by                                  freed by                   at one time
 *   kvroute_error       kvroute_error_new                        kvroute_error_free         one thread
 *   kvroute_hasher      kvroute_hasher_new                       kvroute_hasher_free        any number
 *   kvroute_domain      kvroute_domain_new, _router_domain       kvroute_domain_free        any number
 *   kvroute_workspace   kvroute_workspace_new                    kvroute_workspace_free     one thread
 *   kvroute_router      kvroute_router_new, _from_config         kvroute_router_free        any number, if const
 *   kvroute_snapshot    kvroute_router_snapshot                  kvroute_snapshot_free      one thread
 *   kvroute_restore     kvroute_restore_new                      kvroute_restore_free       one thread
 *
 * A function that takes an object as `const T *` may run in any number of threads at a time on the same object; one
 * that takes it as `T *` must be the only one. A workspace, an error object, a snapshot or a restore that two threads use
 * at a time is found out (KVROUTE_BUSY). Freeing must be the last use. Handles may be freed in any order.
 *
 * To pass a pointer that is no object of its kind, or was freed, is undefined behaviour. The library usually notices and
 * answers KVROUTE_INVALID_HANDLE.
 *
 * # Arguments
 *
 * Arrays and texts come as pointer and length; a pointer may be NULL only with length 0. Texts are UTF-8 without a NUL
 * at their end. What is passed in is read during the call and not kept.
 *
 * Structs that begin with `struct_size` are to be zeroed first; then `struct_size` is set to their sizeof:
 *
 *   kvroute_request request = KVROUTE_INIT(kvroute_request);
 *
 * Zero means the default. Later versions add fields at the end of these structs; a program and a library of different
 * ages understand each other. All other structs keep their size. Fields called `reserved` must be 0, since later versions
 * may give them a name and a meaning.
 *
 * Answers are written only on success, with one exception: a buffer that is too small. Then the call answers
 * KVROUTE_BUFFER_TOO_SMALL, and `*written` is the capacity that would do. Otherwise `*written` is what was written; of
 * a text without the NUL behind it. Places for answers must not be NULL unless it says so. Handles aside,
 * the library neither takes over memory nor hands any out.
 *
 * # Errors
 *
 * Functions that can fail answer a status: 0 (KVROUTE_OK), 1xx for mistakes of the caller, 2xx for data, 3xx for the
 * state of things, 9xx for mistakes of this library. Their last argument is an error object, or NULL: after a failure
 * it holds a message that names what was wrong and where. A call that failed changed nothing.
 *
 * What is wrong with an engine's events is no failure of the call that applies them: it is in the report. A pod that was
 * added with KVROUTE_ON_GAP_REPLAY waits until somebody reads there that it needs batches.
 *
 * Nothing here throws or jumps, and nothing aborts but running out of memory. If this library panics, which is a bug in
 * it, it says so on the standard error output and the call answers KVROUTE_PANIC. A router that was being changed at
 * that moment answers KVROUTE_POISONED from then on, until kvroute_router_recover.
 *
 * # Time
 *
 * This library reads no clock. `now_ns` is the time in nanoseconds since any moment that is the same for all calls to
 * a router; with session tokens, since the Unix epoch.
 *
 * # Cost
 *
 * Deciding and dispatching are one call each. Once a workspace is warm, deciding allocates nothing.
 */

#ifndef KVROUTE_H
#define KVROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Version of this header.
#define KVROUTE_VERSION "0.1.0"
#define KVROUTE_VERSION_MAJOR 0
#define KVROUTE_VERSION_MINOR 1
#define KVROUTE_VERSION_PATCH 0

/// Initial value of a struct that begins with `struct_size` (in C; kvroute.hpp does it for C++).
#define KVROUTE_INIT(type) \
  { .struct_size = sizeof(type) }

/// Version of this interface. Within one version functions, constants and ends of structs are added, and nothing is
/// changed or removed.
#define KVROUTE_ABI_VERSION 1

/// Done.
#define KVROUTE_OK 0

/// A pointer is NULL that must not be.
#define KVROUTE_NULL_POINTER 100

/// An argument or option is out of range, of the wrong shape, or contradicts another.
#define KVROUTE_INVALID_INPUT 101

/// A text is not UTF-8.
#define KVROUTE_INVALID_UTF8 102

/// A struct's `struct_size` is none that this library knows, or there is something behind what it knows.
#define KVROUTE_STRUCT_SIZE 103

/// A buffer is too small; what `written` points to is the capacity that would do.
#define KVROUTE_BUFFER_TOO_SMALL 104

/// A handle is not one of this kind, or was freed.
#define KVROUTE_INVALID_HANDLE 105

/// Bytes of an engine, a decision log or a snapshot are not the format they should be.
#define KVROUTE_DECODE 200

/// A block hash cannot be reproduced outside the engine.
#define KVROUTE_NOT_REPRODUCIBLE 201

/// A model's tokenizer cannot be read, is not what it should be, or fails (kvroute_io.h).
#define KVROUTE_TOKENIZER 202

/// A request that its engine would refuse as well: its body, or what its chat template says of it (kvroute_io.h).
#define KVROUTE_REQUEST 203

/// A pod that the router does not know.
#define KVROUTE_UNKNOWN_POD 300

/// Every pod was dropped by a filter, or there is none.
#define KVROUTE_NO_CANDIDATE 301

/// A configured bound was reached.
#define KVROUTE_LIMIT 302

/// Another thread uses the workspace, the error object, the snapshot, the restore or the prompts right now; or a router is
/// to be recovered that a fleet uses (kvroute_io.h).
#define KVROUTE_BUSY 303

/// A function that changes the router panicked before; `kvroute_router_recover` makes it usable again. A snapshot or
/// restore that panicked before is only to be freed.
#define KVROUTE_POISONED 304

/// A cache domain that the router does not know.
#define KVROUTE_UNKNOWN_DOMAIN 305

/// An error that this library has no code for.
#define KVROUTE_INTERNAL 900

/// This library has a bug: it panicked. Please report it.
#define KVROUTE_PANIC 901

/// kvroute's own scheme: events' token ids are hashed again, whatever the engine's own hashes are.
#define KVROUTE_SCHEME_OWN 0

/// vLLM's own hashes, byte for byte.
#define KVROUTE_SCHEME_VLLM 1

/// llm-d's default, `hashAlgorithm: cbor-fnv`.
#define KVROUTE_SCHEME_LLMD_CBOR_FNV 2

/// llm-d's other one, `hashAlgorithm: xxh64`.
#define KVROUTE_SCHEME_LLMD_XXH64 3

/// Engines publish multimodal items with their offsets: vLLM 0.19 and later.
#define KVROUTE_MULTIMODAL_OFFSET 0

/// Engines publish their bare identifiers: vLLM before 0.19.
#define KVROUTE_MULTIMODAL_IDENTIFIER 1

/// No pod. Every pod's id is another number.
#define KVROUTE_NO_POD 0

/// The pod does both.
#define KVROUTE_ROLE_BOTH 0

/// The pod answers requests.
#define KVROUTE_ROLE_DECODE 1

/// The pod computes prompts for decode pods, nothing else.
#define KVROUTE_ROLE_PREFILL 2

/// A store of a block that the pod holds is a further copy, unless it reads like a full report.
#define KVROUTE_COPIES_INFER 0

/// It always is.
#define KVROUTE_COPIES_COUNT 1

/// It never is: the first removal takes the block away.
#define KVROUTE_COPIES_SET 2

/// When batches are missing: drop the pod's view and go on.
#define KVROUTE_ON_GAP_CLEAR 0

/// When batches are missing: apply nothing and ask for them (`KVROUTE_RESYNC_GAP`).
#define KVROUTE_ON_GAP_REPLAY 1

/// A KV-cache group of full attention.
#define KVROUTE_GROUP_FULL_ATTENTION 0

/// A KV-cache group with a sliding window.
#define KVROUTE_GROUP_SLIDING_WINDOW 1

/// A KV-cache group of a kind that is not credited.
#define KVROUTE_GROUP_UNKNOWN 2

/// Blocks became available.
#define KVROUTE_EVENT_STORED 0

/// Blocks went away.
#define KVROUTE_EVENT_REMOVED 1

/// The whole cache went away.
#define KVROUTE_EVENT_CLEARED 2

/// A medium that is not known; of a removal, everywhere.
#define KVROUTE_TIER_UNKNOWN (-1)

/// Device memory.
#define KVROUTE_TIER_GPU 0

/// Host memory.
#define KVROUTE_TIER_CPU 1

/// Local storage.
#define KVROUTE_TIER_DISK 2

/// A store shared with others.
#define KVROUTE_TIER_EXTERNAL 3

/// A text: an adapter's name, a cache salt, or (vLLM before 0.19) a multimodal identifier.
#define KVROUTE_EXTRA_KEY_TEXT 0

/// A multimodal item and its start relative to the block's.
#define KVROUTE_EXTRA_KEY_MULTIMODAL 1

/// The key of prompt embeddings.
#define KVROUTE_EXTRA_KEY_BYTES 2

/// The index shows it.
#define KVROUTE_OUTCOME_APPLIED 0

/// Blocks wait for their parent.
#define KVROUTE_OUTCOME_PARKED 1

/// Some or all of it was left out; `reason` is a `KVROUTE_IGNORED_...`.
#define KVROUTE_OUTCOME_IGNORED 2

/// Batches are needed that were not there; `reason` is a `KVROUTE_RESYNC_...`.
#define KVROUTE_OUTCOME_NEEDS_RESYNC 3

/// The batch was applied before, byte for byte.
#define KVROUTE_IGNORED_DUPLICATE 0

/// The batch belongs to another data-parallel rank than the pod.
#define KVROUTE_IGNORED_OTHER_RANK 1

/// An event with a tag no known engine sends.
#define KVROUTE_IGNORED_UNKNOWN_TAG 2

/// An event with a missing or malformed field.
#define KVROUTE_IGNORED_MALFORMED 3

/// An announcement that is not about whole blocks of token ids.
#define KVROUTE_IGNORED_NOT_A_BLOCK 4

/// A store into a tier that is not known.
#define KVROUTE_IGNORED_UNKNOWN_TIER 5

/// A block whose place is not known, or a removal of one the pod does not hold.
#define KVROUTE_IGNORED_UNKNOWN_BLOCK 6

/// Masked blocks were left out and the rest cannot be placed.
#define KVROUTE_IGNORED_SPARSE 7

/// A block size other than the cache domain's.
#define KVROUTE_IGNORED_BLOCK_SIZE 8

/// EAGLE pairs in place of token ids.
#define KVROUTE_IGNORED_BIGRAMS 9

/// A LoRA adapter named by a number that the pod's options do not list.
#define KVROUTE_IGNORED_UNKNOWN_ADAPTER 10

/// The index is at its memory bound.
#define KVROUTE_IGNORED_MEMORY 11

/// The place for blocks that wait for their parent is full.
#define KVROUTE_IGNORED_PARKED_FULL 12

/// A name was announced for another block than the one the pod holds under it.
#define KVROUTE_IGNORED_CONTRADICTION 13

/// The pod named more KV-cache groups than any engine has.
#define KVROUTE_IGNORED_TOO_MANY_GROUPS 14

/// Replay batches from `replay_from` on, or call `kvroute_router_abandon_gap`.
#define KVROUTE_RESYNC_GAP 0

/// The engine restarted and its first batches were missed. Replay from 0 if that can be done.
#define KVROUTE_RESYNC_RESTARTED 1

/// The batch could not be read at all, so the pod's view was dropped; it heals as blocks are announced again, and
/// nothing is to be done.
#define KVROUTE_RESYNC_UNDECODABLE 2

/// Room for tiers: those that `KVROUTE_TIER_...` does not name yet are 0.
#define KVROUTE_MAX_TIERS 8

/// All that was held is gone; the changes are from nothing on.
#define KVROUTE_HELD_CLEARED 1

/// What changed is not known: the journal began, ran over, or a snapshot was restored. Whoever keeps a copy drops it and
/// lists all.
#define KVROUTE_HELD_LIST_AGAIN 2

/// What the pod can use of a prompt is just the blocks that it holds from the first one on. Not so for pods with
/// several KV-cache groups, or one whose kind is not full attention.
#define KVROUTE_HELD_PLAIN 4

/// There are more changes than there was room for.
#define KVROUTE_HELD_MORE 8

/// Where a listing of what is held ends.
#define KVROUTE_HELD_END UINT64_MAX

/// Most score columns of one request.
#define KVROUTE_MAX_SCORE_COLUMNS 16

/// The engine answered.
#define KVROUTE_FINISH_COMPLETED 0

/// The engine did not: what was predicted to be cached by it is taken back.
#define KVROUTE_FINISH_FAILED 1

/// The client went away. What was predicted stays if a first token had come.
#define KVROUTE_FINISH_CANCELLED 2

/// The pod was taken because the picker picked it.
#define KVROUTE_REASON_PICKED 0

/// Because the pod that the picker picked is much busier than the others.
#define KVROUTE_REASON_SPILLED 1

/// Because it is new, and no pod has much of the prompt.
#define KVROUTE_REASON_WARM_UP 2

/// The engine's count of cached tokens is not known.
#define KVROUTE_CACHED_UNKNOWN (-1)

/// An explanation as JSON.
#define KVROUTE_EXPLAIN_JSON 0

/// An explanation as text, a line a pod.
#define KVROUTE_EXPLAIN_TEXT 1

/// The prompt is in the line too: its token ids, or its text in base64.
#define KVROUTE_RECORD_PROMPT 1

/// Room for any chunk of a snapshot; bytes.
#define KVROUTE_SNAPSHOT_CHUNK 65536

/// Nothing is known of the pod's cache that could be credited.
#define KVROUTE_TRUST_LOAD_ONLY 0

/// No event came from the pod so far, or its engine keeps having less than its events said.
#define KVROUTE_TRUST_APPROXIMATE 1

/// Something was lost or left out: matches may be too short.
#define KVROUTE_TRUST_DEGRADED 2

/// Every event since the engine's start was applied.
#define KVROUTE_TRUST_EXACT 3

/// Room for reasons in `kvroute_pod_counters`.
#define KVROUTE_MAX_IGNORE_REASONS 32

/// A set of pods whose blocks mean the same: same model weights, same block hashes, same block size. Never changes;
/// share it between threads and routers.
typedef struct kvroute_domain kvroute_domain;

/// What went wrong in the last call that was given this object. Make one a thread and pass it to every call, or
/// pass NULL where only the status matters.
typedef struct kvroute_error kvroute_error;

/// Turns token ids into chained block hashes. Never changes; share it between threads.
typedef struct kvroute_hasher kvroute_hasher;

/// A snapshot that is taken in, and then given to a router.
typedef struct kvroute_restore kvroute_restore;

/// Everything a gateway needs to route. Functions that take it as `const` may be called from any number of threads
/// at a time.
typedef struct kvroute_router kvroute_router;

/// A snapshot in the making: what a router knows, as bytes, so that another one, or the next process, goes on as if this
/// one had never stopped. In it are the pods, what they hold, what was sent to them, where their streams of events stand,
/// and sessions. Not in it are the configuration, requests in flight, load reports and the router's counters.
///
/// Keep its bytes where the configuration is kept: a checksum finds damage, not forgery.
typedef struct kvroute_snapshot kvroute_snapshot;

/// Room for one decision at a time, reused so that deciding allocates nothing once warm; and what the last
/// decision saw, for `kvroute_router_explain`. Make one a thread. Works with any router.
typedef struct kvroute_workspace kvroute_workspace;

/// A text: UTF-8, not ended by a NUL. All zero is the empty text.
typedef struct kvroute_str {
  /// Its first byte; may be NULL if `len` is 0.
  const char *data;
  /// Its length; bytes.
  size_t len;
} kvroute_str;

/// Bytes. All zero is none.
typedef struct kvroute_bytes {
  /// The first; may be NULL if `len` is 0.
  const uint8_t *data;
  /// How many.
  size_t len;
} kvroute_bytes;

/// How blocks are hashed. All zero but `block_size`: kvroute's own scheme.
typedef struct kvroute_hasher_options {
  /// `sizeof(kvroute_hasher_options)`.
  size_t struct_size;
  /// `KVROUTE_SCHEME_...`.
  int32_t scheme;
  /// Tokens a block; 1 to 65 536.
  uint32_t block_size;
  /// If `has_seed` is not 0: a decimal number for the own scheme, vLLM's `PYTHONHASHSEED`, llm-d's `hashSeed`. Without
  /// one: the number that Dynamo and SMG share; `PYTHONHASHSEED` is not set; `hashSeed` is empty.
  struct kvroute_str seed;
  /// vLLM: `--prefix-caching-hash-algo`.
  struct kvroute_str algorithm;
  /// vLLM: version of the engines, such as "0.32.0".
  struct kvroute_str version;
  /// vLLM: its `NONE_HASH` itself, in place of `seed`.
  struct kvroute_bytes none_hash;
  /// llm-d: name of the model.
  struct kvroute_str model;
  /// vLLM: tokens after a block that its hash covers (draft models, 0.33).
  uint32_t lookahead;
  /// Own: `KVROUTE_MULTIMODAL_...`.
  int32_t multimodal;
  /// See `seed`.
  int32_t has_seed;
  /// Room; 0.
  uint32_t reserved;
} kvroute_hasher_options;

/// One image, video or audio clip in a prompt.
typedef struct kvroute_multimodal_item {
  /// The engine's identifier of the content (vLLM: hex digest of the processed item).
  struct kvroute_str identifier;
  /// First token of its placeholder; tokens from the start of the prompt.
  uint32_t start;
  /// Length of its placeholder; tokens.
  uint32_t length;
} kvroute_multimodal_item;

/// What besides the token ids decides whether KV can be shared. All zero: no adapter, no salt, plain text.
typedef struct kvroute_hash_context {
  /// `sizeof(kvroute_hash_context)`.
  size_t struct_size;
  /// Name of the LoRA adapter; empty for none.
  struct kvroute_str lora_name;
  /// Where the engine loaded the adapter from (`root` in `/v1/models`). In vLLM's hashes since 0.31.
  struct kvroute_str lora_path;
  /// The engine's number of the adapter. In vLLM's hashes before 0.11.1.
  int64_t lora_id;
  /// Tenant isolation (`cache_salt` in vLLM's API); empty for none.
  struct kvroute_str cache_salt;
  /// Multimodal items, ordered by `start`.
  const struct kvroute_multimodal_item *multimodal;
  /// How many.
  size_t multimodal_len;
  /// Keys of prompt embeddings, one for each of the first blocks.
  const struct kvroute_bytes *prompt_embeds;
  /// How many.
  size_t prompt_embeds_len;
} kvroute_hash_context;

/// Bounds and sizes of a router, and its policy by name. All zero: the defaults.
typedef struct kvroute_router_options {
  /// `sizeof(kvroute_router_options)`.
  size_t struct_size;
  /// Name of the policy: "cost", which is the default, "llm-d-demo" or "affinity". Other weights and filters: in a
  /// configuration document.
  struct kvroute_str preset;
  /// Not 0: prompts of which the decode pod would have to compute more than `prefill_max_uncached_tokens` are
  /// computed by a prefill pod first.
  int32_t has_prefill;
  /// Bytes a block of a prompt that is only known as text; a multiple of 4. 0: 256.
  uint32_t text_block_bytes;
  /// See `has_prefill`; tokens.
  uint64_t prefill_max_uncached_tokens;
  /// Locks the index is spread over. 0: 256.
  uint64_t shards;
  /// Bytes for blocks and their holders. 0: 4 GiB.
  uint64_t max_bytes;
  /// Blocks a pod of which it is remembered that they were sent there. 0: 31 250; negative: none.
  int64_t max_predicted;
  /// How long a session is remembered and a session token counts; nanoseconds. 0: 300 s.
  uint64_t session_ttl_ns;
  /// Most sessions remembered by id. 0: 100 000; negative: none.
  int64_t max_sessions;
  /// Secret of session tokens, 32 random bytes; none: no session tokens.
  struct kvroute_bytes session_key;
  /// How long a request may be in flight before it is forgotten; nanoseconds. 0: 600 s.
  uint64_t request_ttl_ns;
  /// Most requests in flight. 0: 262 144, the most there can be; negative: none.
  int64_t max_requests;
  /// With `has_prefill`: shorter prompts than this are never computed by a prefill pod; tokens.
  uint64_t prefill_min_prompt_tokens;
  /// With `has_prefill`: nor are prompts if the prefill pod has more prefill work in flight than this; tokens. 0: however
  /// much it has; negative: if it has any.
  int64_t prefill_max_load;
  /// How long what was sent to a pod counts as if it were there, until the first token at most, where the pod's events
  /// do not say so yet; nanoseconds. 0: 2 s; negative: not at all.
  int64_t speculation_ttl_ns;
  /// Requests that wait from which on a load report says that its pod is overloaded. 0: 8; negative: never.
  int64_t overload_waiting;
  /// The same for the share of the KV cache in use. 0: 0.8; above 1: never.
  double overload_kv_usage;
} kvroute_router_options;

/// A label of a pod.
typedef struct kvroute_label {
  /// Its key.
  struct kvroute_str key;
  /// Its value.
  struct kvroute_str value;
} kvroute_label;

/// A KV-cache group that is known beforehand.
typedef struct kvroute_group {
  /// Its number in events.
  uint32_t group;
  /// `KVROUTE_GROUP_...`.
  int32_t kind;
  /// Its window, if it has one; tokens.
  uint32_t window;
  /// Room; 0.
  uint32_t reserved;
} kvroute_group;

/// A LoRA adapter by the engine's number, for engines whose events name no adapter.
typedef struct kvroute_adapter {
  /// The number.
  int64_t id;
  /// The adapter's name.
  struct kvroute_str name;
} kvroute_adapter;

/// A pod: an engine, or one data-parallel rank of it. `name` and `domain` (or `domain_name`) are
/// needed, the rest may be zero.
typedef struct kvroute_pod_options {
  /// `sizeof(kvroute_pod_options)`.
  size_t struct_size;
  /// Its name, such as "10.0.0.7:8000".
  struct kvroute_str name;
  /// Its cache domain.
  const struct kvroute_domain *domain;
  /// Its data-parallel rank; each rank is a pod of its own, with its own stream of events.
  uint32_t dp_rank;
  /// `KVROUTE_ROLE_...`.
  int32_t role;
  /// Labels.
  const struct kvroute_label *labels;
  /// How many.
  size_t labels_len;
  /// `KVROUTE_COPIES_...`.
  int32_t copies;
  /// `KVROUTE_ON_GAP_...`.
  int32_t on_gap;
  /// KV-cache groups known beforehand; events teach them too.
  const struct kvroute_group *groups;
  /// How many.
  size_t groups_len;
  /// LoRA adapters by number, for vLLM before 0.14 and SGLang before 0.5.22.
  const struct kvroute_adapter *adapters;
  /// How many.
  size_t adapters_len;
  /// Blocks that may wait for an unknown parent. 0: 4096; negative: none.
  int64_t max_parked;
  /// Bytes those may take. 0: 16 MiB; negative: none.
  int64_t max_parked_bytes;
  /// Blocks without a copy whose names are kept for offload announcements. 0: 4096; negative: none.
  int64_t max_retired;
  /// Name of its cache domain, which the router knows, in place of `domain`.
  struct kvroute_str domain_name;
  /// How fast it computes, as a multiple of an ordinary pod; above 0. 0: 1.
  double capacity;
} kvroute_pod_options;

/// What became of one batch.
typedef struct kvroute_apply_report {
  /// `sizeof(kvroute_apply_report)`.
  size_t struct_size;
  /// The gravest outcome of any event in it: `KVROUTE_OUTCOME_...`.
  int32_t outcome;
  /// Why: `KVROUTE_IGNORED_...` or `KVROUTE_RESYNC_...`, as the outcome says, or -1 for a reason that this header
  /// does not name; else 0.
  int32_t reason;
  /// `KVROUTE_RESYNC_GAP`: the first sequence number to replay.
  uint64_t replay_from;
  /// Events that were applied, parked or ignored.
  uint64_t events;
  /// Blocks stored, further copies included.
  uint64_t blocks_stored;
  /// Blocks removed, copies included.
  uint64_t blocks_removed;
  /// Events that could not be read.
  uint64_t skipped;
  /// What was found where something could not be read; ends in a NUL, and is cut where it is too long.
  char detail[256];
} kvroute_apply_report;

/// One extra key of one block of an event. Keys are in order of their blocks and, in a block, as the engine lists
/// them.
typedef struct kvroute_extra_key {
  /// Which block of the event, from 0.
  uint32_t block;
  /// `KVROUTE_EXTRA_KEY_...`.
  int32_t kind;
  /// The text, the item's identifier, or the bytes.
  struct kvroute_str key;
  /// Start of the item minus start of the block; tokens.
  int64_t offset;
} kvroute_extra_key;

/// A KV event. What does not belong to its `kind` is not read.
typedef struct kvroute_kv_event {
  /// `sizeof(kvroute_kv_event)`; the same in every event of an array.
  size_t struct_size;
  /// `KVROUTE_EVENT_...`.
  int32_t kind;
  /// Where the blocks lie, or went away from: `KVROUTE_TIER_...`.
  int32_t tier;
  /// The blocks, first to last, as the engine calls them.
  const uint64_t *block_hashes;
  /// How many.
  size_t block_hashes_len;
  /// KV-cache group of a hybrid-attention model.
  uint32_t group;
  /// Stored: not 0 if `group_kind` says what the group is.
  int32_t has_group_kind;
  /// `KVROUTE_GROUP_...`.
  int32_t group_kind;
  /// Its window, if it has one; tokens.
  uint32_t group_window;
  /// Stored: the block before the first, if `has_parent` is not 0; else they begin a prompt.
  uint64_t parent;
  /// See `parent`.
  int32_t has_parent;
  /// Tokens a block.
  uint32_t block_size;
  /// Token ids, `[block_hashes_len * block_size]`; none for an offload announcement.
  const uint32_t *token_ids;
  /// How many.
  size_t token_ids_len;
  /// Name of the LoRA adapter; empty for none.
  struct kvroute_str lora_name;
  /// The engine's number of the adapter, if `has_lora_id` is not 0.
  int64_t lora_id;
  /// See `lora_id`.
  int32_t has_lora_id;
  /// Room; 0.
  uint32_t reserved;
  /// SGLang's `cache_salt`; empty for none. vLLM's is an extra key of block 0.
  struct kvroute_str cache_salt;
  /// Extra keys.
  const struct kvroute_extra_key *extra_keys;
  /// How many.
  size_t extra_keys_len;
} kvroute_kv_event;

/// What one pod has of a query.
typedef struct kvroute_pod_match {
  /// The pod.
  uint64_t pod;
  /// Leading blocks it can use, by tier.
  uint32_t blocks[KVROUTE_MAX_TIERS];
  /// Leading blocks that this router sent to it.
  uint32_t predicted;
  /// Those of them that were sent a moment ago, and that its events do not tell of yet.
  uint32_t speculative;
} kvroute_pod_match;

/// A block that a pod holds.
typedef struct kvroute_held_block {
  /// The block, hashed as requests of the pod's cache domain are.
  uint64_t hash;
  /// The KV-cache group that holds it.
  uint32_t group;
  /// The tier that it lies in: `KVROUTE_TIER_...`.
  int32_t tier;
} kvroute_held_block;

/// A block that a pod came to hold, or holds no more.
typedef struct kvroute_held_change {
  /// The block.
  struct kvroute_held_block block;
  /// 1 if it is held now, 0 if it is held no more.
  int64_t is_held;
} kvroute_held_change;

/// What an external scorer says of the pods; every profile that has one of the name reads it.
typedef struct kvroute_score_column {
  /// Name of the scorer, one of `external` in the configuration.
  struct kvroute_str scorer;
  /// The pods it is about. Those that are gone are passed over, those left out score 0, and of one that is there
  /// twice the last score counts.
  const uint64_t *pods;
  /// Their scores, 0 to 1; `[len]`.
  const double *values;
  /// How many.
  size_t len;
} kvroute_score_column;

/// What is known from elsewhere of a pod's cache: that the pod has the first `blocks` blocks of the prompt, in `tier` or
/// nearer. It is hearsay: it adds to what the pod's own events tell, and is believed like a degraded view.
typedef struct kvroute_known_prefix {
  /// The pod. One that is gone is passed over.
  uint64_t pod;
  /// The farthest tier that any of them lies in: `KVROUTE_TIER_...`. Several about one pod may each name a tier.
  int32_t tier;
  /// Leading blocks of the prompt, as the pod's cache domain hashes it.
  uint32_t blocks;
} kvroute_known_prefix;

/// A request to be routed. All zero but `struct_size`: an empty prompt.
typedef struct kvroute_request {
  /// `sizeof(kvroute_request)`.
  size_t struct_size;
  /// The prompt's token ids.
  const uint32_t *token_ids;
  /// How many.
  size_t token_ids_len;
  /// The prompt's text, where nobody tokenized it; then no `token_ids`. Any bytes will do.
  struct kvroute_bytes text;
  /// What else decides whether KV can be shared; may be NULL.
  const struct kvroute_hash_context *context;
  /// The served model it asks for; empty is content with any.
  struct kvroute_str model;
  /// The conversation it belongs to, by an id of the client's choice; empty for none.
  struct kvroute_str session_id;
  /// The same by a token of `kvroute_router_session_token`; then no `session_id`.
  struct kvroute_str session_token;
  /// What external scorers say of the pods; at most `KVROUTE_MAX_SCORE_COLUMNS`.
  const struct kvroute_score_column *scores;
  /// How many.
  size_t scores_len;
  /// Distinguishes requests where a choice is otherwise even, if `has_nonce` is not 0.
  uint64_t nonce;
  /// See `nonce`.
  int32_t has_nonce;
  /// Not 0: it may only go to the pods that `subset` names.
  int32_t has_subset;
  /// Names of the pods it may go to, all ranks of each, if `has_subset` is not 0; none is no pod.
  const struct kvroute_str *subset;
  /// How many.
  size_t subset_len;
  /// What pods are said to hold of the prompt, by others than their events; of token ids only.
  const struct kvroute_known_prefix *known;
  /// How many.
  size_t known_len;
} kvroute_request;

/// Where a request should go; of a dispatch, also how it went.
typedef struct kvroute_decision {
  /// `sizeof(kvroute_decision)`.
  size_t struct_size;
  /// The pod that answers.
  uint64_t pod;
  /// Its weighted sum of scores.
  double total;
  /// Leading blocks it is expected to take from its cache, by tier.
  uint32_t matched_blocks[KVROUTE_MAX_TIERS];
  /// Tokens in those blocks.
  uint64_t matched_tokens;
  /// Tokens it has to compute, as well as can be told.
  uint64_t uncached_tokens;
  /// How many pods were considered.
  uint64_t candidates;
  /// The pod that computes the prompt first, or `KVROUTE_NO_POD`.
  uint64_t prefill_pod;
  /// Its weighted sum of scores.
  double prefill_total;
  /// Leading blocks it is expected to take from its cache, by tier.
  uint32_t prefill_matched_blocks[KVROUTE_MAX_TIERS];
  /// Tokens in those blocks.
  uint64_t prefill_matched_tokens;
  /// Tokens it has to compute, as well as can be told.
  uint64_t prefill_uncached_tokens;
  /// Dispatch: names the request in `kvroute_router_first_token` and `kvroute_router_finish`. 0: it is not tracked.
  uint64_t ticket;
  /// Dispatch: how often it was decided again because somebody else booked the same pod meanwhile.
  uint32_t retries;
  /// Dispatch: 1 if somebody still did at the last try, and it was booked all the same.
  uint32_t contended;
  /// Why `pod`: `KVROUTE_REASON_...`.
  int32_t reason;
  /// Why `prefill_pod`, if there is one.
  int32_t prefill_reason;
  /// How many next best pods `kvroute_workspace_fallbacks` has for it: as many as its profile asks for, and as there
  /// are.
  uint64_t fallbacks_len;
} kvroute_decision;

/// What became of a snapshot, in numbers.
typedef struct kvroute_restored {
  /// `sizeof(kvroute_restored)`.
  size_t struct_size;
  /// Pods in the snapshot.
  uint64_t pods;
  /// Those of them that were not in the router before.
  uint64_t pods_added;
  /// Those that were given nothing of what the snapshot knows of them; `kvroute_restore_report` says why.
  uint64_t pods_refused;
  /// Blocks that pods hold again, once for each group and tier.
  uint64_t blocks;
  /// Blocks that are predicted for them again.
  uint64_t predicted_blocks;
  /// Blocks that there was no room for.
  uint64_t blocks_refused;
  /// Sessions that the router has from it.
  uint64_t sessions;
  /// Sessions left out: their pod is not here, the router knows a later one, or has no room.
  uint64_t sessions_left_out;
} kvroute_restored;

/// What a router has, and what befell it.
typedef struct kvroute_router_counters {
  /// `sizeof(kvroute_router_counters)`.
  size_t struct_size;
  /// Requests in flight.
  uint64_t in_flight;
  /// Sessions remembered by id.
  uint64_t sessions;
  /// Requests forgotten because their time was over.
  uint64_t expired;
  /// Requests that were not tracked because too many were in flight.
  uint64_t untracked;
  /// Distinct blocks in the index.
  uint64_t blocks;
  /// Bytes of blocks and their holders.
  uint64_t bytes;
  /// Bytes of the pods' views.
  uint64_t view_bytes;
} kvroute_router_counters;

/// What befell a pod's stream of events, and what this router has on it.
typedef struct kvroute_pod_counters {
  /// `sizeof(kvroute_pod_counters)`.
  size_t struct_size;
  /// How far its view is to be believed: `KVROUTE_TRUST_...`.
  int32_t trust;
  /// 1 if it takes new requests.
  int32_t accepting;
  /// Batches judged.
  uint64_t batches;
  /// Events in them.
  uint64_t events;
  /// Blocks stored, further copies included.
  uint64_t blocks_stored;
  /// Blocks removed, copies and clears included.
  uint64_t blocks_removed;
  /// Blocks of stores that were left out.
  uint64_t blocks_refused;
  /// Removals of blocks it was not known to hold.
  uint64_t unknown_removals;
  /// Events whose blocks were parked.
  uint64_t parked;
  /// Blocks that wait for their parent now.
  uint64_t parked_blocks;
  /// Times the whole view was dropped.
  uint64_t clears;
  /// Times batches were found missing.
  uint64_t gaps;
  /// Engine restarts noticed.
  uint64_t restarts;
  /// Batches answered with `KVROUTE_OUTCOME_NEEDS_RESYNC`.
  uint64_t resyncs;
  /// Requests whose engine had exactly what was expected.
  uint64_t agreed;
  /// Requests whose engine had less.
  uint64_t overestimated;
  /// Requests whose engine had more.
  uint64_t underestimated;
  /// Requests that this router has in flight there.
  uint64_t booked_requests;
  /// Tokens of their prompts that are still to be computed.
  uint64_t booked_prefill_tokens;
  /// Blocks that this router sent there and remembers.
  uint64_t predicted_blocks;
  /// Events and batches left out, by `KVROUTE_IGNORED_...`.
  uint64_t ignored[KVROUTE_MAX_IGNORE_REASONS];
} kvroute_pod_counters;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/// Version of the library that runs, such as "1.2.3"; `KVROUTE_VERSION` is that of the header. Never freed.
const char *kvroute_version(void);

/// `KVROUTE_ABI_VERSION` of the library that runs.
uint32_t kvroute_abi_version(void);

/// Does nothing. A program that refers to it links with a library of ABI version 1, or not at all.
void kvroute_abi_1(void);

/// Name of a status, such as "unknown-pod"; "unknown" for a number that is none. Never NULL, never freed.
const char *kvroute_status_name(int32_t status);

/// A new error object, saying nothing.
struct kvroute_error *kvroute_error_new(void);

/// Frees an error object; NULL is fine.
void kvroute_error_free(struct kvroute_error *error);

/// Status of the last call that was given this object.
int32_t kvroute_error_status(const struct kvroute_error *error);

/// Its message: UTF-8, ending in a NUL, empty after a success. Valid until the object is used in another call.
/// `length`, which may be NULL, is set to its length without the NUL; bytes.
const char *kvroute_error_message(const struct kvroute_error *error,
                                  size_t *length);

/// A new hasher, in `*hasher`.
///
/// Errors: `KVROUTE_INVALID_INPUT` names the option; `KVROUTE_NOT_REPRODUCIBLE` for hashes that nobody outside the
/// engine can compute (a random seed).
int32_t kvroute_hasher_new(const struct kvroute_hasher_options *options,
                           struct kvroute_hasher **hasher,
                           struct kvroute_error *error);

/// Frees a hasher; NULL is fine. Domains made with it live on.
void kvroute_hasher_free(struct kvroute_hasher *hasher);

/// Hashes the full blocks of a prompt: `token_ids: [n]` in, `hashes: [*written]` out, at most `n / block_size` of
/// them.
///
/// Errors: `KVROUTE_INVALID_INPUT` if the context lacks what the scheme needs or is out of order;
/// `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_hasher_hash(const struct kvroute_hasher *hasher,
                            const uint32_t *token_ids,
                            size_t token_ids_len,
                            const struct kvroute_hash_context *context,
                            uint64_t *hashes,
                            size_t capacity,
                            size_t *written,
                            struct kvroute_error *error);

/// A new domain, in `*domain`. Requests are hashed by `hasher`, which may be freed afterwards. `models: [n]` are the
/// models its pods serve, as requests name them; none: any.
///
/// Errors: `KVROUTE_INVALID_INPUT` for one of llm-d's schemes, which no engine publishes.
int32_t kvroute_domain_new(const char *name,
                           size_t name_len,
                           const struct kvroute_hasher *hasher,
                           const struct kvroute_str *models,
                           size_t models_len,
                           struct kvroute_domain **domain,
                           struct kvroute_error *error);

/// Frees a domain; NULL is fine. Pods that are of it live on.
void kvroute_domain_free(struct kvroute_domain *domain);

/// Writes the domain's name, with a NUL behind it, into `buffer`.
int32_t kvroute_domain_name(const struct kvroute_domain *domain,
                            char *buffer,
                            size_t capacity,
                            size_t *written,
                            struct kvroute_error *error);

/// Tokens a block; 0 if this is no domain.
uint32_t kvroute_domain_block_size(const struct kvroute_domain *domain);

/// How many leading blocks of a prompt of so many tokens an engine can take from its cache: it always computes the last
/// token. As many of the prompt's hashes are what to look up. 0 if this is no domain.
size_t kvroute_domain_searchable_blocks(const struct kvroute_domain *domain,
                                        size_t tokens);

/// Hashes the full blocks of a prompt as the domain does; see `kvroute_hasher_hash`.
int32_t kvroute_domain_hash(const struct kvroute_domain *domain,
                            const uint32_t *token_ids,
                            size_t token_ids_len,
                            const struct kvroute_hash_context *context,
                            uint64_t *hashes,
                            size_t capacity,
                            size_t *written,
                            struct kvroute_error *error);

/// Checks a configuration document, YAML or JSON, without making anything of it.
///
/// Errors: `KVROUTE_INVALID_INPUT` with the place of the first thing that is wrong, what was found there and what was
/// expected.
int32_t kvroute_config_check(const char *document,
                             size_t document_len,
                             struct kvroute_error *error);

/// Writes the JSON Schema of configuration documents, with a NUL behind it, into `buffer`.
int32_t kvroute_config_schema(char *buffer, size_t capacity, size_t *written, struct kvroute_error *error);

/// Reads llm-d's configuration, an `EndpointPickerConfig` in YAML or JSON. Writes a configuration document without
/// domains and pods (JSON) and, as a JSON array of texts, notes: a line for each thing that does not map or means
/// something else here; each with a NUL behind it. `notes` may be NULL.
///
/// Errors: `KVROUTE_INVALID_INPUT` with the place of what llm-d would refuse as well, and of what cannot be done here;
/// `KVROUTE_BUFFER_TOO_SMALL` if one of the buffers is, and then the capacity that would do is told for each that is.
int32_t kvroute_config_from_endpoint_picker(const char *endpoint_picker,
                                            size_t endpoint_picker_len,
                                            char *document,
                                            size_t document_capacity,
                                            size_t *document_written,
                                            char *notes,
                                            size_t notes_capacity,
                                            size_t *notes_written,
                                            struct kvroute_error *error);

/// Reads the environment variables of llm-d's first scheduler, given as `names: [n]` and `values: [n]`; the whole
/// environment may be passed. Writes a configuration document without pods (JSON) and, as a JSON array of texts,
/// notes on variables that are known but mean nothing here; each with a NUL behind it. `notes` may be NULL.
///
/// Errors: `KVROUTE_INVALID_INPUT` for misspelt names and values that are none; `KVROUTE_BUFFER_TOO_SMALL` if
/// one of the buffers is, and then the capacity that would do is told for each that is.
int32_t kvroute_config_from_env(const struct kvroute_str *names,
                                const struct kvroute_str *values,
                                size_t len,
                                char *document,
                                size_t document_capacity,
                                size_t *document_written,
                                char *notes,
                                size_t notes_capacity,
                                size_t *notes_written,
                                struct kvroute_error *error);

/// A new router without pods, in `*router`. `options` may be NULL: the defaults.
///
/// Errors: `KVROUTE_INVALID_INPUT` names the option.
int32_t kvroute_router_new(const struct kvroute_router_options *options,
                           struct kvroute_router **router,
                           struct kvroute_error *error);

/// A new router with the policy, cache domains and pods of a configuration document, YAML or JSON, in `*router`.
///
/// Errors: `KVROUTE_INVALID_INPUT` with the place of the first thing that is wrong, what was found there and what was
/// expected; `KVROUTE_NOT_REPRODUCIBLE` for a vLLM domain whose hashes cannot be computed outside the engine.
int32_t kvroute_router_from_config(const char *document,
                                   size_t document_len,
                                   struct kvroute_router **router,
                                   struct kvroute_error *error);

/// Frees a router; NULL is fine. Must be the last call that is given it.
void kvroute_router_free(struct kvroute_router *router);

/// Chooses by another policy from now on: that of a configuration document, YAML or JSON, or the default one if it has
/// none. The document is checked whole, and all else in it is left aside. Every decision is made by one policy or the
/// other; pods, views, bookings, sessions and requests in flight stay as they are.
///
/// Errors: those of `kvroute_router_from_config`; then the policy is the one it was.
int32_t kvroute_router_set_policy(const struct kvroute_router *router,
                                  const char *document,
                                  size_t document_len,
                                  struct kvroute_error *error);

/// Makes a router usable again that answers `KVROUTE_POISONED`; works on any. What pods hold, what was sent to them,
/// requests in flight, sessions and counters are forgotten. Policy, domains, pods, their load reports and whether they
/// take requests stay, and session tokens keep their meaning, but every pod gets a new id
/// (`kvroute_router_find_pod`) and waits for the next batch of its stream, whatever that is.
///
/// No other call may use the router meanwhile.
///
/// Errors: `KVROUTE_BUSY` if somebody else has it too: its fleet, or another handle of it (`kvroute_fleet_router`).
int32_t kvroute_router_recover(struct kvroute_router *router,
                               struct kvroute_error *error);

/// Makes a cache domain known by its name, for pods that come later.
///
/// Errors: `KVROUTE_INVALID_INPUT` if the name belongs to a domain that hashes differently or serves other models.
int32_t kvroute_router_add_domain(const struct kvroute_router *router,
                                  const struct kvroute_domain *domain,
                                  struct kvroute_error *error);

/// The cache domain of this name (a pod's, the configuration's, or one that was added), in `*domain`; to be freed.
///
/// Errors: `KVROUTE_UNKNOWN_DOMAIN`.
int32_t kvroute_router_domain(const struct kvroute_router *router,
                              const char *name,
                              size_t name_len,
                              struct kvroute_domain **domain,
                              struct kvroute_error *error);

/// Forgets requests and sessions whose time is over; `expired`, which may be NULL, is set to how many requests. To be
/// called now and then, every second, say. `now_ns`: see "Time".
int32_t kvroute_router_expire(const struct kvroute_router *router,
                              uint64_t now_ns,
                              size_t *expired,
                              struct kvroute_error *error);

/// Writes what the router and its pods are at, a JSON object with a NUL behind it, into `buffer`. For a look now and
/// then: it costs what the pods are.
int32_t kvroute_router_status(const struct kvroute_router *router,
                              char *buffer,
                              size_t capacity,
                              size_t *written,
                              struct kvroute_error *error);

/// Adds a pod, holding nothing; `*pod` is set to its id.
///
/// Errors: `KVROUTE_INVALID_INPUT` if a pod of this name and rank is there, if its domain's name belongs to a domain
/// that hashes differently, or for an option that is not one of the values it may have; `KVROUTE_UNKNOWN_DOMAIN`.
int32_t kvroute_router_add_pod(const struct kvroute_router *router,
                               const struct kvroute_pod_options *options,
                               uint64_t *pod,
                               struct kvroute_error *error);

/// Removes a pod and all it holds. Its id names no pod ever again.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_remove_pod(const struct kvroute_router *router,
                                  uint64_t pod,
                                  struct kvroute_error *error);

/// Finds a pod by name and rank; `*pod` is set to its id.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_find_pod(const struct kvroute_router *router,
                                const char *name,
                                size_t name_len,
                                uint32_t dp_rank,
                                uint64_t *pod,
                                struct kvroute_error *error);

/// Writes the ids of all pods into `pods: [*written]`.
int32_t kvroute_router_pods(const struct kvroute_router *router,
                            uint64_t *pods,
                            size_t capacity,
                            size_t *written,
                            struct kvroute_error *error);

/// Writes a pod's name, with a NUL behind it, into `buffer`. `dp_rank`, which may be NULL, is set to its rank.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_router_pod_name(const struct kvroute_router *router,
                                uint64_t pod,
                                char *buffer,
                                size_t capacity,
                                size_t *written,
                                uint32_t *dp_rank,
                                struct kvroute_error *error);

/// Takes in what a pod says of its load: requests running and waiting, and the share of its KV cache in use, 0 to 1.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_INVALID_INPUT` if `kv_usage` is not in 0..=1 (NaN is not).
int32_t kvroute_router_report_load(const struct kvroute_router *router,
                                   uint64_t pod,
                                   uint32_t running,
                                   uint32_t waiting,
                                   float kv_usage,
                                   struct kvroute_error *error);

/// Forgets what a pod said of its load and its adapters, as if it never had: for reports that are too old to be true.
/// What this router has in flight there still counts.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_forget_load(const struct kvroute_router *router,
                                   uint64_t pod,
                                   struct kvroute_error *error);

/// Takes in what a pod says of its LoRA adapters (`vllm:lora_requests_info`): how many can be in use at one time, and the
/// names of those that running requests use and of those that only waiting requests ask for. The names are those of
/// `kvroute_hash_context.lora_name`.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_report_adapters(const struct kvroute_router *router,
                                       uint64_t pod,
                                       uint32_t max,
                                       const struct kvroute_str *running,
                                       size_t running_len,
                                       const struct kvroute_str *waiting,
                                       size_t waiting_len,
                                       struct kvroute_error *error);

/// Lets a pod take new requests (not 0), or drains it (0). One that did not and does again has no failures to live down.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_set_accepting(const struct kvroute_router *router,
                                     uint64_t pod,
                                     int32_t accepting,
                                     struct kvroute_error *error);

/// Applies one published batch of a pod: the sequence number (big-endian in the second frame of vLLM's messages) and
/// the payload (the third). `report` may be NULL. What is wrong with the batch itself is in the report.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_apply(const struct kvroute_router *router,
                             uint64_t pod,
                             uint64_t sequence,
                             const uint8_t *payload,
                             size_t payload_len,
                             struct kvroute_apply_report *report,
                             struct kvroute_error *error);

/// Applies one published message by its topic, for subscribers that many pods publish to: `kv@<pod>@<model>`. Ranks
/// are told apart by the port. With one socket a pod, `kvroute_router_apply` is cheaper.
///
/// Errors: `KVROUTE_INVALID_INPUT` if the topic is not of that form; `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_apply_topic(const struct kvroute_router *router,
                                   const char *topic,
                                   size_t topic_len,
                                   uint32_t dp_rank,
                                   uint64_t sequence,
                                   const uint8_t *payload,
                                   size_t payload_len,
                                   struct kvroute_apply_report *report,
                                   struct kvroute_error *error);

/// Applies events of a pod that came in another way than as published batches, in order, as one batch. They have no
/// sequence number, so their completeness is the caller's word. `report` may be NULL.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_INVALID_INPUT` for a field that is not one of the values it may have, and then none was
/// applied.
int32_t kvroute_router_apply_events(const struct kvroute_router *router,
                                    uint64_t pod,
                                    const struct kvroute_kv_event *events,
                                    size_t events_len,
                                    struct kvroute_apply_report *report,
                                    struct kvroute_error *error);

/// Applies one poll of TensorRT-LLM's events: a JSON array of them, one, or either per line. Those of other ranks than the
/// pod's are left out and counted, and so are those of attention windows other than `window_size`, as only those of
/// the largest say what a prompt can reuse from its start; 0: any. Events lost between polls, and restarts, show in
/// the events' numbers; then the pod's view is dropped first. `report` may be NULL; it sums up all events, and its
/// outcome is the gravest of them.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_DECODE` if nothing in it is JSON.
int32_t kvroute_router_apply_trtllm(const struct kvroute_router *router,
                                    uint64_t pod,
                                    const uint8_t *json,
                                    size_t json_len,
                                    uint64_t window_size,
                                    struct kvroute_apply_report *report,
                                    struct kvroute_error *error);

/// Gives up on missing batches of a pod: drops its view and expects `sequence` next.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_abandon_gap(const struct kvroute_router *router,
                                   uint64_t pod,
                                   uint64_t sequence,
                                   struct kvroute_error *error);

/// Forgets what this router sent to a pod: its engine restarted, and no event says so.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_forget_predictions(const struct kvroute_router *router,
                                          uint64_t pod,
                                          struct kvroute_error *error);

/// A new workspace.
struct kvroute_workspace *kvroute_workspace_new(void);

/// Frees a workspace; NULL is fine.
void kvroute_workspace_free(struct kvroute_workspace *workspace);

/// Writes the name of a pod that took part in the last decision made with this workspace, with a NUL behind it, into
/// `buffer`: also of one that was removed since. `dp_rank`, which may be NULL, is set to its rank.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_BUSY`; `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_workspace_pod_name(struct kvroute_workspace *workspace,
                                   uint64_t pod,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *written,
                                   uint32_t *dp_rank,
                                   struct kvroute_error *error);

/// Writes the ids of the next best pods for the last decision made with this workspace, best first, into `pods:
/// [*written]`: where to turn if the decision's pod does not answer. As many as its profile asks for (`fallbacks` in a
/// configuration), none unless it does; `kvroute_decision` says how many there are.
///
/// Errors: `KVROUTE_BUSY`; `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_workspace_fallbacks(struct kvroute_workspace *workspace,
                                    uint64_t *pods,
                                    size_t capacity,
                                    size_t *written,
                                    struct kvroute_error *error);

/// Looks up what every pod of `domain` has of the blocks `hashes: [n]`, cut by the caller where an engine would cut
/// them (`kvroute_domain_searchable_blocks`). Writes the pods that have any into `matches: [*written]`, in order of
/// their ids.
///
/// Errors: `KVROUTE_BUSY`; `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_router_lookup(const struct kvroute_router *router,
                              const struct kvroute_domain *domain,
                              const uint64_t *hashes,
                              size_t hashes_len,
                              struct kvroute_workspace *workspace,
                              struct kvroute_pod_match *matches,
                              size_t capacity,
                              size_t *written,
                              struct kvroute_error *error);

/// Keeps a journal of what the pod comes to hold and holds no more, up to `most` changes that were not taken; 0 ends it.
/// One that runs over takes nothing in any more, and says so when it is taken.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_journal_held(const struct kvroute_router *router,
                                    uint64_t pod,
                                    size_t most,
                                    struct kvroute_error *error);

/// Takes what the pod's journal has into `changes: [*written]`, in the order in which it happened, as many as there is
/// room for. `*flags` is set to what came before them, `KVROUTE_HELD_...` together; of a pod without a journal there is
/// never anything to go on from.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_take_held(const struct kvroute_router *router,
                                 uint64_t pod,
                                 struct kvroute_held_change *changes,
                                 size_t capacity,
                                 size_t *written,
                                 uint32_t *flags,
                                 struct kvroute_error *error);

/// Lists blocks that the pod holds into `blocks: [*written]`, as many as there is room for, in an order of the library's
/// own. `*cursor` says where to begin, 0 at the first call, and is set to where the next one begins, `KVROUTE_HELD_END`
/// behind the last. A block that is held from before the first call until after the last is listed once.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_BUFFER_TOO_SMALL` if there is no room at all.
int32_t kvroute_router_list_held(const struct kvroute_router *router,
                                 uint64_t pod,
                                 uint64_t *cursor,
                                 struct kvroute_held_block *blocks,
                                 size_t capacity,
                                 size_t *written,
                                 struct kvroute_error *error);

/// Chooses a pod, or two, for a request. Changes nothing but `workspace` and `*decision`. `now_ns`: see "Time".
///
/// Errors: `KVROUTE_NO_CANDIDATE` if there is no pod or the filters drop every one; `KVROUTE_INVALID_INPUT` if the
/// request contradicts itself, can be hashed for no domain, or a score column is not as it should be;
/// `KVROUTE_LIMIT` for a prompt of more than 268 435 456 tokens; `KVROUTE_BUSY`.
int32_t kvroute_router_decide(const struct kvroute_router *router,
                              const struct kvroute_request *request,
                              uint64_t now_ns,
                              struct kvroute_workspace *workspace,
                              struct kvroute_decision *decision,
                              struct kvroute_error *error);

/// Decides and books: until its first token the request counts as prefill work of the pod that computes its prompt,
/// until its end as a request of the pod that answers it; its blocks are predicted to be in those pods' caches; its
/// session is at home there. If others booked the same pods meanwhile it is decided again, three times at most.
///
/// Errors: those of `kvroute_router_decide`; then nothing is booked.
int32_t kvroute_router_dispatch(const struct kvroute_router *router,
                                const struct kvroute_request *request,
                                uint64_t now_ns,
                                struct kvroute_workspace *workspace,
                                struct kvroute_decision *decision,
                                struct kvroute_error *error);

/// Says that a dispatched request's first token came: its prompt is computed. `known`, which may be NULL, is set to
/// whether such a request was in flight and this was its first such call.
int32_t kvroute_router_first_token(const struct kvroute_router *router,
                                   uint64_t ticket,
                                   bool *known,
                                   struct kvroute_error *error);

/// Ends a dispatched request, as `KVROUTE_FINISH_...` says. `engine_cached_tokens` is the engine's own count for it,
/// which checks what this router believes, or `KVROUTE_CACHED_UNKNOWN`. `known`, which may be NULL, is set to whether
/// such a request was in flight; a second call does nothing.
///
/// Errors: `KVROUTE_INVALID_INPUT` for another outcome or a count below -1.
int32_t kvroute_router_finish(const struct kvroute_router *router,
                              uint64_t ticket,
                              int32_t outcome,
                              int64_t engine_cached_tokens,
                              bool *known,
                              struct kvroute_error *error);

/// Writes a token for the client to send with its next request, so that it comes back to a decision's pods, with a
/// NUL behind it, into `buffer`; `prefill_pod` may be `KVROUTE_NO_POD`, and one that is gone
/// is left out. `now_ns`: nanoseconds since the Unix epoch,
/// if routers share the key.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_INVALID_INPUT` if the router has no session key; `KVROUTE_LIMIT` if the
/// token could not be sealed; `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_router_session_token(const struct kvroute_router *router,
                                     uint64_t pod,
                                     uint64_t prefill_pod,
                                     uint64_t now_ns,
                                     char *buffer,
                                     size_t capacity,
                                     size_t *written,
                                     struct kvroute_error *error);

/// Explains the last decision that `router` made with `workspace`: every pod with what was known of it, each scorer's
/// part, what dropped it, and why nothing is matched where nothing is. As `KVROUTE_EXPLAIN_...` says, with a NUL
/// behind it, into `buffer`. If the workspace's last decision was another router's, or failed before pods were looked
/// at, there are no pods in it.
int32_t kvroute_router_explain(const struct kvroute_router *router,
                               struct kvroute_workspace *workspace,
                               int32_t format,
                               char *buffer,
                               size_t capacity,
                               size_t *written,
                               struct kvroute_error *error);

/// Writes the line of a decision log, a JSON object with a NUL behind it and no line's end, about the last decision
/// that `router` made with `workspace`, into `buffer`. `request` is what it was about. `dispatch` is what
/// kvroute_router_dispatch answered; NULL if it was only decided, or no pod was left. `flags`: 0, or
/// KVROUTE_RECORD_PROMPT. If the workspace's last decision was another router's, or failed before pods were chosen
/// among, the line is empty.
///
/// A line has no cache salt, no session token and, without that flag, nothing of the prompt; names of pods, models and
/// adapters are as they are. `kvroute_log_schema` describes it.
///
/// Errors: those of `kvroute_router_decide` about the request; `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_router_record(const struct kvroute_router *router,
                              const struct kvroute_request *request,
                              struct kvroute_workspace *workspace,
                              const struct kvroute_decision *dispatch,
                              uint32_t flags,
                              char *buffer,
                              size_t capacity,
                              size_t *written,
                              struct kvroute_error *error);

/// Writes the line of a decision log about a request's end, as kvroute_router_finish is told of it, with a NUL behind
/// it and no line's end, into `buffer`. `now_ns`: see "Time".
///
/// Errors: those of `kvroute_router_finish`; `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_log_outcome(uint64_t ticket,
                            int32_t outcome,
                            int64_t engine_cached_tokens,
                            uint64_t now_ns,
                            char *buffer,
                            size_t capacity,
                            size_t *written,
                            struct kvroute_error *error);

/// Makes the decision of a log's line again, by the policy of a configuration document, YAML or JSON. Writes what it
/// makes of it, a JSON object with a NUL behind it, into `buffer`: `decode` and, where a pod to prefill was looked for,
/// `prefill`, which are as in the line; and `as_recorded`, whether they are those of the line, bit for bit. By the
/// policy that the line is of, they are.
///
/// Another policy chooses among the same pods, as they were; in a large fleet it might have looked at others of them.
///
/// Errors: `KVROUTE_DECODE` if the line is none, or one of another version; `KVROUTE_INVALID_INPUT` if it is about a
/// request's end or contradicts itself, and those of kvroute_router_set_policy; `KVROUTE_NO_CANDIDATE` if none of the
/// pods on record will do; `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_log_replay(const char *line,
                           size_t line_len,
                           const char *document,
                           size_t document_len,
                           char *buffer,
                           size_t capacity,
                           size_t *written,
                           struct kvroute_error *error);

/// Writes the JSON Schema of a decision log's lines, with a NUL behind it, into `buffer`.
int32_t kvroute_log_schema(char *buffer, size_t capacity, size_t *written, struct kvroute_error *error);

/// Begins a snapshot of what the router knows, in `*snapshot`. `now_ns`: see "Time".
///
///   uint8_t chunk[KVROUTE_SNAPSHOT_CHUNK];
///   kvroute_router_snapshot(router, now_ns, &snapshot, error);
///   while (kvroute_snapshot_next(snapshot, router, chunk, sizeof chunk, &written, error) == KVROUTE_OK && written > 0) {
///     fwrite(chunk, 1, written, file);
///   }
///   kvroute_snapshot_free(snapshot);
int32_t kvroute_router_snapshot(const struct kvroute_router *router,
                                uint64_t now_ns,
                                struct kvroute_snapshot **snapshot,
                                struct kvroute_error *error);

/// Writes the next bytes of a snapshot into `buffer: [*written]`, none when there are no more. All chunks, one behind the
/// other, are the snapshot; `KVROUTE_SNAPSHOT_CHUNK` bytes have room for each. `router` is the one that it was begun on,
/// which may be used meanwhile: each pod is written as it was at one moment, and the pods' moments differ. A pod that
/// comes meanwhile is not in it, and one that goes before its turn is left out.
///
/// Errors: `KVROUTE_INVALID_INPUT` if it is another router, or was recovered since; `KVROUTE_LIMIT` if it has more than
/// 16 384 pods, or those more than 65 536 groups and tiers. Then what was written so far is of no use.
/// `KVROUTE_BUFFER_TOO_SMALL`: the chunk stays the next.
int32_t kvroute_snapshot_next(struct kvroute_snapshot *snapshot,
                              const struct kvroute_router *router,
                              uint8_t *buffer,
                              size_t capacity,
                              size_t *written,
                              struct kvroute_error *error);

/// Frees a snapshot, ended or not; NULL is fine.
void kvroute_snapshot_free(struct kvroute_snapshot *snapshot);

/// A new restore, to take one snapshot in.
struct kvroute_restore *kvroute_restore_new(void);

/// Takes in what comes next of a snapshot, as many bytes as there are. They are kept, in one to two times their size,
/// until they are given to a router.
///
/// Errors: `KVROUTE_DECODE`, with the offset, if it is no snapshot, one of another version, or damaged; every later call
/// answers the same. `KVROUTE_INVALID_INPUT` if it was given to a router already.
int32_t kvroute_restore_push(struct kvroute_restore *restore,
                             const uint8_t *bytes,
                             size_t bytes_len,
                             struct kvroute_error *error);

/// Gives the snapshot that was taken in to a router, and fills `*restored`, which may be NULL, in. Pods that are not in
/// the router are added, if it knows their cache domain (`kvroute_router_add_domain`, or the configuration). Those that
/// are keep their ids, options, role, labels and capacity. To be called before events are applied: a pod that events came
/// to is left as it is; one that has its part again goes on with the next batch of its stream, or finds out what it
/// missed. `now_ns` (see "Time") need not count from the same moment as the one the snapshot was begun with.
///
/// Errors: `KVROUTE_DECODE` if the snapshot is not whole, or as `kvroute_restore_push` said; then the router is as it
/// was, and every later call answers the same. `KVROUTE_INVALID_INPUT` if it was given to a router already.
int32_t kvroute_restore_finish(struct kvroute_restore *restore,
                               const struct kvroute_router *router,
                               uint64_t now_ns,
                               struct kvroute_restored *restored,
                               struct kvroute_error *error);

/// Writes what became of a snapshot that was given to a router, a JSON object with a NUL behind it, into `buffer`: of each
/// pod what it has again, or why nothing (`refusal`).
///
/// Errors: `KVROUTE_INVALID_INPUT` if it was not; what `kvroute_restore_finish` answered, if that was an error;
/// `KVROUTE_BUFFER_TOO_SMALL`.
int32_t kvroute_restore_report(struct kvroute_restore *restore,
                               char *buffer,
                               size_t capacity,
                               size_t *written,
                               struct kvroute_error *error);

/// Frees a restore, ended or not; NULL is fine.
void kvroute_restore_free(struct kvroute_restore *restore);

/// Fills `*counters` in for the whole router.
int32_t kvroute_router_read_counters(const struct kvroute_router *router,
                                     struct kvroute_router_counters *counters,
                                     struct kvroute_error *error);

/// Fills `*counters` in for one pod.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
int32_t kvroute_router_read_pod_counters(const struct kvroute_router *router,
                                         uint64_t pod,
                                         struct kvroute_pod_counters *counters,
                                         struct kvroute_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KVROUTE_H */
