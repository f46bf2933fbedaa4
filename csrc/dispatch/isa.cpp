#include "dispatch/isa.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "base/error.hpp"

namespace routellm_fast {
namespace {

struct NamedIsa {
  Isa isa;
  std::string_view name;
};

constexpr std::array<NamedIsa, 4> kNames{
    {{Isa::kScalar, "scalar"}, {Isa::kAvx2, "avx2"}, {Isa::kAvx512, "avx512"}, {Isa::kAvx512Vnni, "avx512vnni"}}};

std::string join_supported() {
  std::string names;
  for (const Isa isa : supported_isas()) {
    if (!names.empty()) names += ", ";
    names += isa_name(isa);
  }
  return names;
}

std::vector<Isa> detect() {
  std::vector<Isa> found{Isa::kScalar};
#ifdef ROUTELLM_FAST_X86_KERNELS
  // The builtins ask the operating system (XGETBV) as well as the processor.
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return found;
  found.push_back(Isa::kAvx2);
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) {
    return found;
  }
  found.push_back(Isa::kAvx512);
  if (__builtin_cpu_supports("avx512vnni")) found.push_back(Isa::kAvx512Vnni);
#endif
  return found;
}

Isa choose() {
  const char* forced = std::getenv("ROUTELLM_FAST_ISA");
  if (forced == nullptr || *forced == '\0') return supported_isas().back();
  const Isa isa = parse_isa(forced);
  const std::vector<Isa>& supported = supported_isas();
  if (std::ranges::find(supported, isa) == supported.end()) {
    throw Error(ErrorCode::kUnsupportedIsa, "ROUTELLM_FAST_ISA=" + std::string(forced) +
                                                " cannot run here: this machine and build support " + join_supported() +
                                                ". Unset the variable or name one of these.");
  }
  return isa;
}

}  // namespace

std::string_view isa_name(Isa isa) noexcept {
  for (const NamedIsa& entry : kNames) {
    if (entry.isa == isa) return entry.name;
  }
  return "unknown";
}

Isa parse_isa(std::string_view name) {
  for (const NamedIsa& entry : kNames) {
    if (entry.name == name) return entry.isa;
  }
  throw Error(ErrorCode::kUnsupportedIsa, "unknown instruction set '" + std::string(name) +
                                              "': expected one of scalar, avx2, avx512, avx512vnni "
                                              "(ROUTELLM_FAST_ISA names it).");
}

const std::vector<Isa>& supported_isas() {
  static const std::vector<Isa> supported = detect();
  return supported;
}

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace routellm_fast
