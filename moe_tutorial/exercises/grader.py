"""How an exercise is checked: unseen inputs, tight tolerances, and a word about the mistake."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
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
        observe: what to compare where more than one answer is right; it gets an answer's result
            and the arguments.
        tolerance: the largest absolute difference that passes, in float64.
    """

    number: str
    reference: Callable[..., Any]
    inputs: Callable[[torch.Generator], Sequence[Inputs]]
    mistakes: tuple[Mistake, ...]
    gradient: bool = False
    observe: Callable[[Tensor, Inputs], Tensor] = lambda result, case: result
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
        expected = _as_tensor(self.reference(*_copies(case)))
        complaint = _misfit(found, expected)
        if not complaint:
            seen, target = (self.observe(r, case) for r in (_as_tensor(found), expected))
            complaint = _difference(seen, target, self.tolerance)
        if not complaint and self.gradient:
            gradient = _gradient(self.reference, case)
            complaint = _difference(_gradient(answer, case), gradient, self.tolerance)
            complaint = complaint and f"the values are right, but the gradient is not: {complaint}"
        return complaint and f"{complaint}, for {_describe(case)}"

    def _recognise(self, answer: Callable[..., Any], cases: Sequence[Inputs]) -> str:
        for mistake in self.mistakes:
            if all(_same(answer, mistake.answer, case, self.gradient) for case in cases):
                return mistake.message
        return ""


def _same(
    answer: Callable[..., Any], other: Callable[..., Any], case: Inputs, gradient: bool
) -> bool:
    try:
        found, expected = answer(*_copies(case)), _as_tensor(other(*_copies(case)))
        if _misfit(found, expected) or _difference(_as_tensor(found), expected, 1e-9):
            return False
        return not gradient or not _difference(
            _gradient(answer, case), _gradient(other, case), 1e-9
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


def _misfit(found: Any, expected: Tensor) -> str:
    try:
        found = _as_tensor(found)
    except (TypeError, ValueError, RuntimeError):
        return f"expected a tensor or a number, got {type(found).__name__}"
    if found.shape != expected.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(found.shape)}"
    if found.is_floating_point() != expected.is_floating_point():
        return f"expected dtype {expected.dtype}, got {found.dtype}"
    return ""


def _difference(found: Tensor, expected: Tensor, tolerance: float) -> str:
    found, expected = found.detach().double(), expected.detach().double()
    if torch.allclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
        return ""
    gap = (found - expected).abs().nan_to_num(nan=torch.inf)
    where = tuple(int(i) for i in gap.eq(gap.max()).nonzero()[0])
    index = f" at index {where}" if where else ""
    complaint = f"expected {expected[where].item():.6g}{index}, got {found[where].item():.6g}"
    if gap[where] < 1e-4 * max(1.0, abs(expected[where].item())):
        complaint += f", off by {gap[where].item():.1e}: did you leave the inputs' dtype, float64?"
    return complaint


def _as_tensor(value: Any) -> Tensor:
    # A Python number may be an int, a float or a fraction; as a default float32 it loses digits.
    if isinstance(value, Real):
        return torch.tensor(float(value), dtype=torch.float64)
    return torch.as_tensor(value)


def _copies(case: Inputs) -> Inputs:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in case)


def _describe(case: Inputs) -> str:
    parts = [
        f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        for value in case
    ]
    return "the arguments " + ", ".join(parts)
