#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace routellm_fast {

/// The kernel tiers, in order of preference. Each one includes those before it.
enum class Isa : std::uint8_t { kScalar, kAvx2, kAvx512, kAvx512Vnni };

[[nodiscard]] std::string_view isa_name(Isa isa) noexcept;

/// Throws Error(kUnsupportedIsa) for a name that is none of scalar, avx2, avx512, avx512vnni.
[[nodiscard]] Isa parse_isa(std::string_view name);

/// The tiers that this machine, its operating system and this build can run, scalar first.
[[nodiscard]] const std::vector<Isa>& supported_isas();

/// The tier in use: the best supported one, or the one named by ROUTELLM_FAST_ISA. Decided once, at the first call;
/// throws Error(kUnsupportedIsa) when the named one is unknown or cannot run here, rather than falling back.
[[nodiscard]] Isa active_isa();

}  // namespace routellm_fast
