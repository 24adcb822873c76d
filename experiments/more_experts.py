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
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from experiments.language_models import HEADS, LAYERS, balance
from experiments.store import kept, store
from moe_tutorial import Attention, Block, Experts, FeedForward, LanguageModel, MoELayer, Router
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.language_model import Prediction
from moe_tutorial.learning.text import Corpus, corpus
from moe_tutorial.learning.training import Settings, evaluate, train

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial/results/more_experts.json"
EXPERTS = (1, 2, 4, 8, 16, 32, 64)
K = 2
SEEDS = range(3)
RATES = (0.005, 0.01, 0.02)
TRIAL = 100  # the seed to choose a rate with
TRIAL_SHARE = 3  # a trial takes a third of the steps
WINDOWS = 16  # of each domain, for a validation loss
POINTS = 8  # at which it is measured on the way


def build(experts: int, width: int, expert_width: int) -> LanguageModel:
    """A model with so many experts in each layer, with weights from torch's global generator."""
    blocks = []
    for _ in range(LAYERS):
        layer: FeedForward | MoELayer
        if experts == 1:
            layer = FeedForward(width, K * expert_width)
        else:
            layer = MoELayer(Router(width, experts, K), Experts(experts, width, expert_width))
        blocks.append(Block(Attention(width, HEADS), layer))
    return LanguageModel(blocks)


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
    tokens = settings.batch_size * settings.length
    points = {round(steps * (i + 1) / POINTS) for i in range(POINTS)}
    validation: list[dict[str, Any]] = []
    done, measuring, start = 0, 0.0, time.perf_counter()

    def validate(_: Prediction) -> None:
        nonlocal done, measuring
        done += 1
        if done not in points:
            return
        now = time.perf_counter()
        by_domain = evaluate(model, text.validation, WINDOWS, settings.length)
        validation.append(
            {
                "step": done,
                "teraflops": float(f"{done * tokens * per_token / 1e12:.4g}"),
                "seconds": round(now - start - measuring, 1),
                "by_domain": {domain: round(loss, 4) for domain, loss in by_domain.items()},
            }
        )
        measuring += time.perf_counter() - now

    penalty = None if experts == 1 else balance
    history = train(
        model, text.training, settings, penalty=penalty, after_step=validate, progress=True
    )
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


def mean_loss(found: dict[str, Any]) -> float:
    """The mean over the domains after the last step."""
    by_domain = found["validation"][-1]["by_domain"]
    return float(sum(by_domain.values()) / len(by_domain))


def best_rate(experts: int, trials: list[dict[str, Any]]) -> float:
    """The learning rate with which the trial of this number of experts ended lowest."""
    own = [trial for trial in trials if trial["experts"] == experts]
    return float(min(own, key=mean_loss)["settings"]["learning_rate"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, one after another, and store each when it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--expert-width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6000, help="of the dense model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after these")
    options = parser.parse_args(arguments)
    text = corpus(installed_documents())
    about = {
        "width": options.width,
        "expert_width": options.expert_width,
        "layers": LAYERS,
        "heads": HEADS,
        "k": K,
        "steps": options.steps,
        "rates": list(RATES),
        "validation_windows": WINDOWS,
        "text": [text.training.fingerprint(), text.validation.fingerprint()],
        "device": torch.cuda.get_device_name() if options.device == "cuda" else options.device,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    content = kept(options.results, {"about": about})
    if content is None:
        starts = text.training.starts
        sizes = [end - start for start, end in itertools.pairwise(starts)]
        bytes_of = dict(zip(text.training.domains, sizes, strict=True))
        content = {"about": about, "bytes": bytes_of, "trials": [], "runs": []}
        store(options.results, content, indent=1)
    trials, runs = content["trials"], content["runs"]
    start = time.perf_counter()

    def add(to: list[dict[str, Any]], experts: int, seed: int, rate: float, steps: int) -> None:
        stored = any(
            (r["experts"], r["seed"], r["settings"]["learning_rate"]) == (experts, seed, rate)
            for r in to
        )
        if stored or time.perf_counter() - start > 60 * options.minutes:
            return
        to.append(run(experts, seed, rate, steps, text, options))
        store(options.results, content, indent=1)
        seconds = to[-1]["validation"][-1]["seconds"]
        bar.write(f"{experts}, seed {seed}, {rate}: loss {mean_loss(to[-1]):.4f}, {seconds} s")
        bar.update()

    total = len(EXPERTS) * (len(RATES) + len(SEEDS))
    with tqdm(total=total, initial=len(trials) + len(runs), desc="models", unit="run") as bar:
        for experts in EXPERTS:
            for rate in RATES:
                add(trials, experts, TRIAL, rate, options.steps // TRIAL_SHARE)
        if len(trials) < len(EXPERTS) * len(RATES):
            return  # no time was left
        for seed in SEEDS:
            for experts in EXPERTS:
                add(runs, experts, seed, best_rate(experts, trials), options.steps)


if __name__ == "__main__":
    main()
