"""Exercises of chapter 04: drawing experts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.routing.inclusion import inclusion_probabilities
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.sampling import plackett_luce_log_probability


def _gumbel(uniform: Tensor) -> Tensor:
    return -(-uniform.log()).log()


def _logits_and_noise(generator: torch.Generator) -> Sequence[Inputs]:
    sizes = ((40, 6, 2, 0.5), (30, 12, 3, 3.0), (50, 8, 8, 1.0))
    return [
        (
            torch.randn(rows, experts, generator=generator, dtype=torch.float64),
            torch.rand(rows, experts, generator=generator, dtype=torch.float64),
            k,
            temperature,
        )
        for rows, experts, k, temperature in sizes
    ]


def _logits_and_draws(generator: torch.Generator) -> Sequence[Inputs]:
    logits = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    draws = torch.rand(5, 7, generator=generator).argsort(-1)
    return [(logits, draws[:, :3]), (4 * logits, draws[:, :1]), (logits, draws)]


def _logits(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0]], dtype=torch.float64),),
        (2 * torch.randn(4, 9, generator=generator, dtype=torch.float64),),
    ]


GUMBEL_DRAW = Exercise(
    "4.1",
    lambda logits, u, k, t: (logits / t + _gumbel(u)).topk(k).indices,
    _logits_and_noise,
    (
        Mistake(
            lambda logits, u, k, t: (logits / t + (-u.log()).log()).topk(k).indices,
            "this noise has the wrong sign: Gumbel noise is -log(-log U)",
        ),
        Mistake(
            lambda logits, u, k, t: ((logits + _gumbel(u)) / t).topk(k).indices,
            "the noise was divided by the temperature as well, so the temperature cancels",
        ),
        Mistake(
            lambda logits, u, k, t: (softmax(logits, t) + _gumbel(u)).topk(k).indices,
            "the noise belongs on the logits (or on log-probabilities), not on probabilities",
        ),
        Mistake(
            lambda logits, u, k, t: (logits / t).topk(k).indices,
            "no noise yet: this is the deterministic top-k",
        ),
        Mistake(
            lambda logits, u, k, t: (logits / t + u).topk(k).indices,
            "uniform noise gives no softmax draw: turn it into Gumbel noise first",
        ),
    ),
)

DRAW_PROBABILITY = Exercise(
    "4.2",
    plackett_luce_log_probability,
    _logits_and_draws,
    (
        Mistake(
            lambda logits, e: softmax(logits).log().gather(-1, e).sum(-1),
            "this draws with replacement: after each draw the rest must sum to 1 again",
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
    ),
)

EXERCISES = (GUMBEL_DRAW, DRAW_PROBABILITY, INCLUSION_OF_TWO)
