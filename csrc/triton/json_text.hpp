#pragma once

#include <string>

#include "directory/json.hpp"

namespace routellm_fast::triton {

/// The JSON text of a value, which parse_json reads as the same value.
[[nodiscard]] std::string json_text(const JsonValue& value);

}  // namespace routellm_fast::triton
