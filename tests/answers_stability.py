"""Right answers to chapter 15's exercises, and plausible wrong ones that the checks do not list."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.interpolate import interp1d
from scipy.optimize import linear_sum_assignment
from scipy.stats import hypergeom

one_hot = torch.nn.functional.one_hot


def by_assignment(a: Any, b: Any, c: Any, d: Any, E: int) -> torch.Tensor:
    """The names from SciPy, the overlap from one-hot rows."""
    used = [one_hot(ids, E).sum(1) for ids in (a, b, c, d)]
    rows, columns = linear_sum_assignment((used[0].T @ used[1]).numpy(), maximize=True)
    assert list(rows) == list(range(E))
    kept, other = used[2], used[3][:, torch.from_numpy(columns)]
    return ((kept * other).sum(1) / torch.maximum(kept, other).sum(1)).mean()


RIGHT: dict[str, Callable[..., Any]] = {
    "15.1": lambda a, b: (
        torch.minimum(a.double(), b.double()).sum(1) / torch.maximum(a.double(), b.double()).sum(1)
    ).mean(),
    "15.2": lambda E, k, other: hypergeom(E, k, other).expect(lambda m: m / (k + other - m)),
    "15.3": by_assignment,
    "15.4": lambda overlap, cost, level: np.stack(
        [interp1d(o, c)(level) for o, c in zip(overlap.numpy(), cost.numpy(), strict=True)]
    ),
}

UNLISTED: dict[str, tuple[Callable[..., Any], ...]] = {
    "15.1": (
        lambda a, b: (a & b).sum() / b.sum(),
        lambda a, b: (a ^ b).double().mean(),
        lambda a, b: torch.tensor(1.0),
    ),
    "15.2": (
        lambda E, k, other: min(k, other) / E,
        lambda E, k, other: (k / E) * (other / E),
        lambda E, k, other: (k + other) / (2 * E),
    ),
    "15.3": (
        lambda a, b, c, d, E: (c == d).double().mean(),
        lambda a, b, c, d, E: by_assignment(a, b, c, d.flip(0), E),
        lambda a, b, c, d, E: torch.tensor(1.0),
    ),
    "15.4": (
        lambda overlap, cost, level: cost.mean(1),
        lambda overlap, cost, level: cost[:, 0] * level,
        lambda overlap, cost, level: torch.full((len(cost),), level, dtype=torch.float64),
    ),
}
