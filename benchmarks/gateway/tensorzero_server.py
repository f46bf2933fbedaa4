"""Serves TensorZero's gateway until standard input ends: `tensorzero_server.py CONFIG`, in its own environment.

The gateway itself chooses where to listen, and this prints it.
"""

from __future__ import annotations

import sys

import tensorzero

gateway = tensorzero._start_http_gateway(  # noqa: SLF001 - the package offers the compiled gateway by this name only
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print(gateway.base_url, flush=True)  # noqa: T201 - whoever starts this reads where it listens
sys.stdin.read()
gateway.close()
