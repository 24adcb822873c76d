"""Answers to chapter 15's exercises as readers write them: right in any style, wrong in many."""

import itertools
from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np
import torch

from moe_tutorial.exercises import EXERCISES
from moe_tutorial.uncertainty.matching import match_experts
from moe_tutorial.uncertainty.stability import chance_jaccard, jaccard
from tests.answers_stability import by_assignment

Answer = Callable[..., Any]


def overlap_in_sets(a: torch.Tensor, b: torch.Tensor) -> float:
    total = 0.0
    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        first, second = ({e for e, on in enumerate(row) if on} for row in (one, other))
        total += len(first & second) / len(first | second)
    return total / len(a)


def overlap_by_counts(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    counts = a.int() + b.int()
    return ((counts == 2).sum(1) / (counts > 0).sum(1)).mean()


def overlap_in_numpy(a: torch.Tensor, b: torch.Tensor) -> Any:
    x, y = a.numpy(), b.numpy()
    return np.mean(np.logical_and(x, y).sum(1) / np.logical_or(x, y).sum(1))


def chance_by_enumeration(E: int, k: int, other: int) -> float:
    one = set(range(k))
    sets = [set(it) for it in itertools.combinations(range(E), other)]
    return sum(len(one & it) / len(one | it) for it in sets) / len(sets)


def chance_by_ways(E: int, k: int, other: int) -> float:
    total = 0.0
    for m in range(max(0, k + other - E), min(k, other) + 1):
        total += comb(k, m) * comb(E - k, other - m) / comb(E, other) * m / (k + other - m)
    return total


def chance_by_recursion(E: int, k: int, other: int) -> torch.Tensor:
    """Draw the second set one by one: the odds of each number that has been shared so far."""
    odds = {0: 1.0}
    for drawn in range(other):
        after = dict.fromkeys(range(drawn + 2), 0.0)
        for m, p in odds.items():
            hit = (k - m) / (E - drawn)
            after[m + 1] += p * hit
            after[m] += p * (1 - hit)
        odds = after
    return torch.tensor(sum(p * m / (k + other - m) for m, p in odds.items()))


def names_by_trying(a: Any, b: Any, c: Any, d: Any, E: int) -> float:
    def shared(names: tuple[int, ...]) -> int:
        return sum(len(set(x) & {names[e] for e in y}) for x, y in zip(a, b, strict=True))

    a, b, c, d = (ids.tolist() for ids in (a, b, c, d))
    names = max(itertools.permutations(range(E)), key=shared)
    pairs = [(set(x), {names[e] for e in y}) for x, y in zip(c, d, strict=True)]
    return sum(len(x & y) / len(x | y) for x, y in pairs) / len(pairs)


def names_by_package(a: Any, b: Any, c: Any, d: Any, E: int) -> torch.Tensor:
    return jaccard(c, match_experts(a, b, E)[d]).mean()


def names_the_other_way(a: Any, b: Any, c: Any, d: Any, E: int) -> torch.Tensor:
    return jaccard(match_experts(b, a, E)[c], d).mean()


def names_by_overlap(a: Any, b: Any, c: Any, d: Any, E: int) -> torch.Tensor:
    """The mean overlap made largest, in place of the number of shared experts."""
    return torch.as_tensor(names_by(jaccard)(a, b, c, d, E))


def names_by(score: Callable[[Any, Any], Any]) -> Answer:
    """An answer whose names make something else the largest."""

    def answer(a: Any, b: Any, c: Any, d: Any, E: int) -> torch.Tensor:
        permutations = [torch.tensor(names) for names in itertools.permutations(range(E))]
        best = max(permutations, key=lambda names: score(a, names[b]).sum().item())
        return jaccard(c, best[d]).mean()

    return answer


def cost_by_interp(overlap: torch.Tensor, cost: torch.Tensor, level: float) -> list[Any]:
    pairs = zip(overlap.numpy(), cost.numpy(), strict=True)
    return [np.interp(level, o[::-1], c[::-1]) for o, c in pairs]


def cost_in_loops(overlap: torch.Tensor, cost: torch.Tensor, level: float) -> torch.Tensor:
    found = torch.zeros(len(cost))
    for layer in range(len(cost)):
        for n in range(cost.shape[1] - 1):
            high, low = overlap[layer, n], overlap[layer, n + 1]
            if high >= level >= low:
                part = (level - low) / (high - low)
                found[layer] = part * cost[layer, n] + (1 - part) * cost[layer, n + 1]
    return found


def cost_by_hats(overlap: torch.Tensor, cost: torch.Tensor, level: float) -> torch.Tensor:
    after = (overlap > level).sum(1, keepdim=True)
    x0, x1 = overlap.gather(1, after - 1), overlap.gather(1, after)
    y0, y1 = cost.gather(1, after - 1), cost.gather(1, after)
    return ((y0 * (level - x1) + y1 * (x0 - level)) / (x0 - x1))[:, 0]


def cost_with_exchanged_weights(
    overlap: torch.Tensor, cost: torch.Tensor, level: float
) -> torch.Tensor:
    after = (overlap > level).sum(1, keepdim=True)
    x0, x1 = overlap.gather(1, after - 1), overlap.gather(1, after)
    share = (x0 - level) / (x0 - x1)
    return torch.lerp(cost.gather(1, after), cost.gather(1, after - 1), share)[:, 0]


RIGHT: dict[str, tuple[Answer, ...]] = {
    "15.1": (overlap_in_sets, overlap_by_counts, overlap_in_numpy),
    "15.2": (chance_by_enumeration, chance_by_ways, chance_by_recursion),
    "15.3": (names_by_trying, names_by_package, names_the_other_way, names_by_overlap),
    "15.4": (cost_by_interp, cost_in_loops, cost_by_hats),
}

WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "15.1": (
        (lambda a, b: ((a & b).sum(1) / a.sum(1)).mean(), "first choice alone"),
        (lambda a, b: ((a & b).sum(1) / b.sum(1)).mean(), "second choice alone"),
        (
            lambda a, b: ((a & b).sum(1) / torch.minimum(a.sum(1), b.sum(1))).mean(),
            "smaller choice alone",
        ),
        (
            lambda a, b: ((a & b).sum(1) / torch.maximum(a.sum(1), b.sum(1))).mean(),
            "larger choice alone",
        ),
        (lambda a, b: ((a & b).sum(1) / (a.sum(1) + b.sum(1))).mean(), "below the line"),
        (lambda a, b: ((a & b).sum(0) / (a | b).sum(0)).nanmean(), "expected"),
        (lambda a, b: (2 * (a & b).sum(1) / (a.sum(1) + b.sum(1))).mean(), "Dice"),
        (lambda a, b: (a * b).sum() / (a | b).sum(), "divides the totals"),
        (lambda a, b: 1 - (a ^ b).double().mean(), "in no choice"),
        (lambda a, b: sum(torch.equal(x, y) for x, y in zip(a, b, strict=True)) / len(a), "very"),
        (lambda a, b: 1 - overlap_in_sets(a, b), "distance"),
        (lambda a, b: (a & b).sum(1) / (a | b).sum(1), "expected a single number"),
    ),
    "15.2": (
        (lambda E, k, other: k * other / (E * (k + other) - k * other), "mean number"),
        (lambda E, k, other: chance_jaccard(E, k), "equally large"),
        (lambda E, k, other: chance_jaccard(E, other), "equally large"),
        (lambda E, k, other: round(chance_by_ways(E, k, other), 3), "expected"),
        (
            lambda E, k, other: sum(
                comb(k, m) * comb(E - k, other - m) / comb(E, other) * m / (k + other - m)
                for m in range(min(k, other))
            ),
            "a range stops before its end",
        ),
        (
            lambda E, k, other: chance_by_ways(E, k, other) * comb(E, other) / comb(E, k),
            "ways to draw the first set",
        ),
        (lambda E, k, other: other / E, "in the second"),
        (lambda E, k, other: k / E, "in the first"),
        (
            lambda E, k, other: sum(
                comb(other, m) * (k / E) ** m * (1 - k / E) ** (other - m) * m / (k + other - m)
                for m in range(other + 1)
            ),
            "with replacement",
        ),
        (lambda E, k, other: k * other / E / (k + other), "twice"),
        (lambda E, k, other: 1 - chance_by_ways(E, k, other), "distance"),
    ),
    "15.3": (
        (lambda a, b, c, d, E: jaccard(c, d).mean(), "not renamed"),
        (lambda a, b, c, d, E: by_assignment(c, d, c, d, E), "on which they are judged"),
        (lambda a, b, c, d, E: names_by_overlap(c, d, c, d, E), "on which they are judged"),
        (
            lambda a, b, c, d, E: by_assignment(torch.cat([a, c]), torch.cat([b, d]), c, d, E),
            "found on all tokens",
        ),
        (names_by(lambda one, other: one == other), "expected"),  # places in a list
        (names_by(lambda one, other: jaccard(one, other) == 1), "expected"),  # equal sets
        (lambda a, b, c, d, E: by_assignment(a, b, a, b, E), "that found the names"),
        (
            lambda a, b, c, d, E: (c == match_experts(a, b, E)[d]).double().mean(),
            "compares places in lists",
        ),
        (
            lambda a, b, c, d, E: jaccard(c, match_experts(b, a, E)[d]).mean(),
            "wrong way",
        ),
        (
            lambda a, b, c, d, E: by_assignment(a, b, torch.cat([a, c]), torch.cat([b, d]), E),
            "judges on all tokens",
        ),
        (lambda a, b, c, d, E: by_assignment(c, d, a, b, E), "expected"),
        (lambda a, b, c, d, E: jaccard(c, d.flip(0)).mean(), "expected"),
    ),
    "15.4": (
        (
            lambda overlap, cost, level: [
                np.interp(level, o.numpy(), c.numpy()) for o, c in zip(overlap, cost, strict=True)
            ],
            "wants x to rise",
        ),
        (
            lambda overlap, cost, level: [
                c[(o - level).abs().argmin()] for o, c in zip(overlap, cost, strict=True)
            ],
            "nearest setting",
        ),
        (
            lambda overlap, cost, level: cost[:, (overlap.mean(0) - level).abs().argmin()],
            "one setting for all",
        ),
        (
            lambda overlap, cost, level: cost.gather(
                1, (overlap > level).sum(1, keepdim=True)
            ).flatten(),
            "first setting below",
        ),
        (
            lambda overlap, cost, level: cost.gather(
                1, (overlap > level).sum(1, keepdim=True) - 1
            ).flatten(),
            "last setting above",
        ),
        (
            lambda overlap, cost, level: [
                np.interp(-level, -o.numpy(), c.numpy()[::-1])
                for o, c in zip(overlap, cost, strict=True)
            ],
            "expected",
        ),
        (
            lambda overlap, cost, level: [
                np.interp(level, overlap.mean(0).numpy()[::-1], c.numpy()[::-1]) for c in cost
            ],
            "in the place of each layer's own",
        ),
        (cost_with_exchanged_weights, "weights are exchanged"),
        (lambda overlap, cost, level: cost[:, -1], "costs at the last setting"),
        (lambda overlap, cost, level: cost.mean(1), "expected"),
    ),
}


def test_the_references_agree_with_the_package() -> None:
    for seed in range(4):
        for case in EXERCISES["15.3"].inputs(torch.Generator().manual_seed(seed)):
            expected = EXERCISES["15.3"].reference(*case)
            assert torch.isclose(names_by_package(*case), expected)
            assert torch.isclose(names_the_other_way(*case), expected)
        for overlap, _, level in EXERCISES["15.4"].inputs(torch.Generator().manual_seed(seed)):
            assert (overlap.diff(dim=1) < 0).all()
            assert (overlap[:, 0] > level).all()
            assert (overlap[:, -1] < level).all()
    assert EXERCISES["15.2"].reference(16, 4, 4) == chance_jaccard(16, 4)
