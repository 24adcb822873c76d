"""Exercises of chapter 16: dropout's cloud, which of two, what all logits share, a width."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _tokens(generator: torch.Generator) -> Sequence[Inputs]:
    draw = partial(torch.randn, dtype=torch.float64, generator=generator)
    return [
        (draw(tokens, width), draw(experts, width), rate)
        for tokens, width, experts, rate in ((3, 4, 5, 0.1), (1, 6, 2, 0.4), (4, 2, 3, 0.75))
    ]


def _pairs(generator: torch.Generator) -> Sequence[Inputs]:
    draw = partial(torch.randn, dtype=torch.float64, generator=generator)
    cases: list[Inputs] = []
    for experts, a, b in ((3, 0, 2), (5, 4, 1), (4, 2, 3)):
        factor_EE = draw(experts, experts).tril()
        factor_EE.diagonal().abs_().add_(0.3)
        cases.append((0.7 * draw(experts), factor_EE, a, b))
    # Nearly all noise is shared, and two logits of which only one is wide.
    shared_EE = torch.full((3, 3), 9.0, dtype=torch.float64) + 0.01 * torch.eye(3)
    cases.append((torch.tensor([0.2, 0.1, 0.0]).double(), torch.linalg.cholesky(shared_EE), 0, 1))
    return cases


def _passes(generator: torch.Generator) -> Sequence[Inputs]:
    draw = partial(torch.randn, dtype=torch.float64, generator=generator)
    cases = []
    for passes, tokens, experts in ((4, 3, 5), (2, 1, 3), (6, 4, 4)):
        shared_MT1 = 3 * draw(passes, tokens, 1)
        cases.append((draw(passes, tokens, experts) + shared_MT1,))
    return cases


def _weights(generator: torch.Generator) -> Sequence[Inputs]:
    draw = partial(torch.randn, dtype=torch.float64, generator=generator)
    return [(draw(*shape), draw(*shape) - 1) for shape in ((6,), (2, 3))]


def _dropped(x_TD: Tensor, centroids_ED: Tensor, rate: float) -> Tensor:
    return rate / (1 - rate) * x_TD.square() @ centroids_ED.square().T


def _width(factor_EE: Tensor, a: int, b: int) -> Tensor:
    width: Tensor = torch.linalg.vector_norm(factor_EE[a] - factor_EE[b])
    return width


def _larger(mean_E: Tensor, factor_EE: Tensor, a: int, b: int) -> Tensor:
    return _against(mean_E, _width(factor_EE, a, b), a, b)


def _against(mean_E: Tensor, width: Tensor, a: int, b: int) -> Tensor:
    chance: Tensor = torch.special.ndtr((mean_E[a] - mean_E[b]) / width)
    return chance


def _rest(logits_MTE: Tensor) -> Tensor:
    return (logits_MTE - logits_MTE.mean(-1, keepdim=True)).var(0).mean(-1)


def _divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    return (logvar.exp() + mu.square() - 1 - logvar).sum() / 2


DROPPED = Exercise(
    "16.1",
    _dropped,
    _tokens,
    (
        Mistake(
            lambda x, w, rate: rate * (1 - rate) * x.square() @ w.square().T,
            "this is the spread of kept or not: what is kept is also enlarged, by 1 / (1 - p)",
        ),
        Mistake(
            lambda x, w, rate: rate / (1 - rate) * (x @ w.T).square(),
            "each coordinate is dropped on its own, so its square comes before the sum",
        ),
        Mistake(
            lambda x, w, rate: _dropped(x, w, rate).sqrt(),
            "these are standard deviations: the variance is asked for",
        ),
        Mistake(
            lambda x, w, rate: (1 - rate) / rate * x.square() @ w.square().T,
            "upside down: where nothing is dropped there is no spread",
        ),
        Mistake(
            lambda x, w, rate: x.square() @ w.square().T / (1 - rate),
            "this is the mean of the square: take off the square of the mean",
        ),
        Mistake(
            lambda x, w, rate: (x @ w.T).square() + _dropped(x, w, rate),
            "this is the mean of the logit's square: take off the square of its mean",
        ),
    ),
)

LARGER = Exercise(
    "16.2",
    _larger,
    _pairs,
    (
        Mistake(
            lambda mean, factor, a, b: _against(
                mean, (factor[a].square().sum() + factor[b].square().sum()).sqrt(), a, b
            ),
            "this takes the two logits for independent: what they share cancels in the difference",
        ),
        Mistake(
            lambda mean, factor, a, b: _against(mean, (factor[a] - factor[b]).square().sum(), a, b),
            "this divides by the variance of the difference: divide by its deviation",
        ),
        Mistake(
            lambda mean, factor, a, b: _against(mean, (factor[:, a] - factor[:, b]).norm(), a, b),
            "a logit is a row of L times the noise, and these are columns",
        ),
        Mistake(
            lambda mean, factor, a, b: torch.sigmoid(mean[a] - mean[b]),
            "this is the softmax of two means: the width of the cloud has no say in it",
        ),
        Mistake(
            lambda mean, factor, a, b: _larger(mean, factor, b, a),
            "these two are exchanged: asked for is how likely a is above b",
        ),
        Mistake(
            lambda mean, factor, a, b: _against(mean, (factor[a] + factor[b]).norm(), a, b),
            "this is the width of the sum of two logits: asked for is that of their difference",
        ),
        Mistake(
            lambda mean, factor, a, b: _against(
                mean,
                (_width(factor, a, b).square() + factor[a] @ factor[b]).sqrt(),
                a,
                b,
            ),
            "the variance of a difference has the covariance twice: a with b, and b with a",
        ),
        Mistake(
            lambda mean, factor, a, b: torch.sigmoid((mean[a] - mean[b]) / _width(factor, a, b)),
            "the noise is Gaussian: its distribution function is torch.special.ndtr, not a sigmoid",
        ),
        Mistake(
            lambda mean, factor, a, b: (
                0.5 + 0.5 * torch.erf((mean[a] - mean[b]) / _width(factor, a, b))
            ),
            "erf wants its argument divided by the square root of 2",
        ),
    ),
)

REST = Exercise(
    "16.3",
    _rest,
    _passes,
    (
        Mistake(
            lambda logits: logits.var(0).mean(-1),
            "what all logits of a row share is still in it: take off each row's mean over the "
            "experts (the mean over the passes a variance takes off by itself)",
        ),
        Mistake(
            lambda logits: (logits - logits.mean(-1, keepdim=True)).var(0, unbiased=False).mean(-1),
            "this divides by M: divide by M - 1, since the mean comes from the same passes",
        ),
        Mistake(
            lambda logits: logits.softmax(-1).var(0).mean(-1),
            "this is the spread of probabilities: that of the logits is asked for",
        ),
        Mistake(
            lambda logits: (logits - logits.mean(-1, keepdim=True)).var(0).sum(-1),
            "this is summed over the experts: take the mean",
        ),
        Mistake(
            lambda logits: (logits - logits.mean(-1, keepdim=True)).std(0).mean(-1),
            "this is a deviation: the variance is asked for",
        ),
        Mistake(
            lambda logits: logits.log_softmax(-1).var(0).mean(-1),
            "log_softmax takes off the logarithm of a sum of exponentials: take off the mean",
        ),
        Mistake(
            lambda logits: (logits - logits.amax(-1, keepdim=True)).var(0).mean(-1),
            "this takes off the largest logit, whose own noise then goes to all: take off the mean",
        ),
        Mistake(
            lambda logits: (logits - logits[..., :1]).var(0).mean(-1),
            "this takes off the first logit, whose own noise then goes to all: take off the mean",
        ),
        Mistake(
            lambda logits: logits.var(-1).mean(0),
            "this is how far a pass's logits lie apart: asked for is how far the passes do",
        ),
    ),
)

DIVERGENCE = Exercise(
    "16.4",
    _divergence,
    _weights,
    (
        Mistake(
            lambda mu, logvar: (-logvar + 0.5 * (logvar.exp().square() + mu.square()) - 0.5).sum(),
            "this is the old line: it takes the logarithm of the variance for that of the "
            "deviation",
        ),
        Mistake(
            lambda mu, logvar: (-logvar + 0.5 * (logvar.exp() + mu.square()) - 0.5).sum(),
            "the variance is right now, but the logarithm of the deviation is half of logvar",
        ),
        Mistake(
            lambda mu, logvar: (
                -0.5 * logvar + 0.5 * (logvar.exp().square() + mu.square()) - 0.5
            ).sum(),
            "the logarithm is right now, but exp(logvar) is the variance and not to be squared",
        ),
        Mistake(
            lambda mu, logvar: _divergence(mu, logvar) / mu.numel(),
            "this is a mean: the layer returns the sum",
        ),
        Mistake(
            lambda mu, logvar: -_divergence(mu, logvar),
            "a divergence is not negative: this is the term as it stands in a lower bound",
        ),
        Mistake(
            lambda mu, logvar: (
                (-0.5 * logvar + 0.5 * (logvar.exp() + mu.square()) - 0.5).sum(-1)
                if mu.ndim > 1
                else _divergence(mu, logvar)
            ),
            "this sums over the last dimension alone: one number for the layer is asked for",
        ),
        Mistake(
            lambda mu, logvar: _divergence(mu, logvar) + 0.5 * (mu.numel() - 1),
            "the half is taken off once: every weight has one",
        ),
        Mistake(
            lambda mu, logvar: (
                -0.5 * logvar + 0.5 * ((0.5 * logvar).exp() + mu.square()) - 0.5
            ).sum(),
            "this has the deviation where the variance belongs: exp(logvar) is the variance",
        ),
    ),
)

EXERCISES = (DROPPED, LARGER, REST, DIVERGENCE)
