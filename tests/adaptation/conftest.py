from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.real_pair import STRONG, WEAK, RealPair, real_pair
from tests.support.small_models import served_model


@pytest.fixture(scope="session")
def small_models() -> Iterator[tuple[str, str]]:
    """The addresses of the strong and of the weak model, which are served until the tests end."""
    with served_model(STRONG) as strong, served_model(WEAK) as weak:
        yield strong, weak


@pytest.fixture
def pair(small_models: tuple[str, str]) -> Iterator[RealPair]:
    with real_pair(*small_models) as pair:
        yield pair
