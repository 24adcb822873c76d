"""Time the MoE layer beside its peers: ``python -m benchmarks.layer``.

Given the same tokens, chosen experts and gates, every implementation computes the layer's output,
forward and with all gradients. README.md in this folder says who takes part and what is fair.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import measure, report
from benchmarks.limits import DenseChain, Limit
from benchmarks.peers import HuggingFace, MaskLoop, Ours, Permuted, SortedModules, StMoe
from benchmarks.problem import Layer, Problem, Size, SkippedError
from moe_tutorial.layer import loop, memory

Implementations = Mapping[str, Callable[[Problem], Layer]]

DENSE, SEGMENTED, OURS = "dense chain", "segmented", "ours"

IMPLEMENTATIONS: Implementations = {
    DENSE: DenseChain,
    SEGMENTED: Limit,
    OURS: Ours,
    "ours, loop": partial(Ours, method="loop"),
    "ours, grouped": partial(Ours, method="grouped"),
    "HF eager": partial(HuggingFace, implementation="eager"),
    "HF grouped_mm": partial(HuggingFace, implementation="grouped_mm"),
    "HF batched_mm": partial(HuggingFace, implementation="batched_mm"),
    "mask loop": MaskLoop,
    "sorted modules": SortedModules,
    "torchtitan style": Permuted,
    "st-moe-pytorch": StMoe,
}
"""Two limits, this package (by its rule and by each method), and the peers."""

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}
"""The largest difference from ours, relative to the largest number of ours."""

_FEW = ["256,128,512,8,2 G", "256,512,1792,8,2 S", "256,512,256,64,8 S", "256,128,512,128,8 G"]
_MANY = [
    "4096,128,512,8,2 G", "4096,512,1792,8,2 S", "4096,1024,3584,8,2 S", "4096,512,256,64,8 S",
    "4096,1024,512,128,8 S", "4096,128,512,64,8 G",
]  # fmt: skip
_DECODE = [
    f"{tokens},{shape}"
    for shape in ("128,512,8,2 G", "512,1792,8,2 S", "512,256,64,8 S")
    for tokens in (1, 8, 64)
]
_LONG = ["65536,128,512,8,2 G"]

SIZES = {
    "small": _FEW,
    "decode": _DECODE,
    "long": _LONG,
    "all": [*_FEW, *_MANY, *_DECODE, *_LONG],
    # How time grows in T at fixed E, and in E at fixed T * K.
    "growth": [
        *(f"{2**i},256,512,16,2 S" for i in range(6, 16)),
        *(f"8192,256,512,{2**i},2 S" for i in range(2, 9)),
    ],
    "gpu": [
        "8192,4096,14336,8,2 S", "16384,2048,768,128,8 S",
        "64,4096,14336,8,2 S", "64,2048,768,128,8 S",
    ],
}  # fmt: skip


def measure_size(
    size: Size,
    implementations: Implementations,
    *,
    device: torch.device,
    dtype: torch.dtype,
    seconds: float,
    rounds: int,
) -> dict[str, Any]:
    """Check, then time all implementations at one size.

    Args:
        size: of the layer.
        implementations: by name; the two limits and ours must be among them.
        device: where.
        dtype: of tokens, gates and weights.
        seconds: for forward, and again for forward+backward.
        rounds: how many of each at least.

    Returns:
        What goes into the JSON file: times, ratios, memory and differences, or why one is skipped.
    """
    layers, results = agreeing(Problem(size, device, dtype), implementations)
    rate = measure.matmul_rate(device, dtype)
    for mode in ("forward", "forward_backward"):
        runs = {name: run_of(layer, mode) for name, layer in layers.items()}
        # Torch's record of memory sees only what torch itself allocates.
        with (
            mock.patch.multiple(memory, zeros=Tensor.new_zeros, empty=Tensor.new_empty),
            mock.patch.object(loop, "empty", Tensor.new_empty),
        ):
            extra = {name: measure.peak_extra_bytes(run, device) for name, run in runs.items()}
        resident = {
            name: None if device.type == "cuda" else measure.peak_resident_bytes(run)
            for name, run in runs.items()
        }
        samples = measure.interleave(
            runs, (DENSE, SEGMENTED, OURS), seconds=seconds, rounds=rounds, device=device
        )
        for name, times in samples.items():
            middle = statistics.median(times.values())
            results[name][mode] = {
                "median_ms": 1000 * middle,
                "min_ms": 1000 * min(times.values()),
                "to_dense": measure.paired_ratio(times, samples[DENSE]),
                "to_segmented": measure.paired_ratio(times, samples[SEGMENTED]),
                "ours_to_this": measure.paired_ratio(samples[OURS], times),
                "gflop_per_s": size.flops * (1 if mode == "forward" else 3) / middle / 1e9,
                "rounds": len(times),
                "peak_extra_mib": extra[name] / 2**20,
                "peak_resident_mib": None if (it := resident[name]) is None else it / 2**20,
            }
    cell: dict[str, Any] = {
        "size": str(size),
        "matmul_gflop_per_s": rate / 1e9,
        "implementations": results,
    }
    if device.type == "cuda":
        cell["waits_of_the_host"] = measure.host_synchronisations(layers[OURS].forward)
    return cell


def agreeing(
    problem: Problem, implementations: Implementations
) -> tuple[dict[str, Layer], dict[str, dict[str, Any]]]:
    """Those that compute what ours computes, ready to run.

    Args:
        problem: what to compute.
        implementations: by name; ours must be among them.

    Returns:
        The implementations that agree; and for each that was asked for, its largest difference
        from ours, or why it is skipped.
    """
    results: dict[str, dict[str, Any]] = {name: {} for name in implementations}
    layers: dict[str, Layer] = {}
    expected = implementations[OURS](problem).results()
    for name, implementation in implementations.items():
        try:
            layer = implementation(problem)
        except SkippedError as error:
            results[name]["skipped"] = str(error)
            continue
        differences = compare(layer.results(), expected)
        layer.clear()
        worst = max(differences, key=lambda key: differences[key], default=None)
        # Written so that a difference that is not a number is too large.
        if worst is not None and not differences[worst] <= TOLERANCES[problem.x_TD.dtype]:
            results[name]["skipped"] = f"differs from ours: {worst}, by {differences[worst]:.1e}"
            results[name]["wrong"] = True
            continue
        results[name]["difference"] = differences[worst] if worst is not None else None
        layers[name] = layer
    return layers, results


def compare(results: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """The largest difference of each result, relative to its largest expected number."""
    differences = {}
    for name, result in results.items():
        largest = expected[name].abs().amax().float().clamp(min=1e-30)
        difference = (result.float() - expected[name].float()).abs().amax()
        differences[name] = (difference / largest).item()
    return differences


def run_of(layer: Layer, mode: str) -> measure.Run:
    """What is timed as ``"forward"`` or as ``"forward_backward"``."""
    call = layer.forward_only if mode == "forward" else layer.forward_backward
    return measure.Run(call, layer.clear)


def main(
    arguments: Sequence[str] | None = None, implementations: Implementations = IMPLEMENTATIONS
) -> int:
    """Run the benchmark; see ``--help``. Returns 1 if an implementation computed something else."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer", description=__doc__)
    parser.add_argument("--sizes", choices=list(SIZES), help="all, or gpu where there is one")
    parser.add_argument(
        "--size", action="append", type=Size.parse, help="T,D,F,E,K,swiglu or gelu; repeatable"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], help="float32, or bfloat16 on a GPU"
    )
    parser.add_argument("--seconds", type=float, default=3, help="per size, each way (3)")
    parser.add_argument("--rounds", type=int, default=5, help="of each at least (5)")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    dtype = getattr(torch, options.dtype or ("bfloat16" if on_gpu else "float32"))
    names = SIZES[options.sizes or ("gpu" if on_gpu else "all")]
    sizes = options.size or [Size.parse(name) for name in names]

    record: dict[str, Any] = {
        **measure.environment(device, ("transformers", "st-moe-pytorch")),
        "settings": {
            "dtype": str(dtype).removeprefix("torch."),
            "tolerance": TOLERANCES[dtype],
            "seconds": options.seconds,
            "rounds": options.rounds,
        },
        "cells": [],
    }
    # A process for each size: none finds memory that the one before has left.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for i, size in enumerate(sizes):
            print(f"{size} ({i + 1} of {len(sizes)})", file=sys.stderr, flush=True)
            cell = processes.submit(
                measure_size,
                size,
                implementations,
                device=device,
                dtype=dtype,
                seconds=options.seconds,
                rounds=options.rounds,
            ).result()
            record["cells"].append(cell)
            if options.json:  # after every size, so that an interrupted run leaves something
                options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(report.text(record, ours=OURS, limits=(DENSE, SEGMENTED)))
    return int(any("wrong" in it for c in record["cells"] for it in c["implementations"].values()))


if __name__ == "__main__":
    sys.exit(main())
