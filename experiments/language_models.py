"""Train what chapter 10 compares and store it: moe_tutorial/results/language_models.json.

Three models read the same windows with the same five seeds:

- ``dense``: every layer has one feed-forward network.
- ``sparse``: 8 experts of which 2 are chosen, together as wide as that network, so that a token
  uses as many parameters (the router apart).
- ``dense, wide``: one network as wide as all 8 experts, so that about as many parameters are
  stored. A token costs more, so it takes fewer steps to the same training compute.

Each kind first tries RATES with other seeds than these, and trains with the best. A run that is
stored is not run again: stop this script whenever you like, and start it again. It takes about
half an hour on one core. --large is the same comparison at LARGE, for a GPU and some hours, stored
in a file of its own; --width, --expert-width and --steps make any other.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from experiments.models import Runs, arguments, best_rate, described, measured, stacked
from moe_tutorial import Experts, FeedForward, LanguageModel, MoELayer, Router
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.loads import expert_load, load_metrics
from moe_tutorial.learning.specialisation import (
    BYTE_KINDS,
    byte_kinds,
    joint_counts,
    specialisation,
)
from moe_tutorial.learning.text import VOCABULARY, Corpus, corpus, draw_batch
from moe_tutorial.learning.training import Settings, in_mode

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial/results/language_models.json"
KINDS = ("dense", "sparse", "dense, wide")
SEEDS = range(5)
RATES = (0.003, 0.01, 0.03)  # the learning rates to choose from
TRIALS = range(100, 103)  # the seeds to choose with
E, K = 8, 2
LARGE = {"width": 512, "expert_width": 512, "steps": 20_000, "device": "cuda"}
POSITIONS = 8  # stretches of a window that specialisation tells apart


def build(kind: str, width: int, expert_width: int) -> LanguageModel:
    """A model of one of the three kinds, with weights from torch's global generator."""
    if kind == "sparse":
        return stacked(
            width, lambda: MoELayer(Router(width, E, K), Experts(E, width, expert_width))
        )
    return stacked(width, lambda: FeedForward(width, expert_width * (K if kind == "dense" else E)))


@torch.no_grad()
def specialities(model: LanguageModel, text: Corpus, length: int) -> list[dict[str, Any]]:
    """For every layer, what its experts and each kind of label tell about each other."""
    device = model.head.weight.device
    batch = draw_batch(text.validation, 360, length, torch.Generator().manual_seed(0), device)
    with in_mode(model, training=False):
        routings = model(batch.tokens_BS).routings
    tokens, domains = batch.tokens_BS.cpu(), batch.domains_BS.cpu()
    stretches = (torch.arange(length) * POSITIONS // length).expand_as(tokens)
    names = text.validation.domains
    # A language is a domain with a two-letter code; the others are in English or in no language.
    codes = [names.index(name) for name in names if len(name) == 2]
    some = torch.isin(domains[:, 0], torch.tensor(codes))
    languages = torch.full((len(names),), -1)
    languages[codes] = torch.arange(len(codes))
    every = torch.ones_like(some)
    # For each name: which windows, their labels, how many there are, one for a whole window or one
    # for each token, and what is known already.
    questions = {
        "domain": (every, domains, len(names), True, None),
        "domain, given the byte": (every, domains, len(names), True, tokens),
        "language": (some, languages[domains], len(codes), True, None),
        "language, given the byte": (some, languages[domains], len(codes), True, tokens),
        "kind of byte": (every, byte_kinds(tokens), len(BYTE_KINDS), False, None),
        "byte": (every, tokens, VOCABULARY, False, None),
        "position": (every, stretches, POSITIONS, False, None),
    }
    layers = []
    for routing in routings:
        experts = routing.experts_TK.cpu()
        found: dict[str, Any] = {}
        for name, (rows, labels, count, windows, given) in questions.items():
            told = specialisation(
                labels[rows], experts[rows], count, E,
                windows=windows, given_BS=None if given is None else given[rows],
            )  # fmt: skip
            found[name] = {key: round(value, 5) for key, value in asdict(told).items()}
        metrics = load_metrics(expert_load(experts, E))
        layers.append(
            {
                "max_over_mean": round(float(metrics.max_over_mean), 3),
                "tells": found,
                "domain_counts": joint_counts(domains, experts, len(names), E).tolist(),
            }
        )
    return layers


def run(
    kind: str, seed: int, rate: float, text: Corpus, options: argparse.Namespace
) -> dict[str, Any]:
    """Train one model with one seed, and say what came of it."""
    torch.manual_seed(seed)
    model = build(kind, options.width, options.expert_width).to(options.device)
    counted = model.counted()
    # A backward pass costs two forward passes: one product for the inputs, one for the weights.
    sparse = kind == "sparse"
    asked = sparse and seed in SEEDS  # what a trial's experts tell is nobody's question
    untrained = specialities(model, text, Settings.length) if asked else []
    per_token = 3 * counted.flops()
    reference = 3 * build("dense", options.width, options.expert_width).counted().flops()
    steps = options.steps * reference // per_token if kind == "dense, wide" else options.steps
    settings = Settings(steps=steps, seed=seed, learning_rate=rate, warm_up=steps // 20)
    validation = measured(model, text, settings, sparse=sparse, per_token=per_token)
    return {
        "model": kind,
        "seed": seed,
        "total_parameters": counted.total_parameters(),
        "active_parameters": counted.active_parameters(),
        "settings": asdict(settings),
        "validation": validation,
        "untrained_layers": untrained,
        "layers": specialities(model, text, settings.length) if asked else [],
    }


def main(arguments_: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, one after another, and store each when it is done."""
    parser = arguments(__doc__.splitlines()[0], RESULTS, 1000, "the two cheaper models")
    parser.add_argument("--large", action="store_true", help="a larger run, for a GPU")
    if parser.parse_args(arguments_).large:
        large = RESULTS.with_name("language_models_large.json")
        parser.set_defaults(**LARGE, results=large)
    options = parser.parse_args(arguments_)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU was found: leave out --large, or name another --device")
    text = corpus(installed_documents())
    found = Runs(
        options.results,
        described(options, text) | {"experts": E, "k": K},
        key="model",
        total=len(KINDS) * (len(TRIALS) * len(RATES) + len(SEEDS)),
        minutes=options.minutes,
    )

    def add(to: list[dict[str, Any]], kind: str, seed: int, rate: float) -> None:
        found.add(to, kind, seed, rate, lambda: run(kind, seed, rate, text, options))

    for seed in TRIALS:
        for kind in KINDS:
            for rate in RATES:
                add(found.trials, kind, seed, rate)
    if len(found.trials) < len(TRIALS) * len(KINDS) * len(RATES):
        return  # no time was left
    for seed in SEEDS:
        for kind in KINDS:
            add(found.runs, kind, seed, best_rate("model", kind, found.trials))


if __name__ == "__main__":
    main()
