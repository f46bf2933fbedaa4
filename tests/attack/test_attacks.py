"""Each attack a few times; `make attack` runs them in full."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.attack.catalogue import attacks
from tests.attack.harness import Attack, Campaign, NotPossibleError
from tests.attack.kills import killed


@pytest.mark.parametrize(
    "attack", [attack for attack in attacks() if attack.brief], ids=lambda attack: attack.name.replace(" ", "-")
)
def test_an_attack_does_not_get_through(attack: Attack, tmp_path: Path) -> None:
    try:
        attack.run(Campaign(attack.brief, random.Random(attack.name), tmp_path))
    except NotPossibleError as error:
        pytest.skip(str(error))


def test_attacks_have_names_of_their_own() -> None:
    assert not [name for name, times in Counter(attack.name for attack in attacks()).items() if times > 1]


def test_a_kill_that_comes_too_late_is_told_from_one_in_time() -> None:
    assert not killed(lambda: None, 60.0)
    assert killed(lambda: time.sleep(60.0), 0.01)


def test_work_that_fails_is_no_kill() -> None:
    with pytest.raises(AssertionError, match="raised an error"):
        killed(lambda: 1 / 0, 60.0)
