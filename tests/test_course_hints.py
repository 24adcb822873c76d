"""Hints come in steps, and a check tells a stub from a slip."""

from typing import Any

import pytest
import torch

from moe_tutorial.exercises import EXERCISES, check, hint


@pytest.mark.parametrize("number", ["0.2", "3.1", "17.3"])
def test_the_first_hint_is_the_form_and_each_other_one_thing_that_somebody_was_told(
    number: str,
) -> None:
    first = hint(number)
    assert first == hint(number, 1)
    assert "the check expects" in first.text
    told = [hint(number, step).text for step in range(2, first.steps + 1)]
    assert len(set(told)) == len(told) == len({m.message for m in EXERCISES[number].mistakes})
    assert all(any(m.message in text for m in EXERCISES[number].mistakes) for text in told)


@pytest.mark.parametrize("step", [0, 99, True, "1", None])
def test_a_step_that_is_not_there_is_named(step: Any) -> None:
    with pytest.raises(ValueError, match="step must be from 1 to "):
        hint("3.1", step)


def test_an_exercise_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="number must be one of"):
        hint("99.1")


def forgot(logits: torch.Tensor) -> None:
    logits.softmax(-1)


def stub(logits: torch.Tensor) -> None:
    """Do it."""
    raise NotImplementedError("to do")


ANSWERS = {
    "a wrong dtype": (lambda logits: logits.long().softmax(-1), "wrong", "NotImplementedError"),
    "no return": (forgot, "wrong", "is a return missing"),
    "a stub": (stub, "not attempted yet", "to do"),
    "a pair": (lambda logits: logits.topk(2), "wrong", "take values or indices"),
    "another spread": (
        lambda logits: (logits.softmax(-1) * (1 - logits.softmax(-1))).sum(-1),
        "wrong",
        "p (1 - p)",
    ),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_slip_is_no_stub_and_gets_a_word(kind: str) -> None:
    answer, status, words = ANSWERS[kind]
    verdict = check("2.2", answer)
    assert verdict.status == status
    assert words in verdict.message


WEAK = {
    "small steps": ("3.1", lambda s, k: (s - 1e-6 * torch.arange(s.shape[-1])).argsort(-1, True)),
    "first tokens": ("3.1", lambda s, k: s.argsort()[:k]),
    "unshifted": (
        "3.2",
        lambda x, e: x.gather(-1, e).exp() / x.gather(-1, e).exp().sum(-1, keepdim=True),
    ),
}


@pytest.mark.parametrize("seed", [1, 4711])
@pytest.mark.parametrize("kind", WEAK)
def test_weak_answers_are_refused_whatever_the_seed(kind: str, seed: int) -> None:
    number, answer = WEAK[kind]
    assert check(number, answer, seed=seed).status == "wrong"
    assert repr(check(number, answer, seed=seed, hints=False)) == f"Exercise {number}: wrong."


def test_a_seed_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must be an int of at least 0"):
        check("3.1", torch.relu, seed=-1)
