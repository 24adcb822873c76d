"""Train what more experts buy and store it: moe_tutorial/results/more_experts.json.

One model and one text, with 1, 2, 4, ... experts in each layer. A token uses K = 2 of them and so
as many parameters in every model, the router apart; with one expert the layer is a dense network
as wide as two. All get the same training compute, attention's products counted: a model with a
larger router takes a few steps less.

Each number of experts first tries RATES on shorter runs with another seed, and trains with the
best. Then the control: FEW numbers of experts once more, with little text of the domains that had
much (CUT), and all else equal. Beside the models stand n-gram tables of all lengths, and at the
end everything is timed in turns. The model with KEPT experts is stored in half precision, for
whoever wants to look inside.

A run that is stored is not run again: stop this script whenever you like, and start it again. It
takes about three hours on one core. --device, --width, --expert-width and --steps make any other
comparison, in a file that --results names.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from experiments.models import (
    WINDOWS,
    Runs,
    arguments,
    balance,
    best_rate,
    described,
    measured,
    stacked,
)
from moe_tutorial import Experts, FeedForward, LanguageModel, MoELayer, Router
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.language_model import training_flops
from moe_tutorial.learning.ngrams import LONGEST, count_table, evaluate_ngrams
from moe_tutorial.learning.text import Corpus, Text, corpus
from moe_tutorial.learning.training import Settings, evaluate, train

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial/results/more_experts.json"
EXPERTS = (1, 2, 4, 8, 16, 32)
K = 2
SEEDS = range(3)
RATES = (0.005, 0.01, 0.02)
TRIAL = 100  # the seed to choose a rate with
TRIAL_SHARE = 4  # a trial takes a quarter of the steps
FEW = (1, 32)  # numbers of experts for the control
CUT, CUT_BYTES = ("manual", "python", "c++"), 40_000
PIECE = 1000
KEPT, KEPT_SEED = 8, 0  # the model whose weights are stored
ROUNDS, TIMED, UNTIMED = 10, 20, 5  # of the clock: turns, and steps in each


def build(experts: int, width: int, expert_width: int) -> LanguageModel:
    """A model with so many experts in each layer, with weights from torch's global generator."""

    def layer() -> FeedForward | MoELayer:
        if experts == 1:
            return FeedForward(width, K * expert_width)
        return MoELayer(Router(width, experts, K), Experts(experts, width, expert_width))

    return stacked(width, layer)


def run(
    experts: int, seed: int, rate: float, steps: int, text: Corpus, options: argparse.Namespace
) -> dict[str, Any]:
    """Train one model with one seed, and say what came of it; ``steps`` are the dense model's."""
    torch.manual_seed(seed)
    model = build(experts, options.width, options.expert_width).to(options.device)
    per_token = training_flops(model, Settings.length)
    dense = training_flops(build(1, options.width, options.expert_width), Settings.length)
    steps = round(steps * dense / per_token)
    settings = Settings(steps=steps, seed=seed, learning_rate=rate, warm_up=steps // 20)
    validation = measured(model, text, settings, sparse=experts > 1, per_token=per_token)
    known = evaluate(model, text.training, WINDOWS, settings.length)
    if (experts, seed) == (KEPT, KEPT_SEED):
        weights = {name: weight.half() for name, weight in model.state_dict().items()}
        torch.save(weights, options.results.with_suffix(".pt"))
    return {
        "experts": experts,
        "seed": seed,
        "total_parameters": model.counted().total_parameters(),
        "active_parameters": model.counted().active_parameters(),
        "settings": asdict(settings),
        "validation": validation,
        "training_text": {domain: round(loss, 4) for domain, loss in known.items()},
    }


def cut(text: Text, size: int, domains: Sequence[str]) -> Text:
    """The text with so many bytes of some domains, in pieces of PIECE bytes drawn at random."""
    parts = []
    for domain, (start, end) in zip(text.domains, itertools.pairwise(text.starts), strict=True):
        part = text.bytes_N[start:end]
        if domain in domains:
            pieces_NP = part[: len(part) // PIECE * PIECE].view(-1, PIECE)
            order = torch.randperm(len(pieces_NP), generator=torch.Generator().manual_seed(0))
            part = pieces_NP[order[: size // PIECE].sort().values].flatten()
        parts.append(part)
    starts = itertools.accumulate((len(part) for part in parts), initial=0)
    return Text(text.domains, torch.cat(parts), tuple(starts))


def tables(text: Corpus, windows: int, length: int) -> dict[str, list[dict[str, float]]]:
    """What n-grams reach, with contexts of 1 byte to LONGEST: by domain, in nats a byte."""
    whole = count_table(text.training, LONGEST)
    alone = []
    for domain, (start, end) in zip(
        text.training.domains, itertools.pairwise(text.training.starts), strict=True
    ):
        one = Text((domain,), text.training.bytes_N[start:end], (0, end - start))
        alone.append(count_table(one, LONGEST))

    def losses(every: Sequence[Any], longest: int) -> dict[str, float]:
        shorter = [table[: longest + 1] for table in every]
        found = evaluate_ngrams(shorter, text.validation, windows, length)
        return {domain: round(loss, 4) for domain, loss in found.items()}

    return {
        name: [losses(every, longest) for longest in range(1, LONGEST + 1)]
        for name, every in (("one table", [whole]), ("a table for each domain", alone))
    }


def clock(text: Corpus, options: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds of a training step with each number of experts, in turns, round after round."""
    found: dict[str, list[float]] = {str(experts): [] for experts in EXPERTS}
    for _ in range(ROUNDS):
        for experts in EXPERTS:
            torch.manual_seed(0)
            model = build(experts, options.width, options.expert_width).to(options.device)
            penalty = balance if experts > 1 else None
            settings = Settings(steps=UNTIMED + TIMED)
            seconds = train(model, text.training, settings, penalty=penalty).seconds
            step = (seconds[-1] - seconds[UNTIMED - 1]) / TIMED
            found[str(experts)].append(round(1000 * step, 2))
    return found


def best_of(content: Mapping[str, Any], experts: int) -> float:
    """The learning rate with which so many experts did best in their trials."""
    return best_rate("experts", experts, content["trials"])


def main(arguments_: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, one after another, and store each when it is done."""
    parser = arguments(__doc__.splitlines()[0], RESULTS, 4000, "the dense model")
    options = parser.parse_args(arguments_)
    text = corpus(installed_documents())
    little = Corpus(cut(text.training, CUT_BYTES, CUT), text.validation)
    sizes = (end - start for start, end in itertools.pairwise(text.training.starts))
    found = Runs(
        options.results,
        described(options, text) | {"k": K, "rates": list(RATES), "cut_bytes": CUT_BYTES},
        key="experts",
        total=len(EXPERTS) * (len(RATES) + len(SEEDS)) + len(FEW) * len(SEEDS),
        minutes=options.minutes,
        more={"bytes": dict(zip(text.training.domains, sizes, strict=True)), "cut": []},
    )

    def add(
        part: str, experts: int, seed: int, rate: float, steps: int, text: Corpus = text
    ) -> None:
        to = found.content[part]
        found.add(to, experts, seed, rate, lambda: run(experts, seed, rate, steps, text, options))

    for experts in EXPERTS:
        for rate in RATES:
            add("trials", experts, TRIAL, rate, options.steps // TRIAL_SHARE)
    if len(found.trials) < len(EXPERTS) * len(RATES):
        return  # no time was left
    for seed in SEEDS:
        for experts in EXPERTS:
            add("runs", experts, seed, best_of(found.content, experts), options.steps)
    for seed in SEEDS:
        for experts in FEW:
            add("cut", experts, seed, best_of(found.content, experts), options.steps, little)
    found.note("ngrams", lambda: tables(text, WINDOWS, Settings.length))
    found.note("milliseconds", lambda: clock(text, options))


if __name__ == "__main__":
    main()
