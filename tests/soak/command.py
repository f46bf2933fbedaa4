"""Sends a million requests through a real gateway while servers are killed and settings change, and counts them all.

    python -m tests.soak.command [--requests 1000000] [--clients 64] [--workers 2] [--seed 1]

The results go to benchmarks/results/gateway_soak.json, and a table to docs/gateway.md; with fewer requests they are
printed and nothing is written. The status is 1 where a request was lost or a counter differs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.harness.reports import dump, splice_between
from tests.soak.page import DOCUMENT, MARKERS, RESULTS, text_of
from tests.soak.run import run

_WHOLE = 1_000_000


def main() -> int:
    """Run the command; return its status."""
    parser = argparse.ArgumentParser(description="Send requests through a gateway in trouble, and count them all.")
    parser.add_argument("--requests", type=int, default=_WHOLE, help="How many requests are sent.")
    parser.add_argument("--clients", type=int, default=64, help="How many clients send them.")
    parser.add_argument("--workers", type=int, default=2, help="Worker processes of the gateway.")
    parser.add_argument("--seed", type=int, default=1, help="Another seed asks other things in another order.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="routellm-soak-") as folder:
        found = run(
            options.requests,
            clients=options.clients,
            workers=options.workers,
            seed=options.seed,
            folder=Path(folder),
        )
    results = {
        "command": shlex.join(["python", "-m", "tests.soak.command", *sys.argv[1:]]),
        "machine": machine.describe(),
        "run": found,
    }
    if options.requests >= _WHOLE:
        RESULTS.write_text(dump(results), encoding="utf-8")
        splice_between(DOCUMENT, MARKERS, text_of(results))
    print(json.dumps(found, indent=1))
    return 1 if found["breaches"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
