"""Chapters 03 to 05: right answers in any style pass, and near misses are told what is wrong."""

import re

import pytest

from moe_tutorial.exercises import check
from tests.answers_routing import STYLES
from tests.near_misses_routing import HINTED

RIGHT = [(number, i) for number, answers in STYLES.items() for i in range(len(answers))]
WRONG = [(number, i) for number, answers in HINTED.items() for i in range(len(answers))]


@pytest.mark.parametrize(("number", "index"), RIGHT)
def test_another_style_passes(number: str, index: int) -> None:
    verdict = check(number, STYLES[number][index])
    assert verdict.status == "correct", verdict


@pytest.mark.parametrize(("number", "index"), WRONG)
def test_a_near_miss_is_refused_with_the_reason(number: str, index: int) -> None:
    answer, words = HINTED[number][index]
    verdict = check(number, answer)
    assert verdict.status == "wrong"
    assert re.search(words, verdict.message), verdict.message
