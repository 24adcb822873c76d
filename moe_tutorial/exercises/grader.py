"""How an exercise is checked: unseen inputs, tight tolerances, and a word about the mistake."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        exercise: its number, such as ``"1.1"``.
        status: ``"not attempted yet"``, ``"correct"`` or ``"wrong"``.
        message: what looks wrong, and where to look; empty otherwise.
    """

    exercise: str
    status: Literal["not attempted yet", "correct", "wrong"]
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


@dataclass(frozen=True)
class Exercise:
    """A function to write, judged by comparison with a reference on inputs the reader never saw.

    Attributes:
        number: chapter and number, such as ``"1.1"``.
        reference: the right function.
        inputs: draws argument lists from a generator.
        mistakes: wrong functions that the message recognises.
        gradient: also compare the gradient with respect to the first argument.
        tolerance: the largest absolute difference that passes, in float64.
    """

    number: str
    reference: Callable[..., Any]
    inputs: Callable[[torch.Generator], Sequence[Inputs]]
    mistakes: tuple[Mistake, ...]
    gradient: bool = False
    tolerance: float = 1e-9

    def check(self, answer: Any) -> Verdict:
        """Judge a reader's function."""
        if answer is None or answer is ...:
            return Verdict(self.number, "not attempted yet")
        if not callable(answer):
            return self._wrong(f"expected a function, got {type(answer).__name__}")
        cases = self.inputs(torch.Generator().manual_seed(20_240_229))
        for case in cases:
            try:
                found = answer(*_copies(case))
            except NotImplementedError:
                return Verdict(self.number, "not attempted yet")
            except Exception as error:
                return self._wrong(
                    f"your function raised {type(error).__name__} for {_describe(case)}: {error}"
                )
            if found is None or found is ...:
                return Verdict(self.number, "not attempted yet")
            complaint = self._compare(found, case, answer)
            if complaint:
                return self._wrong(self._recognise(answer, cases) or complaint)
        return Verdict(self.number, "correct")

    def _wrong(self, message: str) -> Verdict:
        return Verdict(self.number, "wrong", message)

    def _compare(self, found: Any, case: Inputs, answer: Callable[..., Any]) -> str:
        complaint = _difference(found, self.reference(*_copies(case)), self.tolerance)
        if not complaint and self.gradient:
            expected = _gradient(self.reference, case)
            difference = _difference(_gradient(answer, case), expected, self.tolerance)
            complaint = f"the values are right, but the gradient is not: {difference}"
            complaint = complaint if difference else ""
        return f"{complaint}, for {_describe(case)}" if complaint else ""

    def _recognise(self, answer: Callable[..., Any], cases: Sequence[Inputs]) -> str:
        for mistake in self.mistakes:
            if all(_same(answer, mistake.answer, case, self.gradient) for case in cases):
                return mistake.message
        return ""


def _same(
    answer: Callable[..., Any], other: Callable[..., Any], case: Inputs, gradient: bool
) -> bool:
    try:
        if _difference(answer(*_copies(case)), other(*_copies(case)), 1e-9, equal_nan=True):
            return False
        return not gradient or not _difference(
            _gradient(answer, case), _gradient(other, case), 1e-9, equal_nan=True
        )
    except Exception:
        # A mistake that cannot even run on this input is not the mistake that was made.
        return False


def _gradient(function: Callable[..., Any], case: Inputs) -> Tensor:
    first = case[0].clone().requires_grad_()
    result = function(first, *_copies(case[1:]))
    if not result.requires_grad:
        return torch.zeros_like(first)
    weights = torch.arange(1, result.numel() + 1, dtype=result.dtype).reshape(result.shape)
    (gradient,) = torch.autograd.grad((result * weights).sum(), first, allow_unused=True)
    return torch.zeros_like(first) if gradient is None else gradient


def _difference(found: Any, expected: Any, tolerance: float, equal_nan: bool = False) -> str:
    try:
        found, expected = _as_tensor(found), _as_tensor(expected)
    except (TypeError, ValueError, RuntimeError):
        return f"expected a tensor or a number, got {type(found).__name__}"
    if found.shape != expected.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(found.shape)}"
    if found.is_floating_point() != expected.is_floating_point():
        return f"expected dtype {expected.dtype}, got {found.dtype}"
    found, expected = found.detach().double(), expected.detach().double()
    if torch.allclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=equal_nan):
        return ""
    gap = (found - expected).abs()
    where = tuple(
        gap.nan_to_num(nan=torch.inf).eq(gap.nan_to_num(nan=torch.inf).max()).nonzero()[0]
    )
    index = f" at index {tuple(int(i) for i in where)}" if where else ""
    return f"expected {expected[where].item():.6g}{index}, got {found[where].item():.6g}"


def _as_tensor(value: Any) -> Tensor:
    # A Python number may be an int or a float; as a default float32 it would lose digits.
    is_number = isinstance(value, int | float)
    return torch.as_tensor(value, dtype=torch.float64 if is_number else None)


def _copies(case: Inputs) -> Inputs:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in case)


def _describe(case: Inputs) -> str:
    parts = [
        f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        for value in case
    ]
    return "the arguments " + ", ".join(parts)
