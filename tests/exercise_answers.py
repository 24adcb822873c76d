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
from tests import (
    answers_applications,
    answers_bayesian,
    answers_museum,
    answers_parallel,
    answers_routing,
    answers_stability,
    answers_traces,
    answers_zoo,
)
from tests.answers_routing import stable_order as stable_order

softmax = torch.softmax


def switch_by_hand(logits: torch.Tensor, k: int) -> torch.Tensor:
    """E times the sum of the share of choices times the mean probability."""
    chosen = torch.nn.functional.one_hot(logits.argsort(-1)[:, -k:], logits.shape[-1])
    return torch.dot(chosen.double().mean((0, 1)), softmax(logits, -1).mean(0)) * logits.shape[-1]


# Right answers written another way than the reference.
RIGHT: dict[str, Callable[..., Any]] = {
    "0.1": lambda T, E, K: K * (T / E),
    "0.2": lambda c: (
        c["hidden_size"]
        * (3 * c["intermediate_size"] * c["num_experts_per_tok"] + c["num_local_experts"])
    ),
    "0.3": lambda T, E, K: E - E * ((E - K) / E) ** T,
    "1.1": lambda x, w: torch.outer(x.norm(dim=-1), w.norm(dim=-1)),
    "1.2": lambda x, w, scale: scale * torch.cosine_similarity(x[..., None, :], w, dim=-1),
    "1.3": lambda x, w: (x[:, None] * w - w * w / 2).sum(-1),
    "2.1": lambda logits, ratio: -logits.sort(-1).values[:, -2:].diff()[:, 0] / math.log(1 / ratio),
    "2.2": lambda logits: torch.distributions.Categorical(logits=logits).entropy(),
    "2.3": lambda w, t: (w - w.mean(0)) / t,
    **answers_routing.RIGHT,
    "6.1": lambda u, gate, up, down: torch.einsum(
        "rf,rf,df->rd", torch.nn.functional.silu(u @ gate.T), u @ up.T, down
    ),
    "6.2": lambda D, F, E, K, shared: D * (3 * (F * K + shared) + E),
    "6.3": lambda rest, expert, E, K: 1 - (E - K) * expert / (rest + E * expert),
    "6.4": lambda u, into, bias, down, down_bias, alpha, limit: torch.addmm(
        down_bias,
        torch.nn.functional.silu(alpha * (u @ into[:, ::2] + bias[::2]).clamp_max(limit))
        / alpha
        * ((u @ into[:, 1::2] + bias[1::2]).clip(-limit, limit) + 1),
        down,
    ),
    "7.1": lambda chosen, weights, peak, reading: (
        weights
        * max(
            torch.tensor(2 * chosen.shape[0] * chosen.shape[1] / peak).item(),
            len(set(chosen.flatten().tolist())) / (reading / 4),
        )
    ),
    "7.2": lambda chosen, E, size: torch.tensor(
        [math.ceil(int((chosen == e).sum()) / size) * size for e in range(E)]
    ),
    "7.3": lambda rows, chosen: (
        torch.empty_like(rows)
        .index_copy(0, chosen.flatten().argsort(stable=True), rows)
        .view(*chosen.shape, -1)
    ),
    "7.4": lambda values: functools.reduce(torch.add, values).item(),
    "8.1": lambda load: torch.distributions.Categorical(load).entropy().exp(),
    "8.2": lambda logits, k, mask: switch_by_hand(logits[mask], k),
    "8.3": lambda logits, k: sum(switch_by_hand(layer, k) for layer in logits) / len(logits),
    "8.4": lambda logits, k: k * switch_by_hand(logits.flatten(0, 1), k),
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
    "9.4": lambda chosen, E, C: [
        [row[: s + 1].count(e) <= C for s, e in enumerate(row)] for row in chosen.tolist()
    ],
    "10.1": lambda logits, targets: (
        -torch.distributions.Categorical(logits=logits).log_prob(targets).mean() / math.log(2)
    ),
    "10.2": lambda D, F, E, K: sum(
        weight.numel()
        for weight in MoELayer(Router(D, E, K), Experts(E, D, F // K, bias=False)).parameters()
    ),
    "10.3": lambda a, b: float(stats.ttest_rel(a, b).statistic),
    "10.4": lambda loss, aux, coefficient: math.log2(math.exp(loss - coefficient * aux)),
    **answers_zoo.RIGHT,
    **answers_traces.RIGHT,
    **answers_applications.RIGHT,
    **answers_parallel.RIGHT,
    **answers_stability.RIGHT,
    **answers_bayesian.RIGHT,
    **answers_museum.RIGHT,
}

# Plausible wrong answers that the checks do not list, so that a message must come from the numbers.
UNLISTED: dict[str, tuple[Callable[..., Any], ...]] = {
    "0.1": (lambda T, E, K: T + K / E, lambda T, E, K: T / (E * K), lambda T, E, K: K / E),
    "0.2": (
        lambda c: c["hidden_size"] * c["intermediate_size"],
        lambda c: 3 * c["hidden_size"] * c["intermediate_size"] + c["hidden_size"],
        lambda *_: 0,
    ),
    "0.3": (lambda T, E, K: T * K / E, lambda T, E, K: E - K, lambda T, E, K: E * K / T),
    "1.1": (
        lambda x, w: torch.outer(x.norm(dim=-1), w.norm(dim=-1)) / x.shape[1] ** 0.5,
        lambda x, w: torch.outer(x.norm(dim=-1), w.norm(dim=-1)) + 1e-6,
        lambda x, w: x,
    ),
    "1.2": (
        lambda x, w, s: s + torch.cosine_similarity(x[..., None, :], w, dim=-1),
        lambda x, w, s: s * torch.cosine_similarity(x[..., None, :], w, dim=-1).abs(),
        lambda x, w, s: s * torch.cosine_similarity(x[..., None, :], w, dim=-1) + 1e-4,
    ),
    "1.3": (
        lambda x, w: x @ w.T - w.sum(-1),
        lambda x, w: x @ w.T - w.abs().sum(-1),
        lambda x, w: -(x[:, None] - w).square().sum(-1).exp(),
    ),
    "2.1": (
        lambda logits, ratio: logits.amax(-1) / ratio,
        lambda logits, ratio: torch.ones(len(logits)).double(),
        lambda logits, ratio: logits.topk(2).values.diff()[:, 0] / math.log(ratio),
    ),
    "2.2": (
        lambda logits: softmax(logits, -1).amax(-1),
        lambda logits: -(softmax(logits, -1) * (softmax(logits, -1) + 1e-5).log()).sum(-1),
        lambda logits: torch.logsumexp(logits, -1),
    ),
    "2.3": (lambda w, t: w - t, lambda w, t: w / t**0.5, lambda w, t: w / (2 * t)),
    **answers_routing.UNLISTED,
    "6.1": (
        lambda u, gate, up, down: torch.tanh(u @ gate.T) * (u @ up.T) @ down.T,
        lambda u, gate, up, down: u @ gate.T,
        lambda u, gate, up, down: u,
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
    "6.4": (
        lambda u, into, bias, down, down_bias, alpha, limit: u @ into + bias,
        lambda u, into, bias, down, down_bias, alpha, limit: u,
        lambda u, into, bias, down, down_bias, alpha, limit: torch.zeros_like(u),
    ),
    "7.1": (
        lambda chosen, weights, peak, reading: 2 * weights * chosen.numel() / peak,
        lambda chosen, weights, peak, reading: 4 * weights * len(chosen.unique()) / reading,
        lambda chosen, weights, peak, reading: peak / reading,
    ),
    "7.2": (
        lambda chosen, E, size: torch.full((E,), size),
        lambda chosen, E, size: chosen.flatten().sort().values,
        lambda chosen, E, size: torch.bincount(chosen[:, 0], minlength=E),
    ),
    "7.3": (
        lambda rows, chosen: rows,
        lambda rows, chosen: rows[chosen],
        lambda rows, chosen: rows.flip(0).view(*chosen.shape, -1),
    ),
    "7.4": (
        lambda values: values.sort().values.double().sum().item() + 1,
        lambda values: values[0].item(),
        lambda values: values.mean().item(),
    ),
    "8.1": (
        lambda load: load.sum() / load.max() + 1,
        lambda load: load.max() / load.mean(),
        lambda load: load.sum(),
    ),
    "8.2": (
        lambda logits, k, mask: softmax(logits[mask], -1).mean(0).square().sum(),
        lambda logits, k, mask: switch_by_hand(logits[~mask], k),
        lambda logits, k, mask: switch_by_hand(logits[mask].softmax(-1), k),
    ),
    "8.3": (
        lambda logits, k: 2 * switch_by_hand(logits[-1], k),
        lambda logits, k: torch.stack([switch_by_hand(layer, k) for layer in logits]).amax(),
        lambda logits, k: switch_by_hand(logits[-1], k) * 0 + 1,
    ),
    "8.4": (
        lambda logits, k: switch_by_hand(logits[-1], k),
        lambda logits, k: switch_by_hand(logits.mean(0), k) + k,
        lambda logits, k: logits.shape[-1] / k,
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
    "9.4": (
        lambda chosen, E, C: torch.arange(chosen.shape[1]).expand_as(chosen) < C,
        lambda chosen, E, C: chosen < C,
        lambda chosen, E, C: torch.ones_like(chosen, dtype=torch.bool),
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
        lambda a, b: a.mean() / b.mean(),
        lambda a, b: (a - b).mean() / a.std(),
    ),
    "10.4": (
        lambda loss, aux, coefficient: loss,
        lambda loss, aux, coefficient: loss / (1 + coefficient * aux),
        lambda loss, aux, coefficient: aux / math.log(2),
    ),
    **answers_zoo.UNLISTED,
    **answers_traces.UNLISTED,
    **answers_applications.UNLISTED,
    **answers_parallel.UNLISTED,
    **answers_stability.UNLISTED,
    **answers_bayesian.UNLISTED,
    **answers_museum.UNLISTED,
}
