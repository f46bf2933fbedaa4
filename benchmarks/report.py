"""Run all benchmarks and write benchmarks/results/<date>-<cpu>.json and latest.md."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import environment

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny rounds: shows that everything runs")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing, render this JSON")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write, instead of benchmarks/results")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="splice the headline table into this file too")
    options = parser.parse_args()
    if options.render is None:
        environment.enter()
    import render

    out = options.out or (Path(tempfile.mkdtemp(prefix="benchmark-")) if options.quick else HERE / "results")
    out.mkdir(parents=True, exist_ok=True)
    if options.render is not None:
        report = json.loads(options.render.read_text(encoding="utf-8"))
    else:
        report = run(is_quick=options.quick)
        import machine

        report["file"] = f"{machine.slug(report['machine'])}.json"
        path = out / report["file"]
        content = dump(report)
        path.write_text(content, encoding="utf-8")
        print(path)
        report = json.loads(content)  # what is rendered is what was written, down to the order of keys
    (out / "latest.md").write_text(render.render(report), encoding="utf-8")
    print(out / "latest.md")
    if options.readme is not None:
        render.splice(options.readme, report)
        print(options.readme)
    print(render.budget_table(report))
    if report["suites_exit_code"]:
        sys.exit(1)


def run(*, is_quick: bool) -> dict[str, Any]:
    """Run the measurements and the suites; progress goes to standard error."""
    import measure
    from effort import FULL, QUICK

    def say(section: str) -> None:
        print(f"… {section}", file=sys.stderr, flush=True)

    effort = QUICK if is_quick else FULL
    report = {
        "format_version": 1,
        "command": "python benchmarks/report.py" + (" --quick" if is_quick else ""),
        "effort": "quick" if is_quick else "full",
    } | measure.measure(effort, say)
    say("the suites of pytest-benchmark")
    exit_code, suites = run_suites(is_quick=is_quick)
    return report | {"suites": suites, "suites_exit_code": exit_code}


def run_suites(*, is_quick: bool) -> tuple[int, list[dict[str, Any]]]:
    """Run pytest-benchmark in a process of its own. Return pytest's exit code and one entry a benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suites.json"
        seconds, rounds = (0.02, 1) if is_quick else (0.5, 5)
        timing = (f"--benchmark-max-time={seconds}", f"--benchmark-min-rounds={rounds}")
        command = [sys.executable, "-m", "pytest", str(HERE), "-q", "-p", "no:cacheprovider", "--benchmark-enable"]
        command += ["--benchmark-disable-gc", "--benchmark-warmup=on", *timing]
        command += [f"--ignore={HERE / 'test_report.py'}"]  # it judges the report that this one replaces
        command += [f"--benchmark-json={path}", f"--benchmark-storage=file://{folder}"]
        # From here and not from the repository's root: "python -m" would find its uncompiled package first.
        done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(done.stdout, file=sys.stderr)
        found = json.loads(path.read_text(encoding="utf-8"))["benchmarks"] if path.is_file() else []
    suites = [
        {
            "group": entry["group"],
            "name": entry["name"],
            "median_us": entry["stats"]["median"] * 1e6,
            "iqr_us": entry["stats"]["iqr"] * 1e6,
            "min_us": entry["stats"]["min"] * 1e6,
            "mean_us": entry["stats"]["mean"] * 1e6,
            "rounds": entry["stats"]["rounds"],
            "iterations": entry["stats"]["iterations"],
            "extra_info": entry["extra_info"],
        }
        for entry in found
    ]
    return done.returncode, suites


def dump(report: dict[str, Any]) -> str:
    """Return JSON that people can read: arrays of numbers stay on one line."""
    text = json.dumps(report, indent=1, ensure_ascii=False, sort_keys=True)
    return re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda match: "[" + re.sub(r"\s+", "", match[1]) + "]", text) + "\n"


if __name__ == "__main__":
    main()
