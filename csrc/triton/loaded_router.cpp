#include "triton/loaded_router.hpp"

#include <algorithm>

#include "triton/server_api.hpp"

namespace routellm_fast::triton {
namespace {

TRITONSERVER_Error_Code code_of(routellm_status status) {
  switch (status) {
    case ROUTELLM_INVALID_ARGUMENT:
    case ROUTELLM_NO_EMBEDDER:
      return TRITONSERVER_ERROR_INVALID_ARG;
    case ROUTELLM_NOT_FOUND:
      return TRITONSERVER_ERROR_NOT_FOUND;
    case ROUTELLM_OUT_OF_MEMORY:
      return TRITONSERVER_ERROR_UNAVAILABLE;
    case ROUTELLM_BAD_DIRECTORY:
      return TRITONSERVER_ERROR_UNSUPPORTED;
    default:
      return TRITONSERVER_ERROR_INTERNAL;
  }
}

void check(routellm_status status) {
  if (status != ROUTELLM_OK) throw Failure(code_of(status), routellm_last_error());
}

}  // namespace

Rows Rows::slice(std::size_t begin, std::size_t length) const {
  Rows part = *this;
  if (embeddings != nullptr) {
    part.embeddings += begin * dim;
  } else {
    part.texts += begin;
    part.bytes += begin;
  }
  part.thresholds += begin;
  part.count = length;
  return part;
}

LoadedRouter::LoadedRouter(const std::string& directory, const std::string& digest, const std::string& strong_model,
                           const std::string& weak_model, std::uint32_t threads) {
  routellm_load_options options{};
  options.size = sizeof options;
  options.strong_model = strong_model.empty() ? nullptr : strong_model.c_str();
  options.weak_model = weak_model.empty() ? nullptr : weak_model.c_str();
  options.threads = threads;
  options.digest = digest.empty() ? nullptr : digest.c_str();
  routellm_router* router = nullptr;
  check(routellm_load(directory.c_str(), &options, &router));
  router_.reset(router);
  strong_model_ = routellm_strong_model(router);
  weak_model_ = routellm_weak_model(router);
  thresholds_change_win_rates_ = kind() != "mf";
}

double LoadedRouter::threshold_for(double strong_share) const {
  double threshold = 0.0;
  check(routellm_threshold_for(router_.get(), strong_share, &threshold));
  return threshold;
}

void LoadedRouter::win_rates_of(const Rows& rows, float* win_rates) const {
  check(rows.embeddings != nullptr
            ? routellm_win_rates_from_embeddings(router_.get(), rows.embeddings, rows.count, rows.dim, win_rates)
            : routellm_win_rates(router_.get(), rows.texts, rows.bytes, rows.count, win_rates));
}

void LoadedRouter::route(const Rows& rows, float* win_rates, std::uint8_t* is_strong) const {
  if (!thresholds_change_win_rates_) {
    win_rates_of(rows, win_rates);
    for (std::size_t i = 0; i < rows.count; ++i) {
      const double threshold = rows.thresholds[i];
      is_strong[i] = threshold != kNoThreshold && static_cast<double>(win_rates[i]) >= threshold ? 1 : 0;
    }
    return;
  }
  // A compressed sw_ranking router scores again what lies close to the threshold, so a call has one threshold. The
  // requests of a batch mostly have the same one: each run of equal thresholds is one call.
  for (std::size_t begin = 0; begin < rows.count;) {
    std::size_t end = begin + 1;
    while (end < rows.count && rows.thresholds[end] == rows.thresholds[begin]) ++end;
    const Rows run = rows.slice(begin, end - begin);
    const double threshold = *run.thresholds;
    if (threshold == kNoThreshold) {
      win_rates_of(run, win_rates + begin);
      std::fill(is_strong + begin, is_strong + end, std::uint8_t{0});
    } else {
      check(run.embeddings != nullptr ? routellm_route_embeddings(router_.get(), run.embeddings, run.count, run.dim,
                                                                  threshold, win_rates + begin, is_strong + begin)
                                      : routellm_route_batch(router_.get(), run.texts, run.bytes, run.count, threshold,
                                                             win_rates + begin, is_strong + begin));
    }
    begin = end;
  }
}

}  // namespace routellm_fast::triton
