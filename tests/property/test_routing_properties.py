from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.builders import mf_router, static_embedder

# Any text that Python can hold, lone surrogates included.
texts = st.text(st.characters(exclude_categories=()), max_size=60) | st.sampled_from(["", " ", "hello the ?", "\ud800"])
shares = st.floats(0, 1)
FOLDED, UNFOLDED = mf_router(static_embedder(normalize=False)), mf_router(static_embedder(normalize=True))


@given(st.lists(texts, max_size=12), st.sampled_from([FOLDED, UNFOLDED]))
@settings(deadline=None)
def test_every_text_has_a_win_rate_whatever_stands_beside_it(prompts: list[str], router: object) -> None:
    rates = router.win_rates(prompts)  # type: ignore[attr-defined]
    assert ((rates >= 0) & (rates <= 1)).all()
    assert [router.win_rate(p) for p in prompts] == rates.tolist()  # type: ignore[attr-defined]
    from_embeddings = router.win_rates_from_embeddings(router.embedder.embed(prompts))  # type: ignore[attr-defined]
    np.testing.assert_allclose(from_embeddings, rates, atol=1e-5)


@given(texts, shares, shares)
@settings(deadline=None)
def test_raising_the_threshold_never_turns_weak_into_strong(prompt: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert FOLDED.route(prompt, low).is_strong >= FOLDED.route(prompt, high).is_strong
    assert FOLDED.route(prompt, one) == FOLDED.route_batch([prompt], one)[0]


@given(shares, shares)
def test_a_larger_share_never_has_a_higher_threshold(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert FOLDED.threshold_for(low) >= FOLDED.threshold_for(high)
