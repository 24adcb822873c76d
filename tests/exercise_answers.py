"""Right answers to every exercise, and plausible wrong ones, written otherwise than the package's.

They are what readers may hand in: the checks are judged by them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from scipy import stats

from moe_tutorial import Experts, MoELayer, Router

softmax = torch.softmax


def stable_order(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Top-k as Python would do it: sorted by score downwards, then by id upwards."""
    rows = [sorted(range(len(row)), key=lambda e: (-row[e], e))[:k] for row in scores.tolist()]
    return torch.tensor(rows)


def switch_by_hand(logits: torch.Tensor, k: int) -> torch.Tensor:
    """E times the sum of the share of choices times the mean probability."""
    chosen = torch.nn.functional.one_hot(logits.argsort(-1)[:, -k:], logits.shape[-1])
    return torch.dot(chosen.double().mean((0, 1)), softmax(logits, -1).mean(0)) * logits.shape[-1]


# Right answers written another way than the reference.
RIGHT: dict[str, Callable[..., Any]] = {
    "0.1": lambda T, E, K: K * (T / E),
    "0.2": lambda D, F, E, K: D * (2 * F * K + E),
    "0.3": lambda T, E, K: E - E * ((E - K) / E) ** T,
    "1.1": lambda x, w: (x[:, None, :] * w).sum(-1),
    "1.2": lambda x, w, scale: scale * torch.cosine_similarity(x[:, None], w[None], dim=-1),
    "1.3": lambda x, w: -(x[:, None] - w).square().sum(-1) / 2,
    "2.1": lambda logits, t: (logits / t - torch.logsumexp(logits / t, -1, True)).exp(),
    "2.2": lambda logits: torch.distributions.Categorical(logits=logits).entropy(),
    "2.3": lambda w, t: (w - w.mean(0)) / t,
    "3.1": stable_order,
    "3.2": lambda logits, e: softmax(logits.take_along_dim(e, -1), -1),
    "3.3": lambda logits: 1 / (logits - logits.amax(-1, True)).exp().sum(-1, keepdim=True),
    "4.1": lambda logits, u, k, t: (logits / t - (-u.log()).log()).argsort(-1, True)[:, :k],
    "4.2": lambda logits, e: (
        logits.gather(-1, e)
        - torch.stack(
            [logits.scatter(-1, e[:, :i], -torch.inf).logsumexp(-1) for i in range(e.shape[1])], -1
        )
    ).sum(-1),
    "4.3": lambda logits: torch.stack(
        [
            sum(
                p[i] if j is None else p[j] * p[i] / (1 - p[j])
                for j in (None, *range(len(p)))
                if j != i
            )
            for p in softmax(logits, -1)
            for i in range(len(p))
        ]
    ).reshape(logits.shape),
    "5.1": lambda o, g: torch.bmm(g[:, None], o)[:, 0],
    "5.2": lambda logits, e, outputs: torch.einsum(
        "tk,tkd->td",
        softmax(logits.gather(-1, e), -1),
        outputs.take_along_dim(e.argsort(-1).argsort(-1)[..., None], 1),
    ),
    "5.3": lambda o, logits, v: torch.autograd.functional.jacobian(
        lambda z: softmax(z, -1) @ o @ v, logits
    ),
    "6.1": lambda u, w, o: (
        (torch.nn.functional.silu(u @ w[:, : len(o)]) * (u @ w[:, len(o) :])) @ o
    ),
    "6.2": lambda D, F, E, K, shared: D * (3 * (F * K + shared) + E),
    "6.3": lambda rest, expert, E, K: 1 - (E - K) * expert / (rest + E * expert),
    "7.1": lambda chosen, E: (chosen[..., None] == torch.arange(E)).sum((0, 1)),
    "7.2": lambda rows, chosen: (
        torch.empty_like(rows)
        .index_copy(0, chosen.flatten().argsort(stable=True), rows)
        .view(*chosen.shape, -1)
    ),
    "7.3": lambda values: functools.reduce(torch.add, values).item(),
    "8.1": lambda load: torch.distributions.Categorical(load).entropy().exp(),
    "8.2": lambda logits, k, mask: switch_by_hand(logits[mask], k),
    "8.3": lambda logits, k: sum(switch_by_hand(layer, k) for layer in logits) / len(logits),
    "9.1": lambda chosen, E, C: torch.tensor(
        [max(0, int((chosen == e).sum()) - C) for e in range(E)]
    ),
    "9.2": lambda chosen, gates, E, C: (
        (
            (chosen.flatten()[:, None] == chosen.flatten())
            & (gates.flatten()[:, None] < gates.flatten())
        )
        .sum(-1)
        .less(C)
        .view_as(chosen)
    ),
    "9.3": lambda T, E: (
        E * stats.binom.pmf(range(T // E + 1, T + 1), T, 1 / E).dot(range(1, T - T // E + 1)) / T
    ),
    "10.1": lambda logits, targets: (
        -torch.distributions.Categorical(logits=logits).log_prob(targets).mean() / math.log(2)
    ),
    "10.2": lambda D, F, E, K: sum(
        weight.numel()
        for weight in MoELayer(Router(D, E, K), Experts(E, D, F // K, bias=False)).parameters()
    ),
    "10.3": lambda a, b: float(stats.ttest_rel(a, b).statistic),
}

# Plausible wrong answers that the checks do not list, so that a message must come from the numbers.
UNLISTED: dict[str, tuple[Callable[..., Any], ...]] = {
    "0.1": (lambda T, E, K: T * E / K, lambda T, E, K: T / (E * K), lambda T, E, K: K / E),
    "0.2": (lambda D, F, E, K: 2 * D * F, lambda D, F, E, K: 3 * D * F * K + D * E, lambda *_: 0),
    "0.3": (lambda T, E, K: T * K / E, lambda T, E, K: E - K, lambda T, E, K: E * K / T),
    "1.1": (lambda x, w: x @ w.T / x.shape[1] ** 0.5, lambda x, w: x @ w.T + 1e-6, lambda x, w: x),
    "1.2": (
        lambda x, w, s: s + torch.cosine_similarity(x[:, None], w[None], dim=-1),
        lambda x, w, s: s * torch.cosine_similarity(x[:, None], w[None], dim=-1).abs(),
        lambda x, w, s: s * (x @ w.T) / x.norm() / w.norm(),
    ),
    "1.3": (
        lambda x, w: x @ w.T - w.sum(-1),
        lambda x, w: x @ w.T - w.abs().sum(-1),
        lambda x, w: -torch.cdist(x, w).square(),
    ),
    "2.1": (
        lambda logits, t: softmax(logits / t**2, -1),
        lambda logits, t: softmax(logits / t, -1).round(decimals=4),
        lambda logits, t: torch.sigmoid(logits / t),
    ),
    "2.2": (
        lambda logits: softmax(logits, -1).amax(-1),
        lambda logits: -(softmax(logits, -1) * (softmax(logits, -1) + 1e-6).log()).sum(-1),
        lambda logits: torch.logsumexp(logits, -1),
    ),
    "2.3": (lambda w, t: w - t, lambda w, t: w / t**0.5, lambda w, t: w / (2 * t)),
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
    "4.1": (
        lambda logits, u, k, t: (logits * t - (-u.log()).log()).topk(k).indices,
        lambda logits, u, k, t: (logits / t - u.log()).topk(k).indices,
        lambda logits, u, k, t: (logits / t - (-u.log()).log()).topk(k).indices.sort(-1).values,
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
        lambda o, logits, v: softmax(logits, -1) * (1 - softmax(logits, -1)) * (o @ v),
    ),
    "6.1": (
        lambda u, w, o: torch.nn.functional.gelu((u @ w)[:, : len(o)]) @ o,
        lambda u, w, o: u @ w,
        lambda u, w, o: torch.nn.functional.silu(u @ w[:, : len(o)]) + u @ w[:, len(o) :],
    ),
    "6.2": (
        lambda D, F, E, K, shared: 3 * D * (F + shared),
        lambda D, F, E, K, shared: 3 * F * K + shared,
        lambda D, F, E, K, shared: 0,
    ),
    "6.3": (
        lambda rest, expert, E, K: rest / expert,
        lambda rest, expert, E, K: K * expert / (rest + K * expert),
        lambda rest, expert, E, K: 1.0,
    ),
    "7.1": (
        lambda chosen, E: torch.zeros(E, dtype=torch.int64),
        lambda chosen, E: chosen.flatten().sort().values,
        lambda chosen, E: torch.bincount(chosen.flatten(), minlength=E) / chosen.numel(),
    ),
    "7.2": (
        lambda rows, chosen: rows,
        lambda rows, chosen: rows[chosen],
        lambda rows, chosen: rows.flip(0).view(*chosen.shape, -1),
    ),
    "7.3": (
        lambda values: values.sort().values.double().sum().item() + 1,
        lambda values: values[0].item(),
        lambda values: values.mean().item(),
    ),
    "8.1": (
        lambda load: load.sum() / load.max(),
        lambda load: load.max() / load.mean(),
        lambda load: load.sum(),
    ),
    "8.2": (
        lambda logits, k, mask: softmax(logits[mask], -1).mean(0).square().sum(),
        lambda logits, k, mask: switch_by_hand(logits[~mask], k),
        lambda logits, k, mask: switch_by_hand(logits[mask].softmax(-1), k),
    ),
    "8.3": (
        lambda logits, k: switch_by_hand(logits[0], k),
        lambda logits, k: torch.stack([switch_by_hand(layer, k) for layer in logits]).amax(),
        lambda logits, k: switch_by_hand(logits[-1], k) * 0 + 1,
    ),
    "9.1": (
        lambda chosen, E, C: torch.full((E,), chosen.numel() - E * C),
        lambda chosen, E, C: (chosen < C).sum(),
        lambda chosen, E, C: torch.bincount(chosen.flatten(), minlength=E) / C,
    ),
    "9.2": (
        lambda chosen, gates, E, C: gates > 0.5,
        lambda chosen, gates, E, C: chosen < C,
        lambda chosen, gates, E, C: torch.ones_like(chosen, dtype=torch.bool),
    ),
    "9.3": (
        lambda T, E: 1 / E,
        lambda T, E: (1 - 1 / E) ** T,
        lambda T, E: 1 / (2 * math.pi * T / E) ** 0.5,
    ),
    "10.1": (
        lambda logits, targets: logits.logsumexp(-1).mean() / math.log(2),
        lambda logits, targets: logits.softmax(-1).gather(-1, targets[:, None]).mean(),
        lambda logits, targets: math.log2(logits.shape[-1]),
    ),
    "10.2": (
        lambda D, F, E, K: 3 * D * F,
        lambda D, F, E, K: 3 * D * F * E // K + E * K,
        lambda D, F, E, K: E * (3 * D + 1) * F,
    ),
    "10.3": (
        lambda a, b: (a - b).median() / (a - b).std(),
        lambda a, b: (a - b).mean(),
        lambda a, b: (a - b).mean() / a.std(),
    ),
}
