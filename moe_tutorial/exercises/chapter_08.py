"""Exercises of chapter 08: measuring and mending a load."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.learning.balance import switch_loss
from moe_tutorial.learning.loads import expert_load, load_metrics


def _loads(generator: torch.Generator) -> Sequence[Inputs]:
    return [
        (torch.tensor([5, 0, 3, 0, 0, 0], dtype=torch.float64),),
        (torch.randint(1, 50, (12,), generator=generator).double(),),
    ]


def _layers(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for layers, tokens, experts, k in ((3, 12, 4, 2), (2, 30, 6, 1)):
        logits = torch.randn(layers, tokens, experts, generator=generator, dtype=torch.float64)
        # Every layer prefers an expert of its own, so that pooling hides something.
        logits[torch.arange(layers), :, torch.arange(layers)] += 2
        cases.append((logits, k))
    return cases


def _padded(generator: torch.Generator) -> Sequence[Inputs]:
    cases: list[Inputs] = []
    for tokens, experts, k in ((20, 5, 2), (33, 8, 1)):
        logits = torch.randn(tokens, experts, generator=generator, dtype=torch.float64)
        logits[-7:] = 0  # padding: all alike, and all to the same experts
        logits[-7:, 0] = 1
        cases.append((logits, k, torch.arange(tokens) < tokens - 7))
    return cases


def _loss(logits: Tensor, k: int, mask: Tensor | None = None) -> Tensor:
    return switch_loss(logits.softmax(-1), logits.topk(k).indices, mask)


def _each_layer(logits: Tensor, k: int) -> Tensor:
    return torch.stack([_loss(layer, k) for layer in logits])


def _counted_fully(logits: Tensor, k: int, mask: Tensor) -> Tensor:
    load = expert_load(logits.topk(k).indices, logits.shape[-1]).double()
    return logits.shape[-1] * (load / load.sum() * logits[mask].softmax(-1).mean(0)).sum()


def _averaged_fully(logits: Tensor, k: int, mask: Tensor) -> Tensor:
    load = expert_load(logits.topk(k).indices, logits.shape[-1], mask).double()
    return logits.shape[-1] * (load / load.sum() * logits.softmax(-1).mean(0)).sum()


EFFECTIVE = Exercise(
    "8.1",
    lambda load: load_metrics(load).effective_experts,
    _loads,
    (
        Mistake(
            lambda load: load_metrics(load).entropy,
            "this is the entropy, in nats: its exponential counts experts",
        ),
        Mistake(
            lambda load: (load > 0).sum().double(),
            "this counts experts with any token at all: a busier one has to count for more",
        ),
        Mistake(
            lambda load: 2 ** load_metrics(load).entropy,
            "the entropy is in nats (natural logarithm): take e to its power, not 2",
        ),
        Mistake(
            lambda load: 1 / load_metrics(load).fraction_E.square().sum(),
            "this is the inverse of the sum of squares, another such number: use the entropy",
        ),
    ),
)

MASKED = Exercise(
    "8.2",
    _loss,
    _padded,
    (
        Mistake(lambda logits, k, mask: _loss(logits, k), "padding counts as tokens here"),
        Mistake(_counted_fully, "padding is left out of P, but still counted in f"),
        Mistake(_averaged_fully, "padding is left out of f, but still averaged in P"),
        Mistake(
            lambda logits, k, mask: k * _loss(logits, k, mask),
            "this is K times too large: f is a share of all T K assignments",
        ),
        Mistake(
            lambda logits, k, mask: _loss(logits, k, mask) / logits.shape[-1],
            "the factor E is missing: balanced must read 1",
        ),
    ),
    gradient=True,
)

PER_LAYER = Exercise(
    "8.3",
    lambda logits, k: _each_layer(logits, k).mean(),
    _layers,
    (
        Mistake(
            lambda logits, k: _loss(logits.flatten(0, 1), k),
            "the layers are pooled: two that collapsed differently would look balanced",
        ),
        Mistake(
            lambda logits, k: _each_layer(logits, k).sum(),
            "this is the sum over the layers: the mean was asked for",
        ),
        Mistake(
            lambda logits, k: _loss(logits.mean(0), k),
            "logits of different layers have nothing in common: average the losses, not the logits",
        ),
        Mistake(
            lambda logits, k: k * _each_layer(logits, k).mean(),
            "this reads K when balanced: f is a share of all T K assignments",
        ),
    ),
)

EXERCISES = (EFFECTIVE, MASKED, PER_LAYER)
