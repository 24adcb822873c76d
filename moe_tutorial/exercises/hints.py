"""Hints in steps: first the form of an answer, then what those were told who went wrong."""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from moe_tutorial.exercises.grader import Exercise


@dataclass(frozen=True)
class Hint:
    """One step towards an answer; shows itself as text.

    Attributes:
        exercise: its number.
        step: which one this is, from 1 on.
        steps: how many there are.
        text: what it says.
    """

    exercise: str
    step: int
    steps: int
    text: str

    def __repr__(self) -> str:
        return f"Hint {self.step} of {self.steps} to exercise {self.exercise}: {self.text}"


def hint_of(exercise: Exercise, step: int = 1) -> Hint:
    """A step towards the answer of any exercise, one of your own as well.

    Raises:
        ValueError: there is no such step; the message says how many there are.
    """
    texts = [_form(exercise), *_traps(exercise)]
    if type(step) is not int or not 1 <= step <= len(texts):
        raise ValueError(f"step must be from 1 to {len(texts)}, got {reprlib.repr(step)}")
    return Hint(exercise.number, step, len(texts), texts[step - 1])


def _form(exercise: Exercise) -> str:
    case = exercise.cases()[0]
    given = ", ".join(_kind(value) for value in case)
    wanted = exercise.expected(case)
    return f"for {given} the check expects {_kind(wanted)}."


def _kind(value: Any) -> str:
    if isinstance(value, Tensor) and value.ndim:
        return f"a tensor of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, Tensor):
        return "a single number" if value.is_floating_point() else "a single whole number"
    return "a function" if callable(value) and not isinstance(value, type) else reprlib.repr(value)


def _traps(exercise: Exercise) -> Sequence[str]:
    # One message may stand for a mistake in several spellings.
    told = dict.fromkeys(mistake.message for mistake in exercise.mistakes)
    return [f"somebody who went wrong was told: “{message}”." for message in told]
