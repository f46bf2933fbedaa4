"""The commands together, and what happens when one fails."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import typer

from routellm_fast import __version__
from routellm_fast.cli import _augment, _calibrate, _evaluate, _export, _import, _info, _rank, _route, _train
from routellm_fast.errors import RouteLLMError

app = typer.Typer(
    name="routellm-fast",
    help="Route each prompt to the cheapest language model that answers it well.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("route")(_route.route)
app.command("info")(_info.info)
app.command("import")(_import.import_source)
app.add_typer(_train.app, name="train")
app.add_typer(_augment.app, name="augment")
app.command("calibrate")(_calibrate.calibrate)
app.command("evaluate")(_evaluate.evaluate)
app.add_typer(_export.app, name="export")
app.command("rank")(_rank.rank)


def _version(show: bool) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for drift that a check found, 2 on bad input, 130 on ^C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that is no Unicode is shown by its bytes instead of failing at the very end.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = app(args=None if arguments is None else list(arguments), standalone_mode=False)
        sys.stdout.flush()
    except RouteLLMError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # Whoever read our output has gone, e.g. `| head`. Python would complain once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        # Wrong usage: Typer's own exceptions moved between modules over its versions, their face did not.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        return _fail(format_message()) if str(format_message()) else 0
    return result if isinstance(result, int) else 0


def _fail(message: str) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"routellm-fast: {line}\n")
    return 2
