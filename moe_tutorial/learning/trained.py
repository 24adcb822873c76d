"""A trained model: one of those that `make more-experts` trained, as it was stored.

Its weights have half precision in the file and float64 in memory.                   Chapter 10.
"""

from importlib import resources

import torch

from moe_tutorial.layer.block import Attention, Block
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.learning.language_model import LanguageModel
from moe_tutorial.results import stored
from moe_tutorial.routing.router import Router


def trained_model() -> LanguageModel:
    """The stored language model over bytes, with 8 experts in each of its layers.

    ``stored("more_experts")`` tells what it was trained on, and how.

    Returns:
        The model on the CPU, in float64 and in evaluation mode.
    """
    about = stored("more_experts")["about"]
    file = resources.files("moe_tutorial.results").joinpath("more_experts.pt")
    with resources.as_file(file) as path:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    experts, width = weights["blocks.0.layer.router.centroids_ED"].shape
    blocks = []
    for _ in range(about["layers"]):
        layer = MoELayer(
            Router(width, experts, about["k"]), Experts(experts, width, about["expert_width"])
        )
        blocks.append(Block(Attention(width, about["heads"]), layer))
    model = LanguageModel(blocks).double()
    model.load_state_dict(weights)
    return model.eval()
