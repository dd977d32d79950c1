// Three pods, a shared system prompt, and a request that goes where the prompt is cached.
//
//   cargo xtask install --prefix /tmp/kvroute
//   export PKG_CONFIG_PATH=/tmp/kvroute/lib/pkgconfig LD_LIBRARY_PATH=/tmp/kvroute/lib
//   c++ -std=c++17 route.cpp $(pkg-config --cflags --libs kvroute) -o route && ./route
#include <iostream>
#include <numeric>

#include <kvroute.hpp>

int main() try {
  const auto router = kvroute::Router::from_config(
      "domains: {llama: {block_size: 16}}\n"
      "pods: [{name: pod-a, domain: llama}, {name: pod-b, domain: llama}, {name: pod-c, domain: llama}]\n");
  const kvroute::PodId pod_b = router.find_pod("pod-b");

  // pod-b's engine says that it computed the system prompt. Engines of the vLLM family say so in messages, whose bytes
  // go to `apply` as they are.
  std::vector<std::uint32_t> prompt(80);  // 64 tokens of system prompt, 16 of the user's
  std::iota(prompt.begin(), prompt.end(), 1000);
  const std::uint64_t blocks[] = {11, 12, 13, 14};
  kvroute::Stored stored;
  stored.block_hashes = blocks;
  stored.token_ids = kvroute::Tokens(prompt.data(), 64);
  stored.block_size = 16;
  const kvroute::Event events[] = {stored};
  router.apply_events(pod_b, events);

  // A request with that system prompt.
  kvroute::Workspace workspace;  // one a thread
  kvroute::Request request;
  request.token_ids = prompt;
  const auto now = std::chrono::seconds(1);
  const kvroute::Decision decision = router.dispatch(request, now, workspace);
  std::cout << router.pod_name(decision.pod).name << " has " << decision.matched_tokens
            << " of 80 tokens in its cache\n"
            << router.explain(workspace, kvroute::Format::text) << '\n';

  // It is sent there, answers, and ends. The engine says how much it really took from its cache.
  router.first_token(decision.ticket);
  router.finish(decision.ticket, kvroute::Finish::completed, 64);
} catch (const kvroute::Error &error) {
  std::cerr << error.status_name() << ": " << error.what() << '\n';
  return 1;
}
