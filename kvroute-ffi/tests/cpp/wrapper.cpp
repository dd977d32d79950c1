// kvroute.hpp: everything in it is used, what fails throws, what is moved is gone, and deciding allocates nothing.
#include "kvroute.hpp"

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

using namespace std::chrono_literals;

kvroute::Hasher hasher_of_another_unit();

namespace {

unsigned long checks = 0;

#define CHECK(condition) \
  (++checks, (condition) ? (void)0 : failed(__FILE__, __LINE__, #condition))

void failed(const char *file, int line, const char *what) {
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  std::exit(1);
}

std::atomic<unsigned long> allocations{0};

}  // namespace

// Counted, for `deciding_allocates_nothing`. The library itself is Rust and allocates elsewhere. Not inlined: memory
// checkers replace all three, or none.
[[gnu::noinline]] void *operator new(std::size_t size) {
  ++allocations;
  if (void *memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void *memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }

namespace {

// The status that a call throws; KVROUTE_OK if it throws nothing.
template <class Call>
std::int32_t status_of(Call call) {
  try {
    call();
  } catch (const kvroute::Error &error) {
    CHECK(std::strlen(error.what()) > 0);
    CHECK(std::strcmp(error.status_name(), kvroute_status_name(error.status())) == 0);
    return error.status();
  }
  return KVROUTE_OK;
}

const char *const CONFIG =
    "{\"domains\":{\"m\":{\"block_size\":4,\"models\":[\"m\"]}},"
    "\"pods\":[{\"name\":\"a\",\"domain\":\"m\"},{\"name\":\"b\",\"domain\":\"m\"}],"
    "\"policy\":{\"decode\":{\"scorers\":{\"kv-cache\":{\"weight\":2},\"prefix\":{\"weight\":1},"
    "\"session\":{\"weight\":1},\"load\":{\"weight\":1},\"external\":{\"cheap\":{\"weight\":3}}}}},"
    "\"sessions\":{\"key\":\"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"}}";

std::vector<std::uint32_t> prompt(std::uint32_t length) {
  std::vector<std::uint32_t> tokens(length);
  for (std::uint32_t at = 0; at < length; ++at) tokens[at] = at;
  return tokens;
}

template <class T>
constexpr bool is_move_only = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                              !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;
static_assert(is_move_only<kvroute::Hasher> && is_move_only<kvroute::Domain>);
static_assert(is_move_only<kvroute::Router> && is_move_only<kvroute::Workspace>);

void versions() {
  CHECK(kvroute::version() == KVROUTE_VERSION);
  CHECK(kvroute::abi_version() == KVROUTE_ABI_VERSION);
}

void hashing() {
  kvroute::HasherOptions options;
  CHECK(status_of([&] { kvroute::Hasher none(options); }) == KVROUTE_INVALID_INPUT);
  options.block_size = 4;
  const kvroute::Hasher hasher(options);
  const auto tokens = prompt(11);
  const auto hashes = hasher.hash(tokens);
  CHECK(hashes.size() == 2);
  CHECK(hashes == hasher_of_another_unit().hash(tokens));
  CHECK(hasher.hash({}).empty());
  kvroute::HashContext context;
  context.cache_salt = "tenant";
  CHECK(hasher.hash(tokens, context)[0] != hashes[0]);
  const kvroute::MultimodalItem items[] = {{"image", 0, 2}};
  context.multimodal = items;
  CHECK(hasher.hash(tokens, context).size() == 2);

  const kvroute::Domain domain("d", hasher);
  CHECK(domain.name() == "d" && domain.block_size() == 4);
  CHECK(domain.hash(tokens) == hashes);
  CHECK(domain.searchable_blocks(8) == 1 && domain.searchable_blocks(9) == 2);
  const std::vector<std::string_view> models{"x", "y"};
  CHECK(kvroute::Domain(std::string(100, 'n'), hasher, models).name() == std::string(100, 'n'));

  // vLLM: a seed that is empty is another one than none.
  options.scheme = kvroute::Scheme::vllm;
  options.algorithm = "xxhash";
  options.version = "0.32.0";
  CHECK(status_of([&] { kvroute::Hasher random(options); }) == KVROUTE_NOT_REPRODUCIBLE);
  options.seed = "";
  const kvroute::Hasher seeded(options);
  const std::uint8_t key[32] = {1};
  const kvroute::PromptEmbed embeds[] = {kvroute::Bytes(key)};
  kvroute::HashContext embedded;
  embedded.prompt_embeds = embeds;
  CHECK(seeded.hash(tokens, embedded) != seeded.hash(tokens));
}

void a_fleet_made_by_hand() {
  kvroute::HasherOptions hashing;
  hashing.block_size = 4;
  const kvroute::Domain domain("m", kvroute::Hasher(hashing));
  kvroute::RouterOptions options;
  options.prefill_max_uncached_tokens = 8;
  options.prefill_min_prompt_tokens = 41;
  options.prefill_max_load = 40;
  options.speculation_ttl = 1ms;
  options.overload_waiting = -1;
  options.overload_kv_usage = 0.5;
  options.request_ttl = 10s;
  const kvroute::Router router(options);
  router.add_domain(domain);
  CHECK(router.domain("m").name() == "m");
  CHECK(status_of([&] { (void)router.domain("n"); }) == KVROUTE_UNKNOWN_DOMAIN);

  kvroute::PodOptions pod;
  CHECK(status_of([&] { router.add_pod(domain, pod); }) == KVROUTE_INVALID_INPUT);
  const kvroute::Label labels[] = {{"zone", "eu"}};
  const kvroute::Group groups[] = {{0, kvroute::GroupKind::full_attention}};
  const kvroute::Adapter adapters[] = {{7, "sql"}};
  pod.name = "decode";
  pod.dp_rank = 1;
  pod.role = kvroute::Role::decode;
  pod.labels = labels;
  pod.groups = groups;
  pod.adapters = adapters;
  const kvroute::PodId decode = router.add_pod(domain, pod);
  pod.name = "prefill";
  pod.role = kvroute::Role::prefill;
  pod.capacity = 0.5;
  pod.on_gap = kvroute::OnGap::replay;
  pod.copies = kvroute::Copies::count;
  CHECK(status_of([&] { router.add_pod("nowhere", pod); }) == KVROUTE_UNKNOWN_DOMAIN);
  const kvroute::PodId prefill = router.add_pod(domain.name(), pod);
  CHECK(router.find_pod("decode", 1) == decode);
  CHECK(status_of([&] { (void)router.find_pod("decode"); }) == KVROUTE_UNKNOWN_POD);
  CHECK((router.pods() == std::vector<kvroute::PodId>{decode, prefill}));
  CHECK(router.pod_name(prefill).name == "prefill" && router.pod_name(prefill).dp_rank == 1);

  const auto tokens = prompt(41);
  kvroute::Request request;
  request.token_ids = tokens;
  kvroute::Workspace workspace;
  const kvroute::Decision decision = router.dispatch(request, 1s, workspace);
  CHECK(decision.pod == decode && decision.has_prefill() && decision.prefill_pod == prefill);
  CHECK(decision.is_tracked());
  CHECK(decision.why() == kvroute::Reason::picked && decision.why_prefill() == kvroute::Reason::picked);
  // The prefill pod has enough to do with that.
  CHECK(!router.decide(request, 1s, workspace).has_prefill());
  CHECK(router.status().find("\"capacity\":0.5") != std::string::npos);
  router.report_load(prefill, 0, 1000, 0.4F);
  CHECK(router.status().find("\"overloaded\":true") == std::string::npos);
  router.report_load(prefill, 0, 0, 0.6F);
  CHECK(router.status().find("\"overloaded\":true") != std::string::npos);
  CHECK(router.expire(10s) == 0 && router.expire(11s) == 1);
  CHECK(!router.finish(decision.ticket, kvroute::Finish::completed));
  CHECK(status_of([&] { router.decide(request, -1s, workspace); }) == KVROUTE_INVALID_INPUT);
  (void)router.decide(request, 12s, workspace);
  router.remove_pod(decode);
  CHECK(workspace.pod_name(decode).name == "decode" && workspace.pod_name(decode).dp_rank == 1);
  CHECK(status_of([&] { (void)workspace.pod_name(12345); }) == KVROUTE_UNKNOWN_POD);
  CHECK(status_of([&] { router.decide(request, 12s, workspace); }) == KVROUTE_NO_CANDIDATE);
}

void a_request_from_beginning_to_end() {
  const kvroute::Router router = kvroute::Router::from_config(CONFIG);
  const kvroute::PodId a = router.find_pod("a"), b = router.find_pod("b");
  kvroute::Workspace workspace;
  const auto tokens = prompt(41);
  kvroute::Request request;
  request.token_ids = tokens;
  request.model = "m";
  request.session_id = "alice";
  request.nonce = 1;
  const kvroute::Decision sent = router.dispatch(request, 1s, workspace);
  CHECK(router.counters().in_flight == 1 && router.counters(sent.pod).booked_requests == 1);
  CHECK(router.first_token(sent.ticket) && !router.first_token(sent.ticket));
  CHECK(router.finish(sent.ticket, kvroute::Finish::completed, 0));
  CHECK(!router.finish(sent.ticket, kvroute::Finish::completed, 0));
  CHECK(router.counters().in_flight == 0);

  // By its token the client comes back; what the pods hold weighs less here than what others say.
  const std::string token = router.session_token(sent, 2s);
  request.session_id = {};
  request.session_token = token;
  CHECK(router.decide(request, 3s, workspace).pod == sent.pod);
  const std::array<kvroute::PodId, 2> pods{a, b};
  const std::array<double, 2> scores{sent.pod == a ? 0.0 : 1.0, sent.pod == a ? 1.0 : 0.0};
  const kvroute::ScoreColumn columns[] = {{"cheap", pods, scores}};
  request.session_token = {};
  request.scores = columns;
  router.forget_predictions(sent.pod);
  CHECK(router.decide(request, 3s, workspace).pod != sent.pod);
  CHECK(router.explain(workspace, kvroute::Format::text).find("cheap 1.000 x 3") != std::string::npos);
  CHECK(router.explain(workspace, kvroute::Format::json).front() == '{');
  CHECK(status_of([&] { kvroute::ScoreColumn("cheap", pods, kvroute::View<double>()); }) == KVROUTE_INVALID_INPUT);

  kvroute::Request text;
  text.text = "You are a helpful assistant.";
  CHECK(router.decide(text, 3s, workspace).candidates == 2);
  text.token_ids = tokens;
  CHECK(status_of([&] { router.decide(text, 3s, workspace); }) == KVROUTE_INVALID_INPUT);

  router.report_load(a, 100, 3, 0.9F);
  CHECK(status_of([&] { router.report_load(a, 0, 0, 1.5F); }) == KVROUTE_INVALID_INPUT);
  CHECK(status_of([&] { router.forget_load(KVROUTE_NO_POD); }) == KVROUTE_UNKNOWN_POD);
  router.set_accepting(b, false);
  CHECK(router.decide(request, 3s, workspace).pod == a);
  CHECK(router.status().find("\"pods\"") != std::string::npos);
}

void a_policy_that_is_replaced() {
  const kvroute::Router router = kvroute::Router::from_config(CONFIG);
  const kvroute::PodId a = router.find_pod("a"), b = router.find_pod("b");
  kvroute::Workspace workspace;
  const auto tokens = prompt(41);
  kvroute::Request request;
  request.token_ids = tokens;
  CHECK(router.decide(request, 1s, workspace).fallbacks_len == 0 && workspace.fallbacks().empty());
  CHECK(status_of([&] { router.set_policy("{\"policy\":{\"preset\":\"cheapest\"}}"); }) == KVROUTE_INVALID_INPUT);
  router.set_policy("policy: {decode: {scorers: {lora-affinity: {weight: 1}}, fallbacks: 1}}");
  const kvroute::Name sql[] = {"sql"};
  router.report_adapters(a, 1, {});
  router.report_adapters(b, 1, {}, sql);
  request.context.lora_name = "sql";
  // There is room on a, and a request for it waits on b.
  const kvroute::Decision decision = router.decide(request, 1s, workspace);
  CHECK(decision.pod == a && decision.fallbacks_len == 1);
  CHECK(workspace.fallbacks() == std::vector<kvroute::PodId>{b});
  router.report_adapters(b, 1, sql);
  CHECK(router.decide(request, 1s, workspace).pod == b);

  const kvroute::Name only[] = {"nobody", "a"};
  request.subset = only;
  CHECK(router.decide(request, 1s, workspace).pod == a);
  request.subset = kvroute::View<kvroute::Name>();
  CHECK(status_of([&] { router.decide(request, 1s, workspace); }) == KVROUTE_NO_CANDIDATE);

  router.set_policy("policy: {decode: {guard: {spill: {absolute: 1}}, scorers: {kv-cache: {weight: 1}}}}");
  request.subset.reset();
  router.report_load(a, 50, 0, 0);
  router.report_load(b, 0, 0, 0);
  const std::vector<std::uint64_t> names{1};
  kvroute::Stored stored;
  stored.block_hashes = names;
  stored.token_ids = kvroute::Tokens(tokens.data(), 4);
  stored.block_size = 4;
  stored.lora_name = "sql";
  const kvroute::Event events[] = {stored};
  router.apply_events(a, events);
  const kvroute::Decision spilled = router.decide(request, 1s, workspace);
  CHECK(spilled.pod == b && spilled.why() == kvroute::Reason::spilled);
}

void a_decision_log() {
  const kvroute::Router router = kvroute::Router::from_config(CONFIG);
  kvroute::Workspace workspace;
  const auto tokens = prompt(41);
  kvroute::Request request;
  request.token_ids = tokens;
  CHECK(router.record(request, workspace).empty());
  const kvroute::Decision decision = router.dispatch(request, 1s, workspace);
  const std::string line = router.record(request, workspace, decision);
  CHECK(line.find("\"ticket\":") != std::string::npos && line.find("token_ids") == std::string::npos);
  CHECK(router.record(request, workspace).find("\"ticket\":") == std::string::npos);
  CHECK(router.record(request, workspace, true).find("token_ids") != std::string::npos);
  CHECK(kvroute::log_replay(line, CONFIG).find("\"as_recorded\":true") != std::string::npos);
  CHECK(kvroute::log_replay(line, "policy: {preset: affinity}").find("\"as_recorded\":false") != std::string::npos);
  const std::string end = kvroute::log_outcome(decision.ticket, kvroute::Finish::completed, 7, 2s);
  CHECK(end.find("\"engine_cached_tokens\":7") != std::string::npos);
  CHECK(status_of([&] { (void)kvroute::log_replay(end, CONFIG); }) == KVROUTE_INVALID_INPUT);
  CHECK(status_of([&] { (void)kvroute::log_replay("", CONFIG); }) == KVROUTE_DECODE);
  CHECK(kvroute::log_schema().front() == '{');
}

void a_router_that_goes_on_for_another() {
  const kvroute::Router router = kvroute::Router::from_config(CONFIG);
  kvroute::Workspace workspace;
  const auto tokens = prompt(41);
  kvroute::Request request;
  request.token_ids = tokens;
  const kvroute::Decision before = router.dispatch(request, 1s, workspace);
  router.finish(before.ticket, kvroute::Finish::completed);
  kvroute::Snapshot snapshot = router.snapshot(1s);
  kvroute::Restore restore, cut;
  CHECK(status_of([&] { (void)restore.report(); }) == KVROUTE_INVALID_INPUT);
  std::vector<std::uint8_t> bytes;
  for (auto chunk = snapshot.next(router); !chunk.empty(); chunk = snapshot.next(router)) {
    bytes.insert(bytes.end(), chunk.begin(), chunk.end());
  }
  restore.push(bytes);
  cut.push({bytes.data(), bytes.size() - 1});
  const kvroute::Router successor = kvroute::Router::from_config(CONFIG);
  CHECK(status_of([&] { (void)cut.finish(successor, 0s); }) == KVROUTE_DECODE);
  CHECK(status_of([&] { (void)snapshot.next(successor); }) == KVROUTE_INVALID_INPUT);
  const kvroute::Restored restored = restore.finish(successor, 0s);
  CHECK(restored.pods == 2 && restored.pods_added == 0 && restored.pods_refused == 0);
  CHECK(restored.predicted_blocks == 10);
  CHECK(restore.report().find("\"predicted\":10") != std::string::npos);
  const kvroute::Decision again = successor.decide(request, 0s, workspace);
  CHECK(successor.pod_name(again.pod).name == router.pod_name(before.pod).name);
  CHECK(again.total == router.decide(request, 1s, workspace).total);
}

void events() {
  const kvroute::Router router = kvroute::Router::from_config(CONFIG);
  const kvroute::PodId a = router.find_pod("a");
  const auto tokens = prompt(12);
  const std::vector<std::uint64_t> names{1, 2, 3};
  kvroute::Stored stored;
  stored.block_hashes = names;
  stored.token_ids = tokens;
  stored.block_size = 4;
  CHECK(router.apply_events(a, std::vector<kvroute::Event>{stored}).blocks_stored == 3);
  kvroute::Workspace workspace;
  const kvroute::Domain domain = router.domain("m");
  const auto found = router.lookup(domain, domain.hash(tokens), workspace);
  CHECK(found.size() == 1 && found[0].pod == a && found[0].blocks[KVROUTE_TIER_GPU] == 3);

  const std::uint64_t last[] = {3};
  kvroute::Removed removed;
  removed.block_hashes = last;
  kvroute::Stored salted = stored;
  const std::uint64_t first[] = {9};
  const kvroute::ExtraKey keys[] = {kvroute::ExtraKey::multimodal(0, "image", 1)};
  salted.block_hashes = first;
  salted.token_ids = kvroute::Tokens(tokens.data(), 4);
  salted.cache_salt = "tenant";
  salted.extra_keys = keys;
  const kvroute::Event both[] = {removed, salted};
  const kvroute::ApplyReport report = router.apply_events(a, both);
  CHECK(report.result() == kvroute::Outcome::applied && report.blocks_removed == 1 && report.blocks_stored == 1);
  CHECK(router.lookup(domain, domain.hash(tokens), workspace)[0].blocks[KVROUTE_TIER_GPU] == 2);
  const kvroute::Event cleared[] = {kvroute::Cleared{}};
  CHECK(router.apply_events(a, cleared).blocks_removed == 3);
  CHECK(router.counters(a).level() == kvroute::Trust::exact);

  // As they come from the wire. The second cannot be read, which the report says.
  const std::uint8_t batch[] = {0x93, 0xcb, 0x3f, 0xf8, 0,    0,    0,    0,    0,    0,    0x91, 0x91, 0xb0,
                                'A',  'l',  'l',  'B',  'l',  'o',  'c',  'k',  's',  'C',  'l',  'e',  'a',
                                'r',  'e',  'd',  0x00};
  CHECK(router.apply(a, 0, batch).result() == kvroute::Outcome::applied);
  const kvroute::ApplyReport unread = router.apply_topic("kv@a@m", 0, 1, kvroute::Bytes(batch, 3));
  CHECK(unread.result() == kvroute::Outcome::needs_resync && unread.detail[0] != 0);
  router.abandon_gap(a, 2);
  CHECK(router.apply_trtllm(a, "[]").events == 0);
  CHECK(status_of([&] { router.apply_trtllm(a, "no JSON"); }) == KVROUTE_DECODE);
  CHECK(status_of([&] { router.apply(KVROUTE_NO_POD, 0, batch); }) == KVROUTE_UNKNOWN_POD);
}

void moves() {
  kvroute::Router from = kvroute::Router::from_config(CONFIG);
  kvroute::Router to = std::move(from);
  CHECK(to.pods().size() == 2);
  CHECK(status_of([&] { (void)from.pods(); }) == KVROUTE_NULL_POINTER);
  from = std::move(to);
  CHECK(from.pods().size() == 2);
  from.recover();
  kvroute::Domain domain = from.domain("m"), other = std::move(domain);
  CHECK(domain.block_size() == 0 && other.block_size() == 4);
  CHECK(status_of([&] { (void)domain.hash(prompt(8)); }) == KVROUTE_NULL_POINTER);
}

void configuration() {
  kvroute::check_config(CONFIG);
  CHECK(status_of([] { kvroute::check_config("{\"pods\": 3}"); }) == KVROUTE_INVALID_INPUT);
  CHECK(status_of([] { kvroute::check_config("\xff"); }) == KVROUTE_INVALID_UTF8);
  CHECK(status_of([] { (void)kvroute::Router::from_config("nonsense"); }) == KVROUTE_INVALID_INPUT);
  CHECK(kvroute::config_schema().front() == '{');
  const std::vector<std::pair<std::string_view, std::string_view>> variables{
      {"HOME", "/root"}, {"ENABLE_PREFIX_AWARE_SCORER", "true"}, {"PREFIX_AWARE_SCORER_WEIGHT", "2"}};
  const kvroute::EnvironmentConfig made(variables);
  CHECK(kvroute::Router::from_config(made.document).pods().empty());
  CHECK(made.notes.front() == '[');

  const kvroute::EndpointPickerConfig read(
      "apiVersion: llm-d.ai/v1alpha1\n"
      "kind: EndpointPickerConfig\n"
      "plugins: [{type: queue-scorer}, {type: openai-parser}]\n"
      "schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer}]}]\n");
  CHECK(read.notes.find("openai-parser") != std::string::npos);
  kvroute::Router::from_config(CONFIG).set_policy(read.document);
  CHECK(status_of([] { (void)kvroute::EndpointPickerConfig("kind: Pod"); }) == KVROUTE_INVALID_INPUT);
}

void deciding_allocates_nothing() {
  const kvroute::Router router = kvroute::Router::from_config(CONFIG);
  kvroute::Workspace workspace;
  const auto tokens = prompt(400);
  kvroute::Request request;
  request.token_ids = tokens;
  request.session_id = "bob";
  const kvroute::Name pods[] = {"a", "b"};
  request.subset = pods;
  (void)router.decide(request, 1s, workspace);
  const unsigned long before = allocations;
  for (int count = 0; count < 10; ++count) {
    const auto decision = router.dispatch(request, 1s, workspace);
    (void)router.finish(decision.ticket, kvroute::Finish::cancelled);
  }
  CHECK(allocations == before);
}

// Errors are a thread's own, and a router may outlive the thread that made it.
void threads() {
  std::unique_ptr<kvroute::Router> router;
  std::thread([&] {
    router = std::make_unique<kvroute::Router>(kvroute::Router::from_config(CONFIG));
    try {
      (void)router->find_pod("nobody");
    } catch (const kvroute::Error &) {
    }
  }).join();
  CHECK(status_of([&] { (void)router->find_pod("somebody"); }) == KVROUTE_UNKNOWN_POD);
}

// Destroyed after the thread's error object is gone.
struct AtExit {
  kvroute::Router router;
  ~AtExit() {
    if (router.pods().size() != 2) std::abort();
  }
};

}  // namespace

int main() {
  static const AtExit at_exit{kvroute::Router::from_config(CONFIG)};
  versions();
  hashing();
  a_fleet_made_by_hand();
  a_request_from_beginning_to_end();
  a_policy_that_is_replaced();
  a_decision_log();
  a_router_that_goes_on_for_another();
  events();
  moves();
  configuration();
  deciding_allocates_nothing();
  threads();
  std::printf("ok %lu checks\n", checks);
}
