/// @file
/// kvroute_io.h for C++17, as kvroute.hpp is kvroute.h: what each call means, costs and answers is said there.
///
///   kvroute::Fleet fleet(document);
///   const kvroute::Router router = fleet.router();
///   kvroute::Tokenizer tokenizer(folder);
///   const auto prompts = tokenizer.prompts(kvroute::Endpoint::chat_completions, body);   // for each request
///   kvroute::Request request = prompts.request(0);
///   const auto decision = router.dispatch(request, fleet.now(), workspace);
///   const auto target = fleet.target(decision.pod);                                      // send it there
#ifndef KVROUTE_IO_HPP
#define KVROUTE_IO_HPP

#include "kvroute.hpp"
#include "kvroute_io.h"

namespace kvroute {

// The numbers of kvroute_io.h as types.
enum class Endpoint : std::int32_t {
  completions = KVROUTE_ENDPOINT_COMPLETIONS,
  chat_completions = KVROUTE_ENDPOINT_CHAT_COMPLETIONS,
  responses = KVROUTE_ENDPOINT_RESPONSES
};

/// Where a pod of a fleet is.
struct Target {
  /// Its name.
  std::string name;
  /// Where its HTTP interface is.
  std::string url;
  /// The data-parallel rank that was picked.
  std::uint32_t rank = 0;
  /// How many are behind that URL; if more than one, the request has to say which is meant.
  std::uint32_t ranks = 0;
};

/// How a fleet is started.
struct FleetOptions {
  /// Threads that ask pods; 0: 2.
  std::uint32_t threads = 0;
  /// Whether events wait for `Fleet::release_events`.
  bool hold_events = false;
};

/// A router, and what keeps it in step with reality. Stops when it is destroyed, within five seconds.
class Fleet {
 public:
  /// Of a document, YAML or JSON.
  explicit Fleet(std::string_view document, const FleetOptions &options = {}) {
    auto raw = detail::sized<kvroute_fleet_options>();
    raw.threads = options.threads;
    raw.hold_events = options.hold_events;
    kvroute_fleet *made = nullptr;
    detail::check(kvroute_fleet_start(document.data(), document.size(), &raw, &made, detail::error()));
    object_.reset(made);
  }

  /// The fleet's router, which may outlive it.
  Router router() const {
    kvroute_router *made = nullptr;
    detail::check(kvroute_fleet_router(get(), &made, detail::error()));
    return Router(made);
  }

  /// The time to pass to the router.
  Time now() const {
    std::uint64_t now_ns = 0;
    detail::check(kvroute_fleet_now(get(), &now_ns, detail::error()));
    return Time(now_ns);
  }

  /// Where a pod is; `KVROUTE_UNKNOWN_POD` is thrown if it left.
  Target target(PodId pod) const {
    Target found{std::string(64, '\0'), std::string(64, '\0')};
    for (;;) {
      std::size_t name = found.name.size(), url = found.url.size();
      const std::int32_t status =
          kvroute_fleet_target(get(), pod, &found.name[0], name, &name, &found.url[0], url, &url, &found.rank,
                               &found.ranks, detail::error());
      if (status != KVROUTE_BUFFER_TOO_SMALL) detail::check(status);
      found.name.resize(name);
      found.url.resize(url);
      if (status == KVROUTE_OK) return found;
    }
  }

  /// The models and adapters that pods serve: a JSON array.
  std::string models() const { return text(kvroute_fleet_models); }

  /// What sources, pods, models and streams of events are at: a JSON object.
  std::string status() const { return text(kvroute_fleet_status); }

  /// Goes on by another document.
  void reconfigure(std::string_view document) const {
    detail::check(kvroute_fleet_reconfigure(get(), document.data(), document.size(), detail::error()));
  }

  /// Subscribes to events, where they were held.
  void release_events() const { detail::check(kvroute_fleet_release_events(get(), detail::error())); }

  /// The handle of kvroute_io.h, which stays this object's.
  const kvroute_fleet *get() const noexcept { return object_.get(); }

 private:
  template <class Write>
  std::string text(Write write) const {
    return detail::text(4096, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return write(get(), buffer, capacity, written, detail::error());
    });
  }

  detail::Owned<kvroute_fleet, kvroute_fleet_free> object_;
};

/// A prompt as the engine will see it, or as text and why. Its views are the prompts' that it was taken of.
struct Prompt {
  /// The engine's token ids; none if `reason` says why.
  Tokens token_ids{};
  /// Without token ids: bytes that begin alike where conversations begin alike.
  std::string_view text{};
  /// Why there are no token ids; empty if there are.
  std::string_view reason{};
};

/// The prompts of one request.
class Prompts {
 public:
  /// None yet.
  Prompts() : object_(kvroute_prompts_new()) {
    if (!object_) throw std::bad_alloc();
  }

  /// How many there are.
  std::size_t size() const {
    std::size_t count = 0;
    detail::check(kvroute_prompts_count(get(), &count, detail::error()));
    return count;
  }

  /// One of them; `KVROUTE_INVALID_INPUT` is thrown if there are not so many.
  Prompt operator[](std::size_t at) const {
    auto raw = detail::sized<kvroute_prompt>();
    detail::check(kvroute_prompts_get(get(), at, &raw, detail::error()));
    return {Tokens(raw.token_ids, raw.token_ids_len),
            {reinterpret_cast<const char *>(raw.text.data), raw.text.len},
            {raw.reason.data, raw.reason.len}};
  }

  /// A request of one of them, with nothing else in it yet. The prompts must outlive it.
  Request request(std::size_t at) const {
    const Prompt prompt = (*this)[at];
    Request request;
    request.token_ids = prompt.token_ids;
    request.text = prompt.text;
    return request;
  }

  /// The handle of kvroute_io.h, which stays this object's.
  kvroute_prompts *get() const noexcept { return object_.get(); }

 private:
  detail::Owned<kvroute_prompts, kvroute_prompts_free> object_;
};

/// How a tokenizer reads requests, and its bounds; see kvroute_tokenizer_options.
struct TokenizerOptions {
  std::string_view chat_template{};
  std::string_view chat_template_kwargs{};
  bool trust_request_chat_template = false;
  bool exclude_tools_when_tool_choice_none = false;
  std::int64_t cache_bytes = 0;
  std::uint64_t max_text_bytes = 0;
  std::uint64_t max_template_steps = 0;
  std::uint32_t threads = 0;
  std::uint32_t queue = 0;
  Time wait{};
};

/// What a tokenizer has done.
struct TokenizerCounters : kvroute_tokenizer_counters {
  TokenizerCounters() noexcept : kvroute_tokenizer_counters(detail::sized<kvroute_tokenizer_counters>()) {}
};

/// A model's tokenizer and chat template, and threads that use them.
class Tokenizer {
 public:
  /// Of a model's folder.
  explicit Tokenizer(std::string_view folder, const TokenizerOptions &options = {}) {
    auto raw = detail::sized<kvroute_tokenizer_options>();
    raw.chat_template = detail::str(options.chat_template);
    raw.chat_template_kwargs = detail::str(options.chat_template_kwargs);
    raw.trust_request_chat_template = options.trust_request_chat_template;
    raw.exclude_tools_when_tool_choice_none = options.exclude_tools_when_tool_choice_none;
    raw.cache_bytes = options.cache_bytes;
    raw.max_text_bytes = options.max_text_bytes;
    raw.max_template_steps = options.max_template_steps;
    raw.threads = options.threads;
    raw.queue = options.queue;
    raw.wait_ns = detail::nanoseconds(options.wait);
    kvroute_tokenizer *made = nullptr;
    detail::check(kvroute_tokenizer_new(folder.data(), folder.size(), &raw, &made, detail::error()));
    object_.reset(made);
  }

  /// The prompts of a request, within the time of the options.
  Prompts prompts(Endpoint endpoint, std::string_view body) const {
    Prompts prompts;
    detail::check(kvroute_tokenizer_prompts(get(), static_cast<std::int32_t>(endpoint),
                                            reinterpret_cast<const std::uint8_t *>(body.data()), body.size(),
                                            prompts.get(), detail::error()));
    return prompts;
  }

  /// The ids of a text, as its only prompt.
  Prompts encode(std::string_view text, bool add_special_tokens) const {
    Prompts prompts;
    detail::check(kvroute_tokenizer_encode(get(), text.data(), text.size(), add_special_tokens, prompts.get(),
                                           detail::error()));
    return prompts;
  }

  /// Whether text that was seen before is encoded again.
  std::string segmentation() const {
    return detail::text(64, [&](char *buffer, std::size_t capacity, std::size_t *written) {
      return kvroute_tokenizer_segmentation(get(), buffer, capacity, written, detail::error());
    });
  }

  /// What it has done.
  TokenizerCounters counters() const {
    TokenizerCounters counters;
    detail::check(kvroute_tokenizer_read_counters(get(), &counters, detail::error()));
    return counters;
  }

  /// The handle of kvroute_io.h, which stays this object's.
  const kvroute_tokenizer *get() const noexcept { return object_.get(); }

 private:
  detail::Owned<kvroute_tokenizer, kvroute_tokenizer_free> object_;
};

}  // namespace kvroute

#endif  // KVROUTE_IO_HPP
