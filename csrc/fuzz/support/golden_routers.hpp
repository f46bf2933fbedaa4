#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "routellm_fast.h"

namespace routellm_fast::fuzz {

using Files = std::map<std::string, std::string, std::less<>>;

/// The files of the golden router directories of every kind and precision, read once.
const std::vector<Files>& golden_routers();

/// The same kinds and precisions with few numbers: an input costs what its directory costs. Those of fixtures/make.py
/// are the last three.
const std::vector<Files>& small_routers();

/// Overwrites, inserts, deletes, cuts off or repeats at a place of a content.
void damage(std::string& content, std::uint8_t how, std::size_t place, std::uint8_t value);

/// Puts the size and the digest of a file into the manifest, where its entry still looks as it did.
void record(std::string& manifest, std::string_view name, std::string_view content);

/// Scores texts and embeddings in every way that the C ABI has. What succeeds must be a win rate, and no call may end
/// in an internal error.
void score(const routellm_router* router);

/// Checks what a call that scores has returned.
void check_scored(routellm_status status, const float* win_rates, std::size_t count);

}  // namespace routellm_fast::fuzz
