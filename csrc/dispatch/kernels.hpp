#pragma once

#include "dispatch/isa.hpp"

namespace routellm_fast {

struct KernelTable;

/// The kernels of a tier; those that the tier does not define are taken from the tier below. Throws
/// Error(kUnsupportedIsa) if this machine cannot run the tier.
[[nodiscard]] const KernelTable& kernels(Isa isa);

}  // namespace routellm_fast
