"""What chapter 15 reads from its stored runs: numbers of five seeds, for each layer.

change: the mean over the seeds ± t s / sqrt(5), of differences that are paired by seed.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from moe_tutorial.results import stored

STUDENT = 2.776
"""The 97.5 % point of Student's distribution with 4 degrees of freedom, for five seeds."""

SEEDS = 5

Place = Literal["at the router", "at the first block"]
Kind = Literal["same first weights", "other first weights"]


def each_seed(number: Callable[[dict[str, Any]], Any]) -> Tensor:
    """A number, or a list of them, of each seed: the mean over its two orders of the text.

    Two models that share their first weights are not two independent ones, hence the mean.

    Args:
        number: what to read from a run; lists of equal lengths.

    Returns:
        float64, ``[S]`` or ``[S, ...]``, in the order of the seeds.
    """
    runs = [run for run in stored("uncertainty")["stability"] if run["part"] == "language model"]
    found = [[number(run) for run in runs if run["seed"] == seed] for seed in range(SEEDS)]
    return torch.tensor(found, dtype=torch.float64).mean(1)


def interval(values_SL: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over five seeds, and half the width of its 95 % interval by Student's t.

    Of a difference between two things, take the differences seed by seed first.

    Args:
        values_SL: five values, ``[S]``, or ``[S, L]`` with any further dimensions.

    Returns:
        mean and half, with what dimensions are left.

    Raises:
        ValueError: not five.
    """
    if values_SL.ndim == 0 or len(values_SL) != SEEDS:
        raise ValueError(f"values_SL must have {SEEDS} rows, got shape {tuple(values_SL.shape)}")
    return values_SL.mean(0), STUDENT * values_SL.std(0) / SEEDS**0.5


def noisy(place: Place) -> dict[float, Tensor]:
    """For each gamma the overlap with the choice without noise, ``[S, L]``.

    Args:
        place: ``"at the router"``, of one layer at a time, or ``"at the first block"`` of all.
    """
    gammas = [float(row["gamma"]) for row in _first()["noise"]]
    overlap_SGL = each_seed(lambda run: [row[place] for row in run["noise"]])
    return dict(zip(gammas, overlap_SGL.unbind(1), strict=True))


def sampled(
    measure: Literal["jaccard", "loss", "ece"], averaged: bool = False
) -> dict[float, Tensor]:
    """What it does to draw the experts of one layer at a time, ``[S, L]`` for each temperature.

    Args:
        measure: the overlap with the best experts, or what is added to the loss in nats a byte, or
            to the calibration error.
        averaged: of the outputs' mean over four draws, in place of one draw; no matter to the
            overlap.
    """
    kind = "outputs averaged" if averaged else "one draw"
    rows = _first()["sampling"]
    temperatures = dict.fromkeys(float(row["temperature"]) for row in rows)
    values_SN = each_seed(
        lambda run: [
            row[measure] if measure == "jaccard" else row[kind][measure] for row in run["sampling"]
        ]
    )
    values_STL = values_SN.reshape(SEEDS, len(temperatures), -1)
    return dict(zip(temperatures, values_STL.unbind(1), strict=True))


def switched_off() -> Tensor:
    """What a layer that returns zeros adds to the loss, in nats a byte, ``[S, L]``."""
    return each_seed(lambda run: [row["loss"] for row in run["switched off"]])


def on_the_way() -> dict[int, Tensor]:
    """After so many steps of training the overlap with the final choice, ``[S, L]``."""
    return _by_number("training")


def less_context() -> dict[int, Tensor]:
    """With so many first bytes of a window replaced the overlap of the later ones, ``[S, L]``."""
    return _by_number("context")


def in_bfloat16(what: Literal["router alone", "whole model"]) -> Tensor:
    """What share of the tokens has another set in bfloat16, ``[S, L]``."""
    return each_seed(lambda run: run["bfloat16"][what])


def pairs(kind: Kind, key: Literal["raw", "matched", "matched, tokens shuffled"]) -> Tensor:
    """The overlap of two models' choices, a row for each pair, ``[P, L]``.

    Args:
        kind: ``"same first weights"``, which are five pairs of models that read the text in
            different orders, or ``"other first weights"``, all ten pairs of the five seeds.
        key: as the experts are numbered; with experts matched on the other half of the windows;
            or that with the tokens of one model shuffled.
    """
    found = [
        run[key]
        for run in stored("uncertainty")["stability"]
        if (run["part"], run["method"]) == ("pair", kind)
    ]
    return torch.tensor(found, dtype=torch.float64)


def _by_number(key: Literal["training", "context"]) -> dict[int, Tensor]:
    overlap_SNL = each_seed(lambda run: list(run[key].values()))
    return dict(zip(map(int, _first()[key]), overlap_SNL.unbind(1), strict=True))


def _first() -> dict[str, Any]:
    runs: list[dict[str, Any]] = stored("uncertainty")["stability"]
    return next(run for run in runs if run["part"] == "language model")
