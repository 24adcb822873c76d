"""Exercises of chapter 07: a layer's limit, padded blocks, a sort undone, the order of a sum."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from moe_tutorial.exercises.grader import EXACT, Exercise, Inputs, Mistake


def _choices(generator: torch.Generator) -> list[tuple[Tensor, int]]:
    cases = []
    for tokens, experts, k in ((6, 5, 2), (40, 16, 4), (3, 9, 1), (1, 7, 3)):
        chosen = torch.rand(tokens, experts, generator=generator).argsort(-1)[:, :k]
        cases.append((chosen, experts))
    return cases


def _machines(generator: torch.Generator) -> Sequence[Inputs]:
    # The first three wait for their weights, the others for the arithmetic.
    machines = ((1e6, 3e3), (5e4, 2e4), (4e4, 1e3), (2e3, 9e5), (700.0, 1e6))
    few_of_many = torch.tensor([[19, 3], [3, 7]])
    chosen = [it for it, _ in _choices(generator)]
    tokens = (*chosen[:2], few_of_many, *chosen[2:])
    # One expert waits for its arithmetic here, and the other for its weights.
    uneven = torch.tensor([[0]] * 4 + [[1]])
    cases: list[Inputs] = [
        (it, 1000 * (i + 2), *machine)
        for i, (it, machine) in enumerate(zip(tokens, machines, strict=True))
    ]
    return [*cases, (uneven, 9000, 1e3, 1e3)]


def _blocks(generator: torch.Generator) -> Sequence[Inputs]:
    sizes = (2, 8, 128, 1)
    cases: list[Inputs] = [
        (chosen, experts, size)
        for (chosen, experts), size in zip(_choices(generator), sizes, strict=True)
    ]
    full = torch.tensor([[0, 3]] * 8)  # two blocks that are full already, and experts without rows
    return [*cases, (full, 6, 4)]


def _sorted_rows(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for chosen, _ in _choices(generator):
        rows = torch.randn(chosen.numel(), 3, generator=generator, dtype=torch.float64)
        cases.append((rows, chosen))
    return cases


def _values(generator: torch.Generator) -> Sequence[Inputs]:
    large = torch.tensor([1e8, 1.0, -1e8, 1.0])
    return [(large,), (1000 * torch.randn(200, generator=generator),), (torch.full((300,), 0.1),)]


def _at_least(chosen: Tensor, weights: int, peak: float, reading: float) -> float:
    multiplying = 2 * weights * chosen.numel() / peak
    return max(multiplying, 4 * weights * len(set(chosen.flatten().tolist())) / reading)


def _padded(chosen: Tensor, E: int, size: int) -> Tensor:
    count = chosen.flatten().bincount(minlength=E)
    return (count + size - 1) // size * size


def _slots(chosen: Tensor) -> Tensor:
    order = chosen.flatten().argsort(stable=True)
    return order.argsort().view_as(chosen)


def _one_by_one(values: Tensor) -> float:
    total = np.float32(0)
    for value in values.numpy():
        total = np.float32(total + value)
    return float(total)


LEAST_TIME = Exercise(
    "7.1",
    _at_least,
    _machines,
    (
        Mistake(
            lambda c, w, peak, reading: (
                2 * w * c.numel() / peak + 4 * w * len(c.unique()) / reading
            ),
            "a machine can read and multiply at the same time: the longer of the two is the limit",
        ),
        Mistake(
            lambda c, w, peak, reading: min(
                2 * w * c.numel() / peak, 4 * w * len(c.unique()) / reading
            ),
            "the slower of reading and multiplying decides, and you took the faster",
        ),
        Mistake(
            lambda c, w, peak, reading: max(2 * w * c.numel() / peak, 4 * w * c.numel() / reading),
            "each matrix is read once for all rows of its expert: count the experts, not the rows",
        ),
        Mistake(
            lambda c, w, peak, reading: max(
                2 * w * c.numel() / peak, 4 * w * (int(c.max()) + 1) / reading
            ),
            "an expert that nobody chose is not read: count those that occur among the choices",
        ),
        Mistake(
            lambda c, w, peak, reading: max(
                w * c.numel() / peak, 4 * w * len(c.unique()) / reading
            ),
            "for each row a weight costs two operations, a multiplication and an addition",
        ),
        Mistake(
            lambda c, w, peak, reading: max(
                2 * w * c.numel() / peak, w * len(c.unique()) / reading
            ),
            "reading is in bytes, and a float32 weight has four of them",
        ),
        Mistake(
            lambda c, w, peak, reading: max(
                2 * w * c.numel() / peak, 2 * w * len(c.unique()) / reading
            ),
            "a weight of two bytes is bfloat16's: a float32 weight has four",
        ),
        Mistake(
            lambda c, w, peak, reading: max(
                2 * w * c.numel() / peak, 4 * w * len(c.unique(dim=0)) / reading
            ),
            "unique(dim=0) counts different rows of choices: count the different experts",
        ),
        Mistake(
            lambda c, w, peak, reading: sum(
                max(2 * w * rows / peak, 4 * w / reading)
                for rows in c.unique(return_counts=True)[1]
            ),
            "the machine can read one expert while it multiplies another: compare the two totals",
        ),
        Mistake(
            lambda c, w, peak, reading: max(
                2 * w * len(c) / peak, 4 * w * len(c.unique()) / reading
            ),
            "each token runs through K experts, so T K rows are multiplied",
        ),
    ),
    tolerance=1e-6,
)

PADDED = Exercise(
    "7.2",
    _padded,
    _blocks,
    (
        Mistake(
            lambda chosen, E, size: chosen.flatten().bincount(minlength=E),
            "these are the rows before padding: round each expert's up to a multiple of the block",
        ),
        Mistake(
            lambda chosen, E, size: (chosen.flatten().bincount(minlength=E) // size + 1) * size,
            "a full block gets no padding, and an expert without rows gets no block",
        ),
        Mistake(
            lambda chosen, E, size: _padded(chosen, E, size).clamp(min=size),
            "an expert without rows needs no block",
        ),
        Mistake(
            lambda chosen, E, size: _padded(chosen, E, size) // size,
            "these are blocks: the question asks for rows",
        ),
        Mistake(
            lambda chosen, E, size: (
                _padded(chosen, E, size) - chosen.flatten().bincount(minlength=E)
            ),
            "these are the padding rows alone: the real rows belong to the block too",
        ),
        Mistake(
            lambda chosen, E, size: _padded(chosen, 0, size),
            "experts after the last chosen one are missing: there are E of them",
        ),
        Mistake(
            lambda chosen, E, size: _padded(chosen, E, size).sum(),
            "this is the total: return the rows of each expert",
        ),
        Mistake(
            lambda chosen, E, size: chosen.flatten().bincount(minlength=E) // size * size,
            "you round down, and rows would be lost: round up",
        ),
        Mistake(
            lambda chosen, E, size: _padded(chosen, E, size).cumsum(0),
            "these are the ends of the blocks: the question asks for the rows of each",
        ),
        Mistake(
            lambda chosen, E, size: _padded(chosen[:, :1], E, size),
            "these are the first choices alone: all K choices of a token need a row",
        ),
    ),
)

UNDO = Exercise(
    "7.3",
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
        Mistake(
            lambda rows, chosen: rows[_slots(chosen)].flatten(0, 1),
            "the order is right: give the rows the shape [T, K, D]",
        ),
        Mistake(
            lambda rows, chosen: rows[_slots(chosen.sort(-1).values)],
            "entry [t, k] belongs to the k-th choice of token t, in the order of experts_TK",
        ),
    ),
)

SUM_IN_ORDER = Exercise(
    "7.4",
    _one_by_one,
    _values,
    (
        Mistake(
            lambda values: values.double().sum().item(),
            "this is the exact sum: round to float32 after every addition",
        ),
        Mistake(
            lambda values: values.cumsum(0)[-1].item(),
            "here only the result was rounded: a running total in float64, as torch.cumsum keeps "
            "on a CPU, is another sum than one rounded to float32 after every addition",
        ),
        Mistake(
            lambda values: _one_by_one(values.flip(0)),
            "right method, wrong end: start with the first value",
        ),
        Mistake(
            lambda values: _one_by_one(values.sort().values),
            "add the values in the order in which they stand, not sorted",
        ),
        Mistake(
            lambda values: values.sum().item(),
            "torch.sum adds in an order of its own: add one value after another",
        ),
        Mistake(
            lambda values: values.numpy().sum(),
            "NumPy's sum adds in an order of its own, too: add one value after another",
        ),
    ),
    tolerance=EXACT,
)

EXERCISES = (LEAST_TIME, PADDED, UNDO, SUM_IN_ORDER)
