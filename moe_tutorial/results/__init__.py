"""Results: what long runs found, each with the settings, seeds and versions that it came from."""

import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from torch import Tensor


def stored(
    name: Literal[
        "balance",
        "code",
        "language_models",
        "layer",
        "more_experts",
        "recommendation",
        "routing",
        "timings",
        "translation",
        "uncertainty",
        "whole_layer",
    ],
) -> dict[str, Any]:
    """Read the stored results of one script, which anyone can run again.

    Args:
        name: ``"balance"`` (chapter 08, ``make balance``), ``"language_models"`` and
            ``"more_experts"`` (chapter 10, ``make models`` and ``make more-experts``),
            ``"timings"`` (chapter 07, ``make timings``), ``"translation"``, ``"recommendation"``
            and ``"code"`` (chapter 13, ``make applications``), ``"uncertainty"`` (chapters 15 and
            16, ``make uncertainty``), or ``"layer"``, ``"routing"`` and ``"whole_layer"`` (the
            three scripts in ``benchmarks``).

    Returns:
        The content of the JSON file of that name.

    Raises:
        FileNotFoundError: nothing is stored under this name.
    """
    text = resources.files("moe_tutorial.results").joinpath(f"{name}.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def parallel_choices() -> dict[str, Tensor]:
    """What routers of 64 experts chose for one text of 18432 tokens (``make choices``).

    Returns:
        int64 ids ``[T, 8]`` of a router trained with a balance loss (``"balanced"``), of one
        without (``"unbalanced"``), and of the first where a token may use 4 of 8 groups of experts
        (``"limited"``).
    """
    file = resources.files("moe_tutorial.results").joinpath("parallel_choices.npz")
    with resources.as_file(file) as path, numpy.load(path) as content:
        return {name: torch.from_numpy(content[name]).long() for name in content}


def tiny_moe() -> Path:
    """The folder of the small model that chapter 12 looks into (``make tiny-moe``).

    A Granite MoE of transformers over bytes, with its tokenizer: give the folder to
    ``from_pretrained``. ``training.json`` says how it came about; ``step_50.npz`` and others are
    traces of one text after so many steps of training.
    """
    return Path(__file__).parent / "tiny_moe"
