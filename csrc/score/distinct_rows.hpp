#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace routellm_fast {

/// first[r] = the smallest index of a row equal to row r, bit for bit; first.size() rows of dim float32.
void first_equal_rows(const float* rows, std::size_t dim, std::span<std::uint32_t> first);

}  // namespace routellm_fast
