"""How an exercise is checked: unseen inputs, tight tolerances, and a word about the mistake."""

import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from moe_tutorial.exercises.attempt import (
    Attempt,
    attempt,
    copies,
    describe,
    kind_of,
    what_was_raised,
)
from moe_tutorial.exercises.surroundings import neutral_surroundings
from moe_tutorial.learning.settings import plain_seed

Inputs = tuple[Any, ...]
# A reader who fills torch.zeros(T, E) in a loop rounds a right answer to float32: no mistake.
FLOAT32_TOLERANCE = 1e-5
EXACT = 1e-12
PUBLIC_SEED = 20_240_229  # of the inputs that a reader's own checks use
# What the reference did, and what the exercise's observe makes of it.
Target = tuple[Attempt, Tensor]


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        exercise: its number, such as ``"1.1"``.
        status: ``"not attempted yet"``, ``"correct"`` or ``"wrong"``; ``"not judged"`` if the
            exercise itself is at fault, such as a reference that raises.
        message: what looks wrong, and where to look; empty otherwise.
    """

    exercise: str
    status: Literal["not attempted yet", "correct", "wrong", "not judged"]
    message: str = ""

    def __repr__(self) -> str:
        return (
            f"Exercise {self.exercise}: {self.status}{': ' if self.message else '.'}{self.message}"
        )


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that readers are likely to give, and what to tell them."""

    answer: Callable[..., Any]
    message: str

    def __post_init__(self) -> None:
        _require(callable(self.answer), "answer", "a function", self.answer)
        _require(isinstance(self.message, str), "message", "a string", self.message)


@dataclass(frozen=True)
class Exercise:
    """A function to write, judged by comparison with a reference on inputs the reader never saw.

    Attributes:
        number: chapter and number, such as ``"1.1"``.
        reference: the right function.
        inputs: draws argument lists from a generator.
        mistakes: wrong functions that the message recognises.
        gradient: also compare the gradient with respect to the first argument.
        observe: what to compare where more than one answer is right; it gets an answer's result
            and the arguments.
        tolerance: the largest difference that passes, in float64: absolute where the expected
            value is small, relative to it where it is large. A result in float32 has at least
            ``FLOAT32_TOLERANCE``, unless this is ``EXACT`` or less, as where rounding is asked for.

    Raises:
        TypeError: one of these is of another kind.
    """

    number: str
    reference: Callable[..., Any]
    inputs: Callable[[torch.Generator], Sequence[Inputs]]
    mistakes: tuple[Mistake, ...]
    gradient: bool = False
    observe: Callable[[Tensor, Inputs], Tensor] = lambda result, case: result
    tolerance: float = 1e-9

    def __post_init__(self) -> None:
        _require(isinstance(self.number, str), "number", "a string", self.number)
        for name in ("reference", "inputs", "observe"):
            value = getattr(self, name)
            _require(callable(value), name, "a function", value)
        fits = isinstance(self.mistakes, (tuple, list)) and all(
            isinstance(mistake, Mistake) for mistake in self.mistakes
        )
        _require(fits, "mistakes", "a tuple of Mistake, such as (Mistake(...),)", self.mistakes)

    def check(self, answer: Any, seed: int = PUBLIC_SEED) -> Verdict:
        """Judge a reader's function.

        Whatever it is, returns or raises, there is a verdict, and torch's settings, the random
        numbers to come and the printed output are as if it had not been called.

        Args:
            answer: the function.
            seed: of the inputs; with another one they are others.

        Raises:
            ValueError: a seed that is no int from 0 to 2**63 - 1.
            KeyboardInterrupt: a person stopped the check.
        """
        if answer is None or answer is ...:
            return Verdict(self.number, "not attempted yet")
        if not callable(answer):
            kind = kind_of(answer)
            return self._wrong(f"expected a function, got {kind}: hand over the function itself")
        return self._surely(
            seed, lambda cases: [attempt(answer, case, self.gradient) for case in cases]
        )

    def cases(self, seed: int = PUBLIC_SEED) -> Sequence[Inputs]:
        """The inputs of a seed: the arguments of one call each."""
        return self._cases(plain_seed("seed", seed))

    def expected(self, case: Inputs) -> Tensor:
        """What the reference returns for one of the cases."""
        return _sound(attempt(self.reference, case), "reference", case)

    def judge(self, attempts: Sequence[Attempt], seed: int = PUBLIC_SEED) -> Verdict:
        """Judge what an answer did elsewhere, such as in another process, with each of the cases.

        Raises:
            ValueError: as :meth:`check`.
        """
        return self._surely(seed, lambda cases: attempts)

    def _surely(self, seed: int, tried: Callable[..., Sequence[Attempt]]) -> Verdict:
        plain = plain_seed("seed", seed)
        try:
            return self._judge(plain, tried)
        except KeyboardInterrupt:
            raise
        except _FaultError as fault:
            problem = str(fault)
        except BaseException as error:
            problem = f"the check {what_was_raised(error)}"
        advice = "restart the kernel if you replaced a function of torch; if not, tell its author"
        message = f"the exercise failed, not you: {problem} ({advice})"
        return Verdict(self.number, "not judged", message)

    def _judge(self, seed: int, tried: Callable[..., Sequence[Attempt]]) -> Verdict:
        cases = self._cases(seed)
        # Every reference runs before the first line of the reader's code does.
        targets = [self._target(case) for case in cases]
        attempts = tried(cases)
        for found, target, case in zip(attempts, targets, cases, strict=True):
            if found.blank:
                message = found.failure and f"your function {found.failure}"
                return Verdict(self.number, "not attempted yet", message)
            complaint = self._complaint(found, target, case)
            if complaint:
                hint = self._recognise(attempts, cases)
                return self._wrong(hint or f"{complaint}, for {describe(case)}")
        return Verdict(self.number, "correct")

    def _wrong(self, message: str) -> Verdict:
        return Verdict(self.number, "wrong", message)

    def _cases(self, seed: int) -> Sequence[Inputs]:
        try:
            with neutral_surroundings():
                cases = self.inputs(torch.Generator().manual_seed(seed))
        except Exception as error:
            raise _FaultError(f"its inputs {what_was_raised(error)}") from error
        fits = isinstance(cases, (list, tuple)) and all(isinstance(case, tuple) for case in cases)
        if not fits or not cases:
            raise _FaultError(
                "its inputs must be a list of tuples with the arguments of one call each, such as "
                f"[(x, 3)], got {reprlib.repr(cases)}"
            )
        if self.gradient and not all(
            case and isinstance(case[0], Tensor) and case[0].is_floating_point() for case in cases
        ):
            raise _FaultError("with gradient=True, the first argument must be a floating tensor")
        return cases

    def _target(self, case: Inputs) -> Target:
        target = attempt(self.reference, case, self.gradient)
        seen = self._observed(_sound(target, "reference", case), case)
        return target, _sound(seen, "observe", case)

    def _observed(self, value: Tensor, case: Inputs) -> Attempt:
        return attempt(lambda result: self.observe(result, copies(case)), (value,))

    def _complaint(self, found: Attempt, target: Target, case: Inputs) -> str:
        """What is wrong with one attempt, or nothing."""
        right, wanted = target
        if found.value is None or right.value is None:
            return f"your function {found.failure}"
        if misfit := _misfit(found.value, right.value):
            return misfit
        whole = right.value.is_floating_point() and not found.value.is_floating_point()
        value = found.value.to(right.value.dtype) if whole else found.value
        seen = self._observed(value, case)
        if seen.value is None:
            return f"your result cannot be compared: the exercise's observe {seen.failure}"
        tolerance = _tolerance(found.value, self.tolerance)
        if wrong := _misfit(seen.value, wanted) or _difference(seen.value, wanted, tolerance):
            return wrong
        if right.gradient is None:
            return ""
        if found.gradient is None:
            return f"the values are right, but asked for a gradient your function {found.failure}"
        wrong = _difference(found.gradient, right.gradient, tolerance)
        return wrong and f"the values are right, but the gradient is not: {wrong}"

    def _recognise(self, attempts: Sequence[Attempt], cases: Sequence[Inputs]) -> str:
        for mistake in self.mistakes:
            if all(
                _same(found, attempt(mistake.answer, case, self.gradient), self.tolerance)
                for found, case in zip(attempts, cases, strict=True)
            ):
                return mistake.message
        return ""


class _FaultError(Exception):
    """Something is wrong with the exercise; the text says what."""


def _sound(trial: Attempt, name: str, case: Inputs) -> Tensor:
    if trial.value is None or trial.failure:
        raise _FaultError(f"its {name} {trial.failure or 'returned nothing'}, for {describe(case)}")
    return trial.value


def _same(found: Attempt, other: Attempt, tolerance: float) -> bool:
    # A mistake that cannot even run on this input is not the mistake that was made.
    if found.value is None or other.value is None or found.failure or other.failure:
        return False
    tolerance = _tolerance(found.value, tolerance)
    if _misfit(found.value, other.value) or _difference(found.value, other.value, tolerance):
        return False
    if found.gradient is None or other.gradient is None:
        return True  # none was asked for
    return not _difference(found.gradient, other.gradient, tolerance)


def _tolerance(found: Tensor, least: float) -> float:
    rounded = found.dtype == torch.float32 and least > EXACT
    return max(least, FLOAT32_TOLERANCE) if rounded else least


def _misfit(found: Tensor, expected: Tensor) -> str:
    if found.shape != expected.shape:
        return f"expected {_shape(expected)}, got {_shape(found)}"
    # Ids and counts are whole. A single number may well be written as a float.
    if expected.ndim and found.is_floating_point() and not expected.is_floating_point():
        return f"expected dtype {expected.dtype}, got {found.dtype}"
    return ""


def _shape(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)}" if tensor.ndim else "a single number"


def _difference(found: Tensor, expected: Tensor, tolerance: float) -> str:
    # torch.testing.assert_close would say how far apart the worst two values are, but not which
    # values they are, and a reader recognises a mistake by its values.
    counts = not expected.is_floating_point()
    found, expected = found.double(), expected.double()
    close = torch.isclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if close.all():
        return ""
    gap = (found - expected).abs().nan_to_num(nan=torch.inf).masked_fill(close, -1.0)
    where = tuple(int(i) for i in gap.eq(gap.max()).nonzero()[0])
    index = f" at index {where}" if where else ""
    complaint = f"expected {expected[where].item():.6g}{index}, got {found[where].item():.6g}"
    # A count that is nearly right is not rounded, but wrong.
    if not counts and gap[where] < 1e-4 * max(1.0, abs(expected[where].item())):
        size = f"{gap[where].item():.1e}"
        complaint += f", off by {size}, as a step in float32 or a small added constant would be"
    return complaint


def _require(fits: bool, name: str, expected: str, value: Any) -> None:
    if not fits:
        raise TypeError(f"{name} must be {expected}, got {reprlib.repr(value)}")
