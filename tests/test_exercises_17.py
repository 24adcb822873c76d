"""Chapter 17's exercises: right answers in other styles pass, and wrong ones learn why not."""

from collections.abc import Callable
from typing import Any

import pytest

from moe_tutorial.exercises import check
from moe_tutorial.exercises.chapter_17 import EXERCISES, RIGHT_ONES, WRONG_ONES
from tests.answers_museum import STYLES, WRONG, asserted, compared_by_hand, linear


@pytest.mark.parametrize(("number", "answer"), [(n, a) for n, many in STYLES.items() for a in many])
def test_right_answers_in_any_style_pass(number: str, answer: Callable[..., Any]) -> None:
    assert repr(check(number, answer)) == f"Exercise {number}: correct."


@pytest.mark.parametrize(
    ("number", "answer", "words"), [(n, *pair) for n, many in WRONG.items() for pair in many]
)
def test_wrong_answers_are_refused_with_a_word_about_them(
    number: str, answer: Callable[..., Any], words: str
) -> None:
    verdict = check(number, answer)
    assert verdict.status == "wrong"
    assert words in verdict.message


def test_enough_answers_are_tried() -> None:
    assert set(STYLES) == set(WRONG) == {exercise.number for exercise in EXERCISES}
    assert all(len(answers) >= 3 for answers in STYLES.values())
    assert all(len(answers) >= 5 for answers in WRONG.values())


@pytest.mark.parametrize("test", [compared_by_hand, asserted, linear])
def test_a_good_test_tells_each_right_code_from_each_wrong_one(test: Callable[..., bool]) -> None:
    assert all(test(code) for code in RIGHT_ONES)
    assert not any(test(code) for code in WRONG_ONES)
