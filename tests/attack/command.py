"""Runs all attacks in full, and writes what was tried, how often, and what held.

    python -m tests.attack.command [--only WORD] [--scale 1.0] [--seed 1]

The results go to benchmarks/results/attacks.json and the page to docs/attacks.md. With --only or another scale they are
printed and nothing is written. Where something did not hold, the other attacks run, and the status is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
import tempfile
import time
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
        "name": attack.name,
        "tried": attack.tried,
        "held": attack.held,
        "unit": attack.unit,
        "count": count,
        "seconds": round(seconds, 1),
        "happened": dict(campaign.tally),
        "breach": breach,
    }


def main() -> int:
    """Run the command; return its status."""
    parser = argparse.ArgumentParser(description="Run all attacks, and write what held.")
    parser.add_argument("--only", default="", help="Run the attacks whose names contain this text.")
    parser.add_argument("--scale", type=float, default=1.0, help="Try this many times as often.")
    parser.add_argument("--seed", type=int, default=1, help="Another seed tries other things.")
    options = parser.parse_args()
    began_s = time.monotonic()
    rows = []
    for attack in attacks():
        if options.only not in attack.name:
            continue
        count = max(1, round(options.scale * attack.whole))
        print(f"{attack.name}: {count:,} {attack.unit} …", file=sys.stderr, flush=True)
        row = run_attack(attack, count, options.seed)
        print(f"  {row['seconds']:,.0f} s; {row['breach'] or 'held'}; {row['happened']}", file=sys.stderr, flush=True)
        rows.append(row)
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
