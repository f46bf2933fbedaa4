#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch/isa.hpp"

namespace routellm_fast {

struct KernelTable;

/// The kernels of a tier; those that the tier does not define are taken from the tier below. Throws
/// Error(kUnsupportedIsa) if this machine cannot run the tier.
[[nodiscard]] const KernelTable& kernels(Isa isa);

/// Takes `count` blocks of 64 bytes into a SHA-256 state; see kernel_abi.hpp.
using Sha256Blocks = void (*)(std::uint32_t* state, const std::uint8_t* blocks, std::size_t count) noexcept;

/// By the processor's own instructions where it has them. That is no tier: the result is the same to the bit.
[[nodiscard]] Sha256Blocks sha256_blocks() noexcept;

}  // namespace routellm_fast
