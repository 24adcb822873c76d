"""Chapters 06 and 08 to 16: right answers in other styles pass, and wrong ones learn why not."""

from collections.abc import Callable
from typing import Any

import pytest

from moe_tutorial.exercises import EXERCISES, check
from tests import (
    answers_layer,
    test_exercises_08,
    test_exercises_09,
    test_exercises_10,
    test_exercises_11,
    test_exercises_12,
    test_exercises_13,
    test_exercises_14,
    test_exercises_15,
    test_exercises_16,
)

CHAPTERS = (
    answers_layer,
    test_exercises_08,
    test_exercises_09,
    test_exercises_10,
    test_exercises_11,
    test_exercises_12,
    test_exercises_13,
    test_exercises_14,
    test_exercises_15,
    test_exercises_16,
)
TRIED = (6, *range(8, 17))
RIGHT: dict[str, tuple[Callable[..., Any], ...]] = {}
WRONG: dict[str, tuple[tuple[Callable[..., Any], str], ...]] = {}
for chapter in CHAPTERS:
    RIGHT |= chapter.RIGHT
    WRONG |= chapter.WRONG


@pytest.mark.parametrize(
    ("number", "index"), [(n, i) for n, a in RIGHT.items() for i in range(len(a))]
)
def test_right_answers_in_any_style_pass(number: str, index: int) -> None:
    assert repr(check(number, RIGHT[number][index])) == f"Exercise {number}: correct."


@pytest.mark.parametrize(
    ("number", "index"), [(n, i) for n, a in WRONG.items() for i in range(len(a))]
)
def test_wrong_answers_are_refused_with_a_word_about_them(number: str, index: int) -> None:
    answer, words = WRONG[number][index]
    verdict = check(number, answer)
    assert verdict.status == "wrong"
    assert words in verdict.message


def test_enough_answers_are_tried() -> None:
    expected = {number for number in EXERCISES if int(number.split(".")[0]) in TRIED}
    assert set(RIGHT) == set(WRONG) == expected
    assert all(len(answers) >= 3 for answers in RIGHT.values())
    assert all(len(answers) >= 5 for answers in WRONG.values())
