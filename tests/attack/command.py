"""Runs all attacks in full, and writes what was tried, how often, and what held.

    python -m tests.attack.command [--only WORD] [--scale 1.0] [--seed 1] [--jobs 2]

The results go to benchmarks/results/attacks.json and the page to docs/attacks.md. With --only or another scale they are
printed and nothing is written. Where something did not hold, the other attacks run, and the status is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.harness import machine
from benchmarks.harness.reports import dump
from tests.attack.catalogue import attacks
from tests.attack.harness import Attack, Campaign
from tests.attack.page import PAGE, RESULTS, page_of


def run_attack(attack: Attack, count: int, seed: int) -> dict[str, Any]:
    """Run an attack; return its row of the results."""
    with tempfile.TemporaryDirectory(prefix="routellm-attack-") as folder:
        campaign = Campaign(count, random.Random(f"{seed} {attack.name}"), Path(folder))
        began_s = time.monotonic()
        breach = ""
        try:
            attack.run(campaign)
        except Exception as error:  # noqa: BLE001 - an error that nobody foresaw is a breach, too
            breach = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - began_s
    return {
        **_row(attack, count),
        "seconds": round(seconds, 1),
        "happened": dict(campaign.tally),
        "breach": breach,
    }


def run_apart(attack: Attack, count: int, seed: int) -> dict[str, Any]:
    """Run an attack in a process of its own, so that what ends it ends no other attack; return its row."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.attack.command", "--child", attack.name, str(count), str(seed)],
        stdout=subprocess.PIPE,
        check=False,
    )
    lines = child.stdout.decode(errors="replace").splitlines()
    if child.returncode == 0 and lines:
        row: dict[str, Any] = json.loads(lines[-1])
        return row
    ended = f"the process of the attack ended with status {child.returncode}"
    return {**_row(attack, count), "seconds": 0.0, "happened": {}, "breach": ended}


def _row(attack: Attack, count: int) -> dict[str, Any]:
    return {"name": attack.name, "tried": attack.tried, "held": attack.held, "unit": attack.unit, "count": count}


def main() -> int:
    """Run the command; return its status."""
    parser = argparse.ArgumentParser(description="Run all attacks, and write what held.")
    parser.add_argument("--only", default="", help="Run the attacks whose names contain this text.")
    parser.add_argument("--scale", type=float, default=1.0, help="Try this many times as often.")
    parser.add_argument("--seed", type=int, default=1, help="Another seed tries other things.")
    parser.add_argument("--jobs", type=int, default=2, help="How many attacks run side by side.")
    parser.add_argument("--child", nargs=3, metavar=("NAME", "COUNT", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        name, count, seed = options.child
        attack = next(attack for attack in attacks() if attack.name == name)
        print(json.dumps(run_attack(attack, int(count), int(seed))))
        return 0
    began_s = time.monotonic()

    def run(attack: Attack) -> dict[str, Any]:
        count = max(1, round(options.scale * attack.whole))
        print(f"{attack.name}: {count:,} {attack.unit} …", file=sys.stderr, flush=True)
        row = run_apart(attack, count, options.seed)
        said = f"{row['name']}: {row['seconds']:,.0f} s; {row['breach'] or 'held'}; {row['happened']}"
        print(said, file=sys.stderr, flush=True)
        return row

    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(run, (attack for attack in attacks() if options.only in attack.name)))
    results = {
        "command": shlex.join(["python", "-m", "tests.attack.command", *sys.argv[1:]]),
        "machine": machine.describe(),
        "seconds": round(time.monotonic() - began_s, 1),
        "attacks": rows,
    }
    if options.only or options.scale != 1.0:
        print(json.dumps(rows, indent=1))
    else:
        RESULTS.write_text(dump(results), encoding="utf-8")
        PAGE.write_text(page_of(results), encoding="utf-8")
    return 1 if any(row["breach"] for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
