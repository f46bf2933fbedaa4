"""Joins the commands into one application, and turns errors into messages and exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from routellm_fast import __version__
from routellm_fast.cli import (
    _adapt,
    _augment,
    _calibrate,
    _evaluate,
    _export,
    _import,
    _info,
    _rank,
    _route,
    _serve,
    _train,
)
from routellm_fast.cli._lack import lack_of
from routellm_fast.cli._printing import say, tell
from routellm_fast.cli._progress import told_when_long, working
from routellm_fast.cli._streams import OutputError, ReaderGoneError, standard_streams
from routellm_fast.errors import InvalidArgumentError, RouteLLMError

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
app.command("adapt")(_adapt.adapt)
app.add_typer(_train.app, name="train")
app.add_typer(_augment.app, name="augment")
app.command("calibrate")(_calibrate.calibrate)
app.command("evaluate")(_evaluate.evaluate)
app.add_typer(_export.app, name="export")
app.command("rank")(_rank.rank)
app.command("serve")(_serve.serve)


def _version(show: bool) -> None:
    if show:
        say(__version__)
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    del version  # its callback has shown it
    working(f"{context.invoked_subcommand} is running")


def run(arguments: Sequence[str] | None) -> int:
    """Run the command line and return its exit status; see main."""
    with standard_streams(), told_when_long():
        return _run(None if arguments is None else list(arguments))


def _run(arguments: list[str] | None) -> int:
    status = 0
    try:
        _check_letters(sys.argv[1:] if arguments is None else arguments)
        result = app(args=arguments, standalone_mode=False)
        status = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except RouteLLMError as error:
        # Of an OSError too, whose number says nothing to a reader.
        return _fail(getattr(error, "strerror", None) or str(error))
    except ReaderGoneError:
        return status
    except OutputError as error:
        return _fail(f"standard output cannot be written ({error})")
    except OSError as error:  # of a file that the command reads or writes
        return _fail(lack_of(error) or f"{error.filename or 'a file'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if (lack := lack_of(error)) is not None:
            return _fail(lack)
        # Wrong usage. Typer's exceptions are in different modules in its versions, but all have format_message.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        return _fail(format_message()) if str(format_message()) else 0
    return status


def _check_letters(arguments: list[str]) -> None:
    """Refuse arguments whose letters Python could not read; names of files that exist are taken by their bytes.

    Python reads arguments as ASCII in the C locale where its UTF-8 mode is turned off, and hands on other letters
    garbled. Raises InvalidArgumentError.
    """
    if sys.getfilesystemencoding() != "ascii":
        return
    for text in arguments:
        if not text.isascii() and not os.path.lexists(text):
            meant = os.fsencode(text).decode("utf-8", "replace")
            raise InvalidArgumentError(
                f"Python reads arguments as ASCII here and garbles {meant!r}: set LC_ALL=C.UTF-8 or PYTHONUTF8=1, or "
                "give the text in a file or by a pipe"
            )


def _fail(message: str) -> int:
    tell(message)
    return 2
