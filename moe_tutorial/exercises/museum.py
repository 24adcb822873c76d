"""The bug museum: bugs of public code, rebuilt in our lines, each with the test that catches it.

Chapter 17 goes through its rooms; ``by_symptom`` is the way in for somebody who has a bug.
"""

import inspect
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moe_tutorial.exercises.grader import Verdict
from moe_tutorial.exercises.museum_balance import BALANCE
from moe_tutorial.exercises.museum_choosing import CHOOSING
from moe_tutorial.exercises.museum_counting import COUNTING
from moe_tutorial.exercises.museum_devices import SPREAD
from moe_tutorial.exercises.museum_gates import GATES
from moe_tutorial.exercises.museum_layer import LAYER
from moe_tutorial.exercises.museum_records import SYMPTOMS, Exhibit
from moe_tutorial.exercises.museum_training import TRAINING

EXHIBITS: dict[str, Exhibit] = {
    exhibit.name: exhibit
    for room in (LAYER, COUNTING, CHOOSING, GATES, BALANCE, TRAINING, SPREAD)
    for exhibit in room
}


@dataclass(frozen=True)
class Placard:
    """Words and code beside an exhibit, which show themselves."""

    words: str
    code: str

    def __repr__(self) -> str:
        return f"{self.words}\n\n{self.code}"

    def _repr_markdown_(self) -> str:
        return f"{self.words}\n\n```python\n{self.code}\n```"


@dataclass(frozen=True)
class Repair(Verdict):
    """What a check found of a repair."""

    def __repr__(self) -> str:
        return super().__repr__().removeprefix("Exercise ")


def placard(name: str) -> Placard:
    """What is seen of a bug, and the code that has it.

    Raises:
        ValueError: no exhibit has this name.
    """
    exhibit = _exhibit(name)
    return Placard(f"What is seen: {exhibit.symptom}", inspect.getsource(exhibit.wrong).strip())


def reveal(name: str) -> Placard:
    """The code without the bug, why it is right, and the test that would have caught the bug.

    Raises:
        ValueError: no exhibit has this name.
    """
    exhibit = _exhibit(name)
    code = "\n\n".join(inspect.getsource(it) for it in (exhibit.fixed, exhibit.test))
    return Placard(exhibit.fix, code.strip())


def repair(name: str, answer: Any) -> Repair:
    """Try a repaired function on inputs that its writer has not seen.

    Args:
        name: of the exhibit, such as ``"The last expert wins"``.
        answer: the function without the bug, in any style.

    Returns:
        The verdict, which prints itself.

    Raises:
        ValueError: no exhibit has this name.
    """
    verdict = _exhibit(name).exercise.check(answer)
    return Repair(verdict.exercise, verdict.status, verdict.message)


def by_symptom() -> dict[str, Sequence[Exhibit]]:
    """The exhibits sorted by what is seen first, for somebody who has a bug and not its name."""
    return {kind: [it for it in EXHIBITS.values() if it.kind == kind] for kind in SYMPTOMS}


def _exhibit(name: str) -> Exhibit:
    if not isinstance(name, str) or name not in EXHIBITS:
        known = ", ".join(repr(it) for it in EXHIBITS)
        raise ValueError(f"name must be one of {known}, got {reprlib.repr(name)}")
    return EXHIBITS[name]
