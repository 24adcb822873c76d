"""Exercises of chapter 10: surprise in bits, what a model stores, seeds in pairs, a logged loss."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _texts(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (
            2 * torch.randn(length, vocabulary, generator=generator, dtype=torch.float64),
            torch.randint(vocabulary, (length,), generator=generator),
        )
        for length, vocabulary in ((6, 10), (40, 256), (1, 3))
    ] + [(torch.tensor([[1000.0, 0, -1000], [3, 3, 3]]).double(), torch.tensor([1, 0]))]


def _shapes(generator: torch.Generator) -> Sequence[Inputs]:
    D, width, E, K = torch.randint(2, 20, (4,), generator=generator).tolist()
    return [
        *[(64, 128, 8, 2), (10, 12, 4, 1), (512, 2048, 64, 8), (16, 24, 3, 3), (5, 14, 9, 7)],
        (D, K * width, E + K, K),
    ]


def _logs(generator: torch.Generator) -> Sequence[Inputs]:
    draws = torch.rand(3, 2, generator=generator, dtype=torch.float64)
    return [
        (2 + 3 * loss, 2 + aux, coefficient)
        for (loss, aux), coefficient in zip(draws.tolist(), (0.001, 0.02, 0.5), strict=True)
    ]


def _seeds(generator: torch.Generator) -> Sequence[Inputs]:
    cases = []
    for seeds, difference in ((5, -0.2), (8, 0.01), (3, 0.5)):
        # Hard and easy seeds are hard and easy for both models.
        common = torch.rand(seeds, generator=generator, dtype=torch.float64)
        noise = 0.05 * torch.randn(2, seeds, generator=generator, dtype=torch.float64)
        cases.append((2 + difference + common + noise[0], 2 + common + noise[1]))
    return cases


def _surprise(logits: Tensor, targets: Tensor) -> Tensor:
    return -torch.log_softmax(logits, -1).gather(-1, targets[:, None])[:, 0]


def _stored(D: int, F: int, E: int, K: int) -> int:
    return 3 * D * (F // K) * E + D * E


def _paired(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).mean() / ((a - b).std() / math.sqrt(len(a)))


BITS = Exercise(
    "10.1",
    lambda logits, targets: _surprise(logits, targets).mean() / math.log(2),
    _texts,
    (
        Mistake(
            lambda logits, targets: _surprise(logits, targets).mean(),
            "these are nats: a bit is ln 2 of them",
        ),
        Mistake(
            lambda logits, targets: _surprise(logits, targets).sum() / math.log(2),
            "these are the bits of the whole text: divide by its bytes",
        ),
        Mistake(
            lambda logits, targets: -_surprise(logits, targets).neg().exp().mean().log2(),
            "average the surprises, not the probabilities: each byte costs bits of its own",
        ),
        Mistake(
            lambda logits, targets: -logits.gather(-1, targets[:, None]).mean() / math.log(2),
            "these are logits: log_softmax makes logarithms of probabilities of them",
        ),
        Mistake(
            lambda logits, targets: -logits.softmax(-1).gather(-1, targets[:, None]).log2().mean(),
            "softmax rounds a tiny probability to 0, whose logarithm is infinite: take log_softmax",
        ),
        Mistake(
            lambda logits, targets: _surprise(logits, targets).mean().exp(),
            "this is the perplexity: its logarithm to the base 2 counts the bits",
        ),
        Mistake(
            lambda logits, targets: (
                -logits.log_softmax(0).gather(-1, targets[:, None]).mean() / math.log(2)
            ),
            "the V candidates for one byte share its odds: softmax goes over the last dimension",
        ),
    ),
    tolerance=1e-6,  # the logarithm of 2 may well come from a float32 tensor
)

STORED = Exercise(
    "10.2",
    _stored,
    _shapes,
    (
        Mistake(
            lambda D, F, E, K: 3 * D * F * E + D * E,
            "experts as wide as the dense layer make a token use K times as much: they have F / K",
        ),
        Mistake(
            lambda D, F, E, K: 3 * D * (F // K) * E,
            "the router is stored, too: one centroid for each expert",
        ),
        Mistake(
            lambda D, F, E, K: 3 * D * (F // K) * K + D * E,
            "this is what a token uses: all E experts are stored",
        ),
        Mistake(
            lambda D, F, E, K: 2 * D * (F // K) * E + D * E,
            "SwiGLU has three matrices: gate, up and down",
        ),
        Mistake(
            lambda D, F, E, K: 3 * D * (F // K) * E + D * K,
            "the router has a centroid for each of the E experts, not only for the K of one token",
        ),
        Mistake(
            lambda D, F, E, K: 3 * D * (F // K) * E + E,
            "a centroid has D numbers",
        ),
        Mistake(
            lambda D, F, E, K: 3 * D * (F // E) * E + D * E,
            "experts of width F / E store no more than before: a token uses K, so they have F / K",
        ),
        Mistake(
            lambda D, F, E, K: 3 * D * F * K * E + D * E,
            "wider experts make a token use more: K experts of F / K are as much as one of F",
        ),
        Mistake(
            lambda D, F, E, K: (3 * D * (F // K) + 2 * (F // K) + D) * E + D * E,
            "these networks have no biases",
        ),
    ),
)

PAIRS = Exercise(
    "10.3",
    _paired,
    _seeds,
    (
        Mistake(
            lambda a, b: (a.mean() - b.mean()) / ((a.var() + b.var()) / len(a)).sqrt(),
            "this takes the seeds for unrelated ones: subtract seed by seed first",
        ),
        Mistake(
            lambda a, b: (a - b).mean() / (a - b).std(),
            "this is measured in spreads of one seed: a mean of n spreads less, by the root of n",
        ),
        Mistake(
            lambda a, b: (a - b).mean() / ((a - b).std(correction=0) / math.sqrt(len(a))),
            "the spread of few seeds is estimated with n - 1",
        ),
        Mistake(
            lambda a, b: -_paired(a, b),
            "the sign is the other way round: the first model minus the second",
        ),
        Mistake(
            lambda a, b: (a - b).mean(),
            "this is the mean difference: divide it by its standard error",
        ),
        Mistake(
            lambda a, b: (a - b).mean() / ((a - b).std() / len(a)),
            "the standard error of a mean falls with the root of n",
        ),
        Mistake(
            lambda a, b: (a - b).mean() / ((a - b).var() / len(a)),
            "this divides by the square of the standard error: take the root",
        ),
        Mistake(
            lambda a, b: _paired(a, b).abs(),
            "t has a sign: below 0 if the first model's losses are lower",
        ),
    ),
)

LOGGED = Exercise(
    "10.4",
    lambda loss, aux, coefficient: (loss - coefficient * aux) / math.log(2),
    _logs,
    (
        Mistake(
            lambda loss, aux, coefficient: loss - coefficient * aux, "these are nats, not bits yet"
        ),
        Mistake(
            lambda loss, aux, coefficient: loss / math.log(2),
            "the balancing loss is still in it: loss is a sum when router logits are asked for",
        ),
        Mistake(
            lambda loss, aux, coefficient: (loss - aux) / math.log(2),
            "what is added is aux_loss times its coefficient, and aux_loss comes without it",
        ),
        Mistake(
            lambda loss, aux, coefficient: (loss + coefficient * aux) / math.log(2),
            "the balancing loss is in it already: take it out, do not add it again",
        ),
        Mistake(
            lambda loss, aux, coefficient: loss / math.log(2) - coefficient * aux,
            "take the balancing loss out while both are nats, and then make bits of what is left",
        ),
        Mistake(
            lambda loss, aux, coefficient: (loss - coefficient * aux) * math.log(2),
            "a nat is more than a bit: divide by ln 2",
        ),
    ),
)

EXERCISES = (BITS, STORED, PAIRS, LOGGED)
