#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace routellm_fast {

/// The instruction sets that have kernels ("tiers"), slowest first. Each one includes those before it.
enum class Isa : std::uint8_t { kScalar, kAvx2, kAvx512, kAvx512Vnni };

[[nodiscard]] std::string_view isa_name(Isa isa) noexcept;

/// The tier with this name. Throws Error(kUnsupportedIsa) unless it is scalar, avx2, avx512 or avx512vnni.
[[nodiscard]] Isa parse_isa(std::string_view name);

/// The tiers that this machine, its operating system and this build can run, scalar first.
[[nodiscard]] const std::vector<Isa>& supported_isas();

/// The tier in use: the best supported one, or the one that the environment variable ROUTELLM_FAST_ISA names. It is
/// chosen once, at the first call. Throws Error(kUnsupportedIsa) if the named tier is unknown or cannot run here.
[[nodiscard]] Isa active_isa();

}  // namespace routellm_fast
