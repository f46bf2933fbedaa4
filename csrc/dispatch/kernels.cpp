#include "dispatch/kernels.hpp"

#include <algorithm>
#include <string>

#ifdef ROUTELLM_FAST_X86_KERNELS
#include <cpuid.h>
#endif

#include "base/error.hpp"
#include "kernels/kernel_abi.hpp"

namespace routellm_fast {
namespace {

#ifdef ROUTELLM_FAST_X86_KERNELS
KernelTable compose(const KernelTable& base, const KernelTable& over) {
  KernelTable table = base;
  if (over.dot_f32 != nullptr) table.dot_f32 = over.dot_f32;
  if (over.matvec_f32 != nullptr) table.matvec_f32 = over.matvec_f32;
  if (over.dot_i8 != nullptr) table.dot_i8 = over.dot_i8;
  if (over.sum_rows_i8 != nullptr) table.sum_rows_i8 = over.sum_rows_i8;
  if (over.sum_rows_f32 != nullptr) table.sum_rows_f32 = over.sum_rows_f32;
  if (over.first_nonfinite_f32 != nullptr) table.first_nonfinite_f32 = over.first_nonfinite_f32;
  if (over.matmul_f32 != nullptr) table.matmul_f32 = over.matmul_f32;
  if (over.range_f32 != nullptr) table.range_f32 = over.range_f32;
  if (over.sum_exp2_f64 != nullptr) table.sum_exp2_f64 = over.sum_exp2_f64;
  if (over.matvec_wide != nullptr) table.matvec_wide = over.matvec_wide;
  if (over.sum_exp2_wide != nullptr) table.sum_exp2_wide = over.sum_exp2_wide;
  if (over.sum_exp2_f32 != nullptr) table.sum_exp2_f32 = over.sum_exp2_f32;
  if (over.find_at_least_f32 != nullptr) table.find_at_least_f32 = over.find_at_least_f32;
  if (over.score_panels_u8 != nullptr) table.score_panels_u8 = over.score_panels_u8;
  return table;
}
#endif

}  // namespace

const KernelTable& kernels(Isa isa) {
  const std::vector<Isa>& supported = supported_isas();
  if (std::ranges::find(supported, isa) == supported.end()) {
    throw Error(ErrorCode::kUnsupportedIsa, "this machine or build cannot run the " + std::string(isa_name(isa)) +
                                                " kernels; ask supported_isas() for those that it can.");
  }
#ifdef ROUTELLM_FAST_X86_KERNELS
  static const KernelTable vnni = compose(kKernelsAvx512, kKernelsAvx512Vnni);
  if (isa == Isa::kAvx512Vnni) return vnni;
  if (isa == Isa::kAvx512) return kKernelsAvx512;
  if (isa == Isa::kAvx2) return kKernelsAvx2;
#endif
  return kKernelsScalar;
}

Sha256Blocks sha256_blocks() noexcept {
#ifdef ROUTELLM_FAST_X86_KERNELS
  constexpr unsigned kFeatures = 7;  // leaf
  constexpr unsigned kSha = 1U << 29U;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3") &&
      __get_cpuid_count(kFeatures, 0, &a, &b, &c, &d) != 0 && (b & kSha) != 0) {
    return sha256_blocks_shani;
  }
#endif
  return sha256_blocks_scalar;
}

}  // namespace routellm_fast
