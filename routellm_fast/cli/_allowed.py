"""The option of all commands that load routers: which servers their embedders may ask."""

from __future__ import annotations

from typing import Annotated

import typer

AllowServer = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-server",
        metavar="URL",
        help="Address of the embedding server that the router directory names, where it may be sent prompts, e.g. "
        "http://localhost:8000/v1. OpenAI's own and the server of OPENAI_BASE_URL need no such word. May be given "
        "several times.",
    ),
]
