"""Exercises of chapter 04: drawing experts."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.routing.inclusion import inclusion_probabilities
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.sampling import plackett_luce_log_probability


def _by_arrival(logits: Tensor, waiting: Tensor, k: int, temperature: float) -> Tensor:
    return (waiting.log() - logits / temperature).argsort(-1)[..., :k]


def _logits_and_waiting(generator: torch.Generator) -> Sequence[Inputs]:
    sizes = ((40, 6, 2, 0.5), (30, 12, 3, 3.0), (50, 8, 8, 1.0), (1, 5, 4, 2.0))
    cases: list[Inputs] = []
    for rows, experts, k, temperature in sizes:
        logits = torch.randn(rows, experts, generator=generator, dtype=torch.float64)
        uniform = torch.rand(rows, experts, generator=generator, dtype=torch.float64)
        cases.append((logits, -uniform.log(), k, temperature))
    # Rates that no float holds: only their logarithms can be compared.
    extreme = torch.tensor([[-1001.0, -1000.0, 999.0, 1000.0]], dtype=torch.float64)
    cases.append((extreme, torch.ones_like(extreme), 4, 0.5))
    return cases


def _logits_and_draws(generator: torch.Generator) -> Sequence[Inputs]:
    logits = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    draws = torch.rand(5, 7, generator=generator).argsort(-1)
    steep = torch.tensor([[0.0, -50.0, -60.0], [1000.0, 0.0, -1000.0]], dtype=torch.float64)
    orders = (torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.tensor([[2, 1, 0], [1, 2, 0]]))
    return [
        (logits, draws[:, :3]),
        (4 * logits, draws[:, :1]),
        (logits, draws),
        *((steep, order) for order in orders),
    ]


def _logits(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0]], dtype=torch.float64),),
        (2 * torch.randn(4, 9, generator=generator, dtype=torch.float64),),
        (torch.tensor([[0.0, -50.0, -60.0], [-1000.0, 1000.0, 0.0]], dtype=torch.float64),),
    ]


def _logits_and_k(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -1.5], dtype=torch.float64), 2),
        (3 * torch.randn(12, generator=generator, dtype=torch.float64), 3),
        (3 * torch.randn(20, generator=generator, dtype=torch.float64), 1),
    ]


def _where_half(share: Callable[[Tensor, float], Tensor], logits: Tensor) -> float:
    """The temperature at which a falling share of the best expert is one half."""
    low, high = -9.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        too_cold = share(logits[None], 2.0**middle).amax().item() > 0.5
        low, high = (middle, high) if too_cold else (low, middle)
    return float(2.0**low)


RACE = Exercise(
    "4.1",
    _by_arrival,
    _logits_and_waiting,
    (
        Mistake(
            lambda logits, w, k, t: (w.log() - logits / t).topk(k).indices,
            "these arrive last: who is drawn first has waited least",
        ),
        Mistake(
            lambda logits, w, k, t: _by_arrival(-logits, w, k, t),
            "a high rate makes a wait short: divide the waiting time by the rate",
        ),
        Mistake(
            lambda logits, w, k, t: _by_arrival(logits, w, k, 1.0),
            "the temperature has no effect yet: divide the logits by it, and only them",
        ),
        Mistake(
            lambda logits, w, k, t: _by_arrival(logits, w, k, 1 / t),
            "the logits are divided by the temperature, not multiplied: heat makes rates alike",
        ),
        Mistake(
            lambda logits, w, k, t: (logits / t + w.log()).topk(k).indices,
            "a long wait counts in an expert's favour here: subtract its logarithm from the logit",
        ),
        *(
            Mistake(
                answer,
                "right until a rate leaves the range of floats, for logits of 1000 or -1000: "
                "compare the logarithms of the waiting times",
            )
            for answer in (
                lambda logits, w, k, t: (w / (logits / t).exp()).argsort(-1)[..., :k],
                lambda logits, w, k, t: (w * (-logits / t).exp()).argsort(-1)[..., :k],
                lambda logits, w, k, t: (w / softmax(logits, t)).argsort(-1)[..., :k],
            )
        ),
        Mistake(
            lambda logits, w, k, t: (w - logits / t).argsort(-1)[..., :k],
            "the logarithm of a quotient has two logarithms: take that of the waiting time, too",
        ),
        Mistake(
            lambda logits, w, k, t: (logits / t).topk(k).indices,
            "the waiting times have no effect yet: this is the deterministic top-k",
        ),
        Mistake(
            lambda logits, w, k, t: _by_arrival(logits, w, k, t).sort(-1).values,
            "the right experts, sorted by id: put the first to arrive first",
        ),
    ),
)


def _by_subtraction(logits: Tensor, experts: Tensor) -> Tensor:
    drawn = softmax(logits).gather(-1, experts)
    return (drawn / (1 - (drawn.cumsum(-1) - drawn))).log().sum(-1)


def _among_the_drawn(logits: Tensor, experts: Tensor) -> Tensor:
    drawn = logits.gather(-1, experts)
    return (drawn - drawn.flip(-1).logcumsumexp(-1).flip(-1)).sum(-1)


def _by_odds(logits: Tensor) -> Tensor:
    s = softmax(logits)
    odds = s / (1 - s)
    return s * (1 + odds.sum(-1, keepdim=True) - odds)


def _by_division(logits: Tensor) -> Tensor:
    s = softmax(logits)
    second = s[:, :, None] * s[:, None] / (1 - s[:, :, None])
    itself = torch.eye(s.shape[-1], dtype=torch.bool)
    return s + second.masked_fill(itself, 0.0).sum(1)


DRAW_PROBABILITY = Exercise(
    "4.2",
    plackett_luce_log_probability,
    _logits_and_draws,
    (
        *(
            Mistake(
                answer,
                "this draws with replacement: after each draw the rest must sum to 1 again",
            )
            for answer in (
                lambda logits, e: softmax(logits).log().gather(-1, e).sum(-1),
                lambda logits, e: logits.log_softmax(-1).gather(-1, e).sum(-1),
            )
        ),
        Mistake(
            _among_the_drawn,
            "the rest are all experts that are left, those that are never drawn included",
        ),
        Mistake(
            lambda logits, e: plackett_luce_log_probability(logits, e).exp(),
            "this is the probability: return its logarithm",
        ),
        Mistake(
            lambda logits, e: plackett_luce_log_probability(logits, e.flip(-1)),
            "this is the probability of the reversed order: the first column was drawn first",
        ),
        Mistake(
            lambda logits, e: -plackett_luce_log_probability(logits, e),
            "the sign is turned round: the logarithm of a probability is not positive",
        ),
        *(
            Mistake(
                lambda logits, e, sign=sign: (
                    plackett_luce_log_probability(logits, e) + sign * math.lgamma(e.shape[-1] + 1)
                ),
                "this is off by log K!: the question is about the given order alone, so nothing "
                "is counted over orders",
            )
            for sign in (1, -1)
        ),
        Mistake(
            _by_subtraction,
            "right until 1 minus what was drawn rounds to 0: leave the probabilities, and take "
            "the softmax of the logits that are left",
        ),
    ),
)

INCLUSION_OF_TWO = Exercise(
    "4.3",
    lambda logits: inclusion_probabilities(logits, 2),
    _logits,
    (
        Mistake(
            lambda logits: 2 * softmax(logits),
            "K * p can exceed 1, so it is no probability: an expert is drawn once at most",
        ),
        Mistake(
            lambda logits: 1 - (1 - softmax(logits)) ** 2,
            "this draws with replacement: the second draw is from what the first one left",
        ),
        Mistake(
            lambda logits: (2 * softmax(logits)).clamp(max=1),
            "cutting K * p off at 1 loses what it cut: the row no longer sums to 2",
        ),
        Mistake(
            lambda logits: inclusion_probabilities(logits, 2) - softmax(logits),
            "this is the probability of being drawn second: add that of being drawn first",
        ),
        *(
            Mistake(
                answer,
                "right until a probability rounds to 1, then 1 - s is 0: take the softmax of the "
                "logits that are left after the first draw",
            )
            for answer in (_by_odds, _by_division)
        ),
    ),
)

HALF_THE_TIME = Exercise(
    "4.4",
    lambda logits, k: _where_half(lambda x, t: inclusion_probabilities(x, k, t), logits),
    _logits_and_k,
    (
        Mistake(
            lambda logits, k: _where_half(softmax, logits),
            "here the softmax is one half: the probability to be among the k drawn is larger",
        ),
        Mistake(
            lambda logits, k: _where_half(lambda x, t: k * softmax(x, t), logits),
            "here k times the softmax is one half, which is not the inclusion probability",
        ),
        Mistake(
            lambda logits, k: (
                1 / _where_half(lambda x, t: inclusion_probabilities(x, k, t), logits)
            ),
            "this is 1 / tau: logits are divided by the temperature",
        ),
    ),
    tolerance=1e-2,
)

EXERCISES = (RACE, DRAW_PROBABILITY, INCLUSION_OF_TWO, HALF_THE_TIME)
