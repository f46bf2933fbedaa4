// A bank of battles in one or more blocks, exact or compressed, and the refit of tiers.
#include "router/similarity_weighted.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "dispatch/kernels.hpp"
#include "router/parts.hpp"
#include "score/coded_bank.hpp"
#include "score/moment_bank.hpp"
#include "score/panel_codes.hpp"
#include "score/principal_axes.hpp"
#include "score/similarity_bank.hpp"
#include "score/similarity_scorer.hpp"
#include "score/tier_refit.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

constexpr double kMostBattles = 9007199254740992.0;  // 2^53: float64 counts one by one up to here
constexpr double kLargestNumber = 4.0;  // of cosines, win rates and squared lengths of differences, all of them
constexpr std::size_t kScannedRows = 16'384;
// Below this many multiply-adds a batch is over before a second thread has started.
constexpr std::size_t kLeastThreadedWork = 50'000'000;
// What fitting the tiers of one query takes, about.
constexpr std::size_t kRefitWork = 10'000;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kBadDirectory, where + ": " + what);
}

// What a block's tensors are called behind their name: nothing for the first.
std::string suffix(std::size_t block) { return block == 0 ? "" : "." + std::to_string(block); }

// --- settings -------------------------------------------------------------------------------------------------------

struct Settings {
  std::vector<std::string> models;
  std::size_t num_tiers;
  RefitSolver solver;
  ScoringPair pair;
  std::size_t blocks;
  const JsonValue* compression;  // null for float32
};

Settings read_settings(const JsonValue& entry, const std::string& where) {
  const bool complete =
      entry.has_exactly({"models", "num_tiers", "same_tier", "solver", "scoring_pair", "blocks", "compression"});
  const auto tiers = complete ? entry.find("num_tiers")->integer() : std::nullopt;
  const auto blocks = complete ? entry.find("blocks")->integer() : std::nullopt;
  const JsonValue* const compression = entry.find("compression");
  if (!tiers || *tiers < 2 || *tiers > 255 || !blocks || *blocks < 1 ||
      (!compression->is_null() && compression->object() == nullptr)) {
    refuse(where,
           "an sw_ranking router's settings hold models, num_tiers, same_tier, solver, scoring_pair, blocks and "
           "compression: names, 2 to 255 tiers and at least one block");
  }
  const auto option = [&](std::string_view key, std::string_view first, std::string_view second) {
    const std::string* const text = entry.find(key)->text();
    if (text == nullptr || (*text != first && *text != second)) {
      refuse(where, "an sw_ranking router's " + std::string(key) + " is one of " + std::string(first) + ", " +
                        std::string(second) + ", found " +
                        (text == nullptr ? entry.find(key)->type_name() : "\"" + shown(*text) + "\""));
    }
    return *text == first;
  };
  (void)option("same_tier", "routellm", "ignore");  // decided what cells there are; those are stored
  Settings settings{.models = read_names(*entry.find("models"), where),
                    .num_tiers = static_cast<std::size_t>(*tiers),
                    .solver = option("solver", "exact", "routellm") ? RefitSolver::kExact : RefitSolver::kRouteLlm,
                    .pair = {},
                    .blocks = static_cast<std::size_t>(*blocks),
                    .compression = compression->is_null() ? nullptr : compression};
  settings.pair = read_scoring_pair(*entry.find("scoring_pair"), settings.models, where);
  return settings;
}

std::vector<std::uint16_t> read_tiers(const TensorMap& tensors, const Settings& settings, const std::string& where) {
  const std::uint64_t count = settings.models.size();
  std::vector<std::uint16_t> tiers =
      required(tensors, "tiers", DataType::kUint16, {count}, where).values<std::uint16_t>();
  (void)required(tensors, "ratings", DataType::kFloat64, {count}, where);  // for people
  if (std::ranges::any_of(tiers, [&](std::uint16_t tier) { return tier >= settings.num_tiers; })) {
    refuse(where, "an sw_ranking router's models are in tiers 0 to " + std::to_string(settings.num_tiers - 1));
  }
  return tiers;
}

// --- cells and blocks -----------------------------------------------------------------------------------------------

std::vector<Cell> read_cells(const TensorMap& tensors, const std::string& where) {
  const Tensor& first = required(tensors, "cell_a", DataType::kUint16, {kAnyCount}, where);
  const Shape shape = first.shape;
  const auto a = first.values<std::uint16_t>();
  const auto b = required(tensors, "cell_b", DataType::kUint16, shape, where).values<std::uint16_t>();
  const auto outcomes = required(tensors, "cell_outcome", DataType::kUint8, shape, where).values<std::uint8_t>();
  const auto battles = required(tensors, "cell_battles", DataType::kFloat64, shape, where).values<double>();
  std::vector<Cell> cells;
  for (std::size_t c = 0; c < a.size(); ++c) {
    if (outcomes[c] > 2) {
      refuse(where, "an outcome is 0 (a wins), 1 (b wins) or 2 (tie), found " + std::to_string(outcomes[c]));
    }
    const bool is_count = battles[c] >= 1.0 && battles[c] <= kMostBattles;  // NaN is none
    if (!is_count) {
      refuse(where, "a cell holds 1 to 2^53 battles, found " + std::to_string(battles[c]));
    }
    cells.push_back({a[c], b[c], static_cast<Outcome>(outcomes[c]), battles[c]});
  }
  return cells;
}

// Adds a block's battles to the count of each cell.
void count_battles(std::span<const std::uint32_t> row_cells, std::span<const Repeat> repeats,
                   std::vector<double>& counted, const std::string& where) {
  std::vector<double> here(counted.size(), 0.0);
  const auto add = [&](std::uint32_t cell, double battles) {
    if (cell >= here.size()) {
      refuse(where, "a battle belongs to cell " + std::to_string(cell) + ", there are " + std::to_string(here.size()));
    }
    here[cell] += battles;
  };
  for (const std::uint32_t cell : row_cells) add(cell, 1.0);
  for (const Repeat& repeat : repeats) add(repeat.cell, repeat.battles);
  for (std::size_t c = 0; c < here.size(); ++c) counted[c] += here[c];
}

SimilarityBank::Blocks read_blocks(const DirectoryContents& contents, const Settings& settings,
                                   const std::vector<Cell>& cells) {
  const TensorMap& tensors = contents.tensors;
  const std::string& where = contents.path;
  SimilarityBank::Blocks blocks;
  std::vector<double> counted(cells.size(), 0.0);
  for (std::size_t k = 0; k < settings.blocks; ++k) {
    const std::string end = suffix(k);
    const Tensor& bank = required(contents.mapped, "bank" + end, DataType::kFloat32, {kAnyCount, kAnyCount}, where);
    if (bank.bytes == 0) refuse(where, "bank" + end + " is empty");
    const Shape rows{bank.shape[0]};
    const auto norms = required(tensors, "norms" + end, DataType::kFloat64, rows, where).values<double>();
    const auto row_cells = required(tensors, "row_cells" + end, DataType::kUint32, rows, where).values<std::uint32_t>();
    const Tensor& repeat_rows = required(tensors, "repeat_rows" + end, DataType::kUint32, {kAnyCount}, where);
    const Shape shape = repeat_rows.shape;
    const auto at = repeat_rows.values<std::uint32_t>();
    const auto of = required(tensors, "repeat_cells" + end, DataType::kUint32, shape, where).values<std::uint32_t>();
    const auto times = required(tensors, "repeat_battles" + end, DataType::kFloat64, shape, where).values<double>();
    std::vector<Repeat> repeats;
    for (std::size_t r = 0; r < at.size(); ++r) {
      if (!(times[r] >= 1.0))
        refuse(where, "repeat_battles" + end + " counts battles, found " + std::to_string(times[r]));
      repeats.push_back({at[r], of[r], times[r]});
    }
    count_battles(row_cells, repeats, counted, where);
    blocks.push_back(std::make_shared<const BankBlock>(bank.owner, reinterpret_cast<const float*>(bank.data),
                                                       static_cast<std::size_t>(bank.shape[1]), norms, row_cells,
                                                       std::move(repeats), cells.size()));
    if (blocks.back()->dim() != blocks.front()->dim())
      refuse(where, "all battles must have embeddings of one dimension");
  }
  for (std::size_t c = 0; c < cells.size(); ++c) {
    if (counted[c] != cells[c].battles) {
      refuse(where, "cell_battles says " + std::to_string(cells[c].battles) + " of cell " + std::to_string(c) +
                        ", the blocks have " + std::to_string(counted[c]));
    }
  }
  return blocks;
}

// --- compression ----------------------------------------------------------------------------------------------------

// As float32; what is beyond it, in a directory that this package did not write, is infinite: scoring refuses.
float narrowed(double value) noexcept { return static_cast<float>(value); }

struct Compressed {
  std::shared_ptr<const CellSums> sums;
  double error_bound = 0.0;
};

class CompressionReader {
 public:
  CompressionReader(const DirectoryContents& contents, const JsonValue& settings,
                    std::shared_ptr<const SimilarityBank> bank, const std::vector<Cell>& cells)
      : contents_(contents), settings_(settings), bank_(std::move(bank)), cells_(cells) {}

  [[nodiscard]] Compressed read() const {
    const JsonValue* const precision = settings_.find("precision");
    const bool fits = settings_.has_exactly({"precision", "left_out", "error_bound", "reach"}) &&
                      precision->text() != nullptr && (*precision->text() == "int8" || *precision->text() == "moments");
    if (!fits) {
      refuse(where(), "a compression has a precision of int8 or moments, and error_bound, left_out and reach");
    }
    const std::uint64_t dim = bank_->dim();
    const std::vector<float> mean = coordinates("axes_mean", {dim});
    const std::vector<float> rows = coordinates("axes", {kAnyCount, dim});
    const std::size_t axis_count = rows.size() / mean.size();
    (void)tensor("axes_variances", DataType::kFloat64, {axis_count});  // for measuring an error
    const auto axes = std::make_shared<const PrincipalAxes>(mean, rows);
    const double left_out = number("left_out");
    const double error_bound = number("error_bound");
    const double reach = number("reach");
    // How much lower than its cosine a score may be: two equal embeddings lose what is left out of them.
    const double left_dimensions =
        static_cast<double>(std::max<std::size_t>(mean.size() - std::min(axis_count, mean.size()), 1));
    const double margin = left_out * (1.0 + 4.0 / std::sqrt(left_dimensions)) + 0.01;
    const Lookup lookup{margin, reach};
    if (*precision->text() == "int8") return {coded(axes, lookup), error_bound};
    return {moments(axes, lookup), error_bound};
  }

 private:
  [[nodiscard]] const std::string& where() const { return contents_.path; }

  [[nodiscard]] double number(std::string_view key) const {
    const JsonNumber* const found = settings_.find(key)->number();
    const bool fits = found != nullptr && found->value >= 0.0 && found->value <= kLargestNumber;  // NaN does not
    if (!fits) {
      refuse(where(), "a compression's " + std::string(key) + " is a number from 0 to 4");
    }
    return found->value;
  }

  [[nodiscard]] const Tensor& tensor(const std::string& name, DataType type, const Shape& shape) const {
    const Tensor& found = required(contents_.tensors, name, type, shape, where());
    check_not_empty(found, name);
    return found;
  }

  void check_not_empty(const Tensor& found, const std::string& name) const {
    if (found.bytes == 0) refuse(where(), "a compression's " + name + " is empty");
  }

  // Of unit embeddings, or of differences of two: no value is large.
  [[nodiscard]] std::vector<float> coordinates(const std::string& name, const Shape& shape) const {
    std::vector<float> values = tensor(name, DataType::kFloat32, shape).values<float>();
    for (const float value : values) {
      if (std::abs(value) > static_cast<float>(kLargestNumber)) {
        refuse(where(), name + " is of unit embeddings, without a value above 4; found " + std::to_string(value));
      }
    }
    return values;
  }

  // Codes of a block: mapped, with scales that are read.
  [[nodiscard]] std::shared_ptr<const PanelCodes> codes(std::size_t block, std::size_t axis_count,
                                                        std::uint64_t panels) const {
    const std::string name = "codes" + suffix(block);
    const Shape shape{panels, PanelCodes::padded_dim(axis_count) / 4, PanelCodes::kRows, 4};
    const Tensor& mapped = required(contents_.mapped, name, DataType::kUint8, shape, where());
    check_not_empty(mapped, name);
    struct Owned {
      std::shared_ptr<const void> file;
      std::vector<float> scales;
    };
    const Shape rows{mapped.shape[0] * PanelCodes::kRows};
    const auto owned = std::make_shared<const Owned>(
        Owned{mapped.owner, tensor("code_scales" + suffix(block), DataType::kFloat32, rows).values<float>()});
    return std::make_shared<const PanelCodes>(owned, reinterpret_cast<const std::uint8_t*>(mapped.data), owned->scales,
                                              axis_count);
  }

  [[nodiscard]] std::shared_ptr<const CellSums> coded(const std::shared_ptr<const PrincipalAxes>& axes,
                                                      const Lookup& lookup) const {
    std::vector<std::shared_ptr<const PanelCodes>> all;
    all.reserve(bank_->blocks().size());
    for (std::size_t k = 0; k < bank_->blocks().size(); ++k) {
      all.push_back(codes(k, axes->axis_count(), PanelCodes::panel_count(bank_->blocks()[k]->count())));
    }
    const std::size_t dim = bank_->dim();
    const auto sums = tensor("residuals", DataType::kFloat64, {cells_.size(), dim}).values<double>();
    std::vector<float> means(sums.size());
    for (std::size_t i = 0; i < sums.size(); ++i) means[i] = narrowed(sums[i] / cells_[i / dim].battles);
    return std::make_shared<const CodedBank>(bank_, axes, std::move(all), means, lookup);
  }

  [[nodiscard]] std::shared_ptr<const CellSums> moments(const std::shared_ptr<const PrincipalAxes>& axes,
                                                        const Lookup& lookup) const {
    const std::size_t axis_count = axes->axis_count();
    const std::vector<float> centroids = coordinates("centroids", {kAnyCount, axis_count});
    const std::size_t clusters = centroids.size() / axis_count;
    std::vector<ClusteredCodes> all;
    for (std::size_t k = 0; k < bank_->blocks().size(); ++k) {
      const std::string end = suffix(k);
      auto block = codes(k, axis_count, kAnyCount);
      const Shape rows{block->padded_rows()};
      auto first = tensor("cluster_panels" + end, DataType::kUint32, {clusters + 1}).values<std::uint32_t>();
      all.push_back({std::move(block), std::move(first),
                     tensor("cluster_rows" + end, DataType::kUint32, rows).values<std::uint32_t>(),
                     tensor("cluster_cells" + end, DataType::kUint32, rows).values<std::uint32_t>()});
    }
    const std::size_t dim = bank_->dim();
    const std::size_t pairs = axis_count * (axis_count + 1) / 2;
    const auto sums = tensor("moment_sums", DataType::kFloat64, {cells_.size(), dim}).values<double>();
    const auto products = tensor("moment_products", DataType::kFloat64, {cells_.size(), pairs}).values<double>();
    MomentBank::Moments moments;
    std::ranges::transform(cells_, std::back_inserter(moments.battles), &Cell::battles);
    moments.sums.resize(sums.size());
    std::ranges::transform(sums, moments.sums.begin(), narrowed);
    moments.products.resize(products.size());
    // A product of two coordinates stands twice in the square of their sum, one's own square once.
    std::vector<double> times(pairs, 2.0);
    for (std::size_t i = 0, pair = 0; i < axis_count; pair += axis_count - i, ++i) times[pair] = 1.0;
    for (std::size_t i = 0; i < products.size(); ++i) moments.products[i] = narrowed(products[i] * times[i % pairs]);
    return std::make_shared<const MomentBank>(bank_, axes, std::move(moments), centroids, std::move(all), kScannedRows,
                                              lookup);
  }

  const DirectoryContents& contents_;
  const JsonValue& settings_;
  std::shared_ptr<const SimilarityBank> bank_;
  const std::vector<Cell>& cells_;
};

}  // namespace

// --- the router -----------------------------------------------------------------------------------------------------

namespace {

SimilarityScorer::Zeros zeros(Source source) noexcept {
  return source == Source::kText ? SimilarityScorer::Zeros::kWeighAllEqually : SimilarityScorer::Zeros::kRefuse;
}

}  // namespace

SimilarityWeightedRouter::SimilarityWeightedRouter(const DirectoryContents& contents, StoredEmbedder stored,
                                                   const RouterOptions& options, Parts parts)
    : Router(contents, std::move(stored), options, parts.models),
      parts_(std::move(parts)),
      exact_(parts_.bank, parts_.refit, kernels(active_isa())),
      scorer_(parts_.compressed == nullptr ? parts_.bank : parts_.compressed, parts_.refit, kernels(active_isa())) {
  for (const auto& [name, file] : contents.mapped_files) files_.push_back(file);
}

void SimilarityWeightedRouter::check_files() const {
  for (const auto& file : files_) file->check_unchanged();
}

template <typename Work>
void SimilarityWeightedRouter::on_unchanged_files(const Work& work) const {
  check_files();
  try {
    work();
  } catch (const Error&) {
    check_files();  // an embedding may seem at fault where the file is
    throw;
  }
  check_files();
}

std::size_t SimilarityWeightedRouter::work_per_score() const noexcept { return parts_.row_count * dim() + kRefitWork; }

std::size_t SimilarityWeightedRouter::workers(std::size_t count) const noexcept {
  const double work = static_cast<double>(count) * static_cast<double>(parts_.row_count) * static_cast<double>(dim());
  return work < static_cast<double>(kLeastThreadedWork) ? 1 : threads();
}

void SimilarityWeightedRouter::exact_win_rates(const float* embeddings, std::size_t count, Source source,
                                               double* out) const {
  on_unchanged_files([&] { exact_.win_rates(embeddings, count, workers(count), zeros(source), out); });
}

void SimilarityWeightedRouter::wide_win_rates(const float* embeddings, std::size_t count, double* out) const {
  on_unchanged_files([&] { scorer_.win_rates(embeddings, count, workers(count), zeros(Source::kCaller), out); });
}

void SimilarityWeightedRouter::tier_ratings(const float* embeddings, std::size_t count, double* out) const {
  on_unchanged_files([&] { scorer_.ratings(embeddings, count, workers(count), zeros(Source::kCaller), out); });
}

void SimilarityWeightedRouter::largest_similarities(const float* embeddings, std::size_t count, double* out) const {
  const CellSums& sums = parts_.compressed == nullptr ? *parts_.bank : *parts_.compressed;
  std::vector<double> unused(count * sums.cell_count());
  on_unchanged_files([&] { sums.sum(embeddings, count, unused.data(), out); });
}

void SimilarityWeightedRouter::score_embeddings(const float* embeddings, std::size_t count, Source source,
                                                std::optional<double> threshold, float* out) const {
  thread_local std::vector<double> wide;
  if (wide.size() < count) wide.resize(count);
  double* const rates = wide.data();
  on_unchanged_files([&] {
    scorer_.win_rates(embeddings, count, workers(count), zeros(source), rates);
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(rates[i]);
    if (!threshold || parts_.compressed == nullptr) return;
    for (std::size_t i = 0; i < count; ++i) {
      if (std::abs(static_cast<double>(out[i]) - *threshold) > parts_.error_bound) continue;
      double exact = 0.0;
      exact_.win_rates(embeddings + i * dim(), 1, 1, zeros(source), &exact);
      out[i] = static_cast<float>(exact);
    }
  });
}

void SimilarityWeightedRouter::score_texts(const TextBatch& texts, std::optional<double> threshold, float* out,
                                           bool* is_whole) const {
  score_embeddings(embed(texts, is_whole), texts.texts.size(), Source::kText, threshold, out);
}

void SimilarityWeightedRouter::score_models(const float* embeddings, std::size_t count, Source source,
                                            float* scores) const {
  thread_local std::vector<double> ratings;
  if (ratings.size() < count * num_tiers()) ratings.resize(count * num_tiers());
  double* const target = ratings.data();
  on_unchanged_files([&] { scorer_.ratings(embeddings, count, workers(count), zeros(source), target); });
  for (std::size_t i = 0; i < count; ++i) {
    for (const std::uint16_t tier : parts_.tiers) *scores++ = static_cast<float>(ratings[i * num_tiers() + tier]);
  }
}

std::shared_ptr<const Router> make_similarity_weighted(const DirectoryContents& contents, StoredEmbedder embedder,
                                                       const RouterOptions& options) {
  const std::string& where = contents.path;
  Settings settings = read_settings(contents.entry("settings"), where);
  std::vector<std::uint16_t> tiers = read_tiers(contents.tensors, settings, where);
  const std::vector<Cell> cells = read_cells(contents.tensors, where);
  SimilarityBank::Blocks blocks = read_blocks(contents, settings, cells);
  const std::size_t dim = blocks.front()->dim();
  check_embedder(embedder, dim, "the bank has", where);
  // Thresholds brought along from RouteLLM deserve its digits: it computes cosines in float64.
  const bool wide = settings.solver == RefitSolver::kRouteLlm;
  const auto bank =
      std::make_shared<const SimilarityBank>(dim, cells.size(), std::move(blocks), wide, kernels(active_isa()));
  Compressed compressed;
  if (settings.compression != nullptr) {
    compressed = CompressionReader(contents, *settings.compression, bank, cells).read();
  }
  const std::uint16_t strong = tiers[settings.pair.strong];
  const std::uint16_t weak = tiers[settings.pair.weak];
  SimilarityWeightedRouter::Parts parts{
      .models = std::move(settings.models),
      .tiers = std::move(tiers),
      .refit = std::make_shared<const TierRefit>(settings.num_tiers, cells, strong, weak, settings.solver),
      .bank = bank,
      .row_count = bank->row_count(),
      .compressed = std::move(compressed.sums),
      .error_bound = compressed.error_bound};
  return std::make_shared<const SimilarityWeightedRouter>(contents, std::move(embedder), options, std::move(parts));
}

}  // namespace routellm_fast
