from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.upstream import Upstream, running_upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A server of models. What it was asked before, a test clears."""
    with running_upstream() as running:
        yield running
