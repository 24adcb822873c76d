"""Train what chapters 15 and 16 compare and store it: moe_tutorial/results/uncertainty.json.

Chapter 15: language models with five seeds, each with two orders of the training windows; what
noise, rounding, less context, sampling and a missing layer do to their choices and their loss; and
how much two models' choices share.

Chapter 16: guessers of a window's language with five seeds. Learning rates are tried on a seed of
their own. Beside the plain model stand, with every setting of GRIDS: routers that draw, posteriors
over the frozen model, posteriors that are trained with it, smoothed labels, and ensembles that
cost as much to train or more. Each is stored with its forecasts' quality on the calibration split,
by which a setting can be chosen, and on the test split; as it is and with one temperature from the
calibration split; and with its difference from the plain model, by paired bootstrap. A router of
your own is a line in ``uncertainty_routers.RAW`` and one in GRIDS here.

What is stored is not run again: stop this script whenever you like, and start it again. It takes
about two hours on two cores that have nothing else to do. --work is where trained models wait for
those that are built on them; chapter 16 asks the first plain one itself, as guesser.pt.
"""

import argparse
import concurrent.futures
import itertools
import platform
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from experiments import uncertainty_routers as routers
from experiments import uncertainty_scores as scores
from experiments import uncertainty_stability as stability
from experiments.store import kept, store

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial/results/uncertainty.json"
WORK = Path("build/uncertainty")
SEEDS = range(5)
ORDERS = (0, 1)  # of the training windows of a language model, besides its seed
TRIAL = 100
RATES = (0.003, 0.01, 0.02)
OTHERS = 1000  # what is added to a seed for the next model of an ensemble
BETAS = (0.001, 0.01, 0.1)
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "draws": {
        "sampled": (1.0, 2.0),
        "dropout": (0.1, 0.2),
        "laplace": (10.0, 100.0),
        "noise": (0.5, 1.0),
        "expert dropout": (0.1, 0.2),
    },
    "frozen": {"mean field": BETAS, "full covariance": BETAS, "temperature": BETAS},
    "ensemble": {"whole": (3.0,), "a third of the steps each": (3.0,)},
    # One setting each, since each is a whole training.
    "smoothing": {"smoothing": (0.1,)},
    "joint": {"mean field": (0.01,), "sampled": (1.0,)},
}
"""For each part its methods, and for each method its settings: a temperature, a rate, a prior
precision, a deviation, a coefficient of the divergence, a share, or a number of models."""

Unit = dict[str, Any]


def unit(part: str, method: str, value: float, seed: int) -> Unit:
    """What tells a run from all others."""
    return {"part": part, "method": method, "value": value, "seed": seed}


def stability_run(it: Unit, options: argparse.Namespace) -> Unit:
    """A language model, or a pair of them; ``value`` is the order, or the other model's seed."""
    torch.set_num_threads(1)
    seed, steps, work = it["seed"], options.language_steps, options.work
    if it["part"] == "language model":
        order = seed + 1000 * int(it["value"])
        return it | stability.run(seed, order, steps, work)
    one = (seed, seed)
    other = int(it["value"])
    second = (seed, seed + 1000) if it["method"] == "same first weights" else (other, other)
    return it | stability.pair(one, second, steps, work)


def router_run(it: Unit, options: argparse.Namespace, rate: float) -> Unit:
    """A guesser: trained as its part and method say, and judged."""
    torch.set_num_threads(1)
    part, method, value, seed = it["part"], it["method"], it["value"], it["seed"]
    steps, work = options.steps, options.work
    start = time.perf_counter()
    if part == "trial":
        model = routers.plain(seed, steps, value, work)
        return it | routers.judged_plain(model)
    plain = routers.plain(seed, steps, rate, work)
    if part == "plain":
        found = routers.judged_plain(plain)
        return it | found | {"seconds": round(time.perf_counter() - start, 1)}
    reference = scores.log_odds_of(scores.at_home(plain, 1))
    if part == "draws":
        with routers.drawing(plain, method, value) as model:
            return it | routers.judged(model, reference, logarithms=method == "sampled")
    if part == "frozen":
        model = routers.with_posterior(plain, method, 0.0, frozen=True)
        seconds = routers.trained(
            model, steps // routers.ALONE, routers.RATE_ALONE, seed, beta=value
        )
        return it | {"seconds": round(seconds, 1)} | routers.judged(model, reference)
    fresh = routers.build(seed)
    if part == "joint" and method == "sampled":
        with routers.changed_everywhere(fresh, selection="sampled", temperature=value):
            seconds = routers.trained(fresh, steps, rate, seed)
            return it | {"seconds": round(seconds, 1)} | routers.judged(fresh, reference)
    if part == "joint":
        model = routers.with_posterior(fresh, method, value, frozen=False)
        beta = 0.0 if method == "dropout" else value
        seconds = routers.trained(model, steps, rate, seed, beta=beta)
        return it | {"seconds": round(seconds, 1)} | routers.judged(model, reference)
    if part == "smoothing":
        seconds = routers.trained(fresh, steps, rate, seed, smoothing=value)
        found = routers.together([fresh.eval()], reference)
        return it | {"seconds": round(seconds, 1)} | found
    if method == "whole":  # the plain models of this seed and the next ones, round and round
        seeds = [(seed + i) % len(SEEDS) for i in range(int(value))]
        models = [routers.plain(it, steps, rate, work) for it in seeds]
    else:
        seeds = [seed + OTHERS * i for i in range(int(value))]
        models = [routers.plain(it, steps // int(value), rate, work) for it in seeds]
    return it | routers.together(models, reference)


def best_rate(trials: Sequence[Unit]) -> float:
    """The learning rate of the plain model that is most often right on the calibration split."""
    best = max(trials, key=lambda it: it["plain"]["calibration"]["accuracy"])
    return float(best["value"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not stored yet, and store each when it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--steps", type=int, default=2000, help="of a guesser")
    parser.add_argument("--language-steps", type=int, default=800, help="of a language model")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after these")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    text = stability.text()
    about = {
        "steps": options.steps,
        "language_steps": options.language_steps,
        "rates": list(RATES),
        "draws": routers.DRAWS,
        "text": [text.training.fingerprint(), scores.data().training.fingerprint()],
        "machine": f"{platform.machine()} CPU, one thread for each run",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    content = kept(options.results, {"about": about}) or {
        "about": about, "stability": [], "trials": [], "routers": [],
    }  # fmt: skip
    store(options.results, content, separators=(",", ":"))
    start = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(options.workers) as pool:

        def work(to: str, run: Any, units: list[Unit]) -> bool:
            """Whether all of them are stored."""
            done = [{key: it[key] for key in unit("", "", 0, 0)} for it in content[to]]
            left = [it for it in units if it not in done]
            for first in tqdm(range(0, len(left), options.workers), to, unit="group"):
                if time.perf_counter() - start > 60 * options.minutes:
                    return False
                some = left[first : first + options.workers]
                content[to] += pool.map(run, some)
                store(options.results, content, separators=(",", ":"))
            return True

        stable = partial(stability_run, options=options)
        models = [unit("language model", "plain", o, s) for o in ORDERS for s in SEEDS]
        pairs = [unit("pair", "same first weights", s, s) for s in SEEDS] + [
            unit("pair", "other first weights", b, a) for a, b in itertools.combinations(SEEDS, 2)
        ]
        trials = [unit("trial", "plain", rate, TRIAL) for rate in RATES]
        trial = partial(router_run, options=options, rate=0.0)
        if not (
            work("stability", stable, models)
            and work("stability", stable, pairs)
            and work("trials", trial, trials)
        ):
            return
        rate = best_rate(content["trials"])
        judge = partial(router_run, options=options, rate=rate)
        if not work("routers", judge, [unit("plain", "plain", 0.0, seed) for seed in SEEDS]):
            return
        first = routers.plain(SEEDS[0], options.steps, rate, options.work)
        halves = {name: weight.half() for name, weight in first.state_dict().items()}
        torch.save(halves, options.results.with_name("guesser.pt"))
        for part, methods in GRIDS.items():
            for method, values in methods.items():
                work("routers", judge, [
                    unit(part, method, value, seed) for value in values for seed in SEEDS
                ])  # fmt: skip


if __name__ == "__main__":
    main()
