#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch/isa.hpp"

namespace routellm_fast {

struct KernelTable;

/// The complete table of a tier: entries that the tier does not define come from the tier below. Throws
/// Error(kUnsupportedIsa) when this machine cannot run it.
[[nodiscard]] const KernelTable& kernels(Isa isa);

/// Takes `count` blocks of 64 bytes into a SHA-256 state; see kernel_abi.hpp.
using Sha256Blocks = void (*)(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept;

/// By the processor's own instructions where it has them. That is no tier: the result is the same to the bit.
[[nodiscard]] Sha256Blocks sha256_blocks() noexcept;

}  // namespace routellm_fast
