"""Exercises of chapter 02: probabilities."""

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


def _logits_and_temperature(generator: torch.Generator) -> Sequence[Inputs]:
    temperatures = (0.5, 3.0, 0.1)
    cases = [(case, t) for case, t in zip(_logits(generator), temperatures, strict=True)]
    # One row far above the other: each needs its own maximum.
    apart = torch.tensor([[2000.0, 1999.0, 0.0], [0.0, 1.0, 2.0]], dtype=torch.float64)
    return [*cases, (apart, 1.0)]


def _logits_alone(generator: torch.Generator) -> Sequence[Inputs]:
    return [(case,) for case in _logits(generator)]


def _centroids(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(rows: int, width: int) -> Tensor:
        return torch.randn(rows, width, generator=generator, dtype=torch.float64)

    return [(draw(4, 3), 0.5), (draw(12, 2), 3.0), (draw(8, 16), 0.07)]


def _naive(logits: Tensor, temperature: float) -> Tensor:
    exponentials = (logits / temperature).exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


SOFTMAX = Exercise(
    "2.1",
    softmax,
    _logits_and_temperature,
    (
        Mistake(
            _naive,
            "right for small logits, but exp overflowed: subtract each row's maximum first",
        ),
        Mistake(
            lambda logits, t: _naive(logits - logits.max(), t),
            "subtract each row's own maximum: the whole tensor's lets other rows underflow",
        ),
        Mistake(
            lambda logits, t: torch.softmax(logits * t, -1),
            "the temperature divides the logits: a low one must sharpen",
        ),
        Mistake(
            lambda logits, t: torch.softmax(logits, -1),
            "the temperature has no effect yet: divide the logits by it",
        ),
        Mistake(
            lambda logits, t: torch.softmax(logits, -1) / t,
            "divide the logits by the temperature before the softmax, not the probabilities after",
        ),
        Mistake(
            lambda logits, t: torch.softmax(logits / t, 0),
            "this softmax runs over the tokens: each row, over the experts, must sum to 1",
        ),
    ),
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
            lambda logits: -entropy(softmax(logits)),
            "the sign is turned round: an entropy is never negative",
        ),
        Mistake(
            lambda logits: entropy(softmax(logits)) / torch.log(torch.tensor(2.0)).double(),
            "this is in bits: nats use the natural logarithm",
        ),
        Mistake(
            lambda logits: entropy(softmax(logits)) / logits.shape[-1],
            "sum over the experts: a mean divides by E once too often",
        ),
    ),
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
            "a low temperature sharpens, so the centroids must grow: the factor is turned round",
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
)

EXERCISES = (SOFTMAX, ENTROPY, ABSORBED_TEMPERATURE)
