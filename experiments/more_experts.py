"""Train what more experts buy and store it: moe_tutorial/results/more_experts.json.

One model and one text, with 1, 2, 4, ... experts in each layer. A token uses K = 2 of them and so
as many parameters in every model, the router apart; with one expert the layer is a dense network
as wide as two. All get the same training compute, attention's products counted: a model with a
larger router takes a few steps less.

Each number of experts first tries RATES on shorter runs with another seed, and trains with the
best. A run that is stored is not run again: stop this script whenever you like, and start it
again. It takes about two hours on one core. --device, --width, --expert-width and --steps make any
other comparison, in a file that --results names.
"""

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from experiments.models import LAYERS, Runs, arguments, best_rate, described, measured, stacked
from moe_tutorial import Experts, FeedForward, LanguageModel, MoELayer, Router
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.text import Corpus, corpus
from moe_tutorial.learning.training import Settings

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial/results/more_experts.json"
EXPERTS = (1, 2, 4, 8, 16, 32, 64)
K = 2
SEEDS = range(3)
RATES = (0.005, 0.01, 0.02)
TRIAL = 100  # the seed to choose a rate with
TRIAL_SHARE = 3  # a trial takes a third of the steps


def build(experts: int, width: int, expert_width: int) -> LanguageModel:
    """A model with so many experts in each layer, with weights from torch's global generator."""

    def layer() -> FeedForward | MoELayer:
        if experts == 1:
            return FeedForward(width, K * expert_width)
        return MoELayer(Router(width, experts, K), Experts(experts, width, expert_width))

    return stacked(width, layer)


def flops(model: LanguageModel, length: int) -> int:
    """FLOPs of one token in training: forward once, and backward twice as many.

    Attention adds to what the model counts: queries times keys and odds times values, over half of
    the window on average, with 2 FLOPs for each multiply-add.
    """
    attention = LAYERS * 2 * 2 * model.head.in_features * (length + 1) // 2
    return 3 * (model.counted().flops() + attention)


def run(
    experts: int, seed: int, rate: float, steps: int, text: Corpus, options: argparse.Namespace
) -> dict[str, Any]:
    """Train one model with one seed, and say what came of it; ``steps`` are the dense model's."""
    torch.manual_seed(seed)
    model = build(experts, options.width, options.expert_width).to(options.device)
    per_token = flops(model, Settings.length)
    dense = flops(build(1, options.width, options.expert_width), Settings.length)
    steps = round(steps * dense / per_token)
    settings = Settings(steps=steps, seed=seed, learning_rate=rate, warm_up=steps // 20)
    validation, history = measured(model, text, settings, sparse=experts > 1, per_token=per_token)
    last = history.losses[-steps // 20 :]
    return {
        "experts": experts,
        "seed": seed,
        "total_parameters": model.counted().total_parameters(),
        "active_parameters": model.counted().active_parameters(),
        "settings": asdict(settings),
        "training_loss": round(sum(last) / len(last), 4),
        "validation": validation,
    }


def main(arguments_: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, one after another, and store each when it is done."""
    parser = arguments(__doc__.splitlines()[0], RESULTS, 6000, "the dense model")
    options = parser.parse_args(arguments_)
    text = corpus(installed_documents())
    sizes = (end - start for start, end in itertools.pairwise(text.training.starts))
    found = Runs(
        options.results,
        described(options, text) | {"k": K, "rates": list(RATES)},
        key="experts",
        total=len(EXPERTS) * (len(RATES) + len(SEEDS)),
        minutes=options.minutes,
        more={"bytes": dict(zip(text.training.domains, sizes, strict=True))},
    )

    def add(to: list[dict[str, Any]], experts: int, seed: int, rate: float, steps: int) -> None:
        found.add(to, experts, seed, rate, lambda: run(experts, seed, rate, steps, text, options))

    for experts in EXPERTS:
        for rate in RATES:
            add(found.trials, experts, TRIAL, rate, options.steps // TRIAL_SHARE)
    if len(found.trials) < len(EXPERTS) * len(RATES):
        return  # no time was left
    for seed in SEEDS:
        for experts in EXPERTS:
            rate = best_rate("experts", experts, found.trials)
            add(found.runs, experts, seed, rate, options.steps)


if __name__ == "__main__":
    main()
