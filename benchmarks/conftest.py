from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The suites share modules, and pytest's importlib mode puts no folder on the path.
sys.path.insert(0, str(HERE))

import environment  # noqa: E402

IS_PINNED = environment.apply()

import pytest  # noqa: E402
from machine import describe  # noqa: E402
from peers import PeerMissingError, TextContender, text_contender  # noqa: E402
from reference import TextReference  # noqa: E402
from workloads import (  # noqa: E402
    DataMissingError,
    MatrixFactorization,
    decision_threshold,
    example_prompts,
    matrix_factorization,
    natural_prompts,
)

import routellm_fast as rf  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    # pyproject.toml's default collects tests only.
    config.addinivalue_line("python_files", "bench_*.py")
    config.addinivalue_line("python_functions", "bench_*")


def pytest_report_header() -> list[str]:
    found = describe()
    blas = ", ".join(f"{pool['internal_api']} {pool['architecture']}" for pool in found["blas"]) or "unknown BLAS"
    lines = [f"{found['cpu']}, {found['cores']} cores; kernels {found['isa']}; {blas}, one thread"]
    if not IS_PINNED:
        lines.append("numpy was loaded before its threads could be limited: figures of peers may be wrong")
    return lines


@pytest.fixture(scope="session")
def router() -> rf.Router:
    return rf.load_router()


@pytest.fixture(scope="session")
def threshold(router: rf.Router) -> float:
    return decision_threshold(router)


@pytest.fixture(scope="session")
def reference(router: rf.Router, tmp_path_factory: pytest.TempPathFactory) -> TextReference:
    pytest.importorskip("tokenizers", reason="the reference path needs tokenizers")
    return TextReference(router, tmp_path_factory.mktemp("reference") / "router")


@pytest.fixture(scope="session")
def contender(
    request: pytest.FixtureRequest, router: rf.Router, threshold: float, reference: TextReference
) -> TextContender:
    try:
        return text_contender(request.param, router, threshold, reference)
    except PeerMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=["examples", "natural"])
def prompts(request: pytest.FixtureRequest) -> list[str]:
    """The repository's own examples, and 256 real prompts spread over all sources."""
    if request.param == "examples":
        return example_prompts()
    try:
        return natural_prompts()[::29][:256]
    except DataMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def mf(tmp_path_factory: pytest.TempPathFactory) -> MatrixFactorization:
    return matrix_factorization(tmp_path_factory.mktemp("checkpoint"))
