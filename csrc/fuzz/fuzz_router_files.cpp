// A golden router directory with a few bytes changed is written to disk, loaded by the C ABI, and scored with where it
// loads. The first byte chooses the directory and whether digests are made right again, so that damage behind them is
// reached; each further five bytes are one change. Bytes that are left over make files symbolic links.
//
// Slow: here are real files, links and mappings. fuzz_router_directory looks for the same faults in memory.

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "routellm_fast.h"
#include "support/golden_routers.hpp"
#include "support/require.hpp"

namespace {

namespace fs = std::filesystem;

using routellm_fast::fuzz::damage;
using routellm_fast::fuzz::Files;
using routellm_fast::fuzz::golden_routers;
using routellm_fast::fuzz::require;

constexpr std::size_t kDirectories = 8;  // those that the inputs that found faults count with

const fs::path& folder() {
  static const fs::path path = [] {
    const fs::path shared = "/dev/shm";
    std::string pattern = ((fs::exists(shared) ? shared : fs::temp_directory_path()) / "routellm-fuzz-XXXXXX").string();
    require(mkdtemp(pattern.data()) != nullptr, "there is room for a folder");
    std::atexit([] { fs::remove_all(folder()); });
    return fs::path(pattern);
  }();
  return path;
}

// Writes the router directory anew. Of each eight files in the order of their names, `links` says which ones are
// symbolic links to files elsewhere.
void write(const Files& files, std::uint8_t links) {
  const fs::path router = folder() / "router";
  const fs::path blobs = folder() / "blobs";
  for (const fs::path& place : {router, blobs}) {
    fs::create_directories(place);
    for (const auto& entry : fs::directory_iterator(place)) fs::remove(entry.path());
  }
  std::size_t k = 0;
  for (const auto& [name, content] : files) {
    const bool is_link = (static_cast<unsigned>(links) >> k++ % 8U & 1U) != 0;
    std::ofstream((is_link ? blobs : router) / name, std::ios::binary) << content;
    if (is_link) fs::create_symlink(fs::path("../blobs") / name, router / name);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Files files = golden_routers()[data[0] / 2U % kDirectories];
  constexpr std::size_t kChangeBytes = 5;
  const std::size_t changes = std::min<std::size_t>((size - 1) / kChangeBytes, 16);
  for (std::size_t k = 0; k < changes; ++k) {
    const std::uint8_t* const c = data + 1 + k * kChangeBytes;
    auto const file = std::next(files.begin(), static_cast<std::ptrdiff_t>(c[0] / 5U % files.size()));
    damage(file->second, c[0], static_cast<std::size_t>(c[1]) << 8U | c[2] | static_cast<std::size_t>(c[3]) << 16U,
           c[4]);
  }
  if (data[0] % 2U == 0) {
    for (const auto& [name, content] : files) {
      if (name != "router.json") routellm_fast::fuzz::record(files["router.json"], name, content);
    }
  }
  write(files, (size - 1) % kChangeBytes == 0 ? std::uint8_t{0} : data[size - 1]);

  routellm_router* router = nullptr;
  const routellm_status status = routellm_load((folder() / "router").c_str(), nullptr, &router);
  require(status != ROUTELLM_INTERNAL && status != ROUTELLM_INVALID_ARGUMENT, "a directory is loaded or found bad");
  require((status == ROUTELLM_OK) == (router != nullptr), "a router comes with success alone");
  if (changes == 0) require(status == ROUTELLM_OK, "a directory without damage is loaded");
  if (router != nullptr) routellm_fast::fuzz::score(router);
  routellm_free(router);
  return 0;
}
