"""`routellm-fast serve`: an OpenAI- and Anthropic-compatible server that routes requests."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import typer

from routellm_fast.cli._printing import say, tell
from routellm_fast.cli._progress import working
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.extras import require

# What the gateway is made of; the first that is missing names the extra.
_NEEDED: Final = ("pydantic", "yaml", "starlette", "uvicorn", "uvloop", "httptools", "aiohttp", "prometheus_client")


def serve(
    further: list[str] = typer.Argument(None, hidden=True),
    config: Path | None = typer.Option(
        None,
        help="The gateway's YAML file, which is read again whenever it changes. RouteLLM's file of routers is taken "
        "too, together with the options below.",
    ),
    routers: list[str] = typer.Option(
        [],
        help="Routers to load: mf and sw_ranking ship, random needs nothing, NAME=DIRECTORY is your own. Give it "
        "several times, or names separated by commas.  [default: mf]",
    ),
    strong_model: str | None = typer.Option(None, help="The strong model's name at its server."),
    weak_model: str | None = typer.Option(None, help="The weak model's name at its server."),
    base_url: str | None = typer.Option(None, help="The server of both models.  [default: OpenAI's]", metavar="URL"),
    weak_base_url: str | None = typer.Option(None, help="The weak model's server, where it is another.", metavar="URL"),
    api_key: str | None = typer.Option(
        None, help="Its key. Others on this machine can read command lines: --api-key-env is safer.", show_default=False
    ),
    api_key_env: str | None = typer.Option(
        None, help="The environment variable that holds the key.  [default: OPENAI_API_KEY, for OpenAI's server]"
    ),
    weak_api_key_env: str | None = typer.Option(None, help="The same for the weak model's server."),
    host: str | None = typer.Option(None, help="The address to listen on.  [default: 127.0.0.1]"),
    port: int | None = typer.Option(None, help="The TCP port to listen on.  [default: 6060]", min=0, max=65_535),
    workers: int = typer.Option(1, help="Processes that answer requests.", min=1, max=256),
    check: bool = typer.Option(False, "--check", help="Read the settings, load the routers, and end."),
    new_key: bool = typer.Option(False, "--new-key", help="Print a new key of a client and its digest, and end."),
) -> None:
    """Serve two models, or more, behind a router, to clients of OpenAI's and Anthropic's APIs.

    A client asks for the model router-NAME, such as router-mf, or router-mf-0.4 with a threshold of its own, and gets
    the answer of the strong model or of the weak one. All but the model's name goes to the model's server as it came,
    and its answer comes back as it is.
    """
    for module in _NEEDED:
        require(module, "serve")
    from routellm_fast.gateway import flags as gateway_flags
    from routellm_fast.gateway import keys, runtime, server, settings_file, worker
    from routellm_fast.routing import read_config

    if new_key:
        key, digest = keys.new_key()
        say(f"key:        {key}")
        say(f"key_sha256: {digest}")
        return
    # RouteLLM's own server takes names after --routers with blanks between them.
    names = [name for entry in (*routers, *(further or ())) for name in entry.split(",") if name]
    flags = gateway_flags.Flags(
        names, strong_model, weak_model, base_url, weak_base_url, api_key, api_key_env, weak_api_key_env
    )
    if further and not routers:
        raise InvalidArgumentError(f"{further[0]!r} is no option: routers are named by --routers")
    watched: runtime.Watched | None = None
    if config is None:
        settings = gateway_flags.settings_of_flags(flags)
    elif settings_file.is_routellm_config(config):
        settings = gateway_flags.settings_of_flags(flags, read_config(config))
    elif flags.given:
        raise InvalidArgumentError(
            f"{config} names models and routers itself: leave out {', '.join(flags.given)}, or change the file"
        )
    else:
        watched = runtime.Watched.now(config)
        settings = settings_file.read_settings(config)
    listen = settings.listen.model_copy(
        update={name: value for name, value in (("host", host), ("port", port)) if value is not None}
    )
    settings = settings.model_copy(update={"listen": listen})
    if check:
        worker.check(settings)
        say(f"{config or 'the options'}: {len(settings.routers)} routers, {len(settings.models)} models, all well")
        return
    working("")  # it runs until it is stopped, and has a log of its own
    server.serve(
        settings,
        watched=watched,
        workers=workers,
        on_listening=lambda address: tell(f"listening on {address}, with {', '.join(settings.routers) or 'no router'}"),
    )
