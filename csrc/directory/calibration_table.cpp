#include "directory/calibration_table.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <string_view>

#include "base/error.hpp"

namespace routellm_fast {
namespace {

constexpr std::array<std::string_view, 3> kRequired{"dataset", "prompt_count", "table"};
constexpr std::array<std::string_view, 6> kOptional{"created",     "operating_points", "prices",
                                                    "probability", "prompt_digest",    "win_rate_quantiles"};
constexpr std::int64_t kMostPrompts = std::int64_t{1} << 53;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kBadDirectory, where + ": " + what);
}

}  // namespace

CalibrationTable::CalibrationTable(const JsonValue& entry, const std::string& where) {
  const bool complete = std::ranges::all_of(kRequired, [&](auto key) { return entry.find(key) != nullptr; });
  const bool known = std::ranges::all_of(*entry.object(), [](const auto& member) {
    return std::ranges::find(kRequired, member.first) != kRequired.end() ||
           std::ranges::find(kOptional, member.first) != kOptional.end();
  });
  if (!complete || !known || entry.find("table")->array() == nullptr) {
    refuse(where,
           "calibration must hold dataset, prompt_count and table, and optionally created, operating_points, "
           "prices, probability, prompt_digest and win_rate_quantiles");
  }
  const auto count = entry.find("prompt_count")->integer();
  if (entry.find("dataset")->text() == nullptr || !count || *count < 1 || *count > kMostPrompts) {
    refuse(where, "calibration: dataset must be a string and prompt_count an integer from 1 to 2^53");
  }
  for (const JsonValue& row : *entry.find("table")->array()) {
    const auto* const pair = row.array();
    if (pair == nullptr || pair->size() != 2 || (*pair)[0].number() == nullptr || (*pair)[1].number() == nullptr) {
      refuse(where, "a calibration table is a list of [strong share, threshold] rows");
    }
    shares_.push_back((*pair)[0].number()->value);
    thresholds_.push_back((*pair)[1].number()->value);
  }
  if (shares_.size() < 2 || shares_.front() != 0.0 || shares_.back() != 1.0) {
    refuse(where, "a calibration table needs rows from strong share 0 to strong share 1");
  }
  const bool rising = std::ranges::adjacent_find(shares_, std::greater_equal{}) == shares_.end();
  const bool falling = std::ranges::is_sorted(thresholds_, std::greater{});
  if (!rising || !falling || thresholds_.front() > 1.0 || thresholds_.back() < 0.0) {
    refuse(where, "in a calibration table shares rise, thresholds fall, and both lie in [0, 1]");
  }
}

double CalibrationTable::threshold_for(double strong_share) const {
  check_share(strong_share, "strong share");
  const auto after = std::ranges::upper_bound(shares_, strong_share);  // the first row of a larger share
  const auto k = static_cast<std::size_t>(after - shares_.begin()) - 1;
  if (k + 1 == shares_.size() || shares_[k] == strong_share) return thresholds_[k];
  const double slope = (thresholds_[k + 1] - thresholds_[k]) / (shares_[k + 1] - shares_[k]);
  return slope * (strong_share - shares_[k]) + thresholds_[k];
}

void check_share(double value, const char* what) {
  const bool is_share = value >= 0.0 && value <= 1.0;  // NaN is none
  if (!is_share) {
    throw Error(ErrorCode::kInvalidArgument, std::string(what) + " " + std::to_string(value) + " is outside [0, 1].");
  }
}

}  // namespace routellm_fast
