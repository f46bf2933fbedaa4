"""Checks that a router behind Triton answers an inference: exits with 0 if it does, else says why and exits with 1.

For health probes of a container: needs only Python's standard library, and uses HTTP. Triton's own readiness is not
enough, as a model whose process died stays ready. Each prompt is different, so that no response cache answers.

    python3 probe.py [--url http://127.0.0.1:8000] [--model router] [--timeout 2]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence


def problem_of(url: str, model: str, timeout_s: float) -> str:
    """Return what is wrong with the server's answer, or "" if it is right."""
    prompt = {"name": "PROMPT", "shape": [1, 1], "datatype": "BYTES", "data": [f"{os.getpid()} {time.time_ns()}"]}
    body = json.dumps({"inputs": [prompt], "outputs": [{"name": "WIN_RATE"}]}).encode()
    request = urllib.request.Request(  # noqa: S310 - http or https, checked by main
        f"{url}/v2/models/{model}/infer", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
            outputs = json.load(reply)["outputs"]
        (win_rate,) = next(entry["data"] for entry in outputs if entry["name"] == "WIN_RATE")
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read(1000).decode(errors='replace')}"
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        return f"{type(error).__name__}: {error}"
    return "" if 0.0 <= win_rate <= 1.0 else f"a win rate of {win_rate}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one inference and report. Returns 1 if it failed, else 0."""
    parser = argparse.ArgumentParser(description="Run one inference on a router behind Triton.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="router")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=2.0)
    options = parser.parse_args(arguments)
    if not options.url.startswith(("http://", "https://")):
        parser.error("--url is http://host:port")
    problem = problem_of(options.url.rstrip("/"), options.model, options.timeout)
    if problem:
        sys.stderr.write(f"{options.url}: {problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
