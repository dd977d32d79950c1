// kvroute_io.hpp: everything in it is used, what fails throws, what is moved is gone.
//
//   wrapper_io URL FOLDER      URL is where a pod answers, FOLDER has a tokenizer
#include "kvroute_io.hpp"

#include <cstdio>
#include <cstdlib>
#include <thread>

using namespace std::chrono_literals;

kvroute::FleetOptions options_of_another_unit();

namespace {

unsigned long checks = 0;

#define CHECK(condition) \
  (++checks, (condition) ? (void)0 : failed(__FILE__, __LINE__, #condition))

void failed(const char *file, int line, const char *what) {
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  std::exit(1);
}

template <class Call>
std::int32_t status_of(Call call) {
  try {
    call();
  } catch (const kvroute::Error &error) {
    CHECK(*error.what() != 0);
    return error.status();
  }
  return KVROUTE_OK;
}

template <class T>
constexpr bool is_move_only = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                              !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;
static_assert(is_move_only<kvroute::Fleet> && is_move_only<kvroute::Tokenizer> && is_move_only<kvroute::Prompts>);

const char *const BODY = "{\"messages\": [{\"role\": \"user\", \"content\": \"hello\"}]}";

std::string document(const std::string &pods) {
  return "fleet: {pods: [" + pods + "], learn: {retry_ms: 50}, scrape: {interval_ms: 50}, drain_ms: 100}";
}

template <class Condition>
void wait_until(Condition condition) {
  for (int tries = 0; tries < 3000 && !condition(); ++tries) std::this_thread::sleep_for(10ms);
  CHECK(condition());
}

kvroute::Tokenizer tokenizers(const char *folder) {
  CHECK(status_of([] { kvroute::Tokenizer none("/nowhere"); }) == KVROUTE_TOKENIZER);
  kvroute::TokenizerOptions options;
  options.chat_template_kwargs = "7";
  CHECK(status_of([&] { kvroute::Tokenizer none(folder, options); }) == KVROUTE_INVALID_INPUT);
  options.chat_template_kwargs = "{}";
  options.wait = 60s;
  kvroute::Tokenizer made(folder, options);
  kvroute::Tokenizer tokenizer = std::move(made);
  CHECK(status_of([&] { (void)made.segmentation(); }) == KVROUTE_NULL_POINTER);
  CHECK(tokenizer.segmentation() == "pieces");
  const auto encoded = tokenizer.encode("a", true);
  CHECK(encoded.size() == 1 && encoded[0].token_ids.size() == 2 && encoded[0].token_ids.data()[1] == 70);
  const auto two = tokenizer.prompts(kvroute::Endpoint::completions, "{\"prompt\": [\"a\", \"b\"]}");
  CHECK(two.size() == 2 && two[1].token_ids.size() > 0 && two[1].text.empty() && two[1].reason.empty());
  CHECK(status_of([&] { (void)two[2]; }) == KVROUTE_INVALID_INPUT);
  CHECK(status_of([&] { (void)tokenizer.prompts(kvroute::Endpoint::responses, "[]"); }) == KVROUTE_REQUEST);
  const auto image = tokenizer.prompts(
      kvroute::Endpoint::chat_completions,
      "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"x\"}}]}]}");
  CHECK(image[0].reason == "media" && image[0].token_ids.size() == 0 && image.request(0).text == image[0].text);
  CHECK(tokenizer.counters().answered >= 3);
  return tokenizer;
}

void fleets(const std::string &url, const kvroute::Tokenizer &tokenizer) {
  CHECK(status_of([] { kvroute::Fleet none("fleet: {pods: [7]}"); }) == KVROUTE_INVALID_INPUT);
  auto fleet = std::make_unique<kvroute::Fleet>(document("\"" + url + "\""), options_of_another_unit());
  const kvroute::Router router = fleet->router();
  wait_until([&] { return router.pods().size() == 1; });
  const auto prompts = tokenizer.prompts(kvroute::Endpoint::chat_completions, BODY);
  kvroute::Request request = prompts.request(0);
  CHECK(request.token_ids.size() > 0);
  request.model = "tiny";
  kvroute::Workspace workspace;
  const auto decision = router.dispatch(request, fleet->now(), workspace);
  const auto target = fleet->target(decision.pod);
  CHECK(target.url == url && target.rank == 0 && target.ranks == 1);
  CHECK(target.name == router.pod_name(decision.pod).name);
  CHECK(fleet->models().find("\"lora-a\"") != std::string::npos);
  CHECK(fleet->status().find("\"ready\"") != std::string::npos);
  fleet->release_events();
  CHECK(status_of([&] { fleet->reconfigure("fleet: 7"); }) == KVROUTE_INVALID_INPUT);
  fleet->reconfigure(document(""));
  wait_until([&] { return router.pods().empty(); });
  CHECK(status_of([&] { (void)fleet->target(decision.pod); }) == KVROUTE_UNKNOWN_POD);
  const auto now = fleet->now();
  fleet.reset();
  CHECK(router.expire(now) == 0);
}

}  // namespace

int main(int count, char **arguments) {
  if (count != 3) return 2;
  const auto tokenizer = tokenizers(arguments[2]);
  fleets(arguments[1], tokenizer);
  std::printf("ok %lu checks\n", checks);
}
