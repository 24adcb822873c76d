"""Exercises of chapter 06: an expert, its size, and an expert of a published model."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _expert(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    # Square matrices do not complain about a missing transpose; 300 overflows a naive sigmoid.
    return [
        (draw(5, 4), draw(6, 4), draw(6, 4), draw(4, 6)),
        (draw(1, 8), draw(3, 8), draw(3, 8), draw(8, 3)),
        (300 * draw(7, 5), draw(5, 5), draw(5, 5), draw(5, 5)),
    ]


def _gpt_oss(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(*shape: int) -> Tensor:
        return 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [
        (draw(R, D), draw(D, 2 * F), draw(2 * F), draw(F, D), draw(D), alpha, limit)
        for R, D, F, alpha, limit in (
            (9, 4, 6, 1.702, 7.0),
            (1, 8, 3, 1.3, 2.0),
            (6, 4, 2, 2.0, 1.0),
        )
    ]


def _shapes(generator: torch.Generator) -> Sequence[Inputs]:
    D, F, E, K, shared = torch.randint(2, 50, (5,), generator=generator).tolist()
    return [
        *[(64, 128, 8, 2, 32), (4096, 1408, 60, 4, 5632), (10, 7, 12, 3, 5), (16, 4, 5, 5, 9)],
        (D, F, E + K, K, shared),
    ]


def _models(generator: torch.Generator) -> Sequence[Inputs]:
    rest, expert, E, K = torch.randint(1, 30, (4,), generator=generator).tolist()
    return [
        *[(1.6e9, 5.6e9, 8, 2), (1.0e9, 0.25e9, 64, 8), (5.0, 2.0, 128, 4), (7.0, 3.0, 4, 4)],
        (float(rest), float(expert), E + K, K),
    ]


def _swiglu(u: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return (torch.nn.functional.silu(u @ gate.T) * (u @ up.T)) @ down.T


def _with(activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda u, gate, up, down: (activation(u @ gate.T) * (u @ up.T)) @ down.T


def _clamped(
    u: Tensor, into: Tensor, bias: Tensor, down: Tensor, down_bias: Tensor,
    alpha: float, limit: float,
    *, gates: tuple[float, float] = (-math.inf, 1.0), ups: tuple[float, float] = (-1.0, 1.0),
    more: float = 1.0, late: bool = True, halves: bool = False, cut_inside: bool = True,
) -> Tensor:  # fmt: skip
    """gpt-oss's expert; the options are for mistakes, and its bounds count in limits."""
    hidden = u @ into + bias
    gate, up = hidden.chunk(2, -1) if halves else (hidden[:, ::2], hidden[:, 1::2])
    whole, early = gate, 0.0 if late else more
    gate = gate.clamp(*(limit * bound for bound in gates))
    up = (up + early).clamp(*(limit * bound for bound in ups)) + (more - early)
    inside = gate if cut_inside else whole
    return (gate * torch.sigmoid(alpha * inside) * up) @ down + down_bias


_FREE = (-math.inf, math.inf)

EXPERT = Exercise(
    "6.1",
    _swiglu,
    _expert,
    (
        Mistake(
            lambda u, gate, up, down: _swiglu(u, up, gate, down),
            "gate and up are swapped: the silu belongs to the gate",
        ),
        Mistake(
            _with(lambda z: z), "no nonlinearity yet: what the gate gives passes through a silu"
        ),
        Mistake(_with(torch.sigmoid), "silu(x) is x times sigmoid(x), not the sigmoid alone"),
        Mistake(
            _with(torch.nn.functional.gelu), "this is GEGLU, with a GELU where SwiGLU has a silu"
        ),
        Mistake(
            _with(lambda z: torch.nn.functional.gelu(z, approximate="tanh")),
            "this is GEGLU, with a GELU where SwiGLU has a silu",
        ),
        Mistake(_with(torch.relu), "this is ReGLU, with a ReLU where SwiGLU has a silu"),
        Mistake(
            lambda u, gate, up, down: torch.nn.functional.silu(u @ gate.T) @ down.T,
            "up_FD has no effect yet: multiply the two hidden tensors",
        ),
        Mistake(
            lambda u, gate, up, down: (torch.nn.functional.silu(u @ gate.T) + u @ up.T) @ down.T,
            "gate and up are added: a gate multiplies",
        ),
        Mistake(
            lambda u, gate, up, down: torch.nn.functional.silu((u @ gate.T) * (u @ up.T)) @ down.T,
            "the silu comes before the product, and only on the gate",
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
        Mistake(
            lambda D, F, E, K, shared: 3 * D * F * K + 3 * D * shared + D * K,
            "the router compares a token with all E experts, not only with the K that it chooses",
        ),
        Mistake(
            lambda D, F, E, K, shared: 3 * D * F * K + 3 * D * F * shared + D * E,
            "shared is the hidden width of one shared expert, not a number of experts",
        ),
        Mistake(
            lambda D, F, E, K, shared: 2 * (3 * D * F * K + 3 * D * shared + D * E),
            "these are FLOPs, two for each weight",
        ),
        Mistake(
            lambda D, F, E, K, shared: 3 * D * F * (K + 1) + D * E,
            "the shared expert has a hidden width of its own, and not that of the others",
        ),
        Mistake(
            lambda D, F, E, K, shared: 3 * D * F * K + 3 * D * shared + E,
            "the router has D weights for each expert, not one",
        ),
        Mistake(
            lambda D, F, E, K, shared: 3 * D * F * K + 3 * D * shared + D * E + D,
            "there is no gate on this shared expert, and no norm in the layer",
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
            "this is total over active: the share is the other way up",
        ),
        Mistake(
            lambda rest, expert, E, K: 100 * (rest + K * expert) / (rest + E * expert),
            "this is in percent: a share lies between 0 and 1",
        ),
        Mistake(
            lambda rest, expert, E, K: (E - K) * expert / (rest + E * expert),
            "this is the share that is not active",
        ),
        Mistake(
            lambda rest, expert, E, K: (rest + K * expert) / (E * expert),
            "the total has the rest of the model in it, too",
        ),
        Mistake(
            lambda rest, expert, E, K: rest + K * expert / (rest + E * expert),
            "the division comes first: put brackets around the sum above the line",
        ),
    ),
    tolerance=1e-6,
)

REAL_CODE = Exercise(
    "6.4",
    _clamped,
    _gpt_oss,
    (
        Mistake(
            lambda *case: _clamped(*case, halves=True),
            "gate and up are not two halves here: look at ::2",
        ),
        Mistake(lambda *case: _clamped(*case, more=0.0), "one is added to up before the product"),
        Mistake(
            lambda *case: _clamped(*case, gates=(-1.0, 1.0)),
            "the gate is cut off above only: min is None there",
        ),
        Mistake(
            lambda *case: _clamped(*case, gates=_FREE, ups=_FREE),
            "nothing is cut off yet: see clamp",
        ),
        Mistake(lambda *case: _clamped(*case, gates=_FREE), "the gate is cut off, too: see clamp"),
        Mistake(lambda *case: _clamped(*case, ups=_FREE), "up is cut off, too: see clamp"),
        Mistake(
            lambda *case: _clamped(*case, ups=(-math.inf, 1.0)),
            "up is cut off on both sides: see its min",
        ),
        Mistake(
            lambda *case: _clamped(*case, late=False),
            "one is added to up after it was cut off, not before",
        ),
        Mistake(
            lambda *case: _clamped(*case, cut_inside=False),
            "the sigmoid sees the gate as it was before the cut: it gets the one that was cut off",
        ),
        Mistake(
            lambda u, w, b, o, c, alpha, limit: (
                alpha * (_clamped(u, w, b, o, c, alpha, limit) - c) + c
            ),
            "alpha stands inside the sigmoid only, so this is not silu(alpha * gate)",
        ),
        Mistake(
            lambda u, w, b, o, c, alpha, limit: _clamped(u, w, b, o, c, 1.0, limit),
            "alpha has no effect yet: it multiplies the gate inside the sigmoid",
        ),
        Mistake(
            lambda u, w, b, o, c, alpha, limit: _clamped(u, w, b, o, 0 * c, alpha, limit),
            "the second bias is missing",
        ),
        Mistake(
            lambda u, w, b, o, c, alpha, limit: _clamped(u, w, 0 * b, o, c, alpha, limit),
            "the first bias is missing",
        ),
        Mistake(
            lambda u, into, bias, down, down_bias, alpha, limit: _clamped(
                u,
                into.unflatten(-1, (-1, 2)).flip(-1).flatten(-2),
                bias.unflatten(-1, (-1, 2)).flip(-1).flatten(-2),
                down,
                down_bias,
                alpha,
                limit,
            ),
            "gate and up are swapped: the gate has the even columns",
        ),
    ),
)

EXERCISES = (EXPERT, ACTIVE, ACTIVE_SHARE, REAL_CODE)
