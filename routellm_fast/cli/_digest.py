"""The option --digest of commands that load a router."""

from __future__ import annotations

from typing import Annotated

import typer

Digest = Annotated[
    str | None,
    typer.Option(
        "--digest",
        metavar="SHA256",
        help="Take the router only if its directory has this digest, which `info ROUTER --digest` prints; every byte "
        "is then checked.",
        show_default=False,
    ),
]
