"""Exercises of chapter 00: counting tokens, weights and experts."""

import math
from collections.abc import Mapping, Sequence

import torch

from moe_tutorial.exercises.grader import Exercise, Inputs, Mistake

Config = Mapping[str, int]


def _whole(generator: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _sizes(generator: torch.Generator) -> Sequence[Inputs]:
    drawn = [
        (_whole(generator, 2, 40), _whole(generator, 4, 30), _whole(generator, 1, 3))
        for _ in range(2)
    ]
    return [
        *[(1000, 8, 2), (4096, 64, 8), (2, 12, 3), (1, 5, 5), (7, 4, 1), (3, 16, 2)],
        *drawn,
    ]


def _config(width: int, hidden: int, experts: int, chosen: int, layers: int) -> Config:
    return {
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_experts_per_tok": chosen,
        "num_hidden_layers": layers,
        "num_local_experts": experts,
    }


def _configs(generator: torch.Generator) -> Sequence[Inputs]:
    D, F = (_whole(generator, 3, 200) for _ in range(2))
    drawn = _config(D, F, _whole(generator, 5, 30), _whole(generator, 2, 4), 3)
    return [
        (_config(4096, 14336, 8, 2, 32),),
        (_config(6144, 16384, 8, 2, 56),),
        (_config(64, 10, 16, 1, 3),),
        (_config(10, 7, 12, 3, 2),),
        (drawn,),
    ]


def _letters(config: Config) -> tuple[int, int, int, int]:
    """D, F, E and K."""
    return (
        config["hidden_size"],
        config["intermediate_size"],
        config["num_local_experts"],
        config["num_experts_per_tok"],
    )


def _active(config: Config, *, matrices: int = 3) -> int:
    D, F, E, K = _letters(config)
    return matrices * D * F * K + D * E


def _without_router(config: Config) -> int:
    D, F, _, K = _letters(config)
    return 3 * D * F * K


def _router(config: Config) -> int:
    return config["hidden_size"] * config["num_local_experts"]


def _of_one_expert(config: Config) -> int:
    D, F, _, _ = _letters(config)
    return 3 * D * F + _router(config)


def _router_of_the_chosen(config: Config) -> int:
    return _without_router(config) + config["hidden_size"] * config["num_experts_per_tok"]


def _stored(config: Config) -> int:
    D, F, E, _ = _letters(config)
    return 3 * D * F * E + D * E


AVERAGE_LOAD = Exercise(
    "0.1",
    lambda T, E, K: T * K / E,
    _sizes,
    (
        Mistake(lambda T, E, K: T / E, "every token goes to K experts, not to one: where is K?"),
        Mistake(lambda T, E, K: T * K, "this counts all assignments: they are shared by E experts"),
        Mistake(lambda T, E, K: T * K // E, "an average need not be whole: divide with /, not //"),
        Mistake(lambda T, E, K: round(T * K / E), "an average need not be whole: do not round it"),
        Mistake(
            lambda T, E, K: math.ceil(T * K / E),
            "an average need not be whole: do not round it up",
        ),
        Mistake(
            lambda T, E, K: T * E / K,
            "E and K have changed places: more experts share the tokens, so each gets fewer",
        ),
    ),
    tolerance=1e-6,  # a mean that was rounded to float32 on the way is a mean
)

ACTIVE_WEIGHTS = Exercise(
    "0.2",
    _active,
    _configs,
    (
        Mistake(_without_router, "the router's D * E weights are used by every token too"),
        Mistake(
            _router_of_the_chosen, "the router scores all E experts, not only the K it will choose"
        ),
        Mistake(
            lambda config: _active(config, matrices=2),
            "each expert has three matrices here, two D x F on the way in and one F x D out",
        ),
        Mistake(
            lambda config: _active(config, matrices=1),
            "each expert has three matrices, not one",
        ),
        Mistake(
            _stored,
            "these are all the weights of the layer: one token runs only K experts",
        ),
        Mistake(_of_one_expert, "this is one expert and the router: a token uses K experts"),
        Mistake(
            lambda config: _active(config) + _router(config) * (config["num_experts_per_tok"] - 1),
            "the router is used once for each token, not once for each chosen expert",
        ),
        Mistake(
            lambda config: _without_router(config) + config["num_local_experts"],
            "the router has D weights for each expert, a centroid as wide as the model, not one",
        ),
        Mistake(
            lambda config: _active(config) * config["num_hidden_layers"],
            "this counts all layers of the model: the question is about one",
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
            lambda T, E, K: E * (1 - (1 - 1 / E) ** (T * K)),
            "this draws T * K experts one by one, but the K of one token differ from each other: "
            "a token misses a given expert with probability 1 - K / E",
        ),
        Mistake(
            lambda T, E, K: E * (1 - K / E) ** T,
            "this is the expected number of experts that no token reached",
        ),
        Mistake(
            lambda T, E, K: 1 - (1 - K / E) ** T,
            "this is the share of the experts that are reached: their number is E times as large",
        ),
    ),
)

EXERCISES = (AVERAGE_LOAD, ACTIVE_WEIGHTS, EXPERTS_TOUCHED)
