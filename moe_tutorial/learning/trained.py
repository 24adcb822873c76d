"""Trained models, as `make more-experts` and `make uncertainty` stored one of theirs.

Weights have half precision in the file and float64 in memory.            Chapters 10 and 16.
"""

from importlib import resources

import torch
from torch import Tensor

from moe_tutorial.layer.block import Attention, Block
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.learning.language_model import LanguageModel
from moe_tutorial.learning.languages import Guesser
from moe_tutorial.results import stored
from moe_tutorial.routing.router import Router


def trained_model() -> LanguageModel:
    """The stored language model over bytes, with 8 experts in each of its layers.

    ``stored("more_experts")`` tells what it was trained on, and how.

    Returns:
        The model on the CPU, in float64 and in evaluation mode.
    """
    about = stored("more_experts")["about"]
    weights = _weights("more_experts")
    blocks = [
        _block(weights, about["k"], about["heads"], about["expert_width"])
        for _ in range(about["layers"])
    ]
    model = LanguageModel(blocks).double()
    model.load_state_dict(weights)
    return model.eval()


def trained_guesser() -> Guesser:
    """The stored plain model of chapter 16: three sparse layers that guess a window's language.

    It is the first one in ``stored("uncertainty")``: 16 experts of width 32, K = 4, four heads.

    Returns:
        The model on the CPU, in float64 and in evaluation mode.
    """
    weights = _weights("guesser")
    model = Guesser([_block(weights, k=4, heads=4, expert_width=32) for _ in range(3)]).double()
    model.load_state_dict(weights)
    return model.eval()


def _weights(name: str) -> dict[str, Tensor]:
    file = resources.files("moe_tutorial.results").joinpath(f"{name}.pt")
    with resources.as_file(file) as path:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _block(weights: dict[str, Tensor], k: int, heads: int, expert_width: int) -> Block:
    experts, width = weights["blocks.0.layer.router.centroids_ED"].shape
    layer = MoELayer(Router(width, experts, k), Experts(experts, width, expert_width))
    return Block(Attention(width, heads), layer)
