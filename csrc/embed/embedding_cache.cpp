#include "embed/embedding_cache.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <string>

#include "base/error.hpp"

namespace routellm_fast {
namespace {

constexpr std::size_t kMaxDim = std::size_t{1} << 20;
constexpr std::size_t kMaxShards = 1024;
// A shard that holds a few entries evicts by the luck of the hash, not by use.
constexpr std::size_t kMinShardEntries = 64;
// Large enough that the allocator's overhead vanishes, small enough that a cache of few entries stays small.
constexpr std::size_t kSlabBytes = std::size_t{256} << 10;
// The shard itself and the pointer to it.
constexpr std::size_t kShardBytes = 256;
constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

struct Key {
  std::uint64_t low;
  std::uint64_t high;

  bool operator==(const Key&) const = default;
};
static_assert(sizeof(Key) == EmbeddingCache::kKeyBytes);

Key load_key(const std::uint8_t* bytes) noexcept {
  Key key{};
  std::memcpy(&key, bytes, sizeof key);
  return key;
}

// Digests are uniform already; mixing keeps the cache fast for keys that are not.
std::uint64_t hash_of(const Key& key) noexcept {
  std::uint64_t h = key.low ^ std::rotl(key.high, 32);
  h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9U;
  h = (h ^ (h >> 27)) * 0x94D049BB133111EBU;
  return h ^ (h >> 31);
}

// What an allocation of n bytes takes from the system at most: a header, and whole pages where malloc maps it.
std::size_t allocated_bytes(std::size_t n) noexcept {
  constexpr std::size_t kHeader = 16;
  constexpr std::size_t kMapped = std::size_t{128} << 10;
  constexpr std::size_t kPage = 4096;
  if (n == 0) return 0;
  if (n + kHeader < kMapped) return (n + kHeader + 15) / 16 * 16;
  return (n + kHeader + kPage - 1) / kPage * kPage;
}

struct Free {
  void operator()(void* p) const noexcept { std::free(p); }  // NOLINT(cppcoreguidelines-no-malloc): pairs with malloc
};

struct Entry {
  Key key;
  std::uint32_t newer;  // neighbours in the order of use
  std::uint32_t older;
};

// How a shard divides its budget. Everything but the slabs is allocated at once, so that nothing is ever rehashed.
struct ShardPlan {
  std::size_t dim = 0;
  std::size_t max_entries = 0;
  std::size_t slab_entries = 1;  // a power of two
  std::size_t table_slots = 0;   // a power of two, at most three quarters full

  [[nodiscard]] std::size_t entry_bytes() const { return sizeof(Entry) + dim * sizeof(float); }
  [[nodiscard]] std::size_t slab_count() const { return (max_entries + slab_entries - 1) / slab_entries; }
  [[nodiscard]] std::size_t slab_size(std::size_t slab) const {
    return std::min(slab_entries, max_entries - slab * slab_entries);
  }
  [[nodiscard]] std::size_t slab_bytes(std::size_t slab) const {
    return allocated_bytes(slab_size(slab) * entry_bytes());
  }
  [[nodiscard]] std::size_t slabs_bytes() const {
    if (max_entries == 0) return 0;
    return (slab_count() - 1) * slab_bytes(0) + slab_bytes(slab_count() - 1);
  }
  [[nodiscard]] std::size_t fixed_bytes() const {
    if (max_entries == 0) return 0;
    return kShardBytes + allocated_bytes(table_slots * sizeof(std::uint32_t)) +
           allocated_bytes(slab_count() * sizeof(void*));
  }
  [[nodiscard]] std::size_t total_bytes() const { return fixed_bytes() + slabs_bytes(); }
};

ShardPlan plan_for(std::size_t dim, std::size_t max_entries) {
  ShardPlan plan{.dim = dim, .max_entries = max_entries};
  if (max_entries == 0) return plan;
  plan.slab_entries = std::bit_floor(std::max<std::size_t>(1, kSlabBytes / plan.entry_bytes()));
  plan.table_slots = std::bit_ceil(max_entries + max_entries / 3 + 1);
  return plan;
}

// The most entries whose total stays within the budget.
ShardPlan plan_within(std::size_t dim, std::size_t budget_bytes) {
  std::size_t fits = 0;
  std::size_t too_many = std::min<std::size_t>(budget_bytes / plan_for(dim, 1).entry_bytes() + 1, kNone);
  while (too_many - fits > 1) {
    const std::size_t middle = fits + (too_many - fits) / 2;
    (plan_for(dim, middle).total_bytes() <= budget_bytes ? fits : too_many) = middle;
  }
  return plan_for(dim, fits);
}

}  // namespace

class alignas(64) EmbeddingCache::Shard {
 public:
  explicit Shard(const ShardPlan& plan) : plan_(plan), max_entries_(plan.max_entries) {
    if (max_entries_ == 0) return;
    // calloc's zero pages cost no memory until they are touched.
    slots_.reset(static_cast<std::uint32_t*>(
        std::calloc(plan_.table_slots, sizeof(std::uint32_t))));  // NOLINT(cppcoreguidelines-no-malloc)
    if (!slots_) throw std::bad_alloc();
    slabs_.reserve(plan_.slab_count());
    bytes_used_ = plan_.fixed_bytes();
  }

  bool get(const Key& key, std::uint64_t hash, float* out) {
    const std::scoped_lock lock(mutex_);
    const std::size_t slot = find(key, hash);
    if (slot == kNoSlot) {
      ++misses_;
      return false;
    }
    ++hits_;
    const std::uint32_t id = slots_[slot] - 1;
    std::memcpy(out, vector_of(id), plan_.dim * sizeof(float));
    make_newest(id);
    return true;
  }

  void put(const Key& key, std::uint64_t hash, const float* vector) {
    const std::scoped_lock lock(mutex_);
    if (max_entries_ == 0) return;
    std::uint32_t id = kNone;
    if (const std::size_t slot = find(key, hash); slot != kNoSlot) {
      id = slots_[slot] - 1;
      make_newest(id);
    } else {
      id = take_entry();
      if (id == kNone) return;
      entry(id).key = key;
      insert(id, hash);
      link_newest(id);
    }
    std::memcpy(vector_of(id), vector, plan_.dim * sizeof(float));
  }

  void add_to(EmbeddingCacheStats& stats) const {
    const std::scoped_lock lock(mutex_);
    stats.hits += hits_;
    stats.misses += misses_;
    stats.evictions += evictions_;
    stats.entries += size_;
    stats.bytes_used += bytes_used_;
  }

 private:
  static constexpr std::size_t kNoSlot = std::numeric_limits<std::size_t>::max();

  // A slab holds its entries first, then their vectors: a walk along a probe run or the order of use stays off the
  // vectors.
  [[nodiscard]] Entry& entry(std::uint32_t id) const {
    return reinterpret_cast<Entry*>(slabs_[id / plan_.slab_entries].get())[id % plan_.slab_entries];
  }
  [[nodiscard]] float* vector_of(std::uint32_t id) const {
    const std::size_t slab = id / plan_.slab_entries;
    std::byte* vectors = slabs_[slab].get() + plan_.slab_size(slab) * sizeof(Entry);
    return reinterpret_cast<float*>(vectors) + id % plan_.slab_entries * plan_.dim;
  }

  [[nodiscard]] std::size_t mask() const { return plan_.table_slots - 1; }
  // The shard was chosen by the low bits.
  [[nodiscard]] std::size_t home_slot(std::uint64_t hash) const {
    return static_cast<std::size_t>(hash >> 16) & mask();
  }

  [[nodiscard]] std::size_t find(const Key& key, std::uint64_t hash) const {
    if (size_ == 0) return kNoSlot;
    for (std::size_t slot = home_slot(hash); slots_[slot] != 0; slot = (slot + 1) & mask()) {
      if (entry(slots_[slot] - 1).key == key) return slot;
    }
    return kNoSlot;
  }

  void insert(std::uint32_t id, std::uint64_t hash) {
    std::size_t slot = home_slot(hash);
    while (slots_[slot] != 0) slot = (slot + 1) & mask();
    slots_[slot] = id + 1;
    ++size_;
  }

  // Moves later members of the probe run back over the gap, so that no tombstones pile up.
  void erase(std::size_t gap) {
    for (std::size_t slot = (gap + 1) & mask(); slots_[slot] != 0; slot = (slot + 1) & mask()) {
      const std::size_t home = home_slot(hash_of(entry(slots_[slot] - 1).key));
      if (((slot - home) & mask()) >= ((slot - gap) & mask())) {
        slots_[gap] = slots_[slot];
        gap = slot;
      }
    }
    slots_[gap] = 0;
    --size_;
  }

  // A fresh entry while there is room, else that of the least recently used key.
  std::uint32_t take_entry() {
    if (size_ < max_entries_) {
      const auto id = static_cast<std::uint32_t>(size_);
      if (id / plan_.slab_entries < slabs_.size() || add_slab()) return id;
      // Out of memory is no reason to fail a request: carry on with what there is.
      max_entries_ = size_;
      if (max_entries_ == 0) return kNone;
    }
    const std::uint32_t id = oldest_;
    erase(find(entry(id).key, hash_of(entry(id).key)));
    unlink(id);
    ++evictions_;
    return id;
  }

  bool add_slab() {
    const std::size_t slab = slabs_.size();
    auto* memory = static_cast<std::byte*>(
        std::malloc(plan_.slab_size(slab) * plan_.entry_bytes()));  // NOLINT(cppcoreguidelines-no-malloc)
    if (memory == nullptr) return false;
    slabs_.emplace_back(memory);
    bytes_used_ += plan_.slab_bytes(slab);
    return true;
  }

  void make_newest(std::uint32_t id) {
    if (id == newest_) return;
    unlink(id);
    link_newest(id);
  }

  void link_newest(std::uint32_t id) {
    entry(id).newer = kNone;
    entry(id).older = newest_;
    (newest_ == kNone ? oldest_ : entry(newest_).newer) = id;
    newest_ = id;
  }

  void unlink(std::uint32_t id) {
    const Entry& e = entry(id);
    (e.newer == kNone ? newest_ : entry(e.newer).older) = e.older;
    (e.older == kNone ? oldest_ : entry(e.older).newer) = e.newer;
  }

  mutable std::mutex mutex_;
  ShardPlan plan_;
  std::size_t max_entries_;
  std::unique_ptr<std::uint32_t[], Free> slots_;  // entry id + 1, or 0
  std::vector<std::unique_ptr<std::byte, Free>> slabs_;
  std::uint32_t newest_ = kNone;
  std::uint32_t oldest_ = kNone;
  std::size_t size_ = 0;
  std::size_t bytes_used_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
  std::uint64_t evictions_ = 0;
};

EmbeddingCache::EmbeddingCache(std::size_t dim, std::size_t capacity_bytes, std::size_t shards)
    : dim_(dim), capacity_bytes_(capacity_bytes) {
  static_assert(sizeof(Shard) + sizeof(shards_[0]) <= kShardBytes);
  if (dim < 1 || dim > kMaxDim) {
    throw Error(ErrorCode::kInvalidArgument, "an embedding cache needs a dim in [1, " + std::to_string(kMaxDim) +
                                                 "], found " + std::to_string(dim) + ".");
  }
  if (shards < 1 || shards > kMaxShards) {
    throw Error(ErrorCode::kInvalidArgument, "an embedding cache has 1 to " + std::to_string(kMaxShards) +
                                                 " shards, found " + std::to_string(shards) + ".");
  }
  ShardPlan plan = plan_within(dim, capacity_bytes / shards);
  while (shards > 1 && plan.max_entries < kMinShardEntries) {
    shards /= 2;
    plan = plan_within(dim, capacity_bytes / shards);
  }
  shards_.reserve(shards);
  for (std::size_t i = 0; i < shards; ++i) shards_.push_back(std::make_unique<Shard>(plan));
}

EmbeddingCache::~EmbeddingCache() = default;

void EmbeddingCache::get_many(const std::uint8_t* keys, std::size_t count, float* out, bool* hit) {
  for (std::size_t i = 0; i < count; ++i) {
    const Key key = load_key(keys + i * kKeyBytes);
    const std::uint64_t hash = hash_of(key);
    hit[i] = shard_of(hash).get(key, hash, out + i * dim_);
  }
}

void EmbeddingCache::put_many(const std::uint8_t* keys, std::size_t count, const float* vectors) {
  for (std::size_t i = 0; i < count; ++i) {
    const Key key = load_key(keys + i * kKeyBytes);
    const std::uint64_t hash = hash_of(key);
    shard_of(hash).put(key, hash, vectors + i * dim_);
  }
}

EmbeddingCacheStats EmbeddingCache::stats() const {
  EmbeddingCacheStats total;
  for (const auto& shard : shards_) shard->add_to(total);
  return total;
}

}  // namespace routellm_fast
