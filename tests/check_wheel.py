"""Check a built wheel: what is in it, what is not, and how large it is."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

MAX_BYTES = 25 << 19  # 12.5 MiB
REQUIRED = ["routellm_fast/__init__.py", "routellm_fast/py.typed", "routellm_fast/_core.pyi",
            "routellm_fast/assets/mf/router.json", "routellm_fast/assets/mf/weights.safetensors",
            "routellm_fast/assets/mf/README.md", "routellm_fast/assets/sw_ranking/router.json",
            "routellm_fast/assets/sw_ranking/bank.safetensors", "routellm_fast/export/__init__.py",
            "routellm_fast/serving/triton.py", "routellm_fast/capi/include/routellm_fast.h",
            "routellm_fast/capi/lib/libroutellm_fast.so",
            "routellm_fast/capi/lib/libroutellm_fast.so.1", "routellm_fast/capi/lib/pkgconfig/routellm_fast.pc",
            "routellm_fast/capi/lib/cmake/routellm_fast/routellm_fast-config.cmake",
            "routellm_fast/triton_backends/routellm/libtriton_routellm.so"]  # fmt: skip


def main(path: Path) -> None:
    names = zipfile.ZipFile(path).namelist()
    faults = [f"lacks {name}" for name in REQUIRED if name not in names]
    faults += [f"installs {name} outside the package" for name in names
               if not name.startswith(("routellm_fast/", "routellm_fast-"))]  # fmt: skip
    faults += [f"carries {name}" for name in names if name.endswith((".cpp", ".hpp", ".a"))]
    if sum("_core." in name and name.endswith(".so") for name in names) != 1:
        faults.append("has not exactly one extension")
    if path.stat().st_size > MAX_BYTES:
        faults.append(f"has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}")
    if faults:
        sys.exit(f"{path.name}: " + "; ".join(faults))
    print(f"{path.name}: {path.stat().st_size:,} bytes, {len(names)} files")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
