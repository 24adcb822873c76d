"""Answers to chapter 11's exercises: right in other styles than the package's, and wrong ones."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Answer = Callable[..., Any]


def lfm2(logits: Tensor, bias: Tensor) -> Tensor:
    scores = logits.sigmoid()
    chosen = torch.topk(scores + bias, 4).indices
    mask = torch.zeros_like(scores).scatter(1, chosen, 1.0)
    return mask * scores / ((mask * scores).sum(-1, keepdim=True) + 1e-6)


def group_limited(scores: Tensor, number: int, kept: int, k: int) -> list[list[bool]]:
    rows = []
    for row in scores.tolist():
        size = len(row) // number
        groups = [row[g * size : (g + 1) * size] for g in range(number)]
        order = sorted(range(number), key=lambda g: sum(sorted(groups[g])[-2:]), reverse=True)
        allowed = [e for e in range(len(row)) if e // size in order[:kept]]
        best = sorted(allowed, key=lambda e: row[e], reverse=True)[:k]
        rows.append([e in best for e in range(len(row))])
    return rows


def llama(x: Tensor, logits: Tensor, k: int, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for t, ids in enumerate(logits.topk(k).indices.tolist()):
        for e in ids:
            u = torch.sigmoid(logits[t, e]) * x[t]
            y[t] += down[e] @ (functional.silu(gate[e] @ u) * (up[e] @ u))
    return y


def which(scores: Tensor, gates: Tensor) -> list[float]:
    ratio = gates / scores
    if ratio.max() - ratio.min() < 1e-9:
        return [0, ratio[0, 0].item()]
    return [1, gates[0].sum().item()]


RIGHT: dict[str, Answer] = {
    "11.1": lfm2, "11.2": group_limited, "11.3": llama, "11.4": which,
}  # fmt: skip
UNLISTED: dict[str, tuple[Answer, ...]] = {
    "11.1": (
        lambda logits, bias: lfm2(logits, -bias),
        lambda logits, bias: 2 * lfm2(logits, bias),
        lambda logits, bias: lfm2(logits, bias)[:, :4],
    ),
    "11.2": (
        lambda scores, number, kept, k: [
            [not it for it in r] for r in group_limited(scores, number, kept, k)
        ],
        lambda scores, number, kept, k: group_limited(-scores, number, kept, k),
        lambda scores, number, kept, k: group_limited(scores, number, kept, 1),
    ),
    "11.3": (
        lambda x, *rest: llama(2 * x, *rest),
        lambda x, *rest: llama(x, *rest) / len(x) ** 0.5 + x,
        lambda x, *rest: x,
    ),
    "11.4": (
        lambda scores, gates: [0, 1],
        lambda scores, gates: scores.sum(-1),
        lambda scores, gates: [which(scores, gates)[0], 2 * which(scores, gates)[1]],
    ),
}
