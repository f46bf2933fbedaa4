"""What the contenders between a client and the models' server are called, in measurements as in reports."""

from __future__ import annotations

from typing import Final

DIRECT: Final = "no gateway"
OURS: Final = "routellm_fast"
FLOOR: Final = "bare Starlette + aiohttp"
TENSORZERO: Final = "TensorZero (compiled)"
LITELLM: Final = "LiteLLM's proxy"
ROUTELLM_SERVER: Final = "RouteLLM's server"
ONE_WORKER: Final = "--workers 1"
TWO_WORKERS: Final = "--workers 2"
