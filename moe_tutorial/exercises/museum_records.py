"""What hangs in the bug museum: a record for each bug that public code had, rebuilt in our lines.

Chapter 17 shows them; ``museum`` has them all.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake

Code = Callable[..., Any]

# What somebody sees first, before anything is known of the cause.
TRAINS = "It trains, and worse than it should"
LOGGED = "A number in the log misleads"
SIZE = "Right at one size, wrong at another"
VARIES = "The same input, another result"
VALUES = "NaN, or values that cannot be"
DEVICES = "Only on many devices, or after loading"
SYMPTOMS = (TRAINS, LOGGED, SIZE, VARIES, VALUES, DEVICES)

ROUNDED = 1e-6  # what a factor in float32 does to a result in float64, and some


@dataclass(frozen=True)
class Source:
    """Where a bug was reported or fixed.

    Attributes:
        repository: owner and name on GitHub, such as ``"pytorch/pytorch"``.
        number: of the issue or pull request.
        kind: which of the two.
    """

    repository: str
    number: int
    kind: Literal["issue", "pull request"] = "issue"

    @property
    def address(self) -> str:
        """Where it can be read."""
        folder = "issues" if self.kind == "issue" else "pull"
        return f"https://github.com/{self.repository}/{folder}/{self.number}"

    def __str__(self) -> str:
        return f"{self.repository.split('/')[1]}, {self.kind} {self.number}"


@dataclass(frozen=True)
class Exhibit:
    """One bug. What the code was meant to do is the docstring that ``wrong`` and ``fixed`` share.

    Attributes:
        name: what the bug is called.
        chapter: the chapter that teaches what is done wrong here.
        kind: one of ``SYMPTOMS``.
        symptom: what somebody sees who does not know the cause.
        wrong: the code with the bug.
        fixed: the same code without it.
        fix: what the difference is, and why.
        test: raises AssertionError if it is given code with the bug, and only then.
        inputs: draws arguments that a reader has not seen, from a generator.
        sources: where public code had the bug.
        gradient: whether a repair must have the right gradient of the first argument, too.
    """

    name: str
    chapter: int
    kind: str
    symptom: str
    wrong: Code
    fixed: Code
    fix: str
    test: Callable[[Code], None]
    inputs: Callable[[torch.Generator], Sequence[Inputs]]
    sources: tuple[Source, ...]
    gradient: bool = False

    @property
    def meant(self) -> str:
        """What the code was meant to do."""
        return " ".join(str(inspect.getdoc(self.fixed)).split())

    @property
    def exercise(self) -> Exercise:
        """The search for this bug, as the grader judges it.

        A share of tokens that somebody counts in float32 is no bug: nothing here is smaller than
        ``ROUNDED``.
        """
        unchanged = Mistake(self.wrong, "the bug is still in it")
        return Exercise(
            self.name, self.fixed, self.inputs, (unchanged,), self.gradient, tolerance=ROUNDED
        )

    def caught_by(self, test: Callable[[Code], None]) -> bool:
        """Whether a test raises AssertionError for the wrong code, and nothing for the fixed one.

        Raises:
            AssertionError: the test refuses the fixed code.
        """
        test(self.fixed)
        try:
            test(self.wrong)
        except AssertionError:
            return True
        return False
