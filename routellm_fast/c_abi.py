"""Where this installation keeps the files of the C interface, for programs in other languages (docs/c-abi.md)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from routellm_fast import _core
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.loading import SHIPPED_ROUTER


class CAbi(NamedTuple):
    """The files of the C interface, and the flags that a compiler and a linker need.

    Attributes:
        library: The shared library, under the name by which programs load it.
        header: routellm_fast.h.
        include: The folder that holds the header.
        cmake: Folder of the CMake package, for CMAKE_PREFIX_PATH or routellm_fast_DIR.
        pkgconfig: Folder of routellm_fast.pc, for PKG_CONFIG_PATH.
        compile_flags: Flags for a C compiler, quoted for a shell.
        link_flags: Flags for a linker, quoted for a shell. A program that is linked so finds the library at its present
            path.
        shipped_router: Directory of the mf router that ships with the package.
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
    """Return the files of the C interface. Raises InvalidArgumentError where this installation lacks them."""
    root = Path(_core.__file__).parent / "capi"  # beside the extension: an editable installation keeps both elsewhere
    include, lib = root / "include", root / "lib"
    libraries = sorted(lib.glob("libroutellm_fast*.so.[0-9]*")) or sorted(lib.glob("libroutellm_fast*.dylib"))
    header = include / "routellm_fast.h"
    if not libraries or not header.is_file():
        raise InvalidArgumentError(
            f"there is no C library in {root}: install routellm-fast again, from a wheel or by 'pip install .'"
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
