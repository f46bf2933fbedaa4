// A list of calls to a cache of embeddings, and a map that remembers everything: what the cache returns must be what
// the map has, and what it counts must be true. The first bytes are the size of vectors, the capacity and the shards.

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "base/error.hpp"
#include "embed/embedding_cache.hpp"
#include "support/require.hpp"
#include "support/script.hpp"

namespace {

using routellm_fast::EmbeddingCache;
using routellm_fast::fuzz::require;
using routellm_fast::fuzz::Script;

using Key = std::array<std::uint8_t, EmbeddingCache::kKeyBytes>;

// Few keys, so that they meet; a high byte each, so that shards differ.
Key read_key(Script& script) {
  Key key{};
  key[0] = script.byte();
  key[15] = static_cast<std::uint8_t>(key[0] * 37U);
  return key;
}

class Model {
 public:
  explicit Model(EmbeddingCache& cache) : cache_(cache) {}

  void put(Script& script, std::size_t count) {
    std::vector<Key> keys(count);
    std::vector<float> vectors(count * cache_.dim());
    for (std::size_t i = 0; i < count; ++i) {
      keys[i] = read_key(script);
      version_ += 1.0F;
      for (std::size_t d = 0; d < cache_.dim(); ++d) vectors[i * cache_.dim() + d] = version_ + static_cast<float>(d);
      versions_[keys[i]] = version_;
    }
    cache_.put_many(bytes_of(keys), count, vectors.data());
    newest_ = keys.empty() ? newest_ : keys.back();
    has_newest_ = has_newest_ || !keys.empty();
  }

  void get(Script& script, std::size_t count) {
    std::vector<Key> keys(count);
    for (Key& key : keys) key = read_key(script);
    look_up(keys);
  }

  // A cache that holds anything holds what was put last.
  void look_up_newest() {
    if (!has_newest_) return;
    const std::size_t held = cache_.size();
    const std::size_t hits = look_up({newest_});
    require(held == 0 || hits == 1, "what was put last is kept");
  }

  void check_counts() const {
    const auto stats = cache_.stats();
    require(stats.hits == hits_ && stats.misses == misses_, "hits and misses are counted");
    require(stats.bytes_used <= cache_.capacity_bytes(), "a cache never takes more than its capacity");
    require(stats.entries <= versions_.size(), "a cache has no entry that was not put");
    if (stats.evictions == 0 && stats.entries > 0) require(stats.entries == versions_.size(), "nothing goes missing");
  }

 private:
  static const std::uint8_t* bytes_of(const std::vector<Key>& keys) {
    return keys.empty() ? nullptr : keys.front().data();
  }

  std::size_t look_up(const std::vector<Key>& keys) {
    constexpr float kUntouched = -1.0F;
    const std::size_t dim = cache_.dim();
    std::vector<float> out(keys.size() * dim, kUntouched);
    const auto hit = std::make_unique<bool[]>(keys.size());
    cache_.get_many(bytes_of(keys), keys.size(), out.data(), hit.get());
    std::size_t found = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const auto known = versions_.find(keys[i]);
      require(!hit[i] || known != versions_.end(), "a hit is a key that was put");
      found += hit[i] ? 1 : 0;
      for (std::size_t d = 0; d < dim; ++d) {
        const float expected = hit[i] ? known->second + static_cast<float>(d) : kUntouched;
        require(out[i * dim + d] == expected, "a hit has the newest vector, a miss is left alone");
      }
    }
    hits_ += found;
    misses_ += keys.size() - found;
    return found;
  }

  EmbeddingCache& cache_;
  std::map<Key, float> versions_;
  float version_ = 0.0F;
  Key newest_{};
  bool has_newest_ = false;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, size);
  const std::size_t dim = script.byte() % 20U;
  const std::size_t capacity = script.integer(2);
  const std::size_t shards = script.byte() % 20U;
  try {
    EmbeddingCache cache(dim, capacity, shards);
    Model model(cache);
    while (!script.is_over()) {
      const std::uint8_t call = script.byte();
      if (call % 4U < 2) {
        model.put(script, call / 4U % 8U);
      } else if (call % 4U == 2) {
        model.get(script, call / 4U % 8U);
      } else {
        model.look_up_newest();
      }
    }
    model.check_counts();
  } catch (const routellm_fast::Error&) {
    require(dim == 0 || shards == 0, "only a size of 0 is refused");
  }
  return 0;
}
