"""Many threads that route while routers are loaded and dropped beside them."""

from __future__ import annotations

import threading
from typing import Final

import numpy as np

import routellm_fast as rf
from routellm_fast import ModelPair
from tests.attack.harness import Attack, Campaign
from tests.support.builders import mf_router

_BATCH: Final = 500
_THREADS: Final = 8
_PROMPTS: Final = [f"prove the a? {'b ' * (k % 40)}{k}" for k in range(_BATCH)]


def _route(campaign: Campaign) -> None:
    places = [campaign.folder / name for name in ("one", "two")]
    mf_router().save(places[0])
    mf_router(model_pair=ModelPair("weak-model", "strong-model")).save(places[1])
    expected = [rf.load_router(place).win_rates(_PROMPTS) for place in places]
    current = [(0, rf.load_router(places[0]))]
    left = [campaign.count]
    lock = threading.Lock()
    faults: list[str] = []

    def work() -> None:
        while not faults:
            with lock:
                if left[0] <= 0:
                    return
                left[0] -= _BATCH
                which, router = current[0]
            alone = [router.route(prompt, threshold=0.5).win_rate for prompt in _PROMPTS]
            together = router.win_rates(_PROMPTS)
            if not np.array_equal(together, expected[which]) or alone != expected[which].tolist():
                faults.append(f"router {which} gave other win rates than alone")

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    loads = 0
    while any(thread.is_alive() for thread in threads):
        loads += 1
        router = rf.load_router(places[loads % 2])
        with lock:
            current[0] = (loads % 2, router)
    for thread in threads:
        thread.join()
    assert not faults, faults[0]
    campaign.tally["routers loaded meanwhile"] += loads


ATTACKS = [
    Attack(
        name="routing from eight threads",
        tried="one of eight threads routes a prompt, alone and in a batch, while another loads and drops routers.",
        held="each win rate has the bits that the same router gives alone.",
        unit="prompts",
        whole=10_000_000,
        brief=20_000,
        run=_route,
    )
]
