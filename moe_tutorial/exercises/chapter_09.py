"""Exercises of chapter 09: how many are dropped, who, what chance does, who queues together."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _choices(generator: torch.Generator) -> list[Inputs]:
    cases: list[Inputs] = []
    for tokens, experts, k, capacity in (
        (12, 5, 2, 4), (40, 6, 3, 15), (9, 4, 1, 1), (1, 3, 2, 1), (30, 4, 2, 0), (8, 4, 3, 50),
    ):  # fmt: skip
        # The first experts are wanted most, and the last one by nobody.
        scores = torch.rand(tokens, experts, generator=generator) - torch.arange(experts) / experts
        scores[:, -1] = -9
        cases.append((scores.argsort(-1, descending=True)[:, :k], experts, capacity))
    return cases


def _queues(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for chosen, experts, room in _choices(generator):
        gates = torch.rand(chosen.shape, generator=generator, dtype=torch.float64)
        # Equal in float32, but not in the dtype that they have.
        ranks = torch.randperm(gates.numel(), generator=generator).view_as(gates)
        near = 0.25 + 1e-12 * ranks.double()
        cases += [(chosen, gates, experts, room), (chosen, near, experts, room)]
    return cases


def _sizes(generator: torch.Generator) -> Sequence[Inputs]:
    E, room = torch.randint(2, 15, (2,), generator=generator).tolist()
    return [(8, 4), (64, 8), (60, 3), (16, 16), (12, 1), (1, 1), (400, 20), (E * room, E)]


def _sequences(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for batch, length, experts, room in (
        (3, 10, 4, 2), (2, 24, 3, 8), (4, 1, 2, 1), (1, 9, 3, 2), (3, 6, 2, 9),
    ):  # fmt: skip
        scores = torch.rand(batch, length, experts, generator=generator)
        scores[..., 0] += 0.3
        cases.append((scores.argmax(-1), experts, room))
    return cases


def _drops(chosen: Tensor, E: int, C: int) -> Tensor:
    """In float64, so that counts pass that were added up in floats."""
    return (torch.bincount(chosen.flatten(), minlength=E) - C).clamp(min=0).double()


def _kept(chosen: Tensor, order: Tensor, E: int, C: int) -> Tensor:
    """Serve the flattened assignments in the given order."""
    ones = torch.nn.functional.one_hot(chosen.flatten()[order], E)
    fits = (ones.cumsum(0) * ones).sum(-1) <= C
    return torch.empty_like(fits).scatter(0, order, fits).view_as(chosen).double()


def _kept_in_rows(chosen: Tensor, E: int, C: int) -> Tensor:
    """Each row of tokens ``[B, S]`` has C places of its own."""
    ones = torch.nn.functional.one_hot(chosen, E)
    return ((ones.cumsum(-2) * ones).sum(-1) <= C).double()


def _kept_in_columns(chosen: Tensor, E: int, C: int) -> Tensor:
    return _kept_in_rows(chosen.T, E, C).T


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
        Mistake(
            lambda chosen, E, C: _drops(chosen, E, C).sum(),
            "this is what all experts drop together: return one number for each of the E experts",
        ),
        Mistake(
            lambda chosen, E, C: _drops(chosen, E, max(C - 1, 0)),
            "one too many: all C places can be taken",
        ),
        Mistake(
            lambda chosen, E, C: _drops(chosen, E, C - 1),
            "one too many: all C places can be taken",
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
            lambda chosen, gates, E, C: _kept(
                chosen, torch.arange(chosen.numel()).view_as(chosen).T.flatten(), E, C
            ),
            "this is the order of first choices: the gates have no say yet",
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
                1 - _kept(chosen, gates.flatten().argsort(descending=True), E, C)
            ),
            "these are the dropped ones",
        ),
        Mistake(
            lambda chosen, gates, E, C: _kept(
                chosen, gates.flatten().argsort(descending=True), E, C + 1
            ),
            "each expert has C places, not C + 1: the first of a queue has nobody ahead",
        ),
        Mistake(
            lambda chosen, gates, E, C: _kept(
                chosen, gates.float().flatten().argsort(descending=True, stable=True), E, C
            ),
            "gates that differ only beyond float32 stand in the wrong order: sort them as they are",
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
        Mistake(
            lambda T, E: (
                E
                * sum(
                    (n - T // E) * math.comb(T, n) * (E - 1) ** (T - n) / E**T
                    for n in range(T // E, T)
                )
                / T
            ),
            "the sum ends one too early: all T tokens may pick the same expert",
        ),
    ),
    tolerance=1e-6,  # a loop in float32 is right, too
)

BY_SEQUENCE = Exercise(
    "9.4",
    _kept_in_rows,
    _sequences,
    (
        Mistake(
            lambda chosen, E, C: _kept(
                chosen.flatten(), torch.arange(chosen.numel()), E, C
            ).view_as(chosen),
            "this is one queue for the whole batch: which dimension does cumsum run along?",
        ),
        Mistake(
            _kept_in_columns,
            "these queues run across the batch: dim=-2 of [B, S, E] is the sequence",
        ),
        Mistake(
            lambda chosen, E, C: 1 - _kept_in_rows(chosen, E, C),
            "these are the dropped ones",
        ),
        Mistake(
            lambda chosen, E, C: _kept_in_rows(chosen, E, C - 1),
            "one place of each queue stays empty: cumsum counts the token itself, and <= lets C in",
        ),
        Mistake(
            lambda chosen, E, C: (
                torch.nn.functional.one_hot(chosen, E)
                * _kept_in_rows(chosen, E, C).long()[..., None]
            ),
            "this is the router's one-hot mask [B, S, E]: the question is which tokens [B, S] stay",
        ),
        Mistake(
            lambda chosen, E, C: _kept_in_rows(chosen.flip(-1), E, C).flip(-1),
            "this serves the end of each sequence first",
        ),
    ),
)

EXERCISES = (COUNT, BY_GATE, FAIR, BY_SEQUENCE)
