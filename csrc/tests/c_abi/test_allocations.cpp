// Scoring calls allocate nothing after a thread's first: every operator new of the program is counted. A program of its
// own, since doctest allocates as it pleases.
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "routellm_fast.h"
#include "support/scratch_directory.hpp"

namespace {
std::atomic<std::size_t> allocations{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  void* const memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes == 0 ? 1 : bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes == 0 ? 1 : bytes, static_cast<std::size_t>(alignment));
}
// What throws nothing too (a stable sort's buffer is such): else a sanitizer's would meet our delete.
void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  try {
    return counted(bytes == 0 ? 1 : bytes, alignof(std::max_align_t));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t& /*tag*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*bytes*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

int main() {
  const std::vector<std::string> texts{"hello", "prove the a b c?", "", "\u00E9crits { 1 }", "unknown words only"};
  std::vector<const char*> pointers;
  std::vector<std::size_t> bytes;
  for (const std::string& text : texts) {
    pointers.push_back(text.data());
    bytes.push_back(text.size());
  }
  // RouteLLM's solver, which the golden directory names, allocates; ours does not.
  const routellm_fast::ScratchDirectory exact("sw-float32");
  exact.edit("router.json", R"("solver": "routellm")", R"("solver": "exact")");
  int faults = 0;
  for (const char* const name : {"mf-int8-folded", "mf-float32-normalized", "sw-exact", "sw-int8", "sw-moments"}) {
    routellm_router* router = nullptr;
    const std::string path =
        std::string(name) == "sw-exact" ? exact.path().string() : routellm_fast::golden(name).string();
    if (routellm_load(path.c_str(), nullptr, &router) != ROUTELLM_OK) {
      std::printf("%s: %s\n", name, routellm_last_error());
      return EXIT_FAILURE;
    }
    std::vector<float> win_rates(texts.size());
    std::vector<float> scores(routellm_model_count(router));
    std::vector<float> embeddings(2 * routellm_dim(router), 0.5F);
    std::vector<std::uint8_t> strong(texts.size());
    bool ok = true;
    const auto score = [&] {
      int is_strong = 0;
      const std::size_t dim = routellm_dim(router);
      for (std::size_t i = 0; i < texts.size(); ++i) {
        ok = ok && routellm_win_rate(router, pointers[i], bytes[i], win_rates.data()) == ROUTELLM_OK;
        ok = ok && routellm_route(router, pointers[i], bytes[i], 0.7, win_rates.data(), &is_strong) == ROUTELLM_OK;
        ok = ok && routellm_rank(router, pointers[i], bytes[i], scores.data()) == ROUTELLM_OK;
      }
      const std::size_t count = texts.size();
      ok = ok && routellm_win_rates(router, pointers.data(), bytes.data(), count, win_rates.data()) == ROUTELLM_OK;
      ok = ok && routellm_route_batch(router, pointers.data(), bytes.data(), count, 0.7, win_rates.data(),
                                      strong.data()) == ROUTELLM_OK;
      ok = ok && routellm_win_rates_from_embeddings(router, embeddings.data(), 2, dim, win_rates.data()) == ROUTELLM_OK;
      ok = ok && routellm_route_embeddings(router, embeddings.data(), 2, dim, 0.7, win_rates.data(), strong.data()) ==
                     ROUTELLM_OK;
      ok = ok && routellm_rank_embedding(router, embeddings.data(), dim, scores.data()) == ROUTELLM_OK;
    };
    score();
    const std::size_t before = allocations;
    for (int round = 0; round < 3; ++round) score();
    const std::size_t made = allocations - before;
    if (!ok || made > 0) {
      std::printf("%s: %zu allocations, %s\n", name, made, ok ? "all calls answered" : routellm_last_error());
      ++faults;
    }
    routellm_free(router);
  }
  return faults == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
