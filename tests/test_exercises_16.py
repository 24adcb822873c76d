"""Answers to chapter 16's exercises as readers write them: right in any style, wrong in many."""

import math
from collections.abc import Callable
from typing import Any

import torch

from moe_tutorial.exercises import EXERCISES
from moe_tutorial.uncertainty.centroid_clouds import dropped
from moe_tutorial.uncertainty.logit_clouds import full_covariance_logits

Answer = Callable[..., Any]


def dropped_in_loops(x: torch.Tensor, w: torch.Tensor, rate: float) -> torch.Tensor:
    found = torch.zeros(len(x), len(w))
    for t in range(len(x)):
        for e in range(len(w)):
            found[t, e] = sum(
                (x[t, d] * w[e, d]) ** 2 * rate / (1 - rate) for d in range(x.shape[1])
            )
    return found


def dropped_by_moments(x: torch.Tensor, w: torch.Tensor, rate: float) -> torch.Tensor:
    products = x[:, None] * w
    square = (products / (1 - rate)) ** 2 * (1 - rate)
    return (square - products**2).sum(-1)


def dropped_by_masks(x: torch.Tensor, w: torch.Tensor, rate: float) -> torch.Tensor:
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * x.shape[1])
    masks = masks.view(-1, x.shape[1])
    odds = (1 - rate) ** masks.sum(1) * rate ** (1 - masks).sum(1)
    logits = (masks[:, None] * x / (1 - rate)) @ w.T
    mean = (odds[:, None, None] * logits).sum(0)
    return (odds[:, None, None] * (logits - mean) ** 2).sum(0)


def larger_by_erf(mean: torch.Tensor, factor: torch.Tensor, a: int, b: int) -> float:
    covariance = (factor @ factor.T).tolist()
    variance = covariance[a][a] + covariance[b][b] - 2 * covariance[a][b]
    return 0.5 * (1 + math.erf(float(mean[a] - mean[b]) / math.sqrt(2 * variance)))


def larger_by_vector(mean: torch.Tensor, factor: torch.Tensor, a: int, b: int) -> torch.Tensor:
    c = torch.zeros_like(mean)
    c[a], c[b] = 1, -1
    return torch.distributions.Normal(0.0, 1.0).cdf(c @ mean / (c @ factor @ factor.T @ c) ** 0.5)


def larger_by_erfc(mean: torch.Tensor, factor: torch.Tensor, a: int, b: int) -> torch.Tensor:
    row = factor[b] - factor[a]
    return torch.erfc((mean[b] - mean[a]) / (row @ row * 2).sqrt()) / 2


def pair_variance(factor: torch.Tensor, a: int, b: int, covariances: int = 2) -> torch.Tensor:
    covariance = factor @ factor.T
    return covariance[a, a] + covariance[b, b] - covariances * covariance[a, b]


def rest_by_matrix(logits: torch.Tensor) -> torch.Tensor:
    E = logits.shape[-1]
    return (logits @ (torch.eye(E).double() - 1 / E)).var(dim=0).mean(dim=1)


def rest_by_covariance(logits: torch.Tensor) -> torch.Tensor:
    found = []
    for row in logits.transpose(0, 1):
        covariance = torch.cov(row.T)
        found.append((covariance.trace() - covariance.mean() * len(covariance)) / len(covariance))
    return torch.stack(found)


def rest_by_sums(logits: torch.Tensor) -> torch.Tensor:
    rest = logits - logits.sum(-1, keepdim=True) / logits.shape[-1]
    return ((rest - rest.mean(0)) ** 2).sum(0).mean(-1) / (len(logits) - 1)


RIGHT: dict[str, tuple[Answer, ...]] = {
    "16.1": (dropped_in_loops, dropped_by_moments, dropped_by_masks),
    "16.2": (larger_by_erf, larger_by_vector, larger_by_erfc),
    "16.3": (rest_by_matrix, rest_by_covariance, rest_by_sums),
    "16.4": (
        lambda mu, logvar: 0.5 * torch.sum(torch.exp(logvar) + mu * mu - 1.0 - logvar),
        lambda mu, logvar: sum(
            (math.exp(v) + m * m - 1 - v) / 2
            for m, v in zip(mu.flatten().tolist(), logvar.flatten().tolist(), strict=True)
        ),
        lambda mu, logvar: -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(),
    ),
}

WRONG: dict[str, tuple[tuple[Answer, str], ...]] = {
    "16.1": (
        (lambda x, w, rate: dropped_by_moments(x, w, rate) * (1 - rate) ** 2, "enlarged"),
        (lambda x, w, rate: dropped_by_moments(x, w, rate) ** 0.5, "deviations"),
        (lambda x, w, rate: (x @ w.T) ** 2 * rate / (1 - rate), "square comes before"),
        (lambda x, w, rate: dropped_by_moments(x, w, 1 - rate), "upside down"),
        (lambda x, w, rate: ((x[:, None] * w) ** 2).sum(-1) / (1 - rate), "square of the mean"),
        (lambda x, w, rate: dropped_by_moments(x, w, rate).T, "expected"),
        (lambda x, w, rate: dropped_by_masks(x, w, rate) + (x @ w.T) ** 2, "square of its mean"),
    ),
    "16.2": (
        (
            lambda mean, factor, a, b: larger_by_erf(
                mean, torch.diag((factor @ factor.T).diagonal().sqrt()), a, b
            ),
            "independent",
        ),
        (lambda mean, factor, a, b: larger_by_erfc(mean, factor.T, a, b), "columns"),
        (lambda mean, factor, a, b: mean[[a, b]].softmax(-1)[0], "softmax of two means"),
        (lambda mean, factor, a, b: 1 - larger_by_erf(mean, factor, a, b), "exchanged"),
        (
            lambda mean, factor, a, b: torch.special.ndtr(
                (mean[a] - mean[b]) / ((factor[a] - factor[b]) ** 2).sum()
            ),
            "variance of the difference",
        ),
        (lambda mean, factor, a, b: larger_by_erf(mean, factor, a, b) ** 2, "expected"),
        (
            lambda mean, factor, a, b: torch.special.ndtr(
                (mean[a] - mean[b]) / ((factor[a] + factor[b]) ** 2).sum().sqrt()
            ),
            "sum of two logits",
        ),
        (
            lambda mean, factor, a, b: torch.special.ndtr(
                (mean[a] - mean[b]) / pair_variance(factor, a, b, covariances=1).sqrt()
            ),
            "covariance twice",
        ),
        (
            lambda mean, factor, a, b: (
                1 / (1 + ((mean[b] - mean[a]) / pair_variance(factor, a, b).sqrt()).exp())
            ),
            "not a sigmoid",
        ),
        (
            lambda mean, factor, a, b: (
                torch.erfc((mean[b] - mean[a]) / pair_variance(factor, a, b).sqrt()) / 2
            ),
            "square root of 2",
        ),
        (
            lambda mean, factor, a, b: (mean[a] - mean[b]) / pair_variance(factor, a, b).sqrt(),
            "expected",
        ),
    ),
    "16.3": (
        (lambda logits: logits.var(dim=0).mean(dim=-1), "still in it"),
        (
            lambda logits: (logits - logits.mean(0, keepdim=True)).var(0).mean(-1),
            "by itself",
        ),
        (lambda logits: rest_by_sums(logits) * (len(logits) - 1) / len(logits), "M - 1"),
        (lambda logits: rest_by_matrix(logits) * logits.shape[-1], "summed over the experts"),
        (lambda logits: torch.softmax(logits, -1).var(0).mean(-1), "probabilities"),
        (lambda logits: rest_by_matrix(logits).mean(), "expected"),
        (
            lambda logits: (logits - logits.logsumexp(-1, keepdim=True)).var(0).mean(-1),
            "sum of exponentials",
        ),
        (lambda logits: (logits - logits.max(-1)[0][..., None]).var(0).mean(-1), "largest logit"),
        (lambda logits: (logits - logits[..., [0]]).var(0).mean(-1), "first logit"),
        (lambda logits: logits.var(dim=2).mean(dim=0), "how far the passes do"),
        (lambda logits: logits.mean(-1).var(0), "expected"),
    ),
    "16.4": (
        (lambda mu, v: (-v + (v.exp() ** 2 + mu**2) / 2 - 0.5).sum(), "old line"),
        (lambda mu, v: ((v.exp() + mu**2 - 1) / 2 - v).sum(), "half of logvar"),
        (lambda mu, v: ((2 * v).exp() + mu**2 - 1 - v).sum() / 2, "not to be squared"),
        (lambda mu, v: (v.exp() + mu**2 - 1 - v).mean() / 2, "a mean"),
        (lambda mu, v: (1 + v - mu**2 - v.exp()).sum() / 2, "not negative"),
        (lambda mu, v: (v.exp() + mu**2 - 1 - v).sum(), "expected"),
        (lambda mu, v: (v.exp() + mu**2 - v).sum() / 2 - 0.5, "every weight has one"),
        (lambda mu, v: ((v / 2).exp() + mu**2 - 1 - v).sum() / 2, "the deviation where"),
        (lambda mu, v: (v.exp() + mu**2 - 1 + v).sum() / 2, "expected"),
    ),
}


def test_the_references_agree_with_the_package() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w, rate = EXERCISES["16.1"].inputs(generator)[0]
    many = dropped(x.expand(40_000, *x.shape), rate, generator) @ w.T
    torch.testing.assert_close(
        many.var(0), EXERCISES["16.1"].reference(x, w, rate), rtol=0.05, atol=0
    )
    mean, factor, a, b = EXERCISES["16.2"].inputs(generator)[0]
    draws = full_covariance_logits(mean.expand(40_000, -1), factor, generator)
    share = (draws[:, a] > draws[:, b]).double().mean()
    assert abs(share - EXERCISES["16.2"].reference(mean, factor, a, b)) < 0.01
