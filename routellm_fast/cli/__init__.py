"""The command line `routellm-fast`. Commands read options, call the package and print; no other module prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from routellm_fast.cli._lack import lack_of
from routellm_fast.shown import shown

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: success, or whoever read the output has ended. 1: `calibrate --check` found a drift. 2: bad input, an output that
    cannot be written, or too little memory. 3: `train --require-better`, and the router is not shown to be better.
    130: interrupted.

    Args:
        arguments: The arguments; None for those of the process.
    """
    try:
        # Imported here, so that a library that little memory keeps from loading is named in words.
        from routellm_fast.cli._app import run
    except Exception as error:
        lack = lack_of(error)
        if lack is None:
            raise
        sys.stderr.write(f"routellm-fast: {shown(' '.join(lack.split()))}\n")
        return 2
    return run(arguments)
