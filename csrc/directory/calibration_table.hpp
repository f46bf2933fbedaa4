#pragma once

#include <string>
#include <vector>

#include "directory/json.hpp"

namespace routellm_fast {

/// From the share of prompts that go to the strong model to the threshold that sends them there; between rows the
/// threshold is interpolated linearly. Immutable.
class CalibrationTable {
 public:
  /// Reads the manifest's entry, which is an object. Of what a calibration may hold besides its table only the names
  /// are checked. Throws Error(kBadDirectory).
  CalibrationTable(const JsonValue& entry, const std::string& where);

  /// Throws Error(kInvalidArgument) for a share outside [0, 1].
  [[nodiscard]] double threshold_for(double strong_share) const;

 private:
  std::vector<double> shares_;
  std::vector<double> thresholds_;
};

/// Throws Error(kInvalidArgument) for a number outside [0, 1], NaN among them.
void check_share(double value, const char* what);

}  // namespace routellm_fast
