"""`python -m benchmarks COMMAND …`: every benchmark of the project."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

from benchmarks.harness import environment

# A command, the module whose main(arguments) runs it, what it does, and whether its figures are times.
COMMANDS: Final = {
    "report": ("benchmarks.report.command", "the routers that ship, beside their peers", True),
    "transformers": (
        "benchmarks.transformers.command",
        "bert and causal_llm beside their peers, and cold starts",
        True,
    ),
    "triton": ("benchmarks.triton.command", "the Triton backend in a real server", True),
    "gateway": ("benchmarks.gateway.command", "the gateway under load, beside other gateways", True),
    "features": ("benchmarks.text.features", "what surface features cost from text to decision", True),
    "before-after": ("benchmarks.before_after.command", "two versions of routellm_fast in turns", True),
    "quality-pool": ("benchmarks.quality.pool", "pools of models, and the shipped router on other pairs", False),
    "quality-adapt": ("benchmarks.quality.adapt", "what labels of one's own traffic are worth", False),
    "quality-transformers": (
        "benchmarks.quality.transformers",
        "bert, causal_llm and exports: how good they are",
        False,
    ),
}


def main() -> int:
    """Run one command. Return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="\n".join(f"{name:22}{about}" for name, (_, about, _) in COMMANDS.items()),
        epilog="`python -m benchmarks COMMAND --help` shows a command's arguments.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="the command's own")
    options = parser.parse_args()
    module, _, is_timed = COMMANDS[options.command]
    if is_timed:
        environment.enter()  # before anything loads numpy, whose BLAS reads the environment only then
    return int(importlib.import_module(module).main(options.arguments))


if __name__ == "__main__":
    sys.exit(main())
