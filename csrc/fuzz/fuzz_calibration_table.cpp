// Any bytes are the calibration of a manifest. One that is read gives a threshold in [0, 1] for each share, and none
// that rises with the share.

#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "directory/calibration_table.hpp"
#include "directory/json.hpp"
#include "support/require.hpp"

namespace {

using routellm_fast::CalibrationTable;
using routellm_fast::Error;
using routellm_fast::ErrorCode;
using routellm_fast::fuzz::require;

void check(const CalibrationTable& table) {
  double before = 1.0;
  for (int step = 0; step <= 64; ++step) {
    const double threshold = table.threshold_for(step / 64.0);
    require(threshold >= 0.0 && threshold <= 1.0, "a threshold lies in [0, 1]");
    require(threshold <= before + 1e-12, "a larger share has no larger threshold");
    before = threshold;
  }
  for (const double share : {5e-324, 1e-300, 1e-9, 0.3, 1.0 - 0x1p-53}) {
    const double threshold = table.threshold_for(share);
    require(threshold >= 0.0 && threshold <= 1.0, "a threshold lies in [0, 1]");
  }
  for (const double share : {-5e-324, 1.0 + 0x1p-52, std::numeric_limits<double>::quiet_NaN()}) {
    try {
      (void)table.threshold_for(share);
      require(false, "a share outside [0, 1] is refused");
    } catch (const Error& error) {
      require(error.code() == ErrorCode::kInvalidArgument, "a share outside [0, 1] is an argument's fault");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A copy of its own, so that a sanitizer sees one byte too many.
  const std::vector<char> bytes(data, data + size);
  try {
    const routellm_fast::JsonValue entry = routellm_fast::parse_json({bytes.data(), bytes.size()});
    if (entry.object() == nullptr) return 0;  // a manifest's layout asks for one
    check(CalibrationTable(entry, "fuzz"));
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kBadDirectory, "what is refused is refused by name");
  }
  return 0;
}
