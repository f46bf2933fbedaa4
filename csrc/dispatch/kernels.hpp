#pragma once

#include "dispatch/isa.hpp"

namespace routellm_fast {

struct KernelTable;

/// The complete table of a tier: entries that the tier does not define come from the tier below. Throws
/// Error(kUnsupportedIsa) when this machine cannot run it.
[[nodiscard]] const KernelTable& kernels(Isa isa);

}  // namespace routellm_fast
