"""Exercises of chapter 01: scoring experts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake
from moe_tutorial.routing.scores import cosine_scores


def _tokens_and_centroids(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [(draw(5, 3), draw(4, 3)), (draw(1, 16), draw(12, 16)), (10 * draw(7, 7), draw(7, 7))]


def _with_scale(generator: torch.Generator) -> Sequence[Inputs]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scales = (3.0, 0.5, 10.0)
    cases = zip(_tokens_and_centroids(generator), scales, strict=True)
    # A batch of sequences, where dimension 1 is no longer the last.
    return [*((*case, scale) for case, scale in cases), (draw(2, 3, 4), draw(5, 4), 2.0)]


def _unit(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths


def _facing(x: Tensor, w: Tensor) -> Tensor:
    lengths_T1: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    lengths_E: Tensor = torch.linalg.vector_norm(w, dim=-1)
    return lengths_T1 * lengths_E


LARGEST = Exercise(
    "1.1",
    _facing,
    _tokens_and_centroids,
    (
        Mistake(
            lambda x, w: x @ w.T,
            "these are the logits of the tokens as they lie: what if a token turned to face the "
            "centroid?",
        ),
        Mistake(
            lambda x, w: torch.linalg.vector_norm(w, dim=-1).expand(len(x), len(w)),
            "this is right for tokens of length 1: a longer token has larger logits",
        ),
        Mistake(
            lambda x, w: _facing(x, w).square(),
            "these are squares: the length is the square root of the sum of squares",
        ),
        Mistake(
            lambda x, w: x.abs() @ w.abs().T,
            "making all coordinates positive does not turn a token towards a centroid: which "
            "angle gives the largest cosine?",
        ),
        Mistake(
            lambda x, w: x.norm(dim=-1)[:, None] + w.norm(dim=-1),
            "the two lengths are multiplied, not added",
        ),
        Mistake(
            lambda x, w: x.square().sum(-1, keepdim=True).expand(len(x), len(w)),
            "this is the token's product with itself: it would keep its length, not take on the "
            "centroid's place",
        ),
        Mistake(
            lambda x, w: _facing(w, x),
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
            lambda x, w, scale: scale * nn.functional.normalize(x) @ nn.functional.normalize(w).T,
            "right for tokens [T, D], but in a batch [B, S, D] dimension 1 is the sequence: "
            "normalise along the last dimension, dim=-1",
        ),
        Mistake(
            lambda x, w, scale: (
                scale * (x @ w.T) / (x.square().sum(-1, keepdim=True) * w.square().sum(-1))
            ),
            "divide by the lengths, the square roots of the sums of squares",
        ),
        Mistake(
            lambda x, w, scale: scale * (x @ w.T) / (x.norm() * w.norm()),
            "this takes one length for all tokens together: each token and each centroid has its "
            "own, along the last dimension",
        ),
    ),
    # A tiny constant beside the lengths, as libraries add it against a zero vector, is no mistake.
    tolerance=1e-6,
)


def _bias(scores: Tensor, case: Inputs) -> Tensor:
    # What was added to the dot products. One number more for all tokens and experts changes nothing
    # and is free, but what differs from token to token is a distance in disguise.
    x, w = case
    added: Tensor = scores - x @ w.T
    return added - added[0, 0]


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
            lambda x, w: 2 * (x @ w.T) - w.square().sum(-1),
            "the order is right, but all of it is twice as large: the dot product counts once",
        ),
        Mistake(
            lambda x, w: x @ w.T + w.square().sum(-1) / 2,
            "the sign of the added number is wrong: a long centroid has to pay",
        ),
        Mistake(
            lambda x, w: -torch.cdist(x, w),
            "right order, but not as a dot product plus a number for each expert",
        ),
        Mistake(
            lambda x, w: -torch.cdist(x, w).square(),
            "right order, but these are distances: drop what is the same for every expert",
        ),
        Mistake(
            lambda x, w: -torch.cdist(x, w).square() / 2,
            "right order, but a part of it depends on the token: the number you add may depend on "
            "the centroid alone",
        ),
    ),
    observe=_bias,
)

EXERCISES = (LARGEST, COSINE, NEAREST)
