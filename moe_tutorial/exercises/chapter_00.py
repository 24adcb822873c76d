"""Exercises of chapter 00: counting tokens, weights and experts."""

from collections.abc import Sequence

import torch

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake


def _sizes(_: torch.Generator) -> Sequence[Inputs]:
    return [(1000, 8, 2), (4096, 64, 8), (2, 12, 3), (1, 5, 5)]


def _widths(_: torch.Generator) -> Sequence[Inputs]:
    return [(64, 256, 8, 2), (4096, 14336, 8, 1), (10, 7, 12, 3)]


AVERAGE_LOAD = Exercise(
    "0.1",
    lambda T, E, K: T * K / E,
    _sizes,
    (
        Mistake(lambda T, E, K: T / E, "every token goes to K experts, not to one: where is K?"),
        Mistake(lambda T, E, K: T * K, "this counts all assignments: they are shared by E experts"),
        Mistake(lambda T, E, K: T * K // E, "an average need not be whole: divide with /, not //"),
    ),
)

ACTIVE_WEIGHTS = Exercise(
    "0.2",
    lambda D, F, E, K: 2 * D * F * K + D * E,
    _widths,
    (
        Mistake(
            lambda D, F, E, K: 2 * D * F * K,
            "the router's D * E weights are used by every token too",
        ),
        Mistake(
            lambda D, F, E, K: 2 * D * F * K + D * K,
            "the router scores all E experts, not only the K it will choose",
        ),
        Mistake(
            lambda D, F, E, K: D * F * K + D * E,
            "each expert has two matrices, D x F on the way in and F x D on the way out",
        ),
        Mistake(
            lambda D, F, E, K: 2 * D * F * E + D * E,
            "these are all the weights of the layer: one token runs only K experts",
        ),
    ),
)

EXPERTS_TOUCHED = Exercise(
    "0.3",
    lambda T, E, K: E * (1 - (1 - K / E) ** T),
    _sizes,
    (
        Mistake(
            lambda T, E, K: K,
            "that is one token: different tokens choose different experts",
        ),
        Mistake(
            lambda T, E, K: min(E, T * K),
            "tokens share experts, so T tokens reach fewer than T * K different ones",
        ),
        Mistake(
            lambda T, E, K: E * (1 - (1 - 1 / E) ** T),
            "one token misses an expert with probability 1 - K / E, not 1 - 1 / E",
        ),
        Mistake(
            lambda T, E, K: E * (1 - K / E) ** T,
            "this is the expected number of experts that no token reached",
        ),
    ),
)

EXERCISES = (AVERAGE_LOAD, ACTIVE_WEIGHTS, EXPERTS_TOUCHED)
