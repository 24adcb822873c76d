"""Time the routing itself: ``python -m benchmarks.routing``.

Softmax and top-k, and draws without replacement by ``gumbel_top_k`` and by ``torch.multinomial``,
for up to a million tokens and 256 experts: nanoseconds and bytes per token.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import measure
from benchmarks.options import options
from moe_tutorial import gumbel_top_k, softmax, top_k

TORCH, OURS = "torch.softmax, torch.topk", "softmax, top_k"
MULTINOMIAL, GUMBEL = "torch.multinomial", "gumbel_top_k"

SIZES = [(t, e, k) for t in (10**3, 10**5, 10**6) for e, k in ((8, 2), (64, 8), (256, 8))]
SMALL = [(64, 8, 2), (256, 16, 4)]


def measure_size(
    num_tokens: int,
    num_experts: int,
    k: int,
    *,
    device: torch.device,
    seconds: float,
    rounds: int,
) -> dict[str, Any]:
    """Time and memory of all four at one size, as they go into the JSON file."""
    generator = torch.Generator(device).manual_seed(0)
    logits_TE = torch.randn(num_tokens, num_experts, generator=generator, device=device)
    # Made outside the clock: multinomial wants probabilities where gumbel_top_k takes logits.
    probabilities_TE = logits_TE.softmax(-1)
    runs = {
        TORCH: measure.Run(lambda: torch.softmax(logits_TE, -1).topk(k)),
        OURS: measure.Run(lambda: (softmax(logits_TE), top_k(logits_TE, k))),
        MULTINOMIAL: measure.Run(lambda: torch.multinomial(probabilities_TE, k)),
        GUMBEL: measure.Run(lambda: gumbel_top_k(logits_TE, k)),
    }
    memory = {name: measure.peak_extra_bytes(run, device) for name, run in runs.items()}
    samples = measure.interleave(
        runs, (OURS, GUMBEL), seconds=seconds, rounds=rounds, device=device
    )
    found: dict[str, dict[str, float]] = {
        name: {
            "median_ns_per_token": statistics.median(times.values()) * 1e9 / num_tokens,
            "min_ns_per_token": min(times.values()) * 1e9 / num_tokens,
            "peak_extra_bytes_per_token": memory[name] / num_tokens,
            "rounds": len(times),
        }
        for name, times in samples.items()
    }
    for ours, peer in ((OURS, TORCH), (GUMBEL, MULTINOMIAL)):
        found[ours]["to_torch"] = measure.paired_ratio(samples[ours], samples[peer])
    return {"tokens": num_tokens, "experts": num_experts, "k": k, "implementations": found}


def text(record: dict[str, Any]) -> str:
    """The table: "n ns, b B" is the shortest time and the peak of extra memory per token."""
    names = list(record["cells"][0]["implementations"])
    rows = [["T,E,K", *names, f"{OURS} / torch's", f"{GUMBEL} / {MULTINOMIAL}"]]
    for cell in record["cells"]:
        found = cell["implementations"]
        rows.append(
            [
                f"{cell['tokens']},{cell['experts']},{cell['k']}",
                *(
                    f"{it['min_ns_per_token']:.4g} ns, {it['peak_extra_bytes_per_token']:.0f} B"
                    for it in found.values()
                ),
                *(f"{found[name]['to_torch']:.2f}" for name in (OURS, GUMBEL)),
            ]
        )
    return measure.table(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; see ``--help``."""
    found = options(arguments, "routing", __doc__, seconds=3, rounds=5)
    device = torch.device(found.device)
    record: dict[str, Any] = {
        **measure.environment(device),
        "settings": {"dtype": "float32", "seconds": found.seconds, "rounds": found.rounds},
        "cells": [],
    }
    for size in SMALL if found.small else SIZES:
        print("T,E,K =", *size, file=sys.stderr, flush=True)
        cell = measure_size(*size, device=device, seconds=found.seconds, rounds=found.rounds)
        record["cells"].append(cell)
        if found.json:
            found.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(text(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
