"""Train what chapter 08 compares and store it: moe_tutorial/results/balance.json.

Each remedy first tries its SETTINGS with every learning rate on seeds of their own (TRIALS), and
is judged on other seeds with each of its settings at the learning rate that did best. What follows
a remedy, such as a bias that rests at the end, takes that remedy's learning rate. All remedies see
the same tasks, first weights and batches. It takes some ten
minutes on one core.

What is stored is not run again: stop this script whenever you like, and start it again.
"""

import argparse
import concurrent.futures
import dataclasses
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from experiments.many_layers import train_many
from experiments.store import kept, store
from moe_tutorial.learning.clusters import (
    BATCH,
    CLUSTERS,
    EXPERTS,
    HIDDEN,
    WIDTH,
    judged,
)
from moe_tutorial.learning.clusters import Run as Trained
from moe_tutorial.learning.loads import load_metrics

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial" / "results" / "balance.json"
STEPS, EVERY, LAST = 200, 10, 50
SEEDS = range(20)
RATES = (0.01, 0.03, 0.1)  # the learning rates to choose from
TRIALS = range(100, 104)  # the seeds to choose with
SETTINGS: dict[str, tuple[str, tuple[float, ...], dict[str, Any]]] = {
    "nothing": ("switch", (0.0,), {}),
    "frozen router": ("switch", (0.0,), {"frozen": True}),
    "K = 2": ("switch", (0.0,), {"k": 2}),
    "Switch": ("switch", (0.01, 0.03, 0.1, 0.3, 1.0), {}),
    "importance": ("shazeer", (0.01, 0.03, 0.1, 0.3, 1.0), {}),
    "bias": ("bias_rate", (0.003, 0.01, 0.03, 0.1), {}),
    "noise": ("shazeer", (0.0, 0.03, 0.1, 0.3), {"selection": "noisy_top_k"}),
    "sampled": ("temperature", (0.3, 1.0, 3.0), {"selection": "sampled"}),
}
"""For each remedy what varies, over which values, and what else is set."""
FOLLOWERS: dict[str, tuple[str, str, tuple[float, ...], dict[str, Any]]] = {
    "z": ("nothing", "z", (0.0001, 0.001, 0.01, 0.1), {}),
    "bias, resting": ("bias", *SETTINGS["bias"][:2], {"rest": LAST}),
    "z and Switch": ("Switch", "z", (0.001, 0.01, 0.1), {"switch": 0.1}),
    "mixed pieces": ("Switch", "switch", (0.03, 0.1, 0.3), {"pieces": 8}),
    "one subject": ("Switch", "switch", (0.03, 0.1, 0.3), {"pieces": 8, "by_subject": True}),
}
"""The same, after the remedy whose learning rate it takes."""
ALL = SETTINGS | {name: entry[1:] for name, entry in FOLLOWERS.items()}
WATCHED = ("nothing", "frozen router", "K = 2")  # their loads on the way are kept

Run = dict[str, Any]


def together(runs: list[Run]) -> list[Run]:
    """Train runs of one name side by side; returns them with what came of each, in a few numbers.

    Args:
        runs: each with its name, the value of what varies, the learning rate and the seed.
    """
    torch.set_num_threads(1)
    trained = train_many([options_of(run) for run in runs], STEPS)
    return [run | outcome(run, result) for run, result in zip(runs, trained, strict=True)]


def options_of(run: Run) -> dict[str, Any]:
    """What ``train_layer`` takes for a run, beside the steps."""
    varies, _, fixed = ALL[run["name"]]
    return {
        varies: run["value"],
        "learning_rate": run["learning_rate"],
        "seed": run["seed"],
        **fixed,
    }


def outcome(run: Run, trained: Trained) -> dict[str, Any]:
    """What is stored of a trained layer."""
    shares_NE = load_metrics(trained.load_NE[-LAST:]).fraction_E
    found: dict[str, Any] = ends(trained.error, trained.load_E)
    # How much the shares still move from step to step, at the end of training.
    found["swing"] = round(shares_NE.diff(dim=0).abs().sum(-1).mean().item(), 4)
    router = trained.layer.router
    if router.config.selection == "sampled":
        # Judged both ways: the layer goes on drawing, or takes the largest logit.
        router.config = dataclasses.replace(router.config, selection="top_k")
        drawn = {f"drawn_{key}": value for key, value in found.items() if key != "swing"}
        found |= drawn | ends(*judged(trained.layer, run["seed"]))
    if run["name"] in WATCHED and run["seed"] in SEEDS:
        found["load"] = trained.load_NE.view(-1, EVERY, EXPERTS).sum(1).tolist()
    return found


def ends(error: float, load_E: torch.Tensor) -> dict[str, Any]:
    """Error and load on unseen tokens, in a few numbers."""
    metrics = load_metrics(load_E)
    return {
        "error": round(error, 4),
        "effective_experts": round(metrics.effective_experts.item(), 3),
        "max_over_mean": round(metrics.max_over_mean.item(), 3),
        "dead_experts": int(metrics.dead_experts),
    }


def named(name: str, value: float, learning_rate: float, seed: int) -> Run:
    """What tells a run from all others."""
    return {"name": name, "value": value, "learning_rate": learning_rate, "seed": seed}


def best_rate(trials: Iterable[Run], name: str) -> float:
    """The learning rate of a remedy's trial setting with the lowest mean error."""
    errors: dict[tuple[float, float], list[float]] = {}
    for run in trials:
        if run["name"] == name:
            errors.setdefault((run["learning_rate"], run["value"]), []).append(run["error"])
    return min(errors, key=lambda setting: statistics.mean(errors[setting]))[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Try learning rates and settings, train all runs with the best, and store each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, one thread each")
    found = parser.parse_args(arguments)
    about = {
        "settings": {
            "model_width": WIDTH, "clusters": CLUSTERS, "experts": EXPERTS,
            "hidden_width": HIDDEN, "tokens_per_step": BATCH, "steps": STEPS,
            "steps_per_stored_load": EVERY, "last_steps": LAST, "optimizer": "Adam",
            "learning_rates": list(RATES), "trial_seeds": list(TRIALS), "dtype": "float64",
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "processor": f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}",
        },
    }  # fmt: skip
    content = kept(found.results, {"about": about}) or {"about": about, "trials": [], "runs": []}
    store(found.results, content)
    with concurrent.futures.ProcessPoolExecutor(found.workers) as pool:

        def work(part: str, groups: list[list[Run]]) -> None:
            done = [{key: run[key] for key in named("", 0, 0, 0)} for run in content[part]]
            left = [group for group in groups if group[0] not in done]
            for runs in tqdm(pool.map(together, left), part, len(left), unit="group"):
                content[part] += runs
                store(found.results, content, separators=(",", ":"))

        work("trials", [
            [named(name, value, rate, seed)
             for value in values for rate in RATES for seed in TRIALS]
            for name, (_, values, _) in SETTINGS.items()
        ])  # fmt: skip
        rates = {name: best_rate(content["trials"], name) for name in SETTINGS}
        rates |= {name: rates[leader] for name, (leader, *_) in FOLLOWERS.items()}
        work("runs", [
            [named(name, value, rates[name], seed) for value in values for seed in seeds]
            for seeds in (SEEDS[i : i + 5] for i in range(0, len(SEEDS), 5))
            for name, (_, values, _) in ALL.items()
        ])  # fmt: skip
    for name, (_, values, _) in ALL.items():
        for value in values:
            here = [run for run in content["runs"] if (run["name"], run["value"]) == (name, value)]
            means = (statistics.mean(r[key] for r in here) for key in ("error", "dead_experts"))
            print(f"{name} {value:g} at {rates[name]:g}:", *(f"{mean:.3f}" for mean in means))


if __name__ == "__main__":
    main()
