"""Every command where memory, open files, disk or streams run out."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from routellm_fast.errors import RouteLLMError
from routellm_fast.routers import RandomRouter, load_router
from tests.attack.harness import Attack, Campaign
from tests.support.builders import PAIR, bert_router, mf_router, model2vec_folder, static_embedder
from tests.support.document_samples import write_samples
from tests.support.processes import without_progress

_MIB: Final = 1 << 20
# A command that takes longer than this hangs.
_TIMEOUT_S: Final = 240.0
_SAMPLE_PAIR: Final = ("--strong-model", "my-70b", "--weak-model", "my-8b")
# Each command, in a folder that _fill has filled. Where one writes, it writes to OUT.
COMMANDS: Final = (
    "--version",
    "info mf",
    "info tiny --verify --json",
    "route --router tiny --file prompts.jsonl --jsonl",
    "route --router mf --file battles.csv",
    "route --router sw_ranking --file prompts.jsonl --jsonl",
    "route --router random hello --threshold 0.5",
    "route --router bert --file prompts.jsonl --threshold 0.5 --jsonl",
    "rank --models my-70b=2 --models my-8b=1 --file prompts.jsonl --router trained --jsonl",
    "calibrate tiny prompts.jsonl --resamples 100 --out OUT",
    "calibrate tiny prompts.jsonl --check",
    f"evaluate mf --golden labels.csv {' '.join(_SAMPLE_PAIR)} --resamples 50 --json",
    f"evaluate mf --golden labels.csv {' '.join(_SAMPLE_PAIR)} --resamples 50 --out OUT",
    f"evaluate mf --log labels.csv {' '.join(_SAMPLE_PAIR)} --resamples 50",
    "augment golden labels.csv --out OUT.csv",
    "augment judge responses.jsonl --judge-model j --out OUT.csv --dry-run",
    f"train mf --battles battles.csv {' '.join(_SAMPLE_PAIR)} --out OUT",
    f"train sw_ranking --battles battles.csv {' '.join(_SAMPLE_PAIR)} --num-tiers 2 --out OUT",
    "import model2vec OUT",
    "export onnx tiny OUT",
    "export triton tiny OUT",
)


@dataclass(slots=True)
class Setting:
    """What a command is run with.

    Attributes:
        name: What the page calls it.
        limits: Limits of the process, by resource.
        environment: Variables that differ; None for a variable that is not set.
        redirections: What the shell redirects, e.g. ">/dev/full".
    """

    name: str
    limits: dict[int, int] = field(default_factory=dict)
    environment: dict[str, str | None] = field(default_factory=dict)
    redirections: str = ""


def random_setting(rng: random.Random) -> Setting:
    """Return one of the settings, with a limit drawn at random."""
    kinds: tuple[Callable[[], Setting], ...] = (
        # With less than 180 MiB Python and numpy end before this package is asked. Most commands do with 300.
        lambda: Setting("little memory", {resource.RLIMIT_AS: rng.randrange(180, 300, 5) * _MIB}),
        lambda: Setting("little memory", {resource.RLIMIT_AS: rng.randrange(300, 900, 10) * _MIB}),
        lambda: Setting("little memory", {resource.RLIMIT_DATA: rng.randrange(100, 300, 10) * _MIB}),
        lambda: Setting("few open files", {resource.RLIMIT_NOFILE: rng.randrange(7, 32)}),
        lambda: Setting("few open files", {resource.RLIMIT_NOFILE: rng.randrange(7, 32)}),
        lambda: Setting("small files only", {resource.RLIMIT_FSIZE: rng.choice((0, 1, 100, 4096, 65536))}),
        lambda: Setting("no further threads", {resource.RLIMIT_NPROC: rng.choice((0, 1, 5))}),
        lambda: Setting("a full output", redirections=">/dev/full"),
        lambda: Setting("closed streams", redirections=rng.choice((">&-", "2>&-", "<&-", "<&- >&-", ">&- 2>&- <&-"))),
        lambda: Setting("no temporary folder", environment={"TMPDIR": "/nowhere", "TMP": "/nowhere"}),
        lambda: Setting("no home", environment=dict.fromkeys(("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME"))),
        lambda: Setting("the C locale", environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    )
    while True:
        setting = rng.choice(kinds)()
        # The kernel lets root start threads whatever the limit.
        if resource.RLIMIT_NPROC not in setting.limits or os.geteuid() != 0:
            return setting


def run_limited(command: str, setting: Setting, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the command line in a folder, with a setting."""
    environment: dict[str, Any] = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **setting.environment}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for which, value in setting.limits.items():
            resource.setrlimit(which, (value, value))

    # exec: the shell redirects, and leaves its place to the command before the limits could stop the shell itself.
    line = f'exec "$0" -m routellm_fast {command} {setting.redirections}'
    return subprocess.run(
        ["/bin/sh", "-c", line, sys.executable],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=folder,
        env={key: value for key, value in environment.items() if value is not None},
        timeout=_TIMEOUT_S,
        preexec_fn=limit,
    )


def _is_ended_by_library(run: subprocess.CompletedProcess[bytes]) -> bool:
    """Say whether a library ended the process, which nothing can keep it from, and said so.

    OpenBLAS does, by which numpy multiplies; and the C library, where ONNX Runtime throws and libgcc cannot be loaded.
    """
    if run.returncode in (1, 130):
        return run.stderr.startswith(b"OpenBLAS ")
    return run.returncode == -signal.SIGABRT and b"libgcc_s.so.1 must be installed" in run.stderr


def fault_of(run: subprocess.CompletedProcess[bytes], outputs: list[Path]) -> str:
    """Return what did not hold; "" where all did.

    A command succeeds, and what it wrote is whole, or it ends with status 2 and one line that says why.
    """
    errors = without_progress(run.stderr.decode("utf-8", "replace"))
    # Where an allocation fails within a library, Python may say that it lost a buffer, beside the error itself.
    errors = errors.replace("SystemError: deallocated bytearray object has exported buffers\n", "")
    if _is_ended_by_library(run):
        return next(filter(None, map(_damage, outputs)), "")
    if run.returncode not in (0, 1, 2):
        return f"status {run.returncode}: {errors[-2000:]}"
    if "Traceback" in errors or (run.returncode == 1 and errors):
        return f"a traceback: {errors[-2000:]}"
    if run.returncode == 2 and errors.count("\n") > 1:
        return f"more than one line of errors: {errors[-2000:]}"
    if run.returncode == 2 and errors and not errors.startswith("routellm-fast: "):
        return f"an error without a name: {errors[-2000:]}"
    return next(filter(None, map(_damage, outputs)), "")


def _damage(output: Path) -> str:
    """Say what is wrong with an output: a router directory must load, and no file is empty."""
    if (output / "router.json").exists() or (output.is_dir() and (output / "tensors.safetensors").exists()):
        try:
            load_router(output)
        except RouteLLMError as error:
            if "embedder" not in str(error):
                return f"{output.name} is damaged: {error}"
    files = [output] if output.is_file() else list(output.rglob("*"))
    empty = [file.name for file in files if file.is_file() and not file.stat().st_size]
    return f"{output.name} holds empty files: {empty}" if empty else ""


def fill(folder: Path) -> None:
    """Write what the commands read."""
    write_samples(folder)
    mf_router().save(folder / "tiny")
    mf_router(model_names=("my-70b", "my-8b", "my-405b"), model_pair=("my-70b", "my-8b")).save(folder / "trained")
    RandomRouter(model_pair=PAIR, seed=1).save(folder / "random")
    bert_router().save(folder / "bert")
    static_embedder().save(folder / "embedder")
    model2vec_folder(folder / "model2vec")


def _limits(campaign: Campaign) -> None:
    fill(campaign.folder)
    for number in range(campaign.count):
        setting, command = random_setting(campaign.rng), campaign.rng.choice(COMMANDS)
        out = campaign.folder / f"out{number}"
        what = f"{command} with {setting}"
        try:
            run = run_limited(command.replace("OUT", out.name), setting, campaign.folder)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{what}: no end within {_TIMEOUT_S:.0f} s") from None
        outputs = list(campaign.folder.glob(f"{out.name}*"))
        fault = fault_of(run, outputs)
        assert not fault, f"{what}: {fault}"
        left = [path.name for path in campaign.folder.glob(f".{out.name}*")]
        assert not left or _is_ended_by_library(run), f"{what}: left behind {left}"
        is_cut = _is_ended_by_library(run)
        ended = "ended by a library" if is_cut else "refused" if run.returncode == 2 else "done"
        campaign.tally[f"{setting.name}: {ended}"] += 1
        for path in outputs:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


ATTACKS = [
    Attack(
        name="commands, under limits",
        tried="a command is run with little memory, few open files, small files only, no further threads, a full or "
        "closed output, or without a temporary folder, a home or a locale, as is drawn.",
        held="it does its work and what it wrote is whole, or it ends with status 2 and one line that says why. "
        "(At some places OpenBLAS and ONNX Runtime end the process themselves where they get no memory; nothing that "
        "was written is half there then either.)",
        unit="commands",
        whole=150,
        brief=2,
        run=_limits,
    )
]
