"""Time what people swap, the whole layer: ``python -m benchmarks.whole_layer``.

Router and experts together, beside the sparse block of Hugging Face's Mixtral on the same weights;
and the router alone, beside ``linear``, ``topk`` and ``softmax``. On a CPU, in float32, on each
number of threads. README.md in this folder says what is fair.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import measure
from benchmarks.layer import OURS, TOLERANCES, Implementations, agreeing, compare, run_of
from benchmarks.peers import Stacked, hugging_face
from benchmarks.problem import Problem, Size
from moe_tutorial import Experts, MoELayer, Router

MODES = ("forward", "forward_backward")
TOKENS = (1, 16, 128, 1024, 4096)
SHAPES = ("256,512,16,2 S", "768,384,64,6 S", "512,512,32,4 S", "384,768,16,2 S")
SIZES = [[f"{tokens},{shape}" for tokens in TOKENS] for shape in SHAPES]
"""What shares a process stands in one list."""

ROUTERS = [
    f"{tokens},{shape}"
    for shape in ("512,8,2", "2048,128,8", "512,64,8")
    for tokens in (1, 64, 4096)
]
"""T, D, E, K of the router alone."""

PLAIN = "linear, topk, softmax"
CPU = torch.device("cpu")


class Whole(Stacked):
    """A layer that chooses for itself; everybody gets one sequence of T tokens."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.x_TD = problem.x_TD[None].clone().requires_grad_()
        self.grad_TD = problem.grad_TD[None]
        self.first, self.second = nn.Parameter(self.first), nn.Parameter(self.second)
        self.centroids_ED = nn.Parameter(problem.centroids_ED.clone())

    def leaves(self) -> list[Tensor]:
        """See :class:`~benchmarks.problem.Layer`."""
        return [*super().leaves(), self.centroids_ED]

    def weighing(self) -> tuple[str, Tensor]:
        """See :class:`~benchmarks.problem.Layer`."""
        return "router", self.centroids_ED


class OursWhole(Whole):
    """This package's ``MoELayer``."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        size = problem.size
        with torch.device("meta"):
            router = Router(size.model_width, size.num_experts, size.k)
            experts = Experts(size.num_experts, size.model_width, size.hidden_width)
        self.layer: Any = MoELayer(router, experts)
        self.layer.router.centroids_ED = self.centroids_ED
        self.layer.experts.in_EHD, self.layer.experts.out_EDF = self.first, self.second

    def forward(self) -> Tensor:
        """See :class:`~benchmarks.problem.Layer`."""
        y_TD: Tensor = self.layer(self.x_TD).y_TD
        return y_TD


class MixtralBlock(Whole):
    """Hugging Face's ``MixtralSparseMoeBlock``, its experts in one of their implementations."""

    def __init__(self, problem: Problem, implementation: str) -> None:
        super().__init__(problem)
        self.block = hugging_face(problem, implementation, "MixtralSparseMoeBlock")
        self.block.gate.weight = self.centroids_ED
        self.block.experts.gate_up_proj = self.first
        self.block.experts.down_proj = self.second

    def forward(self) -> Tensor:
        """See :class:`~benchmarks.problem.Layer`."""
        y_TD: Tensor = self.block(self.x_TD)
        return y_TD


IMPLEMENTATIONS: Implementations = {
    OURS: OursWhole,
    **{
        f"HF {name}": partial(MixtralBlock, implementation=name)
        for name in ("eager", "grouped_mm", "batched_mm")
    },
}


def measure_layers(
    sizes: Sequence[str],
    implementations: Implementations,
    *,
    threads: int,
    seconds: float,
    rounds: int,
) -> list[dict[str, Any]]:
    """Check, then time the whole layer at each size, as it goes into the JSON file."""
    torch.set_num_threads(threads)
    cells = []
    for size in sizes:
        layers, results = agreeing(Problem(Size.parse(size), CPU, torch.float32), implementations)
        for mode in MODES:
            runs = {name: run_of(layer, mode) for name, layer in layers.items()}
            for name, found in _timed(runs, seconds, rounds).items():
                results[name][mode] = found
        cells.append({"size": size, "threads": threads, "implementations": results})
    return cells


def measure_routers(
    sizes: Sequence[str], *, threads: int, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """Check, then time the router's forward with and without gradients being recorded."""
    torch.set_num_threads(threads)
    cells = []
    for size in sizes:
        tokens, width, num_experts, k = map(int, size.split(","))
        generator = torch.Generator().manual_seed(0)
        x_TD = torch.randn(tokens, width, generator=generator).requires_grad_()
        router = Router(width, num_experts, k)
        router.reset_parameters(generator)

        def plain(
            x_TD: Tensor = x_TD, weight_ED: Tensor = router.centroids_ED, k: int = k
        ) -> tuple[Tensor, Tensor]:
            chosen_TK, experts_TK = nn.functional.linear(x_TD, weight_ED).topk(k)
            return experts_TK, chosen_TK.softmax(-1)

        ours, theirs = router(x_TD), plain()
        differences = compare(
            {"experts": ours.experts_TK, "gates": ours.gates_TK},
            dict(zip(("experts", "gates"), theirs, strict=True)),
        )
        if not max(differences.values()) <= TOLERANCES[torch.float32]:
            raise ArithmeticError(f"the router differs from {PLAIN}: {differences}")
        cell: dict[str, Any] = {"size": size, "threads": threads}
        works: dict[str, Callable[[], object]] = {OURS: partial(router, x_TD), PLAIN: plain}
        for mode, wrap in (("recorded", torch.enable_grad()), ("not_recorded", torch.no_grad())):
            runs = {name: measure.Run(work) for name, work in works.items()}
            with wrap:
                cell[mode] = _timed(runs, seconds, rounds)
        cells.append(cell)
    return cells


def _timed(
    runs: dict[str, measure.Run], seconds: float, rounds: int
) -> dict[str, dict[str, float]]:
    samples = measure.interleave(runs, (OURS,), seconds=seconds, rounds=rounds, device=CPU)
    return {
        name: {
            "min_ms": 1000 * min(times.values()),
            "ours_to_this": measure.paired_ratio(samples[OURS], times),
            "rounds": len(times),
        }
        for name, times in samples.items()
    }


def fastest(implementations: dict[str, Any], mode: str) -> tuple[float, str]:
    """How long ours takes beside the fastest peer, and who that is."""
    return max(
        (it[mode]["ours_to_this"], name)
        for name, it in implementations.items()
        if name != OURS and "skipped" not in it
    )


def text(record: dict[str, Any]) -> str:
    """Both tables, as README.md in this folder shows them."""
    threads = record["settings"]["threads"]
    heads = [f"{mode}, {_threads(n)}" for n in threads for mode in ("forward", "forward+backward")]
    layers: dict[str, list[str]] = {}
    for cell in record["layers"]:
        found = (fastest(cell["implementations"], mode) for mode in MODES)
        row = layers.setdefault(cell["size"].removesuffix(" S"), [])
        row += [f"{ratio:.2f} ({name.removeprefix('HF ')})" for ratio, name in found]
    routers: dict[str, list[str]] = {}
    for cell in record["routers"]:
        row = routers.setdefault(cell["size"], [])
        row += [f"{cell[mode][PLAIN]['ours_to_this']:.2f}" for mode in ("not_recorded", "recorded")]
    other = [f"{mode}, {_threads(n)}" for n in threads for mode in ("no gradients", "recorded")]
    return "\n\n".join(
        measure.table([[size, *head], *([name, *row] for name, row in rows.items())])
        for size, head, rows in (("T,D,F,E,K", heads, layers), ("T,D,E,K", other, routers))
    )


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def main(
    arguments: Sequence[str] | None = None,
    implementations: Implementations = IMPLEMENTATIONS,
    sizes: Sequence[Sequence[str]] = SIZES,
    routers: Sequence[str] = ROUTERS,
) -> int:
    """Run the benchmark; see ``--help``. Returns 1 if an implementation computed something else."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_layer", description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="(1 2)")
    parser.add_argument("--seconds", type=float, default=0.7, help="per size, each way (0.7)")
    parser.add_argument("--rounds", type=int, default=5, help="of each at least (5)")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--go-on", action="store_true", help="keep what the JSON file holds")
    options = parser.parse_args(arguments)
    record: dict[str, Any] = {
        **measure.environment(CPU, ("transformers",)),
        "settings": {
            "dtype": "float32",
            "tolerance": TOLERANCES[torch.float32],
            "threads": options.threads,
            "seconds": options.seconds,
            "rounds": options.rounds,
        },
        "layers": [],
        "routers": [],
    }
    if options.go_on and options.json and options.json.exists():
        kept = json.loads(options.json.read_text(encoding="utf-8"))
        if any(kept[it] != record[it] for it in ("hardware", "versions", "settings")):
            parser.error(f"--go-on needs the same machine, versions and settings as {options.json}")
        record = kept
    done = {(cell["size"], cell["threads"]) for cell in record["layers"] + record["routers"]}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for threads in options.threads:
            how = {"threads": threads, "seconds": options.seconds, "rounds": options.rounds}
            jobs = [("layers", partial(measure_layers, it, implementations, **how)) for it in sizes]
            for kind, job in [("routers", partial(measure_routers, routers, **how)), *jobs]:
                if (job.args[0][0], threads) in done:
                    continue
                print(f"{kind} on {_threads(threads)}", *job.args[0], file=sys.stderr, flush=True)
                record[kind] += processes.submit(job).result()
                if options.json:
                    options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(text(record))
    return int(
        any("wrong" in it for cell in record["layers"] for it in cell["implementations"].values())
    )


if __name__ == "__main__":
    sys.exit(main())
