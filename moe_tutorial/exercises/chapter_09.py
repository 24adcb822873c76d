"""Exercises of chapter 09: how many are dropped, who, and what chance alone does."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _choices(generator: torch.Generator) -> list[Inputs]:
    cases: list[Inputs] = []
    for tokens, experts, k, capacity in ((12, 5, 2, 4), (40, 6, 3, 15), (9, 4, 1, 1)):
        # The first experts are wanted most, and the last one by nobody.
        scores = torch.rand(tokens, experts, generator=generator) - torch.arange(experts) / experts
        scores[:, -1] = -9
        cases.append((scores.argsort(-1, descending=True)[:, :k], experts, capacity))
    return cases


def _queues(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (chosen, torch.rand(chosen.shape, generator=generator, dtype=torch.float64), experts, room)
        for chosen, experts, room in _choices(generator)
    ]


def _sizes(_: torch.Generator) -> Sequence[Inputs]:
    return [(8, 4), (64, 8), (60, 3), (16, 16)]


def _drops(chosen: Tensor, E: int, C: int) -> Tensor:
    return (torch.bincount(chosen.flatten(), minlength=E) - C).clamp(min=0)


def _kept(chosen: Tensor, order: Tensor, E: int, C: int) -> Tensor:
    """Serve the flattened assignments in the given order."""
    ones = torch.nn.functional.one_hot(chosen.flatten()[order], E)
    fits = (ones.cumsum(0) * ones).sum(-1) <= C
    return torch.empty_like(fits).scatter(0, order, fits).view_as(chosen)


def _fair_share(T: int, E: int) -> float:
    C = T // E
    chances = ((n, math.comb(T, n) * (E - 1) ** (T - n) / E**T) for n in range(C + 1, T + 1))
    return float(E * sum((n - C) * chance for n, chance in chances) / T)


COUNT = Exercise(
    "9.1",
    _drops,
    _choices,
    (
        Mistake(
            lambda chosen, E, C: torch.bincount(chosen.flatten(), minlength=E) - C,
            "an expert with places left drops nobody: the least is 0, not a negative number",
        ),
        Mistake(
            lambda chosen, E, C: _drops(chosen[:, :1], E, C),
            "these are first choices only: count all K of each token",
        ),
        Mistake(
            lambda chosen, E, C: torch.bincount(chosen.flatten(), minlength=E).clamp(max=C),
            "this is how many are kept",
        ),
        Mistake(
            lambda chosen, E, C: torch.bincount(chosen.flatten(), minlength=E),
            "these are the loads: what fits into C places is not dropped",
        ),
    ),
)

BY_GATE = Exercise(
    "9.2",
    lambda chosen, gates, E, C: _kept(chosen, gates.flatten().argsort(descending=True), E, C),
    _queues,
    (
        Mistake(
            lambda chosen, gates, E, C: _kept(chosen, gates.flatten().argsort(), E, C),
            "these are the smallest gates: sort downwards",
        ),
        Mistake(
            lambda chosen, gates, E, C: _kept(chosen, torch.arange(chosen.numel()), E, C),
            "this is the order of position: the gates have no say yet",
        ),
        Mistake(
            lambda chosen, gates, E, C: torch.stack(
                [
                    _kept(column[:, None], g.argsort(descending=True), E, C)[:, 0]
                    for column, g in zip(chosen.T, gates.T, strict=True)
                ],
                -1,
            ),
            "first and second choices share an expert's places: count them together",
        ),
        Mistake(
            lambda chosen, gates, E, C: (
                ~_kept(chosen, gates.flatten().argsort(descending=True), E, C)
            ),
            "these are the dropped ones",
        ),
    ),
)

FAIR = Exercise(
    "9.3",
    _fair_share,
    _sizes,
    (
        Mistake(
            lambda T, E: 0.0,
            "the mean load fits, but loads scatter around it: what lies above C is lost, and what "
            "lies below makes up for nothing",
        ),
        Mistake(
            lambda T, E: _fair_share(T, E) / E,
            "this is one expert's part: there are E of them",
        ),
        Mistake(
            lambda T, E: _fair_share(T, E) * T,
            "this is the number of tokens: divide by T for the share",
        ),
        Mistake(
            lambda T, E: sum(
                math.comb(T, n) * (E - 1) ** (T - n) / E**T for n in range(T // E + 1, T + 1)
            ),
            "this is how likely an expert is to be overfull: weigh each n by what exceeds C",
        ),
    ),
)

EXERCISES = (COUNT, BY_GATE, FAIR)
