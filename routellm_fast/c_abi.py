"""Where the C ABI's files lie in this installation, for programs in other languages (docs/c-abi.md)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from routellm_fast import _core
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.loading import SHIPPED_ROUTER


class CAbi(NamedTuple):
    """The files of the C ABI, and how a compiler is told of them.

    Attributes:
        library: The shared library, under the name that programs load.
        header: routellm_fast.h.
        include: Folder of the header.
        cmake: Folder of the CMake package, for CMAKE_PREFIX_PATH or routellm_fast_DIR.
        pkgconfig: Folder of routellm_fast.pc, for PKG_CONFIG_PATH.
        compile_flags: For a C compiler.
        link_flags: For a linker; the program then finds the library where it lies now.
        shipped_router: Directory of the router that ships.
    """

    library: Path
    header: Path
    include: Path
    cmake: Path
    pkgconfig: Path
    compile_flags: str
    link_flags: str
    shipped_router: Path


def c_abi() -> CAbi:
    """Return where the C ABI lies. Raises InvalidArgumentError where this installation was built without it."""
    root = Path(_core.__file__).parent / "capi"  # beside the extension: an editable installation keeps both elsewhere
    include, lib = root / "include", root / "lib"
    libraries = sorted(lib.glob("libroutellm_fast*.so.[0-9]*")) or sorted(lib.glob("libroutellm_fast*.dylib"))
    header = include / "routellm_fast.h"
    if not libraries or not header.is_file():
        raise InvalidArgumentError(
            f"there is no C library at {root}: install routellm-fast again, from a wheel or by 'pip install .'"
        )
    return CAbi(
        library=libraries[0],
        header=header,
        include=include,
        cmake=lib / "cmake" / "routellm_fast",
        pkgconfig=lib / "pkgconfig",
        compile_flags=shlex.join([f"-I{include}"]),
        link_flags=shlex.join([f"-L{lib}", f"-Wl,-rpath,{lib}", "-lroutellm_fast"]),
        shipped_router=SHIPPED_ROUTER,
    )
