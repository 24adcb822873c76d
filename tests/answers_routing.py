"""Right and wrong answers to the exercises of chapters 03 to 05, as readers may write them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import optimize

from moe_tutorial import inclusion_probabilities
from moe_tutorial.exercises import EXERCISES

softmax = torch.softmax
Answer = Callable[..., Any]


def stable_order(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Top-k as Python would do it: sorted by score downwards, then by id upwards."""
    rows = [sorted(range(len(row)), key=lambda e: (-row[e], e))[:k] for row in scores.tolist()]
    return torch.tensor(rows)


def inclusion_of_two(logits: torch.Tensor) -> torch.Tensor:
    """Drawn first, or second after each other expert: a softmax over those who are left."""
    total = softmax(logits, -1)
    for first, probability in enumerate(softmax(logits, -1)):
        left = logits.clone()
        left[first] = -torch.inf
        total = total + probability * softmax(left, -1)
    return total


def sigmoid_of_the_lead(logits: torch.Tensor) -> torch.Tensor:
    """The largest probability, from the lead over all other experts taken together."""
    ordered = logits.sort(-1, descending=True).values
    return torch.sigmoid(ordered[:, :1] - ordered[:, 1:].logsumexp(-1, True))


def one_after_another(logits: torch.Tensor, waiting: torch.Tensor, k: int, tau: float) -> Any:
    """The race in plain Python, by the exponent of each arrival."""
    times = (waiting.log() - logits / tau).tolist()
    return [sorted(range(len(row)), key=row.__getitem__)[:k] for row in times]


# Right answers written another way than the reference.
RIGHT: dict[str, Answer] = {
    "3.1": stable_order,
    "3.2": lambda logits, e: softmax(logits.take_along_dim(e, -1), -1),
    "3.3": lambda logits: 1 / (logits - logits.amax(-1, True)).exp().sum(-1, keepdim=True),
    "3.4": lambda logits, k, norm: (
        softmax(logits, -1).topk(k).values if not norm else softmax(logits.topk(k).values, -1)
    ),
    "4.1": lambda logits, w, k, t: ((logits - logits.amax(-1, True)) / t - w.log()).topk(k).indices,
    "4.2": lambda logits, e: (
        logits.gather(-1, e)
        - torch.stack(
            [logits.scatter(-1, e[:, :i], -torch.inf).logsumexp(-1) for i in range(e.shape[1])], -1
        )
    ).sum(-1),
    "4.3": lambda logits: torch.stack([inclusion_of_two(row) for row in logits]),
    "4.4": lambda logits, k: optimize.brentq(
        lambda tau: float(inclusion_probabilities(logits[None], k, tau).amax()) - 0.5, 1e-3, 1e4
    ),
    "5.1": lambda o, g: torch.bmm(g[:, None], o)[:, 0],
    "5.2": lambda logits, e, outputs: torch.einsum(
        "tk,tkd->td",
        softmax(logits.gather(-1, e), -1),
        outputs.take_along_dim(e.argsort(-1).argsort(-1)[..., None], 1),
    ),
    "5.3": lambda o, logits, v: torch.autograd.functional.jacobian(
        lambda z: softmax(z, -1) @ o @ v, logits
    ),
    "5.4": lambda e, n, renormalise: [
        sum(int(i in row) for row in e.tolist()) * (e.shape[1] > 1) if renormalise else len(e)
        for i in range(n)
    ],
}

# Plausible wrong answers that the checks do not list.
UNLISTED: dict[str, tuple[Answer, ...]] = {
    "3.1": (
        lambda s, k: s.topk(k, largest=False).indices,
        lambda s, k: stable_order(s, k + 1)[:, 1:],
        lambda s, k: stable_order(s, k).float(),
    ),
    "3.2": (
        lambda logits, e: softmax(logits.gather(-1, e) / 2, -1),
        lambda logits, e: torch.sigmoid(logits.gather(-1, e)),
        lambda logits, e: torch.ones(e.shape).double() / e.shape[-1],
    ),
    "3.3": (
        lambda logits: softmax(logits, -1).amin(-1, True),
        lambda logits: softmax(logits, -1).amax(-1),
        lambda logits: softmax(logits, -1).amax(-1, True).square(),
    ),
    "3.4": (
        lambda logits, k, norm: softmax(logits.topk(k).values / 2, -1),
        lambda logits, k, norm: logits.topk(k).values,
        lambda logits, k, norm: softmax(logits, -1)[:, :k],
    ),
    "4.1": (
        lambda logits, w, k, t: w.argsort(-1)[:, :k],
        lambda logits, w, k, t: (w.sqrt() - logits / t).argsort(-1)[:, :k],
        lambda logits, w, k, t: (w.log() - logits / t).argsort(-1)[:, 1 : k + 1],
    ),
    "4.2": (
        lambda logits, e: torch.zeros(len(logits)).double(),
        lambda logits, e: softmax(logits, -1).gather(-1, e).sum(-1).log(),
        lambda logits, e: logits.gather(-1, e).sum(-1),
    ),
    "4.3": (
        lambda logits: softmax(logits, -1),
        lambda logits: softmax(logits / 2, -1) * 2,
        lambda logits: 1 - (1 - softmax(logits, -1)).pow(3),
    ),
    "4.4": (
        lambda logits, k: 1.0,
        lambda logits, k: logits.max() - logits.mean(),
        lambda logits, k: len(logits) / k,
    ),
    "5.1": (
        lambda o, g: (g[..., None] * o).sum(-1),
        lambda o, g: (g[..., None] * o)[:, 0],
        lambda o, g: (g.flip(-1)[..., None] * o).sum(1) * 1.001,
    ),
    "5.2": (
        lambda logits, e, outputs: outputs.sum(1),
        lambda logits, e, outputs: (
            softmax(logits.gather(-1, e).flip(-1), -1)[..., None] * outputs
        ).sum(1),
        lambda logits, e, outputs: outputs[:, 0],
    ),
    "5.3": (
        lambda o, logits, v: softmax(logits, -1),
        lambda o, logits, v: softmax(o @ v, -1),
        lambda o, logits, v: softmax(logits, -1).square() * (o @ v),
    ),
    "5.4": (
        lambda e, n, renormalise: torch.ones(n, dtype=torch.int64),
        lambda e, n, renormalise: torch.bincount(e[:, 0], minlength=n),
        lambda e, n, renormalise: torch.full((n,), e.shape[1]),
    ),
}


def counted_up(experts: torch.Tensor, num_experts: int, renormalise: bool) -> torch.Tensor:
    """Counts in a loop, as floats."""
    counts_E = torch.zeros(num_experts)
    for chosen_K in experts:
        if not renormalise:
            counts_E += 1
        elif len(chosen_K) > 1:
            counts_E[chosen_K] += 1
    return counts_E


# More right answers, in other styles and dtypes.
STYLES: dict[str, tuple[Answer, ...]] = {
    "3.1": (
        lambda s, k: np.argsort(-s.numpy(), axis=-1, kind="stable")[:, :k].copy(),
        lambda s, k: EXERCISES["3.1"].reference(s, k).to(torch.int32),
        lambda s, k: np.lexsort((np.broadcast_to(np.arange(s.shape[-1]), s.shape), -s.numpy()))[
            :, :k
        ],
    ),
    "3.2": (
        lambda z, e: (z.gather(-1, e) - z.gather(-1, e).logsumexp(-1, True)).exp(),
        lambda z, e: torch.stack([softmax(row[ids], -1) for row, ids in zip(z, e, strict=True)]),
        lambda z, e: softmax(z.gather(-1, e).float(), -1),
        lambda z, e: z.log_softmax(-1).gather(-1, e).softmax(-1),
    ),
    "3.3": (
        sigmoid_of_the_lead,
        lambda z: z.log_softmax(-1).amax(-1, True).exp(),
        lambda z: softmax(z, -1).gather(-1, z.argmax(-1, True)),
    ),
    "3.4": (
        lambda z, k, norm: softmax(z, -1).topk(k).values / (
            softmax(z, -1).topk(k).values.sum(-1, True) if norm else 1
        ),
        lambda z, k, norm: (
            z.topk(k).values - (z.topk(k).values if norm else z).logsumexp(-1, True)
        ).exp(),
        lambda z, k, norm: softmax(z.topk(k).values.float(), -1) if norm else (
            softmax(z.float(), -1).topk(k).values
        ),
    ),
    "4.1": (
        one_after_another,
        lambda z, w, k, t: (z / t - w.log()).argsort(-1, descending=True)[:, :k],
        lambda z, w, k, t: (t * w.log() - z).topk(k, largest=False).indices,
    ),
    "4.2": (
        lambda z, e: torch.stack(
            [
                sum(
                    row[b] - torch.stack([row[c] for c in range(len(row)) if c not in ids[:i]])
                    .logsumexp(-1)
                    for i, b in enumerate(ids)
                )
                for row, ids in zip(z, e.tolist(), strict=True)
            ]
        ),
        lambda z, e: EXERCISES["4.2"].reference(z, e).float(),
    ),
    "4.3": (
        lambda z: softmax(z, -1) + torch.einsum(
            "tj,tje->te",
            softmax(z, -1),
            z[:, None].masked_fill(torch.eye(z.shape[-1]).bool(), -torch.inf).softmax(-1),
        ),
        lambda z: torch.stack([inclusion_of_two(row) for row in z.float()]),
    ),
    "4.4": (
        lambda z, k: 1.005 * EXERCISES["4.4"].reference(z, k),
        lambda z, k: torch.tensor(EXERCISES["4.4"].reference(z, k)),
    ),
    "5.1": (
        lambda o, g: sum(g[:, i : i + 1] * o[:, i] for i in range(o.shape[1])),
        lambda o, g: (o.mT @ g[..., None]).squeeze(-1),
        lambda o, g: torch.einsum("tk,tkd->td", g.float(), o.float()),
    ),
    "5.2": (
        lambda z, e, o: torch.einsum("tk,tkd->td", softmax(z.gather(-1, e.sort(-1)[0]), -1), o),
        lambda z, e, o: torch.stack(
            [softmax(z[i][sorted(e[i].tolist())], -1) @ o[i] for i in range(len(z))]
        ),
    ),
    "5.3": (
        lambda o, z, v: softmax(z, -1) * (o @ v - softmax(z, -1) @ (o @ v)),
        lambda o, z, v: (
            torch.diag(softmax(z, -1)) - torch.outer(softmax(z, -1), softmax(z, -1))
        ) @ (o @ v),
        lambda o, z, v: (softmax(z, -1) * ((o - softmax(z, -1) @ o) @ v)).float(),
    ),
    "5.4": (
        lambda e, n, r: (
            torch.nn.functional.one_hot(e, n).sum((0, 1)) * (e.shape[1] > 1)
            if r
            else torch.full((n,), e.shape[0])
        ),
        counted_up,
        lambda e, n, r: torch.full((n,), len(e)) if not r else (
            e[..., None].eq(torch.arange(n)).any(1).sum(0) * int(e.shape[-1] > 1)
        ),
    ),
}  # fmt: skip
