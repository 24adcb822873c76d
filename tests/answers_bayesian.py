"""Right answers to chapter 16's exercises, and plausible wrong ones that the checks do not list."""

import math
from collections.abc import Callable
from typing import Any

import torch

RIGHT: dict[str, Callable[..., Any]] = {
    "16.1": lambda x, w, rate: torch.einsum("td,ed->te", x**2, w**2) * (1 / (1 - rate) - 1),
    "16.2": lambda mean, factor, a, b: (
        torch.distributions.Normal(
            mean[a] - mean[b],
            ((factor @ factor.T)[[a, b, a], [a, b, b]] * torch.tensor([1, 1, -2])).sum().sqrt(),
        )
        .cdf(torch.zeros(()).double())
        .neg()
        .add(1)
    ),
    "16.3": lambda logits: torch.stack(
        [(row - row.mean(1, keepdim=True)).var(dim=0).mean() for row in logits.unbind(1)]
    ),
    "16.4": lambda mu, logvar: torch.distributions.kl_divergence(
        torch.distributions.Normal(mu, (logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum(),
}

UNLISTED: dict[str, tuple[Callable[..., Any], ...]] = {
    "16.1": (
        lambda x, w, rate: torch.full((len(x), len(w)), rate),
        lambda x, w, rate: rate * (x @ w.T),
        lambda x, w, rate: rate / (1 - rate) * x.square() @ w.T,
    ),
    "16.2": (
        lambda mean, factor, a, b: 0.5,
        lambda mean, factor, a, b: float(mean[a] > mean[b]),
        lambda mean, factor, a, b: torch.special.ndtr(mean[a] - mean[b]),
    ),
    "16.3": (
        lambda logits: logits.mean(-1).var(0),
        lambda logits: logits.mean(0).var(-1),
        lambda logits: torch.zeros(logits.shape[1]).double(),
    ),
    "16.4": (
        lambda mu, logvar: (logvar.exp() + mu**2).sum() / 2,
        lambda mu, logvar: mu.square().sum() / 2,
        lambda mu, logvar: RIGHT["16.4"](mu, logvar) + math.log(2),
    ),
}
