"""The requests that the real models are asked, and how their answers are compared with the right ones."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.small_tasks import MOST_ROUNDS, Task, is_right, tasks


def test_there_are_many_tasks_of_many_kinds_each_once() -> None:
    some = tasks()
    assert 200 <= len({task.prompt for task in some}) == len(some) <= 300
    kinds = Counter(task.kind for task in some)
    assert len(kinds) > 10
    assert max(kinds.values()) < len(some) / 5


def test_further_rounds_add_tasks_and_change_none() -> None:
    more = {task.prompt: task for task in tasks(MOST_ROUNDS)}
    assert all(more[task.prompt] == task for task in tasks())
    assert len(more) > 3 * len(tasks())


def test_the_reference_is_right_and_other_answers_are_wrong() -> None:
    for task in tasks():
        for right in (task.reference, *task.also):
            assert is_right(task.prompt, f"It is: {right}."), task
        for wrong in ("", "I do not know.", *task.others):
            assert not is_right(task.prompt, wrong), task
        if task.others:
            assert not is_right(task.prompt, f"{task.reference} or {task.others[0]}"), task


@pytest.mark.parametrize(
    ("reference", "answer", "is_right"),
    [
        ("1239", "That makes 1,239 in all.", True),
        ("1239", "That makes 12390 in all.", False),
        ("1239", "That makes 1 239 in all.", False),
        ("Monday Tuesday", "monday, and\ntuesday", True),
        ("Monday Tuesday", "Tuesday, Monday", False),
        ('{"name": "Ida", "age": 41}', '```json\n{"name": "Ida", "age": 41}\n```', True),
        ('{"name": "Ida", "age": 41}', '{"name": "Ida", "age": 14}', False),
        ("ice", "It is nice.", False),
    ],
)
def test_signs_and_capitals_do_not_count_and_words_do(reference: str, answer: str, is_right: bool) -> None:
    assert Task("kind", "prompt", reference).is_right(answer) == is_right
