"""The gateways under load, and how each is started with one strong and one weak model behind it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks.gateway.names import FLOOR, LITELLM, OURS, ROUTELLM_SERVER, TENSORZERO
from benchmarks.gateway.processes import CHOSEN_BY_SERVER, Launch, free_port
from benchmarks.harness.peers import PeerMissingError

# What a contender is told: the base URL of the models' server, and a folder for its files.
Start = Callable[[str, Path], Launch]


def starts(environments: Path) -> Mapping[str, Start]:
    """Return how each contender is started; peers from the environments that peers-env.sh makes there."""
    return {
        OURS: ours,
        FLOOR: _floor,
        TENSORZERO: functools.partial(_tensorzero, environments),
        LITELLM: functools.partial(_litellm, environments),
        ROUTELLM_SERVER: functools.partial(_routellm, environments),
    }


_OURS: Final = """\
upstreams:
  models: {{base_url: {base_url}}}
models:
  big: {{upstream: models, input_usd_per_1m: 2.5, output_usd_per_1m: 10}}
  small: {{upstream: models, input_usd_per_1m: 0.15, output_usd_per_1m: 0.6}}
routers:
  mf: {{strong: big, weak: small}}
limits: {{shutdown_s: 5}}
"""


def ours(base_url: str, folder: Path, workers: int = 1) -> Launch:
    """Start our gateway with the router that ships; all else is as it is by itself, the log of requests included."""
    config = folder / "gateway.yaml"
    config.write_text(_OURS.format(base_url=base_url), encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "routellm_fast", "serve", "--config", str(config), "--port", str(port)]
    return Launch([*command, "--workers", str(workers)], port, "router-mf")


def _floor(base_url: str, folder: Path) -> Launch:
    del folder
    port = free_port()
    return Launch([sys.executable, "-m", "benchmarks.gateway.floor", str(port), base_url], port, "small")


_TENSORZERO: Final = """\
[gateway]
observability.enabled = false
[models.small]
routing = ["models"]
[models.small.providers.models]
type = "openai"
model_name = "small"
api_base = "{base_url}/"
api_key_location = "none"
"""


def _tensorzero(environments: Path, base_url: str, folder: Path) -> Launch:
    python = _program(environments, "tensorzero", "python")
    config = folder / "tensorzero.toml"
    config.write_text(_TENSORZERO.format(base_url=base_url), encoding="utf-8")
    script = str(Path(__file__).with_name("tensorzero_server.py"))
    command = [python, script, str(config)]
    return Launch(command, CHOSEN_BY_SERVER, "tensorzero::model_name::small", "/openai/v1/chat/completions")


_LITELLM: Final = """\
model_list:
  - model_name: small
    litellm_params: {{model: openai/small, api_base: "{base_url}", api_key: unused}}
"""
# It fetches its list of prices otherwise, and wants a key of its own, which ours is not given either.
_LITELLM_ENVIRONMENT: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}


def _litellm(environments: Path, base_url: str, folder: Path) -> Launch:
    program = _program(environments, "litellm", "litellm")
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM.format(base_url=base_url), encoding="utf-8")
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return Launch(command, port, "small", environment=_LITELLM_ENVIRONMENT)


def _routellm(environments: Path, base_url: str, folder: Path) -> Launch:
    del folder
    python = _program(environments, "routellm", "python")
    port = free_port()
    command = [
        python, "-m", "routellm.openai_server", "--routers", "random", "--base-url", base_url, "--api-key", "unused",
        "--strong-model", "openai/big", "--weak-model", "openai/small", "--port", str(port),
    ]  # fmt: skip
    environment = {"OPENAI_API_KEY": "unused", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Launch(command, port, "router-random-0.5", environment=environment)


def _program(environments: Path, peer: str, program: str) -> str:
    path = environments / peer / "bin" / program
    if not path.exists():
        raise PeerMissingError(f"its environment has no {peer}/bin/{program}: `make gateway-peers-env` makes it")
    return str(path)
