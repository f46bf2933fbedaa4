from __future__ import annotations

from typing import Any

import pytest

from benchmarks.startup import fresh


@pytest.mark.parametrize("name", list(fresh.PROGRAMS))
@pytest.mark.benchmark(group="fresh interpreter, start and exit included")
def bench_import(benchmark: Any, name: str) -> None:
    found = benchmark.pedantic(fresh.run, (name,), rounds=5, warmup_rounds=1)
    assert found["heavy"] == []
    last = found["stages"][-1]
    benchmark.extra_info |= {"contender": name, "resident_kib": last["resident_kib"], "ms": last["ms"]}
    if name == "import routellm_fast":
        # Memory hardly varies, unlike time: the budget holds on any machine.
        assert last["resident_kib"] * 1024 < 60e6
