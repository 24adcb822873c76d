"""Where a model routes: its MoE layers, and at which module ids and gates are final.

block: ids, gates = router(x);  y = experts(x, ids, gates)                           Chapter 12.
"""

import inspect
from dataclasses import dataclass

from torch import nn

from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.validation import check_kind

# Blocks of transformers give their experts (hidden_states, ids, weights) under these names.
_IDS_AND_WEIGHTS = {("top_k_index", "top_k_weights"), ("router_indices", "routing_weights")}
# These blocks multiply the sum of their experts by one of their attributes; see the tests. It is
# the block that has a name of its own: quantised experts of all families share one class.
_SCALED_AFTERWARDS = {
    "BeamMoE": "routed_scaling_factor",
    "LagunaSparseMoeBlock": "routed_scaling_factor",
    "MiniMaxM3VLSparseMoeBlock": "routed_scaling_factor",
    "OpenAIPrivacyFilterMLP": "num_experts",
    "Step3p7SparseMoeBlock": "routed_scaling_factor",
}
# Its router turns "no expert" into expert 0 with gate 0.
_ZERO_MEANS_NONE = {"ZayaSparseMoeBlock"}


@dataclass(frozen=True)
class Layer:
    """One MoE layer of a model.

    Attributes:
        name: of its block, such as ``"model.layers.3.mlp"``.
        module: what is watched: a layer of this book, or the experts of a block of transformers.
        num_experts: E.
        scale: what the block multiplies all gates by after the experts.
        zero_means_none: whether a gate of 0 says that there was no expert.
    """

    name: str
    module: nn.Module
    num_experts: int
    scale: float = 1.0
    zero_means_none: bool = False


def moe_layers(model: nn.Module) -> list[Layer]:
    """All MoE layers of a model, in the order in which they stand in it.

    Args:
        model: of this book, or one of transformers in which a block gives its experts ids and
            weights, as nearly all families do since version 5.

    Raises:
        TypeError: what is no module.
        ValueError: experts that are called in another way, where ids and weights cannot be seen
            (Switch, NLLB, Llama 4, JetMoE, gpt-oss while its weights are MXFP4), a compiled
            model, or no MoE layer at all.
    """
    check_kind("model", model, nn.Module)
    if hasattr(model, "_orig_mod"):
        raise ValueError("model must not be compiled: trace what was compiled, model._orig_mod")
    found = []
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, MoELayer):
            found.append(Layer(name, module, module.router.num_experts))
        elif kind.endswith("Experts") and type(module).__module__.startswith("transformers."):
            # The class's forward: an instance's own may be wrapped, as accelerate does.
            parameters = tuple(inspect.signature(type(module).forward).parameters)[1:]
            if parameters[1:3] in _IDS_AND_WEIGHTS:
                block = model.get_submodule(_block(name))
                if type(block).__name__.startswith("Mxfp4"):
                    raise ValueError(
                        f"model must call its experts, which {type(block).__name__} passes by: "
                        "load it with quantization_config=Mxfp4Config(dequantize=True)"
                    )
                total = getattr(module, "total_experts", None) or module.num_experts
                scale = getattr(block, _SCALED_AFTERWARDS.get(type(block).__name__, ""), 1.0)
                none = type(block).__name__ in _ZERO_MEANS_NONE
                found.append(Layer(_block(name), module, int(total), float(scale), none))
            elif "SharedExperts" not in kind:  # those are always on
                raise ValueError(
                    f"model must give its experts ids and weights, which {kind} does not take: its "
                    f"arguments are {', '.join(parameters)}"
                )
    if not found:
        raise ValueError(
            f"model must have an MoE layer of this book or of transformers 5, "
            f"{type(model).__name__} has none that is known"
        )
    return found


def _block(experts: str) -> str:
    """The name of the module that some experts are a part of."""
    return experts.rpartition(".")[0]
