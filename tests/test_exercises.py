"""Each check accepts right answers, refuses wrong ones, and names the likely mistake."""

from typing import Any

import pytest

from moe_tutorial.exercises import EXERCISES, check
from tests.exercise_answers import RIGHT, UNLISTED

NUMBERS = list(EXERCISES)
MISTAKES = [(n, i) for n, e in EXERCISES.items() for i in range(len(e.mistakes))]


@pytest.mark.parametrize("number", NUMBERS)
def test_right_answers_pass(number: str) -> None:
    verdict = check(number, RIGHT[number])
    assert verdict.status == "correct", verdict
    assert repr(verdict) == f"Exercise {number}: correct."


@pytest.mark.parametrize(("number", "index"), MISTAKES)
def test_a_listed_mistake_is_named(number: str, index: int) -> None:
    mistake = EXERCISES[number].mistakes[index]
    verdict = check(number, mistake.answer)
    assert verdict.status == "wrong"
    assert verdict.message == mistake.message


@pytest.mark.parametrize("number", NUMBERS)
def test_at_least_three_mistakes_are_listed(number: str) -> None:
    assert len({m.message for m in EXERCISES[number].mistakes}) >= 3


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("index", range(3))
def test_an_unlisted_wrong_answer_is_refused_with_the_numbers(number: str, index: int) -> None:
    verdict = check(number, UNLISTED[number][index])
    assert verdict.status == "wrong"
    assert "expected" in verdict.message
    assert "got" in verdict.message


def not_implemented(*_: Any) -> None:
    raise NotImplementedError


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("answer", [None, ..., lambda *_: None, lambda *_: ..., not_implemented])
def test_an_untouched_exercise_fails_nothing(number: str, answer: Any) -> None:
    assert repr(check(number, answer)) == f"Exercise {number}: not attempted yet."


@pytest.mark.parametrize("number", NUMBERS)
def test_an_exception_is_reported_and_not_raised(number: str) -> None:
    verdict = check(number, lambda *_: 1 / 0)
    assert verdict.status == "wrong"
    assert "ZeroDivisionError" in verdict.message
