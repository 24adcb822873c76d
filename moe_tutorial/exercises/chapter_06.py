"""Exercises of chapter 06: the layer and its size."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _expert(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [(draw(5, 4), draw(4, 12), draw(6, 4)), (draw(1, 8), draw(8, 6), draw(3, 8))]


def _shapes(_: torch.Generator) -> Sequence[Inputs]:
    return [(64, 128, 8, 2, 32), (4096, 1408, 60, 4, 5632), (10, 7, 12, 3, 5)]


def _models(_: torch.Generator) -> Sequence[Inputs]:
    return [(1.6e9, 5.6e9, 8, 2), (1.0e9, 0.25e9, 64, 8), (5.0, 2.0, 128, 4)]


def _swiglu(u: Tensor, w_in: Tensor, w_out: Tensor) -> Tensor:
    gate, up = (u @ w_in).chunk(2, -1)
    return (torch.nn.functional.silu(gate) * up) @ w_out


def _swapped(u: Tensor, w_in: Tensor, w_out: Tensor) -> Tensor:
    up, gate = (u @ w_in).chunk(2, -1)
    return (torch.nn.functional.silu(gate) * up) @ w_out


EXPERT = Exercise(
    "6.1",
    _swiglu,
    _expert,
    (
        Mistake(_swapped, "the gate is the first half: the silu belongs there"),
        Mistake(
            lambda u, w, o: ((u @ w).chunk(2, -1)[0] * (u @ w).chunk(2, -1)[1]) @ o,
            "no nonlinearity yet: the gate half passes through a silu",
        ),
        Mistake(
            lambda u, w, o: torch.nn.functional.silu(u @ w).chunk(2, -1)[0] @ o,
            "the second half has no effect yet: multiply the two halves",
        ),
        Mistake(
            lambda u, w, o: (torch.sigmoid((u @ w).chunk(2, -1)[0]) * (u @ w).chunk(2, -1)[1]) @ o,
            "silu(x) is x times sigmoid(x), not the sigmoid alone",
        ),
    ),
)

ACTIVE = Exercise(
    "6.2",
    lambda D, F, E, K, shared: 3 * D * F * K + 3 * D * shared + D * E,
    _shapes,
    (
        Mistake(
            lambda D, F, E, K, shared: 2 * D * F * K + 2 * D * shared + D * E,
            "a SwiGLU has three matrices: two on the way in, one on the way out",
        ),
        Mistake(
            lambda D, F, E, K, shared: 3 * D * F * K + D * E,
            "every token runs the shared expert too",
        ),
        Mistake(
            lambda D, F, E, K, shared: 3 * D * F * K + 3 * D * shared,
            "every token passes the router, with D weights for each expert",
        ),
        Mistake(
            lambda D, F, E, K, shared: 3 * D * F * E + 3 * D * shared + D * E,
            "these are all the weights: one token runs only K of the E experts",
        ),
    ),
)

ACTIVE_SHARE = Exercise(
    "6.3",
    lambda rest, expert, E, K: (rest + K * expert) / (rest + E * expert),
    _models,
    (
        Mistake(
            lambda rest, expert, E, K: K / E,
            "the weights outside the experts, such as attention, are used by every token",
        ),
        Mistake(
            lambda rest, expert, E, K: (rest + K * expert) / (E * (rest + expert)),
            "only the experts are there E times: attention and embeddings are shared",
        ),
        Mistake(
            lambda rest, expert, E, K: K * expert / (rest + E * expert),
            "the rest of the model is active too",
        ),
        Mistake(
            lambda rest, expert, E, K: (rest + E * expert) / (rest + K * expert),
            "this is total over active: turn it round",
        ),
    ),
)

EXERCISES = (EXPERT, ACTIVE, ACTIVE_SHARE)
