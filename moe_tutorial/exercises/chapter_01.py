"""Exercises of chapter 01: scoring experts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.routing.scores import cosine_scores, dot_scores


def _tokens_and_centroids(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [(draw(5, 3), draw(4, 3)), (draw(1, 16), draw(12, 16)), (10 * draw(7, 7), draw(7, 7))]


def _with_scale(generator: torch.Generator) -> Sequence[Inputs]:
    scales = (3.0, 0.5, 10.0)
    return [
        (*case, scale) for case, scale in zip(_tokens_and_centroids(generator), scales, strict=True)
    ]


def _unit(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths


DOT = Exercise(
    "1.1",
    dot_scores,
    _tokens_and_centroids,
    (
        Mistake(cosine_scores, "these are cosines: a dot product keeps both vectors' lengths"),
        Mistake(
            lambda x, w: -torch.cdist(x, w),
            "these are negative distances: multiply the coordinates and add, nothing else",
        ),
        Mistake(
            lambda x, w: torch.softmax(x @ w.T, -1),
            "these are probabilities: the softmax comes in chapter 02",
        ),
        Mistake(
            lambda x, w: (x @ w.T).T,
            "this has one row per expert: tokens are rows, experts are columns",
        ),
    ),
)

COSINE = Exercise(
    "1.2",
    cosine_scores,
    _with_scale,
    (
        Mistake(
            lambda x, w, scale: scale * (_unit(x) @ w.T),
            "the centroids still have their lengths: normalise them as well as the tokens",
        ),
        Mistake(
            lambda x, w, scale: scale * (x @ _unit(w).T),
            "the tokens still have their lengths: normalise them as well as the centroids",
        ),
        Mistake(
            lambda x, w, scale: _unit(x) @ _unit(w).T,
            "the cosines are right: multiply them by the scale",
        ),
        Mistake(
            lambda x, w, scale: _unit(x) @ _unit(w).T / scale,
            "the scale multiplies the cosines: it is no temperature to divide by",
        ),
        Mistake(
            lambda x, w, scale: (
                scale * (x @ w.T) / (x.square().sum(-1)[:, None] * w.square().sum(-1))
            ),
            "divide by the lengths, the square roots of the sums of squares",
        ),
    ),
)

NEAREST = Exercise(
    "1.3",
    lambda x, w: x @ w.T - w.square().sum(-1) / 2,
    _tokens_and_centroids,
    (
        Mistake(
            lambda x, w: x @ w.T,
            "a dot product alone prefers long centroids to near ones: what must it pay for length?",
        ),
        Mistake(
            lambda x, w: x @ w.T - w.norm(dim=-1),
            "the square of the distance holds the square of the length, not the length",
        ),
        Mistake(
            lambda x, w: x @ w.T - w.square().sum(-1),
            "expand the square of u - w again: the middle term counts the dot product twice",
        ),
        Mistake(
            lambda x, w: x @ w.T + w.square().sum(-1) / 2,
            "the sign of the bias is turned round: a long centroid has to pay",
        ),
        Mistake(
            lambda x, w: -torch.cdist(x, w),
            "right order, but not as a dot product plus a number for each expert",
        ),
    ),
    # A number added to all scores of a token changes no choice.
    observe=lambda scores, _: scores - scores[:, :1],
)

EXERCISES = (DOT, COSINE, NEAREST)
