"""Inputs for all fuzz targets, of the native readers and of Python's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.attack.harness import Attack, Campaign, NotPossibleError

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_BUILT: Final = _REPOSITORY / "build" / "fuzz" / "csrc" / "fuzz"
_CORPUS: Final = _REPOSITORY / "csrc" / "fuzz" / "corpus"
_COMPILER: Final = "clang++-14"
# Building takes a minute or more: fewer inputs than this are given to what is built already.
_WORTH_BUILDING: Final = 1_000_000
# The fewest inputs of a target.
_FEWEST: Final = 50
_AT_ONCE: Final = 2
# As run.sh says them.
_FLAGS: Final = (
    "-entropic=0",
    "-detect_leaks=0",
    "-timeout=25",
    "-verbosity=0",
    "-print_final_stats=1",
    "-max_len=256",
)

# How many of a million inputs each target takes. The fast ones take most: an input of fuzz_json takes some
# microseconds, one of fuzz_router_directory loads and scores a router.
_SHARES: Final = {
    "fuzz_calibration_table": 170_000,
    "fuzz_json": 240_000,
    "fuzz_safetensors": 160_000,
    "fuzz_tokenizer_json": 120_000,
    "fuzz_wordpiece_tokenizer": 90_000,
    "fuzz_utf8": 60_000,
    "fuzz_embedding_cache": 50_000,
    "fuzz_model_config": 50_000,
    "fuzz_rows": 20_000,
    "fuzz_static_embedder": 16_000,
    "fuzz_ratings": 8_000,
    "fuzz_router_parts": 5_500,
    "fuzz_triton_requests": 4_000,
    "fuzz_c_abi": 3_000,
    "fuzz_router_directory": 2_500,
    "fuzz_router_files": 400,
    "fuzz_records": 400,
    "fuzz_readers": 200,
}


def _build() -> None:
    if shutil.which(_COMPILER) is None:
        raise NotPossibleError(f"the fuzz targets are built by {_COMPILER}: install clang 14 with its runtime")
    for command in (["sh", "csrc/tools/configure.sh", "fuzz"], ["cmake", "--build", "--preset", "fuzz"]):
        try:
            done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise NotPossibleError(f"the fuzz targets are built by cmake: {error}") from error
        assert done.returncode == 0, f"{command} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def _script_of(target: str) -> Path:
    return _REPOSITORY / "tests" / "fuzz" / f"{target}.py"


def _command_of(target: str) -> list[str]:
    if _script_of(target).exists():
        return [sys.executable, str(_script_of(target))]
    program = _BUILT / target
    if not program.exists():
        raise NotPossibleError(f"{target} is not built: `make fuzz` or `make attack` builds it")
    return [str(program)]


def _has_atheris() -> bool:
    return subprocess.run([sys.executable, "-c", "import atheris"], capture_output=True).returncode == 0


def _feed(campaign: Campaign, target: str, inputs: int, seed: int) -> None:
    """Give a target this many inputs, those of its seed corpus first."""
    new = campaign.folder / target
    new.mkdir()
    corpora = [str(path) for path in (new, _CORPUS / target) if path.exists()]
    command = [*_command_of(target), *_FLAGS, f"-runs={inputs}", f"-seed={seed}", *corpora]
    began_s = time.monotonic()
    done = subprocess.run(command, cwd=campaign.folder, capture_output=True, text=True, errors="replace")
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"{target} found what does not hold (seed {seed}): {output[-4000:]}"
    counted = re.search(r"number_of_executed_units:\s*(\d+)", output)
    assert counted is not None, f"{target} did not say how many inputs it took: {output[-2000:]}"
    campaign.tally[f"inputs of {target}"] += int(counted[1])
    campaign.tally[f"seconds of {target}"] += round(time.monotonic() - began_s)


def _fuzz(campaign: Campaign) -> None:
    if campaign.count >= _WORTH_BUILDING:
        _build()
    shares = dict(_SHARES)
    if not _has_atheris():
        assert campaign.count < _WORTH_BUILDING, "the readers of Python are fuzzed by atheris: install the group fuzz"
        shares = {target: share for target, share in shares.items() if not _script_of(target).exists()}
    for target in shares:
        _command_of(target)  # all are there
    total = sum(shares.values())
    parts = {target: max(_FEWEST, campaign.count * share // total) for target, share in shares.items()}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [
            pool.submit(_feed, campaign, target, inputs, campaign.rng.randrange(1, 2**31))
            for target, inputs in parts.items()
        ]
        for target in running:
            target.result()


ATTACKS = [
    Attack(
        name="fuzzed inputs",
        tried="a reader gets bytes that a fuzzer made of earlier ones that reached new code: directories, JSON, "
        "tensors, tables, texts, requests, calls of the C library.",
        held="no sanitizer finds a fault, and what is read keeps its promises or is refused by a named error.",
        unit="inputs",
        whole=100_000_000,
        brief=2_000,
        run=_fuzz,
    )
]
