"""Right answers to chapter 14's exercises, and plausible wrong ones that the checks do not list."""

from collections.abc import Callable
from typing import Any

import torch

RIGHT: dict[str, Callable[..., Any]] = {
    "14.1": lambda load, rank: [
        [int(part.sum()) for part in load[rank].chunk(len(load))],
        load.chunk(len(load), dim=1)[rank].sum(1).tolist(),
    ],
    "14.2": lambda p, load, tokens: (
        torch.einsum("te,e->", p, load.to(p)) * len(load) / load.sum() / tokens
    ),
    "14.3": lambda experts, E, nodes, mine, row: (
        sum(len({e * nodes // E for e in ids} - {mine}) for ids in experts.tolist()) * row
    ),
    "14.4": lambda ranks, copies, loss, reduction: [
        {"share": 1, "mean": ranks}[loss] / {"sum": 1, "mean": size}[reduction]
        for size in (ranks, copies)
    ],
}

UNLISTED: dict[str, tuple[Callable[..., Any], ...]] = {
    "14.1": (
        lambda load, rank: torch.zeros(2, len(load)),
        lambda load, rank: load[:2, : len(load)],
        lambda load, rank: torch.stack([load.sum(1), load.sum(1)]),
    ),
    "14.2": (
        lambda p, load, tokens: p.sum() / tokens,
        lambda p, load, tokens: (p.mean(0) * load / tokens).sum(),
        lambda p, load, tokens: -RIGHT["14.2"](p, load, tokens),
    ),
    "14.3": (
        lambda experts, E, nodes, mine, row: nodes * row,
        lambda experts, E, nodes, mine, row: (experts != mine).sum() * row,
        lambda experts, E, nodes, mine, row: RIGHT["14.3"](
            experts, E, nodes, (mine + 1) % nodes, 1
        ),
    ),
    "14.4": (
        lambda ranks, copies, loss, reduction: [ranks, copies],
        lambda ranks, copies, loss, reduction: [1, ranks / copies],
        lambda ranks, copies, loss, reduction: [2, 2],
    ),
}
