"""Time what recording costs: ``python -m benchmarks.tracing``.

A model of transformers alone, and the same inside ``trace``: whole passes, and ``generate``, which
takes one token a step, so that recording has the least to hide behind.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch
import transformers

from benchmarks import measure
from benchmarks.options import options
from moe_tutorial import trace

ALONE, TRACED = "alone", "traced"
# Width, layers, experts, K, width of an expert: chapter 12's model, and a wider one.
SIZES = [(64, 4, 16, 2, 32), (256, 6, 16, 4, 128)]
SMALL = [(32, 2, 4, 2, 16)]


def build(
    width: int, layers: int, experts: int, k: int, hidden: int
) -> transformers.GraniteMoeForCausalLM:
    """A model with random weights."""
    config = transformers.GraniteMoeConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32),
        num_local_experts=experts,
        num_experts_per_tok=k,
        intermediate_size=hidden,
        vocab_size=256,
        initializer_range=0.05,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return transformers.GraniteMoeForCausalLM(config)


@torch.no_grad()
def measure_size(
    size: tuple[int, ...], *, device: torch.device, seconds: float, rounds: int
) -> dict[str, Any]:
    """The times of one model, as they go into the JSON file."""
    model: Any = build(*size).to(device=device).eval()  # type: ignore[call-arg]
    ids = torch.randint(1, 256, (4, 128), device=device)
    mask = torch.ones_like(ids)

    def generate() -> None:
        model.generate(
            ids[:1, :16], attention_mask=mask[:1, :16], max_new_tokens=24, do_sample=False
        )

    def traced(call: Any) -> Any:
        def run() -> None:
            with trace(model):
                call()

        return run

    found = {}
    for name, call in (("pass", lambda: model(input_ids=ids)), ("generate", generate)):
        runs = {ALONE: measure.Run(call), TRACED: measure.Run(traced(call))}
        samples = measure.interleave(
            runs, (ALONE, TRACED), seconds=seconds, rounds=rounds, device=device
        )
        found[name] = {
            "alone_ms": 1000 * statistics.median(samples[ALONE].values()),
            "traced_ms": 1000 * statistics.median(samples[TRACED].values()),
            "traced_to_alone": measure.paired_ratio(samples[TRACED], samples[ALONE]),
            "rounds": len(samples[ALONE]),
        }
    return {"width,layers,experts,k,hidden": ",".join(map(str, size)), **found}


def text(record: dict[str, Any]) -> str:
    """The table: milliseconds, and the median ratio of neighbouring samples."""
    rows = [["model", "work", "alone, ms", "traced, ms", "traced / alone"]]
    for cell in record["cells"]:
        for work in ("pass", "generate"):
            it = cell[work]
            rows.append(
                [
                    cell["width,layers,experts,k,hidden"],
                    work,
                    f"{it['alone_ms']:.1f}",
                    f"{it['traced_ms']:.1f}",
                    f"{it['traced_to_alone']:.3f}",
                ]
            )
    return measure.table(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; see ``--help``."""
    found = options(arguments, "tracing", __doc__, seconds=5, rounds=9)
    device = torch.device(found.device)
    record: dict[str, Any] = {
        **measure.environment(device, ["transformers"]),
        "settings": {"seconds": found.seconds, "rounds": found.rounds},
        "cells": [],
    }
    for size in SMALL if found.small else SIZES:
        print("width, layers, experts, K, hidden =", *size, file=sys.stderr, flush=True)
        cell = measure_size(size, device=device, seconds=found.seconds, rounds=found.rounds)
        record["cells"].append(cell)
        if found.json:
            found.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(text(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
