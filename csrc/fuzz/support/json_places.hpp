#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace routellm_fast::fuzz {

/// Where a value lies in a JSON text. `outer_begin` and `outer_end` are those of the whole member or element, with the
/// comma that goes where it goes.
struct JsonPlace {
  std::size_t begin;
  std::size_t end;
  std::size_t outer_begin;
  std::size_t outer_end;
};

/// The places of all values, keys of objects among them, of a text that is JSON.
std::vector<JsonPlace> json_places(std::string_view text);

}  // namespace routellm_fast::fuzz
