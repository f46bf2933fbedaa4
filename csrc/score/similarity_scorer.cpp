#include "score/similarity_scorer.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "base/aligned.hpp"
#include "base/error.hpp"
#include "kernels/kernel_abi.hpp"

namespace routellm_fast {
namespace {

[[noreturn]] void refuse(std::size_t row, const std::string& what) {
  throw Error(ErrorCode::kInvalidEmbedding, "embedding " + std::to_string(row) + " " + what);
}

constexpr std::size_t kQueriesAtOnce = 512;  // bounds a thread's workspace, whatever the batch

constexpr const char* kZeros = "is all zeros, which has no direction and is similar to nothing.";

void check_finite(const float* embedding, std::size_t dim, std::size_t row, const KernelTable& kernels) {
  const std::size_t bad = kernels.first_nonfinite_f32(embedding, dim);
  if (bad < dim) {
    refuse(row, "has " + std::to_string(embedding[bad]) + " in column " + std::to_string(bad) +
                    ": every value must be finite. Look at the embedder that made it.");
  }
}

double norm_of(const float* x, std::size_t dim) noexcept {
  // Four sums: one alone would wait for each addition.
  double square[4] = {0.0, 0.0, 0.0, 0.0};
  std::size_t d = 0;
  for (; d + 4 <= dim; d += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane) {
      const auto value = static_cast<double>(x[d + lane]);
      square[lane] += value * value;
    }
  }
  for (; d < dim; ++d) square[0] += static_cast<double>(x[d]) * static_cast<double>(x[d]);
  return std::sqrt((square[0] + square[1]) + (square[2] + square[3]));
}

// Scales by a power of two, so that the largest value is near 1 and no digit changes. A query's length cancels in the
// weights; this only keeps dot products in float32's range. False for zeros.
bool scale(const float* x, std::size_t dim, float* out) noexcept {
  float largest = 0.0F;
  for (std::size_t d = 0; d < dim; ++d) largest = std::max(largest, std::abs(x[d]));
  if (largest == 0.0F) return false;
  const int exponent = std::ilogb(largest);
  // Two steps: the factor alone may leave the range.
  const float first = std::ldexp(1.0F, -exponent / 2);
  const float second = std::ldexp(1.0F, -exponent - -exponent / 2);
  for (std::size_t d = 0; d < dim; ++d) out[d] = x[d] * first * second;
  return true;
}

}  // namespace

void row_norms(const float* rows, std::size_t count, std::size_t dim, const KernelTable& kernels, double* norms) {
  for (std::size_t r = 0; r < count; ++r) {
    check_finite(rows + r * dim, dim, r, kernels);
    norms[r] = norm_of(rows + r * dim, dim);
    if (norms[r] == 0.0) refuse(r, kZeros);
  }
}

SimilarityScorer::SimilarityScorer(std::shared_ptr<const CellSums> sums, std::shared_ptr<const TierRefit> refit,
                                   const KernelTable& kernels)
    : sums_(std::move(sums)), refit_(std::move(refit)), kernels_(&kernels) {
  if (sums_->cell_count() != refit_->cells().size()) {
    throw Error(ErrorCode::kInvalidArgument, "the battles have " + std::to_string(sums_->cell_count()) +
                                                 " cells, the refit " + std::to_string(refit_->cells().size()) + ".");
  }
  for (const Cell& cell : refit_->cells()) equal_sums_.push_back(cell.battles);
}

void SimilarityScorer::win_rates(const float* embeddings, std::size_t count, std::size_t threads, Zeros zeros,
                                 double* out) const {
  score(embeddings, count, threads, zeros, &SimilarityScorer::finish_win_rate, 1, out);
}

void SimilarityScorer::ratings(const float* embeddings, std::size_t count, std::size_t threads, Zeros zeros,
                               double* out) const {
  score(embeddings, count, threads, zeros, &SimilarityScorer::finish_ratings, refit_->num_tiers(), out);
}

void SimilarityScorer::finish_win_rate(const double* cell_sums, double* out) const {
  *out = refit_->win_rate({cell_sums, sums_->cell_count()});
}

void SimilarityScorer::finish_ratings(const double* cell_sums, double* out) const {
  refit_->ratings({cell_sums, sums_->cell_count()}, {out, refit_->num_tiers()});
}

void SimilarityScorer::score(const float* embeddings, std::size_t count, std::size_t threads, Zeros zeros,
                             Finish finish, std::size_t width, double* out) const {
  const std::size_t workers = std::clamp<std::size_t>(threads, 1, std::max<std::size_t>(count, 1));
  const auto score_range = [&](std::size_t begin, std::size_t end) {
    for (; begin < end; begin += kQueriesAtOnce) {
      score_slice(embeddings, begin, std::min(begin + kQueriesAtOnce, end), zeros, finish, width, out);
    }
  };
  if (workers == 1) {
    score_range(0, count);
    return;
  }
  // Queries are shared out, never the sums of one query, so that no result depends on the number of threads.
  std::vector<std::exception_ptr> failures(workers);
  const auto work = [&](std::size_t w) {
    try {
      score_range(count * w / workers, count * (w + 1) / workers);
    } catch (...) {
      failures[w] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> pool;
    pool.reserve(workers);
    for (std::size_t w = 0; w < workers; ++w) {
      try {
        pool.emplace_back(work, w);
      } catch (const std::system_error&) {
        work(w);  // no further thread can be started, so this one does its share too
      }
    }
  }
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

void SimilarityScorer::score_slice(const float* embeddings, std::size_t begin, std::size_t end, Zeros zeros,
                                   Finish finish, std::size_t width, double* out) const {
  const std::size_t dim = sums_->dim();
  const std::size_t cells = sums_->cell_count();
  thread_local AlignedVector<float> scaled;
  thread_local std::vector<double> sums;
  thread_local std::vector<double> largest;
  thread_local std::vector<std::size_t> scored;
  const std::size_t count = end - begin;
  if (scaled.size() < count * dim) scaled.resize(count * dim);
  if (sums.size() < count * cells) sums.resize(count * cells);
  if (largest.size() < count) largest.resize(count);
  scored.clear();
  for (std::size_t r = begin; r < end; ++r) {
    const float* const embedding = embeddings + r * dim;
    check_finite(embedding, dim, r, *kernels_);
    if (scale(embedding, dim, scaled.data() + scored.size() * dim)) {
      scored.push_back(r);
    } else if (zeros == Zeros::kRefuse) {
      refuse(r, kZeros);
    } else {
      (this->*finish)(equal_sums_.data(), out + r * width);
    }
  }
  sums_->sum(scaled.data(), scored.size(), sums.data(), largest.data());
  for (std::size_t k = 0; k < scored.size(); ++k) {
    const double* const query_sums = sums.data() + k * cells;
    if (largest[k] == 0.0) {
      refuse(scored[k], "has a largest similarity of exactly 0, by which the weights would be divided.");
    }
    if (!std::all_of(query_sums, query_sums + cells, [](double sum) { return std::isfinite(sum); })) {
      throw Error(ErrorCode::kDamaged,
                  "the bank of battles holds values that are not finite: its file was changed. Check the router with "
                  "`routellm-fast info ROUTER --verify`, and copy or build it again.");
    }
    (this->*finish)(query_sums, out + scored[k] * width);
  }
}

}  // namespace routellm_fast
