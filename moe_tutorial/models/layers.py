"""MoE layers of transformers, taken over with all their weights as a layer of the book.

y_t = sum of g_te f_e(u_t) (+ shared(u_t)), where the experts are ordinary.           Chapter 11.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import FeedForward
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.models.readers import unsupported
from moe_tutorial.models.zoo import from_transformers, recipe_of, router_and_block
from moe_tutorial.routing.router import Router

# Fields of a block, or of its experts, that make it more than a sum of gated experts.
_MORE: dict[str, str] = {
    "post_mlp_layernorm": "norms the sum of the experts",
    "fc1_latent_proj": "projects tokens before the experts",
    "pre_expert_proj": "projects tokens before the experts",
    "post_expert_norm": "norms what an expert returns",
    "bias": "is added to the sum of the experts",
    "down_embed": "makes each expert a single neuron",
}
_LIMITS = ("limit", "swiglu_limit")
_NO_LAYER = {
    "NllbMoeSparseMLP": "runs experts 0 and 1 only, whichever its router chose",
    "Ernie4_5_VLMoeMoeBlock": "has two sets of experts of different widths",
    "InklingMoE": "weighs its shared experts by gates of the router",
}
_TRANSPOSED = {"AriaExperts", "Llama4TextExperts"}  # their weights are [E, in, out]
_SILU = {"SiLUActivation", "SiLU", "silu", "swish"}


def layer_from_transformers(block: nn.Module) -> MoELayer:
    """A layer of the book that computes what a block of transformers does.

    Args:
        block: a block whose experts are SwiGLU networks, or plain ones with GELU, with or without
            a shared expert. In Granite the shared expert is no part of the block, but of the
            decoder layer, and is not taken over.

    Returns:
        The layer, with a copy of the weights.

    Raises:
        TypeError: what is no module.
        ValueError: a router that the zoo does not know, a router without a block, or experts that
            are more than such networks; the message names the class and its field.
    """
    kind = type(block).__name__
    if kind in _NO_LAYER:
        raise ValueError(f"{kind} {_NO_LAYER[kind]}, so no MoELayer computes the same")
    theirs, found = router_and_block(block)
    if found is None:
        raise ValueError(f"{kind} is a router alone: give the block that it is a part of")
    if getattr(theirs, "use_eda", False):
        raise ValueError(f"{kind}.gate.use_eda hands on a state, which an MoELayer does not")
    for module in (block, getattr(block, "experts", None)):
        for field, what in _MORE.items():
            # An identity in the place of a projection does nothing.
            if not isinstance(getattr(module, field, None), nn.Identity | None):
                raise unsupported(module, field, f"{what}, so no MoELayer computes the same")
    router = from_transformers(block)
    experts = _experts(block, router)
    shared = _shared(block)
    averaged = getattr(block, "shared_expert_combination_strategy", None) == "average"
    if shared is not None and averaged:  # (routed + shared) / 2; the gates are halved already
        shared.out.weight.data.mul_(0.5)
    gate = getattr(block, "shared_expert_gate", None)
    gates_on: Literal["output", "input"] = recipe_of(block).gates_on
    layer = MoELayer(
        router, experts, shared=shared, shared_gate=gate is not None, gates_on=gates_on
    ).to(experts.out_EDF.dtype)
    if gate is not None and layer.shared_gate is not None:
        layer.shared_gate.weight.data.copy_(gate.weight)
    return layer.train(block.training)


def _experts(block: Any, router: Router) -> Experts:
    theirs = block.experts
    num_experts = router.num_experts - router.config.null_experts
    biased = [
        name for name in ("gate_up_proj_bias", "alpha", "swiglu_alpha") if hasattr(theirs, name)
    ]
    if biased:
        raise unsupported(theirs, biased[0], "is a part of another activation than SwiGLU")
    for field in _LIMITS:
        limit = getattr(theirs, field, None)
        if limit is not None and math.isfinite(limit):
            raise unsupported(theirs, field, "limits what is between the matrices of an expert")
    if isinstance(theirs, nn.ModuleDict):
        return _dense_experts([theirs[f"expert_{e}"] for e in range(num_experts)])
    mlp = getattr(theirs, "mlp", None)
    if mlp is not None:  # DBRX keeps three matrices, with all experts below each other
        _check_silu(mlp)
        gate, up, down = (w.unflatten(0, (num_experts, -1)) for w in (mlp.w1, mlp.v1, mlp.w2))
        return _filled(torch.cat([gate, up], dim=1), down.mT)
    if not isinstance(getattr(theirs, "gate_up_proj", None), Tensor):
        raise unsupported(theirs, "gate_up_proj", "is not there, so its experts are no SwiGLUs")
    _check_silu(theirs)
    into, out = theirs.gate_up_proj[:num_experts], theirs.down_proj
    if type(theirs).__name__ in _TRANSPOSED:
        into, out = into.mT, out.mT
    return _filled(into, out)


def _dense_experts(experts: list[Any]) -> Experts:
    name = type(experts[0].act).__name__
    if name != "GELUActivation":
        raise unsupported(experts[0], "act", f"must be an exact GELU, got {name}")
    into = torch.stack([expert.wi.weight for expert in experts])
    return _filled(into, torch.stack([expert.wo.weight for expert in experts]), "gelu")


def _filled(into: Tensor, out: Tensor, activation: Literal["gelu", "swiglu"] = "swiglu") -> Experts:
    experts = Experts(*out.shape, activation=activation).to(out)
    experts.in_EHD.data.copy_(into)
    experts.out_EDF.data.copy_(out)
    return experts


def _shared(block: Any) -> FeedForward | None:
    for name in ("shared_experts", "shared_expert", "shared_mlp"):
        theirs = getattr(block, name, None)
        if theirs is not None:
            break
    else:
        return None
    _check_silu(theirs)
    limit = getattr(theirs, "limit", None)
    if limit is not None and math.isfinite(limit):
        raise unsupported(theirs, "limit", "limits what is between the matrices of an expert")
    gate, up, down = theirs.gate_proj, theirs.up_proj, theirs.down_proj
    biased = down.bias is not None
    shared = FeedForward(gate.in_features, gate.out_features, bias=biased).to(down.weight)
    shared.into.weight.data.copy_(torch.cat([gate.weight, up.weight]))
    shared.out.weight.data.copy_(down.weight)
    if biased:
        shared.into.bias.data.copy_(torch.cat([gate.bias, up.bias]))
        shared.out.bias.data.copy_(down.bias)
    return shared


def _check_silu(module: Any) -> None:
    for field in ("act_fn", "activation_fn", "activation"):
        function = getattr(module, field, None)
        if function is not None:
            name = getattr(function, "__name__", type(function).__name__)
            if name not in _SILU:
                raise unsupported(module, field, f"must be a SiLU, got {name}")
            return
    raise unsupported(module, "act_fn", "is not there, so its activation is not known")
