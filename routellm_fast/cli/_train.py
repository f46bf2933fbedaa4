"""`routellm-fast train`."""

from __future__ import annotations

import typer

app = typer.Typer(help="Train a router.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    pass
