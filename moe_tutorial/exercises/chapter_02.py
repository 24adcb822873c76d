"""Exercises of chapter 02: probabilities."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.routing.probabilities import entropy, softmax


def _logits(generator: torch.Generator) -> list[Tensor]:
    sizes = ((4, 6, 1.0), (3, 12, 5.0), (2, 5, 400.0))
    return [
        scale * torch.randn(rows, experts, generator=generator, dtype=torch.float64)
        for rows, experts, scale in sizes
    ]


def _logits_and_ratio(generator: torch.Generator) -> Sequence[Inputs]:
    ratios = (2.0, 10.0, 1.5)
    # A gap so wide that the second probability underflows to 0: only the logits still tell it.
    wide = torch.tensor([[0.0, 1000.0, -1000.0]], dtype=torch.float64)
    return [*zip(_logits(generator), ratios, strict=True), (wide, 3.0)]


def _logits_alone(generator: torch.Generator) -> Sequence[Inputs]:
    # Where exp overflows, where it underflows, a single expert, and so many experts that a small
    # constant added to each probability shows in the sum.
    extremes = torch.tensor([[1000.0, 999.0, 0.0], [-1000.0, -1000.0, -1001.0]])
    one_expert, many = torch.zeros(2, 1), torch.randn(2, 1000, generator=generator)
    hard = [extremes, one_expert, many]
    return [(case,) for case in (*_logits(generator), *(case.double() for case in hard))]


def _centroids(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(rows: int, width: int) -> Tensor:
        return torch.randn(rows, width, generator=generator, dtype=torch.float64)

    return [(draw(4, 3), 0.5), (draw(12, 2), 3.0), (draw(8, 16), 0.07)]


def _gap(logits: Tensor) -> Tensor:
    best_two_T2: Tensor = logits.topk(2, dim=-1).values
    return best_two_T2[:, 0] - best_two_T2[:, 1]


TEMPERATURE = Exercise(
    "2.1",
    lambda logits, ratio: _gap(logits) / math.log(ratio),
    _logits_and_ratio,
    (
        Mistake(
            lambda logits, ratio: _gap(logits) * math.log(ratio),
            "a larger ratio needs a lower temperature: divide by its logarithm",
        ),
        Mistake(
            lambda logits, ratio: math.log(ratio) / _gap(logits),
            "this is one over the temperature: the gap stands above the logarithm",
        ),
        Mistake(
            lambda logits, ratio: _gap(logits) / ratio,
            "the ratio is e to the power of gap / temperature: take its logarithm",
        ),
        Mistake(
            lambda logits, ratio: _gap(logits) / math.log2(ratio),
            "a softmax is made from powers of e, not of 2: take the natural logarithm",
        ),
        Mistake(
            lambda logits, ratio: (logits.amax(-1) - logits.amin(-1)) / math.log(ratio),
            "compare the best expert with the second best, not with the worst",
        ),
        Mistake(
            lambda logits, ratio: (logits[:, 0] - logits[:, 1]) / math.log(ratio),
            "experts are not sorted: the best two may stand in any two columns",
        ),
        Mistake(
            lambda logits, ratio: _gap(torch.softmax(logits, -1)) / math.log(ratio),
            "the temperature divides the logits, so take the gap between logits",
        ),
        Mistake(
            lambda logits, ratio: _gap(torch.softmax(logits, -1).log()) / math.log(ratio),
            "right until the second probability underflows to 0: take the gap between the logits",
        ),
    ),
    # A temperature that was found by trying is as good as one from a formula.
    tolerance=1e-6,
)


def _entropy_with(constant: float) -> Mistake:
    return Mistake(
        lambda logits: -(softmax(logits) * (softmax(logits) + constant).log()).sum(-1),
        "nearly: the small constant inside the logarithm is added once for each expert and shows "
        "when there are many: log_softmax needs none",
    )


ENTROPY = Exercise(
    "2.2",
    lambda logits: entropy(softmax(logits)),
    _logits_alone,
    (
        Mistake(
            lambda logits: -(softmax(logits) * softmax(logits).log()).sum(-1),
            "a probability that underflowed to 0 made 0 * log 0 = NaN: take log_softmax",
        ),
        Mistake(
            lambda logits: logits.exp().sum(-1).log() - (softmax(logits) * logits).sum(-1),
            "right for small logits, but exp overflowed: take logsumexp, which shifts them first",
        ),
        Mistake(
            lambda logits: -entropy(softmax(logits)),
            "the sign is wrong: an entropy is never negative",
        ),
        Mistake(
            lambda logits: entropy(softmax(logits)) / math.log(2),
            "this is in bits: nats use the natural logarithm",
        ),
        Mistake(
            lambda logits: entropy(softmax(logits)) / logits.shape[-1],
            "sum over the experts: a mean divides by E once too often",
        ),
        Mistake(
            lambda logits: entropy(softmax(logits)).exp(),
            "this is e to the power of the entropy: the number of experts that it amounts to",
        ),
        Mistake(
            lambda logits: (softmax(logits) * (1 - softmax(logits))).sum(-1),
            "p (1 - p) measures spread as well, but this is no entropy: weigh -ln p with p",
        ),
        *(_entropy_with(10.0**-digits) for digits in (6, 7, 8, 9, 10, 12)),
    ),
    tolerance=1e-11,
)


def _probabilities_of_probes(centroids: Tensor, case: Inputs) -> Tensor:
    # One vector added to all centroids changes no probability, so that only these are compared.
    generator = torch.Generator().manual_seed(0)
    width = case[0].shape[1]
    probes = torch.randn(4 * width + 20, width, generator=generator, dtype=torch.float64)
    return torch.softmax(probes @ centroids.to(torch.float64).T, -1)


ABSORBED_TEMPERATURE = Exercise(
    "2.3",
    lambda centroids, t: centroids / t,
    _centroids,
    (
        Mistake(
            lambda centroids, t: centroids * t,
            "a low temperature sharpens, so the centroids must grow: divide, do not multiply",
        ),
        Mistake(
            lambda centroids, t: centroids,
            "unchanged centroids give the probabilities of temperature 1",
        ),
        Mistake(
            lambda centroids, t: centroids / t**2,
            "logits are linear in the centroids: one division is enough",
        ),
        Mistake(
            lambda centroids, t: softmax(centroids, t),
            "the softmax runs over the experts' logits; the centroids only need a factor",
        ),
    ),
    observe=_probabilities_of_probes,
    # A temperature that was rounded to float32 on its way, as torch.tensor does, is no mistake.
    tolerance=1e-6,
)

EXERCISES = (TEMPERATURE, ENTROPY, ABSORBED_TEMPERATURE)
