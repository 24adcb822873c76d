"""Exercises of chapter 07: sorting assignments, and the order of a sum."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _choices(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for tokens, experts, k in ((6, 5, 2), (40, 16, 4), (3, 9, 1)):
        chosen = torch.rand(tokens, experts, generator=generator).argsort(-1)[:, :k]
        cases.append((chosen, experts))
    return cases


def _sorted_rows(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for chosen, _ in _choices(generator):
        rows = torch.randn(chosen.numel(), 3, generator=generator, dtype=torch.float64)
        cases.append((rows, chosen))
    return cases


def _values(generator: torch.Generator) -> Sequence[Inputs]:
    large = torch.tensor([1e8, 1.0, -1e8, 1.0])
    return [(large,), (1000 * torch.randn(200, generator=generator),), (torch.full((300,), 0.1),)]


def _slots(chosen: Tensor) -> Tensor:
    order = chosen.flatten().argsort(stable=True)
    return order.argsort().view_as(chosen)


def _one_by_one(values: Tensor) -> float:
    total = np.float32(0)
    for value in values.numpy():
        total = np.float32(total + value)
    return float(total)


LOAD = Exercise(
    "7.1",
    lambda chosen, E: torch.bincount(chosen.flatten(), minlength=E),
    _choices,
    (
        Mistake(
            lambda chosen, E: torch.bincount(chosen.flatten()),
            "experts after the last chosen one are missing: say how many there are",
        ),
        Mistake(
            lambda chosen, E: torch.bincount(chosen[:, 0], minlength=E),
            "these are first choices only: count all K of each token",
        ),
        Mistake(
            lambda chosen, E: torch.bincount(chosen.flatten(), minlength=E).cumsum(0),
            "these are the ends of the blocks: their lengths are the differences",
        ),
    ),
)

UNDO = Exercise(
    "7.2",
    lambda rows, chosen: rows[_slots(chosen)],
    _sorted_rows,
    (
        Mistake(
            lambda rows, chosen: rows[chosen.flatten().argsort(stable=True).view_as(chosen)],
            "this sorts a second time: the inverse of a permutation undoes it",
        ),
        Mistake(
            lambda rows, chosen: rows.view(*chosen.shape, -1),
            "the rows still stand in the order of the experts",
        ),
        Mistake(
            lambda rows, chosen: rows[_slots(chosen)].sum(1),
            "keep the K rows of a token apart: they are weighted before they are added",
        ),
    ),
)

SUM_IN_ORDER = Exercise(
    "7.3",
    _one_by_one,
    _values,
    (
        Mistake(
            lambda values: values.double().sum().item(),
            "this is the exact sum: round to float32 after every addition",
        ),
        Mistake(
            lambda values: _one_by_one(values.flip(0)),
            "right method, wrong end: start with the first value",
        ),
        Mistake(
            lambda values: values.sum().item(),
            "torch.sum adds in an order of its own: add one value after another",
        ),
    ),
    tolerance=1e-12,
)

EXERCISES = (LOAD, UNDO, SUM_IN_ORDER)
