"""What the three scripts of chapter 13 share: the kinds of model, and what is said of all runs."""

import argparse
import platform
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.models import HEADS, LAYERS, Runs, best_rate
from moe_tutorial import Attention, Block, Experts, FeedForward, LanguageModel, MoELayer, Router

KINDS = ("dense", "sparse", "dense, wide")
SEEDS = range(5)
RATES = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)  # the learning rates to choose from
TRIAL = 100  # the seed to choose with
WIDTH, EXPERT_WIDTH, K = 32, 32, 2


def build(kind: str, experts: int, vocabulary: int) -> LanguageModel:
    """A model of one of the kinds, with weights from torch's global generator."""

    def layer() -> FeedForward | MoELayer:
        if kind == "sparse":
            return MoELayer(Router(WIDTH, experts, K), Experts(experts, WIDTH, EXPERT_WIDTH))
        return FeedForward(WIDTH, EXPERT_WIDTH * (K if kind == "dense" else experts))

    blocks = [Block(Attention(WIDTH, HEADS), layer()) for _ in range(LAYERS)]
    return LanguageModel(blocks, vocabulary)


def flops(model: LanguageModel) -> int:
    """FLOPs of one token in training, attention's products of tokens with tokens left out."""
    return 3 * model.counted().flops()


def parser(description: str, results: Path, steps: int) -> argparse.ArgumentParser:
    """The options that every such script has."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--results", type=Path, default=results)
    found.add_argument("--steps", type=int, default=steps)
    found.add_argument("--minutes", type=float, default=1e9, help="start no run after these")
    return found


def about(steps: int) -> dict[str, Any]:
    """What all runs of one file have in common."""
    return {
        "steps": steps,
        "rates": list(RATES),
        "machine": f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def tune_and_train(
    found: Runs,
    kinds: Collection[str],
    rates: Sequence[float],
    seeds: Sequence[int],
    run: Callable[[str, int, float], dict[str, Any]],
) -> None:
    """Try every kind with every rate, then train it with every seed at the rate that did best.

    Nothing is trained before all trials are there. What is stored already is not run again.
    """
    for kind in kinds:
        for rate in rates:
            found.add(found.trials, kind, TRIAL, rate, partial(run, kind, TRIAL, rate))
    if len(found.trials) < len(kinds) * len(rates):
        return  # no time was left
    for seed in seeds:
        for kind in kinds:
            rate = best_rate("model", kind, found.trials)
            found.add(found.runs, kind, seed, rate, partial(run, kind, seed, rate))
