"""Exercises of chapter 15: overlap of masks, chance for two sizes, other names, equal overlap."""

from collections.abc import Callable, Sequence
from math import comb

import numpy as np
import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.exercises.renaming import RENAMED


def _masks(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for tokens, E in ((8, 6), (20, 12), (5, 9)):
        noise_2TE = torch.rand(2, tokens, E, generator=generator)
        limits_T1 = 0.2 + 0.6 * torch.rand(tokens, 1, generator=generator)
        one_TE = noise_2TE[0] < limits_T1
        other_TE = one_TE ^ (noise_2TE[1] < 0.25)
        other_TE[0] = one_TE[0]
        for mask_TE in (one_TE, other_TE):  # no token is without an expert
            mask_TE[:, 0] |= ~mask_TE.any(-1)
        cases.append((one_TE, other_TE))
    return cases


def _sizes(generator: torch.Generator) -> Sequence[Inputs]:
    sizes = [(12, 3, 5), (16, 4, 4), (9, 1, 3), (10, 7, 6), (14, 6, 2)]
    return [sizes[i] for i in torch.randperm(len(sizes), generator=generator).tolist()]


def _measurements(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for layers, settings in ((4, 4), (3, 6), (5, 5)):
        steps_LN = 0.05 + torch.rand(layers, settings, dtype=torch.float64, generator=generator)
        overlap_LN = 1 - 0.8 * steps_LN.cumsum(-1) / steps_LN.sum(-1, keepdim=True)
        rises_LN = torch.rand(layers, settings, dtype=torch.float64, generator=generator)
        cost_LN = rises_LN.cumsum(-1) * torch.linspace(1, 0.1, layers).double()[:, None]
        level = (overlap_LN[:, 0].min() + overlap_LN[:, -1].max()).item() / 2
        cases.append((overlap_LN, cost_LN, level))
    return cases


def _mean_jaccard(one_TE: Tensor, other_TE: Tensor) -> Tensor:
    shared_T, either_T = (one_TE & other_TE).sum(-1), (one_TE | other_TE).sum(-1)
    return (shared_T.double() / either_T).mean()


def _chance(E: int, k: int, other: int, share: Callable[[int], float]) -> Tensor:
    """The mean of a function of the number of shared experts."""
    ways = [comb(k, m) * comb(E - k, other - m) for m in range(min(k, other) + 1)]
    mean = sum(way * share(m) for m, way in enumerate(ways)) / comb(E, other)
    return torch.tensor(mean, dtype=torch.float64)


def _by_draws(E: int, k: int, other: int) -> Tensor:
    p = k / E
    ways = [comb(other, m) * p**m * (1 - p) ** (other - m) for m in range(other + 1)]
    mean = sum(way * m / (k + other - m) for m, way in enumerate(ways))
    return torch.tensor(mean, dtype=torch.float64)


def _around(values_LN: Tensor, overlap_LN: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Each layer's value at the last setting above a level of overlap, and at the one below."""
    below_L1 = (overlap_LN > level).sum(1, keepdim=True)
    return values_LN.gather(1, below_L1 - 1)[:, 0], values_LN.gather(1, below_L1)[:, 0]


def _at_equal_overlap(overlap_LN: Tensor, cost_LN: Tensor, level: float) -> Tensor:
    high_L, low_L = _around(overlap_LN, overlap_LN, level)
    before_L, after_L = _around(cost_LN, overlap_LN, level)
    return before_L + (high_L - level) / (high_L - low_L) * (after_L - before_L)


def _interpolated_backwards(overlap_LN: Tensor, cost_LN: Tensor, level: float) -> Tensor:
    pairs = zip(overlap_LN.numpy(), cost_LN.numpy(), strict=True)
    return torch.tensor([np.interp(level, *pair) for pair in pairs], dtype=torch.float64)


MASKS = Exercise(
    "15.1",
    _mean_jaccard,
    _masks,
    (
        Mistake(
            lambda a, b: ((a & b).sum(-1) / a.sum(-1)).mean(),
            "this divides by the experts of the first choice alone: divide by those in either",
        ),
        Mistake(
            lambda a, b: ((a & b).sum(-1) / b.sum(-1)).mean(),
            "this divides by the experts of the second choice alone: divide by those in either",
        ),
        Mistake(
            lambda a, b: ((a & b).sum(-1) / torch.minimum(a.sum(-1), b.sum(-1))).mean(),
            "this divides by the smaller choice alone: divide by the experts in either",
        ),
        Mistake(
            lambda a, b: ((a & b).sum(-1) / torch.maximum(a.sum(-1), b.sum(-1))).mean(),
            "this divides by the larger choice alone: divide by the experts in either",
        ),
        Mistake(
            lambda a, b: ((a & b).sum(-1) / (a.sum(-1) + b.sum(-1))).mean(),
            "this counts what is shared twice below the line: count each expert that is in either "
            "choice once",
        ),
        Mistake(
            lambda a, b: (2 * (a & b).sum(-1) / (a.sum(-1) + b.sum(-1))).mean(),
            "this is Dice's overlap, whose denominator counts what is shared twice: count each "
            "expert that is in either choice once",
        ),
        Mistake(
            lambda a, b: (a & b).sum() / (a | b).sum(),
            "this divides the totals: a token with many experts then weighs more than one with few",
        ),
        Mistake(
            lambda a, b: (a == b).double().mean(),
            "this counts experts that neither has as agreement: most experts are in no choice",
        ),
        Mistake(
            lambda a, b: (a == b).all(-1).double().mean(),
            "this is the share of tokens with the very same experts: how much is shared?",
        ),
        Mistake(
            lambda a, b: 1 - _mean_jaccard(a, b), "this is the distance: 1 is for equal choices"
        ),
    ),
    tolerance=1e-6,  # shares of counts may well be float32
)

CHANCE = Exercise(
    "15.2",
    lambda E, k, other: _chance(E, k, other, lambda m: m / (k + other - m)),
    _sizes,
    (
        Mistake(
            lambda E, k, other: (k * other / E) / (k + other - k * other / E),
            "this puts the mean number of shared experts into the formula: the mean of a quotient "
            "is another number",
        ),
        Mistake(
            lambda E, k, other: _chance(E, k, k, lambda m: m / (2 * k - m)),
            "this takes both sets for equally large",
        ),
        Mistake(
            lambda E, k, other: _chance(E, other, other, lambda m: m / (2 * other - m)),
            "this takes both sets for equally large",
        ),
        Mistake(
            lambda E, k, other: _chance(
                E, k, other, lambda m: m < min(k, other) and m / (k + other - m)
            ),
            "this leaves out the largest number that can be shared: a range stops before its end",
        ),
        Mistake(
            lambda E, k, other: (
                _chance(E, k, other, lambda m: m / (k + other - m)) * comb(E, other) / comb(E, k)
            ),
            "this divides by the ways to draw the first set: it stands, and the second is drawn",
        ),
        Mistake(
            lambda E, k, other: other / E,
            "this is the share of the first set that is in the second: divide by those in either",
        ),
        Mistake(
            lambda E, k, other: k / E,
            "this is the share of the second set that is in the first: divide by those in either",
        ),
        Mistake(
            _by_draws,
            "this draws with replacement: an expert that is drawn cannot be drawn again",
        ),
        Mistake(
            lambda E, k, other: _chance(E, k, other, lambda m: m / (k + other)),
            "this counts shared experts twice below the line: in either set are k + other - m",
        ),
        Mistake(
            lambda E, k, other: 1 - _chance(E, k, other, lambda m: m / (k + other - m)),
            "this is the distance: 1 is for equal sets",
        ),
    ),
)

EQUAL = Exercise(
    "15.4",
    _at_equal_overlap,
    _measurements,
    (
        Mistake(
            _interpolated_backwards,
            "these are the costs at the last setting. If they come from np.interp: it wants x to "
            "rise, and says nothing if it does not, so flip both rows",
        ),
        Mistake(
            lambda overlap, cost, level: cost.gather(
                1, (overlap - level).abs().argmin(1, keepdim=True)
            )[:, 0],
            "these are the costs at the nearest setting that was measured: interpolate between the "
            "two settings around the level",
        ),
        Mistake(
            lambda overlap, cost, level: cost[:, (overlap.mean(0) - level).abs().argmin()],
            "these are costs at one setting for all layers, whose overlaps differ there",
        ),
        Mistake(
            lambda overlap, cost, level: _around(cost, overlap, level)[1],
            "these are the costs at the first setting below the level: interpolate around it",
        ),
        Mistake(
            lambda overlap, cost, level: _around(cost, overlap, level)[0],
            "these are the costs at the last setting above the level: interpolate around it",
        ),
        Mistake(
            lambda overlap, cost, level: torch.stack(_around(cost, overlap, level)).mean(0),
            "these are the means of the two costs around the level: the nearer one weighs more",
        ),
        Mistake(
            lambda overlap, cost, level: (
                torch.stack(_around(cost, overlap, level)).sum(0)
                - _at_equal_overlap(overlap, cost, level)
            ),
            "these weights are exchanged: the nearer of the two costs weighs more",
        ),
        Mistake(
            lambda overlap, cost, level: _at_equal_overlap(
                overlap.mean(0).expand_as(overlap), cost, level
            ),
            "this puts the layers' mean overlap in the place of each layer's own",
        ),
    ),
)

EXERCISES = (MASKS, CHANCE, RENAMED, EQUAL)
