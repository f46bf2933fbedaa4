"""The client of Triton servers, and answers that somebody changed."""

from __future__ import annotations

import random
import time
from typing import Any, Final

import numpy as np

from tests.attack.harness import Attack, Campaign

_TIMEOUT_S: Final = 2.0
_HUGE: Final = (-(1 << 63), -1, 0, 2, 1 << 20, 1 << 40, (1 << 63) - 1)
_TYPES: Final = ("FP32", "FP64", "BYTES", "BOOL", "INT64", "FP31", "")


def _outputs(count: int, rng: random.Random) -> list[Any]:
    from tests.support.lying_triton import sound

    found = sound(count)
    for _ in range(rng.choice((0, 1, 1, 2))):
        if not found:
            break
        entry = rng.choice(found)
        what = rng.randrange(6)
        if what == 0:
            entry.shape = [rng.choice((1, 1, *_HUGE)) for _ in range(rng.choice((0, 1, 2, 2, 5)))]
        elif what == 1:
            entry.datatype = rng.choice(_TYPES)
        elif what == 2:
            entry.content = rng.choice((b"", rng.randbytes(rng.randrange(40)), entry.content * 3, entry.content[:-1]))
        elif what == 3:
            entry.said_bytes = rng.choice((*_HUGE, "x", 4.5, [], True))
        elif what == 4:
            entry.name = rng.choice(("WIN_RATE", "IS_STRONG", "MODEL", "", "X"))
        else:
            found.remove(entry)
    return found


def _body(outputs: list[Any], rng: random.Random) -> tuple[bytes, dict[str, str]]:
    """Return an HTTP body of the outputs, with a few bytes changed, and headers that may lie."""
    from tests.support.lying_triton import answer_of

    whole, size = answer_of(outputs)
    content = bytearray(whole)
    for _ in range(rng.choice((0, 0, 1, 3))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    said = size if rng.random() < 0.8 else rng.choice((*_HUGE, len(content), "x", ""))
    headers = {"Inference-Header-Content-Length": str(said)}
    if rng.random() < 0.05:
        headers["Content-Encoding"] = rng.choice(("gzip", "deflate", "br"))
    return bytes(content[: rng.randrange(len(content))] if rng.random() < 0.1 else content), headers


def _attack(campaign: Campaign) -> None:
    import routellm_fast as rf
    from routellm_fast.serving.triton import TritonRouter
    from tests.support.lying_triton import Lie, lying_triton

    rng = campaign.rng
    for kind in ("http", "grpc"):
        lie = Lie()
        with lying_triton(kind, lie) as url, TritonRouter(url, timeout_s=_TIMEOUT_S, tries=1) as router:
            router.win_rate("a")  # connects
            for _ in range(campaign.count // 2):
                if kind == "http":
                    lie.body, lie.headers = _body(_outputs(1, rng), rng)
                    lie.status = rng.choice((200, 200, 200, 200, 302, 400, 500))
                else:
                    made = _outputs(1, rng)
                    lie.outputs = lambda _, made=made: made  # type: ignore[misc]
                began_s = time.monotonic()
                try:
                    found = router.route("a", 0.5)
                except rf.TritonError as error:
                    campaign.tally[f"{kind}: {type(error).__name__}"] += 1
                    text = str(error)
                else:
                    campaign.tally[f"{kind}: answered"] += 1
                    text = ""
                    assert 0.0 <= found.win_rate <= 1.0, f"the win rate {found.win_rate}"
                    assert np.float32(found.win_rate) == found.win_rate
                    assert isinstance(found.model, str)
                    assert isinstance(found.is_strong, bool)
                took_s = time.monotonic() - began_s
                assert len(text) < 4000, f"an error of {len(text):,} characters"
                assert took_s < _TIMEOUT_S + 20.0, f"a call with a deadline of {_TIMEOUT_S:g} s took {took_s:.1f} s"


ATTACKS = [
    Attack(
        name="a Triton server that lies",
        tried="a server answers the client with tensors whose names, types, shapes, sizes or bytes are changed, over "
        "HTTP and gRPC.",
        held="each call ends in time, with a named error or with a win rate in [0, 1].",
        unit="answers",
        whole=6_000,
        brief=60,
        run=_attack,
    )
]
