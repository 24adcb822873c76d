"""Train what chapter 08 compares and store it: moe_tutorial/results/balance.json.

Stop this script whenever you like, and start it again: runs that are done are kept beside the
results, in balance.new, which takes their place when the last one is done.
"""

import argparse
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from experiments.store import kept, store
from moe_tutorial.learning.clusters import BATCH, CLUSTERS, EXPERTS, HIDDEN, WIDTH, train_layer
from moe_tutorial.learning.loads import load_metrics

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial" / "results" / "balance.json"
SEEDS, STEPS, EVERY = [0, 1, 2, 3, 4], 400, 20
SWEEPS: dict[str, tuple[str, list[float], dict[str, Any]]] = {
    "nothing": ("switch", [0.0], {}),
    "switch": ("switch", [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0], {}),
    "shazeer": ("shazeer", [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0], {}),
    "z": ("z", [0.01, 0.1, 1.0], {}),
    "bias": ("bias_rate", [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3], {}),
    "sampled": ("temperature", [0.1, 0.3, 1.0, 3.0], {"selection": "sampled"}),
    "noisy": ("shazeer", [0.0, 0.01, 0.03, 0.1, 0.3, 1.0], {"selection": "noisy_top_k"}),
}
"""For each sweep what varies, over which values, and what else is set."""


def one(seed: int, **remedy: Any) -> dict[str, Any]:
    """One run, in a few numbers."""
    run = train_layer(seed, STEPS, **remedy)
    last = load_metrics(run.load_NE[-50:])
    ends = load_metrics(run.load_E)
    every_NE = run.load_NE.view(-1, EVERY, EXPERTS).sum(1)
    return {
        "error": round(run.error, 4),
        "effective_experts": round(ends.effective_experts.item(), 3),
        "dead_experts": int(ends.dead_experts),
        "max_over_mean": round(ends.max_over_mean.item(), 3),
        # How much the shares still move from step to step, at the end of training.
        "swing": round(last.fraction_E.diff(dim=0).abs().sum(-1).mean().item(), 4),
        "load": every_NE.tolist(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all sweeps and store them, each run when it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    results: Path = parser.parse_args(arguments).results
    torch.set_num_threads(1)
    about = {
        "settings": {
            "model_width": WIDTH, "clusters": CLUSTERS, "experts": EXPERTS, "k": 1,
            "hidden_width": HIDDEN, "tokens_per_step": BATCH, "steps": STEPS,
            "steps_per_stored_load": EVERY, "optimizer": "Adam, rate 0.01", "dtype": "float64",
        },
        "seeds": SEEDS,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "processor": f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}",
        },
    }  # fmt: skip
    # The results of before stay until all of the new ones are there.
    fresh = results.with_suffix(".new")
    sweeps = {
        name: {"varies": varies, "values": values, **fixed, "runs": [[] for _ in values]}
        for name, (varies, values, fixed) in SWEEPS.items()
    }
    content = kept(fresh, about) or about | {"sweeps": sweeps}
    found = {
        name: it | {"runs": [[] for _ in it["runs"]]} for name, it in content["sweeps"].items()
    }
    if found != sweeps:
        raise SystemExit(f"{fresh} holds runs of other sweeps: move it away first")
    store(fresh, content)
    for name, (varies, values, fixed) in SWEEPS.items():
        rows = content["sweeps"][name]["runs"]
        left = [(i, seed) for i in range(len(values)) for seed in SEEDS[len(rows[i]) :]]
        total = len(values) * len(SEEDS)
        for i, seed in tqdm(left, name, total, initial=total - len(left), unit="run"):
            rows[i].append(one(seed, **fixed, **{varies: values[i]}))
            store(fresh, content, separators=(",", ":"))
        for value, row in zip(values, rows, strict=True):
            columns = [[run[key] for run in row] for key in ("error", "effective_experts")]
            print(name, varies, value, *(f"{statistics.mean(c):.3f} {c}" for c in columns))
    fresh.replace(results)


if __name__ == "__main__":
    main()
