/// @file
/// kvroute.h for C++17: objects that free themselves, exceptions in place of statuses, and views in place of pointers
/// with lengths. Header-only, and one file for that; what each call means, costs and answers is said in kvroute.h.
///
///   kvroute::Router router = kvroute::Router::from_config(document);
///   kvroute::PodId pod = router.find_pod("pod-a");
///   router.apply(pod, sequence, payload);                                 // for each message
///   kvroute::Decision decision = router.dispatch(request, now, workspace);   // for each request
///   router.first_token(decision.ticket);
///   router.finish(decision.ticket, kvroute::Finish::completed, cached);
///   router.expire(now);                                                   // every second
///
/// examples/cpp/route.cpp is a whole program.
///
/// Objects are moved, not copied; one that was moved from answers KVROUTE_NULL_POINTER. Functions that are `const` may
/// be called from any number of threads at a time. Views are read during the call and not kept. After an exception
/// nothing has changed. `decide` and `dispatch` allocate nothing here either: each thread has one error object, made
/// at its first call.
#ifndef KVROUTE_HPP
#define KVROUTE_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kvroute.h"

namespace kvroute {

/// Why a call failed.
class Error : public std::runtime_error {
 public:
  Error(std::int32_t status, const std::string &message)
      : std::runtime_error(message), status_(status) {}

  /// `KVROUTE_...`, such as `KVROUTE_UNKNOWN_POD`.
  std::int32_t status() const noexcept { return status_; }
  /// Its name, such as "unknown-pod".
  const char *status_name() const noexcept { return kvroute_status_name(status_); }

 private:
  std::int32_t status_;
};

/// Some values that lie in a row and belong to somebody else; C++20's span.
template <class T>
class View {
 public:
  constexpr View() noexcept = default;
  constexpr View(const T *data, std::size_t size) noexcept : data_(data), size_(size) {}
  /// Of a vector, an array or the like. It must outlive the view.
  template <class Container,
            class = std::enable_if_t<
                std::is_convertible_v<decltype(std::data(std::declval<const Container &>())), const T *> &&
                sizeof(*std::data(std::declval<const Container &>())) == sizeof(T)>>
  constexpr View(const Container &values) noexcept : data_(std::data(values)), size_(std::size(values)) {}

  constexpr const T *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }

 private:
  const T *data_ = nullptr;
  std::size_t size_ = 0;
};

/// Token ids.
using Tokens = View<std::uint32_t>;
/// Block hashes.
using Hashes = View<std::uint64_t>;
/// Bytes as they come from the wire.
using Bytes = View<std::uint8_t>;
/// Names a pod of a router; `KVROUTE_NO_POD` is none.
using PodId = std::uint64_t;
/// Names a request in flight.
using Ticket = std::uint64_t;
/// Time since any moment that is the same for all calls to a router; with session tokens, since the Unix epoch.
using Time = std::chrono::nanoseconds;

// The numbers of kvroute.h as types. What they mean is said there.
enum class Scheme : std::int32_t {
  own = KVROUTE_SCHEME_OWN,
  vllm = KVROUTE_SCHEME_VLLM,
  llmd_cbor_fnv = KVROUTE_SCHEME_LLMD_CBOR_FNV,
  llmd_xxh64 = KVROUTE_SCHEME_LLMD_XXH64
};
enum class Multimodal : std::int32_t {
  offset = KVROUTE_MULTIMODAL_OFFSET,
  identifier = KVROUTE_MULTIMODAL_IDENTIFIER
};
enum class Role : std::int32_t {
  both = KVROUTE_ROLE_BOTH,
  decode = KVROUTE_ROLE_DECODE,
  prefill = KVROUTE_ROLE_PREFILL
};
enum class Copies : std::int32_t {
  infer = KVROUTE_COPIES_INFER,
  count = KVROUTE_COPIES_COUNT,
  set = KVROUTE_COPIES_SET
};
enum class OnGap : std::int32_t { clear = KVROUTE_ON_GAP_CLEAR, replay = KVROUTE_ON_GAP_REPLAY };
enum class GroupKind : std::int32_t {
  full_attention = KVROUTE_GROUP_FULL_ATTENTION,
  sliding_window = KVROUTE_GROUP_SLIDING_WINDOW,
  unknown = KVROUTE_GROUP_UNKNOWN
};
enum class Outcome : std::int32_t {
  applied = KVROUTE_OUTCOME_APPLIED,
  parked = KVROUTE_OUTCOME_PARKED,
  ignored = KVROUTE_OUTCOME_IGNORED,
  needs_resync = KVROUTE_OUTCOME_NEEDS_RESYNC
};
enum class Tier : std::int32_t {
  unknown = KVROUTE_TIER_UNKNOWN,
  gpu = KVROUTE_TIER_GPU,
  cpu = KVROUTE_TIER_CPU,
  disk = KVROUTE_TIER_DISK,
  external = KVROUTE_TIER_EXTERNAL
};
enum class Finish : std::int32_t {
  completed = KVROUTE_FINISH_COMPLETED,
  failed = KVROUTE_FINISH_FAILED,
  cancelled = KVROUTE_FINISH_CANCELLED
};
enum class Reason : std::int32_t {
  picked = KVROUTE_REASON_PICKED,
  spilled = KVROUTE_REASON_SPILLED,
  warm_up = KVROUTE_REASON_WARM_UP
};
enum class Format : std::int32_t { json = KVROUTE_EXPLAIN_JSON, text = KVROUTE_EXPLAIN_TEXT };
enum class Trust : std::int32_t {
  load_only = KVROUTE_TRUST_LOAD_ONLY,
  approximate = KVROUTE_TRUST_APPROXIMATE,
  degraded = KVROUTE_TRUST_DEGRADED,
  exact = KVROUTE_TRUST_EXACT
};

/// What this header is built on; not part of its interface.
namespace detail {

/// The error object of this thread; both trivial, so that they outlive whatever else a thread destroys.
inline thread_local kvroute_error *thread_error = nullptr;
inline thread_local bool thread_ended = false;

/// The error object to pass to a call; NULL, which is allowed, while a thread ends.
inline kvroute_error *error() noexcept {
  struct Ending {
    ~Ending() {
      kvroute_error_free(thread_error);
      thread_error = nullptr;
      thread_ended = true;
    }
  };
  if (thread_error == nullptr && !thread_ended) {
    kvroute_abi_1();  // A library of another ABI does not link.
    thread_error = kvroute_error_new();
    thread_local Ending ending;
    (void)ending;
  }
  return thread_error;
}

[[noreturn]] inline void fail(std::int32_t status) {
  const char *message = thread_error == nullptr ? "" : kvroute_error_message(thread_error, nullptr);
  throw Error(status, *message == 0 ? kvroute_status_name(status) : message);
}

inline void check(std::int32_t status) {
  if (status != KVROUTE_OK) fail(status);
}

inline std::uint64_t nanoseconds(Time time) {
  if (time.count() < 0) throw Error(KVROUTE_INVALID_INPUT, "a time before the moment that all times are since");
  return static_cast<std::uint64_t>(time.count());
}

inline kvroute_str str(std::string_view text) noexcept { return {text.data(), text.size()}; }
inline kvroute_bytes bytes(Bytes bytes) noexcept { return {bytes.data(), bytes.size()}; }

template <class T>
T sized() noexcept {
  T made{};
  made.struct_size = sizeof(T);
  return made;
}

/// Calls `write(buffer, capacity, written)` until the buffer is large enough; what is written may grow meanwhile.
template <class T, class Write>
std::vector<T> values(std::size_t guess, Write write) {
  std::vector<T> buffer(guess);
  for (;;) {
    std::size_t written = 0;
    const std::int32_t status = write(buffer.data(), buffer.size(), &written);
    if (status != KVROUTE_BUFFER_TOO_SMALL) check(status);
    buffer.resize(written);
    if (status == KVROUTE_OK) return buffer;
  }
}

/// The same for texts, which have a NUL behind them.
template <class Write>
std::string text(std::size_t guess, Write write) {
  std::string buffer(guess, '\0');
  for (;;) {
    std::size_t written = 0;
    const std::int32_t status = write(&buffer[0], buffer.size(), &written);
    if (status != KVROUTE_BUFFER_TOO_SMALL) check(status);
    buffer.resize(written);
    if (status == KVROUTE_OK) return buffer;
  }
}

template <class T, void (*free)(T *)>
struct Free {
  void operator()(T *object) const noexcept { free(object); }
};

/// An object of kvroute.h that one owner frees.
template <class T, void (*free)(T *)>
using Owned = std::unique_ptr<T, Free<T, free>>;

}  // namespace detail

// Elements of arrays are kvroute.h's structs with a constructor, so that arrays of them are passed as they are. (An
// underscore behind a name keeps it from shadowing the field.)

/// One image, video or audio clip in a prompt.
struct MultimodalItem : kvroute_multimodal_item {
  MultimodalItem(std::string_view identifier_, std::uint32_t start_, std::uint32_t length_) noexcept
      : kvroute_multimodal_item{detail::str(identifier_), start_, length_} {}
};

/// The key of one block's prompt embeddings.
struct PromptEmbed : kvroute_bytes {
  PromptEmbed(Bytes key) noexcept : kvroute_bytes(detail::bytes(key)) {}
};

/// A label of a pod.
struct Label : kvroute_label {
  Label(std::string_view key_, std::string_view value_) noexcept
      : kvroute_label{detail::str(key_), detail::str(value_)} {}
};

/// A KV-cache group that is known beforehand. A window is in tokens.
struct Group : kvroute_group {
  Group(std::uint32_t group_, GroupKind kind_, std::uint32_t window_ = 0) noexcept
      : kvroute_group{group_, static_cast<std::int32_t>(kind_), window_, 0} {}
};

/// A LoRA adapter by the engine's number.
struct Adapter : kvroute_adapter {
  Adapter(std::int64_t id_, std::string_view name_) noexcept : kvroute_adapter{id_, detail::str(name_)} {}
};

/// One extra key of one block of an event.
struct ExtraKey : kvroute_extra_key {
  /// A text: an adapter's name, a salt, or an item's bare identifier.
  static ExtraKey text(std::uint32_t block, std::string_view text) noexcept {
    return {block, KVROUTE_EXTRA_KEY_TEXT, detail::str(text), 0};
  }
  /// A multimodal item, and its start minus that of the block; tokens.
  static ExtraKey multimodal(std::uint32_t block, std::string_view identifier, std::int64_t offset) noexcept {
    return {block, KVROUTE_EXTRA_KEY_MULTIMODAL, detail::str(identifier), offset};
  }
  /// The key of prompt embeddings.
  static ExtraKey bytes(std::uint32_t block, Bytes key) noexcept {
    return {block, KVROUTE_EXTRA_KEY_BYTES, {reinterpret_cast<const char *>(key.data()), key.size()}, 0};
  }

 private:
  ExtraKey(std::uint32_t block_, std::int32_t kind_, kvroute_str key_, std::int64_t offset_) noexcept
      : kvroute_extra_key{block_, kind_, key_, offset_} {}
};

/// A name: of a pod that a request may go to, or of a LoRA adapter.
struct Name : kvroute_str {
  template <class Text, class = std::enable_if_t<std::is_convertible_v<const Text &, std::string_view>>>
  Name(const Text &name) noexcept : kvroute_str(detail::str(name)) {}
};

/// What an external scorer of the profile says of the pods: `pods: [n]`, `values: [n]`, 0 to 1.
struct ScoreColumn : kvroute_score_column {
  ScoreColumn(std::string_view scorer_, View<PodId> pods_, View<double> values_)
      : kvroute_score_column{detail::str(scorer_), pods_.data(), values_.data(), pods_.size()} {
    if (pods_.size() != values_.size()) throw Error(KVROUTE_INVALID_INPUT, "a score column needs a score a pod");
  }
};

/// What one pod has of a query.
using PodMatch = kvroute_pod_match;

/// What is known from elsewhere of a pod's cache; `tier` is `KVROUTE_TIER_...`.
using KnownPrefix = kvroute_known_prefix;

/// A block that a pod holds, and one that it came to hold or holds no more.
using HeldBlock = kvroute_held_block;
using HeldChange = kvroute_held_change;

/// Changes of a pod's journal, and what came before them.
struct HeldChanges {
  std::vector<HeldChange> changes;
  /// `KVROUTE_HELD_...` together.
  std::uint32_t flags = 0;
};

// Answers are kvroute.h's structs that know their size, and its numbers as types.

/// What became of one batch.
struct ApplyReport : kvroute_apply_report {
  ApplyReport() noexcept : kvroute_apply_report(detail::sized<kvroute_apply_report>()) {}
  /// The gravest outcome of any event in it; `reason` says why.
  Outcome result() const noexcept { return static_cast<Outcome>(outcome); }
};

/// Where a request should go; of a dispatch, also how it went.
struct Decision : kvroute_decision {
  Decision() noexcept : kvroute_decision(detail::sized<kvroute_decision>()) {}
  /// Whether `prefill_pod` computes the prompt first.
  bool has_prefill() const noexcept { return prefill_pod != KVROUTE_NO_POD; }
  /// Why `pod`.
  Reason why() const noexcept { return static_cast<Reason>(reason); }
  /// Why `prefill_pod`, if there is one.
  Reason why_prefill() const noexcept { return static_cast<Reason>(prefill_reason); }
  /// Whether it is in the router's books until it ends; only a dispatch can be.
  bool is_tracked() const noexcept { return ticket != 0; }
};

/// What a router has, and what befell it.
struct RouterCounters : kvroute_router_counters {
  RouterCounters() noexcept : kvroute_router_counters(detail::sized<kvroute_router_counters>()) {}
};

/// What befell a pod's stream of events, and what this router has on it.
struct PodCounters : kvroute_pod_counters {
  PodCounters() noexcept : kvroute_pod_counters(detail::sized<kvroute_pod_counters>()) {}
  /// How far its view is to be believed.
  Trust level() const noexcept { return static_cast<Trust>(trust); }
};

/// What became of a snapshot, in numbers.
struct Restored : kvroute_restored {
  Restored() noexcept : kvroute_restored(detail::sized<kvroute_restored>()) {}
};

/// What besides the token ids decides whether KV can be shared.
struct HashContext {
  /// Name of the LoRA adapter, where the engine loaded it from, and its number there.
  std::string_view lora_name{};
  std::string_view lora_path{};
  std::int64_t lora_id = 0;
  /// Tenant isolation.
  std::string_view cache_salt{};
  /// Ordered by their starts.
  View<MultimodalItem> multimodal{};
  /// One for each of the first blocks.
  View<PromptEmbed> prompt_embeds{};

  /// The same for kvroute.h.
  kvroute_hash_context raw() const noexcept {
    auto raw = detail::sized<kvroute_hash_context>();
    raw.lora_name = detail::str(lora_name);
    raw.lora_path = detail::str(lora_path);
    raw.lora_id = lora_id;
    raw.cache_salt = detail::str(cache_salt);
    raw.multimodal = multimodal.data();
    raw.multimodal_len = multimodal.size();
    raw.prompt_embeds = prompt_embeds.data();
    raw.prompt_embeds_len = prompt_embeds.size();
    return raw;
  }
};

/// How blocks are hashed; see `kvroute_hasher_options`.
struct HasherOptions {
  Scheme scheme = Scheme::own;
  std::uint32_t block_size = 0;
  /// Not set is another thing than empty.
  std::optional<std::string_view> seed{};
  std::string_view algorithm{};
  std::string_view version{};
  Bytes none_hash{};
  std::string_view model{};
  std::uint32_t lookahead = 0;
  Multimodal multimodal = Multimodal::offset;

  /// The same for kvroute.h.
  kvroute_hasher_options raw() const noexcept {
    auto raw = detail::sized<kvroute_hasher_options>();
    raw.scheme = static_cast<std::int32_t>(scheme);
    raw.block_size = block_size;
    raw.seed = detail::str(seed.value_or(std::string_view()));
    raw.has_seed = seed.has_value();
    raw.algorithm = detail::str(algorithm);
    raw.version = detail::str(version);
    raw.none_hash = detail::bytes(none_hash);
    raw.model = detail::str(model);
    raw.lookahead = lookahead;
    raw.multimodal = static_cast<std::int32_t>(multimodal);
    return raw;
  }
};

/// Turns token ids into chained block hashes. Never changes; share it between threads.
class Hasher {
 public:
  explicit Hasher(const HasherOptions &options) : block_size_(options.block_size) {
    const auto raw = options.raw();
    kvroute_hasher *made = nullptr;
    detail::check(kvroute_hasher_new(&raw, &made, detail::error()));
    object_.reset(made);
  }

  /// Hashes the full blocks of a prompt.
  std::vector<std::uint64_t> hash(Tokens tokens, const HashContext &context = {}) const {
    const auto raw = context.raw();
    const auto write = [&](std::uint64_t *hashes, std::size_t capacity, std::size_t *written) {
      return kvroute_hasher_hash(get(), tokens.data(), tokens.size(), &raw, hashes, capacity, written,
                                 detail::error());
    };
    return detail::values<std::uint64_t>(tokens.size() / block_size_, write);
  }

  /// The object of kvroute.h.
  const kvroute_hasher *get() const noexcept { return object_.get(); }

 private:
  detail::Owned<kvroute_hasher, kvroute_hasher_free> object_;
  /// Not 0: such options make no hasher.
  std::uint32_t block_size_;
};

/// Pods whose blocks mean the same. Never changes; share it between threads and routers.
class Domain {
 public:
  /// No model: its pods serve any.
  Domain(std::string_view name, const Hasher &hasher, View<std::string_view> models = {}) {
    std::vector<kvroute_str> raw;
    for (std::size_t at = 0; at < models.size(); ++at) raw.push_back(detail::str(models.data()[at]));
    kvroute_domain *made = nullptr;
    detail::check(kvroute_domain_new(name.data(), name.size(), hasher.get(), raw.data(), raw.size(), &made,
                                     detail::error()));
    object_.reset(made);
  }

  /// Takes over an object of kvroute.h.
  explicit Domain(kvroute_domain *made) noexcept : object_(made) {}

  std::string name() const {
    return detail::text(64, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_domain_name(get(), buffer, capacity, written, detail::error());
    });
  }

  /// Tokens a block.
  std::uint32_t block_size() const noexcept { return kvroute_domain_block_size(get()); }

  /// How many leading blocks of a prompt of so many tokens an engine can take from its cache: what to look up.
  std::size_t searchable_blocks(std::size_t tokens) const noexcept {
    return kvroute_domain_searchable_blocks(get(), tokens);
  }

  /// Hashes the full blocks of a prompt as the domain does.
  std::vector<std::uint64_t> hash(Tokens tokens, const HashContext &context = {}) const {
    const auto raw = context.raw();
    const auto write = [&](std::uint64_t *hashes, std::size_t capacity, std::size_t *written) {
      return kvroute_domain_hash(get(), tokens.data(), tokens.size(), &raw, hashes, capacity, written,
                                 detail::error());
    };
    // A domain that was moved from has no block size; the call then says so.
    return detail::values<std::uint64_t>(tokens.size() / std::max(block_size(), 1U), write);
  }

  /// The object of kvroute.h.
  const kvroute_domain *get() const noexcept { return object_.get(); }

 private:
  detail::Owned<kvroute_domain, kvroute_domain_free> object_;
};

/// A pod as the configuration and its engine call it.
struct PodName {
  std::string name;
  std::uint32_t dp_rank;
};

/// Room for one decision at a time, and what the last one saw. One a thread.
class Workspace {
 public:
  Workspace() : object_(kvroute_workspace_new()) {
    if (!object_) throw std::bad_alloc();
  }

  /// Name and rank of a pod that took part in the last decision, also of one that was removed since.
  PodName pod_name(PodId pod) {
    PodName found{{}, 0};
    found.name = detail::text(64, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_workspace_pod_name(get(), pod, buffer, capacity, written, &found.dp_rank, detail::error());
    });
    return found;
  }

  /// The next best pods for the last decision, best first, as many as its profile asks for; `Decision::fallbacks_len`
  /// says how many there are.
  std::vector<PodId> fallbacks() {
    return detail::values<PodId>(16, [&](PodId *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_workspace_fallbacks(get(), buffer, capacity, written, detail::error());
    });
  }

  /// The object of kvroute.h.
  kvroute_workspace *get() noexcept { return object_.get(); }

 private:
  detail::Owned<kvroute_workspace, kvroute_workspace_free> object_;
};

/// Bounds and sizes of a router, and its policy by name; see `kvroute_router_options`. 0 is the default of each.
struct RouterOptions {
  std::string_view preset{};
  /// Tokens; set: longer prompts are computed by a prefill pod first.
  std::optional<std::uint64_t> prefill_max_uncached_tokens{};
  /// With it: tokens.
  std::uint64_t prefill_min_prompt_tokens = 0;
  std::int64_t prefill_max_load = 0;
  std::uint32_t text_block_bytes = 0;
  std::uint64_t shards = 0;
  std::uint64_t max_bytes = 0;
  /// Negative: none; also below.
  std::int64_t max_predicted = 0;
  Time session_ttl{0};
  std::int64_t max_sessions = 0;
  /// 32 random bytes.
  Bytes session_key{};
  Time request_ttl{0};
  std::int64_t max_requests = 0;
  Time speculation_ttl{0};
  std::int64_t overload_waiting = 0;
  /// Above 1: never.
  double overload_kv_usage = 0;

  /// The same for kvroute.h.
  kvroute_router_options raw() const {
    auto raw = detail::sized<kvroute_router_options>();
    raw.preset = detail::str(preset);
    raw.has_prefill = prefill_max_uncached_tokens.has_value();
    raw.prefill_max_uncached_tokens = prefill_max_uncached_tokens.value_or(0);
    raw.text_block_bytes = text_block_bytes;
    raw.shards = shards;
    raw.max_bytes = max_bytes;
    raw.max_predicted = max_predicted;
    raw.session_ttl_ns = detail::nanoseconds(session_ttl);
    raw.max_sessions = max_sessions;
    raw.session_key = detail::bytes(session_key);
    raw.request_ttl_ns = detail::nanoseconds(request_ttl);
    raw.max_requests = max_requests;
    raw.prefill_min_prompt_tokens = prefill_min_prompt_tokens;
    raw.prefill_max_load = prefill_max_load;
    raw.speculation_ttl_ns = speculation_ttl.count();
    raw.overload_waiting = overload_waiting;
    raw.overload_kv_usage = overload_kv_usage;
    return raw;
  }
};

/// A pod: an engine, or one data-parallel rank of it; see `kvroute_pod_options`.
struct PodOptions {
  std::string_view name{};
  std::uint32_t dp_rank = 0;
  Role role = Role::both;
  View<Label> labels{};
  Copies copies = Copies::infer;
  OnGap on_gap = OnGap::clear;
  View<Group> groups{};
  View<Adapter> adapters{};
  /// 0: the default; negative: none; also below.
  std::int64_t max_parked = 0;
  std::int64_t max_parked_bytes = 0;
  std::int64_t max_retired = 0;
  /// A multiple of an ordinary pod; 0: 1.
  double capacity = 0;

  /// The same for kvroute.h, without the domain.
  kvroute_pod_options raw() const noexcept {
    auto raw = detail::sized<kvroute_pod_options>();
    raw.name = detail::str(name);
    raw.dp_rank = dp_rank;
    raw.role = static_cast<std::int32_t>(role);
    raw.labels = labels.data();
    raw.labels_len = labels.size();
    raw.copies = static_cast<std::int32_t>(copies);
    raw.on_gap = static_cast<std::int32_t>(on_gap);
    raw.groups = groups.data();
    raw.groups_len = groups.size();
    raw.adapters = adapters.data();
    raw.adapters_len = adapters.size();
    raw.max_parked = max_parked;
    raw.max_parked_bytes = max_parked_bytes;
    raw.max_retired = max_retired;
    raw.capacity = capacity;
    return raw;
  }
};

/// Blocks became available: `token_ids: [block_hashes * block_size]`, or none where they moved to another tier.
struct Stored {
  Hashes block_hashes{};
  Tokens token_ids{};
  std::uint32_t block_size = 0;
  /// The block before the first; not set: they begin a prompt.
  std::optional<std::uint64_t> parent{};
  Tier tier = Tier::gpu;
  std::string_view lora_name{};
  std::optional<std::int64_t> lora_id{};
  std::string_view cache_salt{};
  View<ExtraKey> extra_keys{};
  /// KV-cache group of a hybrid-attention model, and what it is, if the event says so; the window in tokens.
  std::uint32_t group = 0;
  std::optional<GroupKind> group_kind{};
  std::uint32_t group_window = 0;
};

/// Blocks went away.
struct Removed {
  Hashes block_hashes{};
  Tier tier = Tier::gpu;
  std::uint32_t group = 0;
};

/// The whole cache went away.
struct Cleared {};

/// A KV event.
struct Event : kvroute_kv_event {
  Event(const Stored &stored) noexcept : kvroute_kv_event(of(KVROUTE_EVENT_STORED, stored.tier)) {
    block_hashes = stored.block_hashes.data();
    block_hashes_len = stored.block_hashes.size();
    group = stored.group;
    has_group_kind = stored.group_kind.has_value();
    group_kind = static_cast<std::int32_t>(stored.group_kind.value_or(GroupKind::full_attention));
    group_window = stored.group_window;
    parent = stored.parent.value_or(0);
    has_parent = stored.parent.has_value();
    block_size = stored.block_size;
    token_ids = stored.token_ids.data();
    token_ids_len = stored.token_ids.size();
    lora_name = detail::str(stored.lora_name);
    lora_id = stored.lora_id.value_or(0);
    has_lora_id = stored.lora_id.has_value();
    cache_salt = detail::str(stored.cache_salt);
    extra_keys = stored.extra_keys.data();
    extra_keys_len = stored.extra_keys.size();
  }
  Event(const Removed &removed) noexcept : kvroute_kv_event(of(KVROUTE_EVENT_REMOVED, removed.tier)) {
    block_hashes = removed.block_hashes.data();
    block_hashes_len = removed.block_hashes.size();
    group = removed.group;
  }
  Event(Cleared) noexcept : kvroute_kv_event(of(KVROUTE_EVENT_CLEARED, Tier::gpu)) {}

 private:
  static kvroute_kv_event of(std::int32_t kind, Tier tier) noexcept {
    auto raw = detail::sized<kvroute_kv_event>();
    raw.kind = kind;
    raw.tier = static_cast<std::int32_t>(tier);
    return raw;
  }
};

/// A request to be routed. Its prompt is `token_ids`, or `text` where nobody tokenized it.
struct Request {
  Tokens token_ids{};
  std::string_view text{};
  HashContext context{};
  /// The served model it asks for; empty is content with any.
  std::string_view model{};
  /// The conversation it belongs to, by an id, or by a token of `Router::session_token`.
  std::string_view session_id{};
  std::string_view session_token{};
  /// Names of the pods it may go to, all ranks of each; an empty view is no pod, not set is any.
  std::optional<View<Name>> subset{};
  /// What external scorers say of the pods; at most `KVROUTE_MAX_SCORE_COLUMNS`.
  View<ScoreColumn> scores{};
  /// What others know of pods' caches; of token ids only.
  View<KnownPrefix> known{};
  /// Distinguishes requests where a choice is otherwise even.
  std::optional<std::uint64_t> nonce{};

  /// The same for kvroute.h; `context` is this request's own.
  kvroute_request raw(const kvroute_hash_context &raw_context) const noexcept {
    auto raw = detail::sized<kvroute_request>();
    raw.token_ids = token_ids.data();
    raw.token_ids_len = token_ids.size();
    raw.text = {reinterpret_cast<const std::uint8_t *>(text.data()), text.size()};
    raw.context = &raw_context;
    raw.model = detail::str(model);
    raw.session_id = detail::str(session_id);
    raw.session_token = detail::str(session_token);
    const View<Name> names = subset.value_or(View<Name>());
    raw.has_subset = subset.has_value();
    raw.subset = names.data();
    raw.subset_len = names.size();
    raw.scores = scores.data();
    raw.scores_len = scores.size();
    raw.known = known.data();
    raw.known_len = known.size();
    raw.nonce = nonce.value_or(0);
    raw.has_nonce = nonce.has_value();
    return raw;
  }
};

class Snapshot;

/// Everything a gateway needs to route.
class Router {
 public:
  /// Without pods.
  explicit Router(const RouterOptions &options = {}) {
    const auto raw = options.raw();
    kvroute_router *made = nullptr;
    detail::check(kvroute_router_new(&raw, &made, detail::error()));
    object_.reset(made);
  }

  /// Of a handle, which it takes over: of `kvroute_fleet_router`, say.
  explicit Router(kvroute_router *made) noexcept : object_(made) {}

  /// With the policy, cache domains and pods of a configuration document, YAML or JSON.
  static Router from_config(std::string_view document) {
    kvroute_router *made = nullptr;
    detail::check(kvroute_router_from_config(document.data(), document.size(), &made, detail::error()));
    return Router(made);
  }

  /// Chooses by the policy of another configuration document from now on; all else in it is left aside.
  void set_policy(std::string_view document) const {
    detail::check(kvroute_router_set_policy(get(), document.data(), document.size(), detail::error()));
  }

  /// Makes a router usable again that answers `KVROUTE_POISONED`. No other call may use it meanwhile.
  void recover() { detail::check(kvroute_router_recover(object_.get(), detail::error())); }

  /// Makes a cache domain known by its name.
  void add_domain(const Domain &domain) const {
    detail::check(kvroute_router_add_domain(get(), domain.get(), detail::error()));
  }

  /// The cache domain of this name.
  Domain domain(std::string_view name) const {
    kvroute_domain *made = nullptr;
    detail::check(kvroute_router_domain(get(), name.data(), name.size(), &made, detail::error()));
    return Domain(made);
  }

  /// Forgets requests and sessions whose time is over; answers how many requests.
  std::size_t expire(Time now) const {
    std::size_t expired = 0;
    detail::check(kvroute_router_expire(get(), detail::nanoseconds(now), &expired, detail::error()));
    return expired;
  }

  /// What the router and its pods are at: a JSON object.
  std::string status() const {
    return detail::text(1024, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_router_status(get(), buffer, capacity, written, detail::error());
    });
  }

  /// Adds a pod of a cache domain, holding nothing.
  PodId add_pod(const Domain &domain, const PodOptions &options) const {
    auto raw = options.raw();
    raw.domain = domain.get();
    return add(raw);
  }

  /// The same, of a cache domain that the router knows by name.
  PodId add_pod(std::string_view domain, const PodOptions &options) const {
    auto raw = options.raw();
    raw.domain_name = detail::str(domain);
    return add(raw);
  }

  /// Removes a pod and all it holds.
  void remove_pod(PodId pod) const { detail::check(kvroute_router_remove_pod(get(), pod, detail::error())); }

  /// Finds a pod by name and rank; `KVROUTE_UNKNOWN_POD` is thrown if it is not there.
  PodId find_pod(std::string_view name, std::uint32_t dp_rank = 0) const {
    PodId pod = KVROUTE_NO_POD;
    detail::check(kvroute_router_find_pod(get(), name.data(), name.size(), dp_rank, &pod, detail::error()));
    return pod;
  }

  /// The ids of all pods.
  std::vector<PodId> pods() const {
    return detail::values<PodId>(16, [&](PodId *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_router_pods(get(), buffer, capacity, written, detail::error());
    });
  }

  /// A pod's name and rank.
  PodName pod_name(PodId pod) const {
    PodName found{{}, 0};
    found.name = detail::text(64, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_router_pod_name(get(), pod, buffer, capacity, written, &found.dp_rank, detail::error());
    });
    return found;
  }

  /// Takes in what a pod says of its load: requests running and waiting, and the share of its KV cache in use, 0 to 1.
  void report_load(PodId pod, std::uint32_t running, std::uint32_t waiting, float kv_usage) const {
    detail::check(kvroute_router_report_load(get(), pod, running, waiting, kv_usage, detail::error()));
  }

  /// Forgets what a pod said of its load and its adapters: it is too old to be true.
  void forget_load(PodId pod) const {
    detail::check(kvroute_router_forget_load(get(), pod, detail::error()));
  }

  /// Takes in what a pod says of its LoRA adapters: how many can be in use at one time, and the names of those that running
  /// requests use and of those that only waiting requests ask for.
  void report_adapters(PodId pod, std::uint32_t max, View<Name> running, View<Name> waiting = {}) const {
    detail::check(kvroute_router_report_adapters(get(), pod, max, running.data(), running.size(), waiting.data(),
                                                 waiting.size(), detail::error()));
  }

  /// Lets a pod take new requests, or drains it.
  void set_accepting(PodId pod, bool accepting) const {
    detail::check(kvroute_router_set_accepting(get(), pod, accepting, detail::error()));
  }

  /// Applies one published batch of a pod: its sequence number and payload.
  ApplyReport apply(PodId pod, std::uint64_t sequence, Bytes payload) const {
    ApplyReport report;
    detail::check(
        kvroute_router_apply(get(), pod, sequence, payload.data(), payload.size(), &report, detail::error()));
    return report;
  }

  /// Applies one published message by its topic, `kv@<pod>@<model>`.
  ApplyReport apply_topic(std::string_view topic, std::uint32_t dp_rank, std::uint64_t sequence, Bytes payload) const {
    ApplyReport report;
    detail::check(kvroute_router_apply_topic(get(), topic.data(), topic.size(), dp_rank, sequence, payload.data(),
                                             payload.size(), &report, detail::error()));
    return report;
  }

  /// Applies events that came in another way than as published batches, as one batch.
  ApplyReport apply_events(PodId pod, View<Event> events) const {
    ApplyReport report;
    detail::check(
        kvroute_router_apply_events(get(), pod, events.data(), events.size(), &report, detail::error()));
    return report;
  }

  /// Applies one poll of TensorRT-LLM's events. Not 0: those of other attention windows are left out.
  ApplyReport apply_trtllm(PodId pod, std::string_view json, std::uint64_t window_size = 0) const {
    ApplyReport report;
    detail::check(kvroute_router_apply_trtllm(get(), pod, reinterpret_cast<const std::uint8_t *>(json.data()),
                                              json.size(), window_size, &report, detail::error()));
    return report;
  }

  /// Gives up on missing batches of a pod: drops its view and expects `sequence` next.
  void abandon_gap(PodId pod, std::uint64_t sequence) const {
    detail::check(kvroute_router_abandon_gap(get(), pod, sequence, detail::error()));
  }

  /// Forgets what this router sent to a pod.
  void forget_predictions(PodId pod) const {
    detail::check(kvroute_router_forget_predictions(get(), pod, detail::error()));
  }

  /// Chooses a pod, or two, for a request.
  Decision decide(const Request &request, Time now, Workspace &workspace) const {
    return route(kvroute_router_decide, request, now, workspace);
  }

  /// Decides and books. The decision's ticket is for `first_token` and `finish`.
  Decision dispatch(const Request &request, Time now, Workspace &workspace) const {
    return route(kvroute_router_dispatch, request, now, workspace);
  }

  /// Says that a request's first token came; answers whether that is news.
  bool first_token(Ticket ticket) const {
    bool known = false;
    detail::check(kvroute_router_first_token(get(), ticket, &known, detail::error()));
    return known;
  }

  /// Ends a request; answers whether it was in flight. `cached` is the engine's own count of tokens from its cache.
  bool finish(Ticket ticket, Finish outcome, std::optional<std::uint32_t> cached = std::nullopt) const {
    bool known = false;
    const std::int64_t count = cached ? std::int64_t{*cached} : KVROUTE_CACHED_UNKNOWN;
    detail::check(kvroute_router_finish(get(), ticket, static_cast<std::int32_t>(outcome), count, &known,
                                        detail::error()));
    return known;
  }

  /// A token for the client to send with its next request, so that it comes back to this decision's pods.
  std::string session_token(const Decision &decision, Time now) const {
    return session_token(decision.pod, decision.prefill_pod, now);
  }

  /// The same for pods; `prefill_pod` may be `KVROUTE_NO_POD`.
  std::string session_token(PodId pod, PodId prefill_pod, Time now) const {
    const std::uint64_t now_ns = detail::nanoseconds(now);
    return detail::text(256, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_router_session_token(get(), pod, prefill_pod, now_ns, buffer, capacity, written,
                                          detail::error());
    });
  }

  /// Explains the last decision that was made with `workspace`.
  std::string explain(Workspace &workspace, Format format) const {
    return detail::text(1024, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_router_explain(get(), workspace.get(), static_cast<std::int32_t>(format), buffer, capacity,
                                    written, detail::error());
    });
  }

  /// The line of a decision log about the last decision that was made with `workspace`, which `request` was about; empty
  /// if there is none. `has_prompt`: the prompt is in it too.
  std::string record(const Request &request, Workspace &workspace, bool has_prompt = false) const {
    return record(request, workspace, nullptr, has_prompt);
  }

  /// The same of a dispatch, and what it answered.
  std::string record(const Request &request, Workspace &workspace, const Decision &dispatch,
                     bool has_prompt = false) const {
    return record(request, workspace, &dispatch, has_prompt);
  }

  /// Begins a snapshot of what this router knows.
  Snapshot snapshot(Time now) const;

  /// What every pod of `domain` has of these blocks; pods that have none are left out.
  std::vector<PodMatch> lookup(const Domain &domain, Hashes hashes, Workspace &workspace) const {
    return detail::values<PodMatch>(16, [&](PodMatch *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_router_lookup(get(), domain.get(), hashes.data(), hashes.size(), workspace.get(), buffer,
                                   capacity, written, detail::error());
    });
  }

  /// Keeps a journal of what a pod comes to hold and holds no more, up to so many changes; 0 ends it.
  void journal_held(PodId pod, std::size_t most) {
    detail::check(kvroute_router_journal_held(get(), pod, most, detail::error()));
  }

  /// Takes up to `most` changes of that journal.
  HeldChanges take_held(PodId pod, std::size_t most) {
    HeldChanges taken;
    taken.changes.resize(most);
    std::size_t written = 0;
    detail::check(kvroute_router_take_held(get(), pod, taken.changes.data(), most, &written, &taken.flags,
                                           detail::error()));
    taken.changes.resize(written);
    return taken;
  }

  /// Lists up to `most` blocks that a pod holds, from `cursor` on, 0 at first; it is set to where the next page begins,
  /// `KVROUTE_HELD_END` behind the last.
  std::vector<HeldBlock> list_held(PodId pod, std::uint64_t &cursor, std::size_t most) const {
    std::vector<HeldBlock> page(most);
    std::size_t written = 0;
    detail::check(kvroute_router_list_held(get(), pod, &cursor, page.data(), most, &written, detail::error()));
    page.resize(written);
    return page;
  }

  RouterCounters counters() const {
    RouterCounters counters;
    detail::check(kvroute_router_read_counters(get(), &counters, detail::error()));
    return counters;
  }

  PodCounters counters(PodId pod) const {
    PodCounters counters;
    detail::check(kvroute_router_read_pod_counters(get(), pod, &counters, detail::error()));
    return counters;
  }

  /// The object of kvroute.h.
  const kvroute_router *get() const noexcept { return object_.get(); }

 private:
  std::string record(const Request &request, Workspace &workspace, const Decision *dispatch, bool has_prompt) const {
    const auto context = request.context.raw();
    const auto raw = request.raw(context);
    const std::uint32_t flags = has_prompt ? KVROUTE_RECORD_PROMPT : 0;
    return detail::text(4096, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_router_record(get(), &raw, workspace.get(), dispatch, flags, buffer, capacity, written,
                                   detail::error());
    });
  }

  PodId add(const kvroute_pod_options &options) const {
    PodId pod = KVROUTE_NO_POD;
    detail::check(kvroute_router_add_pod(get(), &options, &pod, detail::error()));
    return pod;
  }

  template <class Call>
  Decision route(Call call, const Request &request, Time now, Workspace &workspace) const {
    const auto context = request.context.raw();
    const auto raw = request.raw(context);
    Decision decision;
    detail::check(call(get(), &raw, detail::nanoseconds(now), workspace.get(), &decision, detail::error()));
    return decision;
  }

  detail::Owned<kvroute_router, kvroute_router_free> object_;
};

/// A snapshot in the making: what a router knows, as bytes.
class Snapshot {
 public:
  /// The next bytes; none when there are no more. `router` is the one that it was begun on.
  std::vector<std::uint8_t> next(const Router &router) {
    const auto write = [&](std::uint8_t *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_snapshot_next(object_.get(), router.get(), buffer, capacity, written, detail::error());
    };
    return detail::values<std::uint8_t>(KVROUTE_SNAPSHOT_CHUNK, write);
  }

 private:
  friend class Router;
  explicit Snapshot(kvroute_snapshot *made) noexcept : object_(made) {}

  detail::Owned<kvroute_snapshot, kvroute_snapshot_free> object_;
};

inline Snapshot Router::snapshot(Time now) const {
  kvroute_snapshot *made = nullptr;
  detail::check(kvroute_router_snapshot(get(), detail::nanoseconds(now), &made, detail::error()));
  return Snapshot(made);
}

/// Takes a snapshot in, and then gives it to a router.
class Restore {
 public:
  Restore() : object_(kvroute_restore_new()) {}

  /// Takes in what comes next, as many bytes as there are.
  void push(Bytes bytes) {
    detail::check(kvroute_restore_push(object_.get(), bytes.data(), bytes.size(), detail::error()));
  }

  /// Gives it to a router, whose pods no events came to yet.
  Restored finish(const Router &router, Time now) {
    Restored restored;
    detail::check(kvroute_restore_finish(object_.get(), router.get(), detail::nanoseconds(now), &restored,
                                         detail::error()));
    return restored;
  }

  /// What became of it, pod by pod: a JSON object.
  std::string report() {
    return detail::text(1024, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_restore_report(object_.get(), buffer, capacity, written, detail::error());
    });
  }

 private:
  detail::Owned<kvroute_restore, kvroute_restore_free> object_;
};

/// Checks a configuration document, YAML or JSON, without making anything of it.
inline void check_config(std::string_view document) {
  detail::check(kvroute_config_check(document.data(), document.size(), detail::error()));
}

/// The JSON Schema of configuration documents.
inline std::string config_schema() {
  return detail::text(1 << 16, [](char *buffer, std::size_t capacity, std::size_t *written) {
    return kvroute_config_schema(buffer, capacity, written, detail::error());
  });
}

namespace detail {

/// Calls `write(document, capacity, written, notes, notes_capacity, notes_written)` with room for both: a first call
/// tells how much they need.
template <class Write>
void texts(std::string &document, std::string &notes, Write write) {
  std::size_t needed = 0, notes_needed = 0;
  char none = 0;
  const std::int32_t status = write(nullptr, 0, &needed, &none, 1, &notes_needed);
  if (status != KVROUTE_BUFFER_TOO_SMALL) check(status);
  document.resize(needed);
  notes.resize(notes_needed);
  check(write(&document[0], document.size(), &needed, &notes[0], notes.size(), &notes_needed));
  document.resize(needed);
  notes.resize(notes_needed);
}

}  // namespace detail

/// A configuration made of llm-d's, an `EndpointPickerConfig` in YAML or JSON: a document without domains and pods
/// (JSON), and notes on what does not map or means something else here (a JSON array of texts).
struct EndpointPickerConfig {
  explicit EndpointPickerConfig(std::string_view of) {
    detail::texts(document, notes, [&](char *to, std::size_t capacity, std::size_t *written, char *notes_to,
                                       std::size_t notes_capacity, std::size_t *notes_written) {
      return kvroute_config_from_endpoint_picker(of.data(), of.size(), to, capacity, written, notes_to,
                                                 notes_capacity, notes_written, detail::error());
    });
  }

  std::string document;
  std::string notes;
};

/// A configuration made of the environment variables of llm-d's first scheduler, which may be passed all: a document
/// without pods (JSON), and notes on variables that mean nothing here (a JSON array of texts).
struct EnvironmentConfig {
  explicit EnvironmentConfig(View<std::pair<std::string_view, std::string_view>> variables) {
    std::vector<kvroute_str> names, values;
    for (std::size_t at = 0; at < variables.size(); ++at) {
      names.push_back(detail::str(variables.data()[at].first));
      values.push_back(detail::str(variables.data()[at].second));
    }
    detail::texts(document, notes, [&](char *to, std::size_t capacity, std::size_t *written, char *notes_to,
                                       std::size_t notes_capacity, std::size_t *notes_written) {
      return kvroute_config_from_env(names.data(), values.data(), names.size(), to, capacity, written, notes_to,
                                     notes_capacity, notes_written, detail::error());
    });
  }

  std::string document;
  std::string notes;
};

/// The line of a decision log about a request's end, as `Router::finish` is told of it.
inline std::string log_outcome(Ticket ticket, Finish outcome, std::optional<std::uint32_t> cached, Time now) {
  const std::int64_t count = cached ? std::int64_t{*cached} : KVROUTE_CACHED_UNKNOWN;
  const std::uint64_t now_ns = detail::nanoseconds(now);
  return detail::text(256, [&](char *buffer, std::size_t capacity, std::size_t *written) {
    return kvroute_log_outcome(ticket, static_cast<std::int32_t>(outcome), count, now_ns, buffer, capacity, written,
                               detail::error());
  });
}

/// The decision of a log's line made again, by the policy of a configuration document: a JSON object.
inline std::string log_replay(std::string_view line, std::string_view document) {
  return detail::text(4096, [&](char *buffer, std::size_t capacity, std::size_t *written) {
    return kvroute_log_replay(line.data(), line.size(), document.data(), document.size(), buffer, capacity, written,
                              detail::error());
  });
}

/// The JSON Schema of a decision log's lines.
inline std::string log_schema() {
  return detail::text(1 << 16, [](char *buffer, std::size_t capacity, std::size_t *written) {
    return kvroute_log_schema(buffer, capacity, written, detail::error());
  });
}

/// Version of the library that runs.
inline std::string_view version() noexcept { return kvroute_version(); }
/// Version of the interface of the library that runs.
inline std::uint32_t abi_version() noexcept { return kvroute_abi_version(); }

// Arrays of these are passed as arrays of kvroute.h's structs.
static_assert(sizeof(MultimodalItem) == sizeof(kvroute_multimodal_item));
static_assert(sizeof(PromptEmbed) == sizeof(kvroute_bytes));
static_assert(sizeof(Label) == sizeof(kvroute_label));
static_assert(sizeof(Group) == sizeof(kvroute_group));
static_assert(sizeof(Adapter) == sizeof(kvroute_adapter));
static_assert(sizeof(ExtraKey) == sizeof(kvroute_extra_key));
static_assert(sizeof(Name) == sizeof(kvroute_str));
static_assert(sizeof(ScoreColumn) == sizeof(kvroute_score_column));
static_assert(sizeof(Event) == sizeof(kvroute_kv_event));

}  // namespace kvroute

#endif  // KVROUTE_HPP
