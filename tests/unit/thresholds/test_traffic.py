from __future__ import annotations

import numpy as np
import pytest

from routellm_fast.errors import DataError
from routellm_fast.thresholds import Traffic


def test_traffic_counts_what_was_asked() -> None:
    traffic = Traffic.of(["b", "a", "", "b", " \n", "b"])
    assert traffic.prompts == ("b", "a")
    assert traffic.counts.tolist() == [3, 1]
    assert (traffic.blank, traffic.request_count) == (2, 4)
    assert traffic.per_request(np.array([0.5, 0.25], np.float32)).tolist() == [0.5, 0.5, 0.5, 0.25]
    assert traffic.digest == Traffic.of(iter(["b", "a", "b", "b"])).digest
    assert traffic.digest != Traffic.of(["a", "b", "b", "b"]).digest
    assert Traffic.of(["\ud800"]).request_count == 1


def test_a_log_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="no prompt"):
        Traffic.of([])
    with pytest.raises(DataError, match="only 2 blank"):
        Traffic.of(["", " "])
