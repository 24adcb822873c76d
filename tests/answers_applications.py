"""Right answers to chapter 13's exercises, and plausible wrong ones that the checks do not list."""

import math
from collections.abc import Callable
from typing import Any

import torch

RIGHT: dict[str, Callable[..., Any]] = {
    "13.1": lambda seconds, share: torch.tensor(
        [s < sorted(seconds.tolist())[int(share * len(seconds))] for s in seconds.tolist()]
    ),
    "13.2": lambda f, logits, k: torch.stack(
        [
            ((one.masked_fill(one < one.topk(k).values[:, -1:], -torch.inf)).softmax(-1)[..., None]
             * f).sum(1)
            for one in logits
        ]
    ),
    "13.3": lambda counts, script: sum(
        counts[script == s].sum() / counts.sum()
        * (
            torch.distributions.Categorical(counts[script == s].sum(1).double()).entropy()
            + torch.distributions.Categorical(counts[script == s].sum(0).double()).entropy()
            - torch.distributions.Categorical(counts[script == s].flatten().double()).entropy()
        )
        for s in script.unique()
    ),
    "13.4": lambda scores, seen, ahead, n: sum(
        1 / math.log2(place + 2)
        for place, film in enumerate(
            [i for i in scores.argsort(descending=True).tolist() if not seen[i]][:n]
        )
        if film in ahead.tolist()
    ) / sum(1 / math.log2(place + 2) for place in range(min(n, len(ahead)))),
}  # fmt: skip

UNLISTED: dict[str, tuple[Callable[..., Any], ...]] = {
    "13.1": (
        lambda seconds, share: torch.ones(len(seconds), dtype=torch.bool),
        lambda seconds, share: seconds < seconds.double().mean(),
        lambda seconds, share: torch.rand(len(seconds)) < share,
        lambda seconds, share: seconds < seconds.sort().values[int(share * len(seconds)) - 1],
        lambda seconds, share: seconds < seconds.sort().values[int(share * len(seconds)) + 1],
        lambda seconds, share: seconds < torch.quantile(seconds.double(), share),
        lambda seconds, share: seconds < seconds[int(share * len(seconds))],
        lambda seconds, share: seconds.sort().values < seconds.median(),
    ),
    "13.2": (
        lambda f, logits, k: f[:, :k].mean(1).expand(2, -1, -1),
        lambda f, logits, k: torch.einsum("nte,ted->ntd", logits, f),
        lambda f, logits, k: torch.einsum("nte,ted->ntd", logits.sigmoid(), f),
    ),
    "13.3": (
        lambda counts, script: torch.tensor(0.0),
        lambda counts, script: torch.distributions.Categorical(counts.sum(1).double()).entropy(),
        lambda counts, script: (counts / counts.sum()).max(),
    ),
    "13.4": (
        lambda scores, seen, ahead, n: torch.tensor(1.0),
        lambda scores, seen, ahead, n: scores[ahead].mean(),
        lambda scores, seen, ahead, n: len(ahead) / len(scores),
    ),
}
