"""Tiny blocks of transformers with random weights, biases and flags; and what they give experts."""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from moe_tutorial.models.families import FAMILIES
from tests.oracles import generator

WIDTH, EXPERTS, K = 32, 16, 4
SIZES: dict[str, Any] = {
    "hidden_size": WIDTH, "d_model": WIDTH, "intermediate_size": 24, "moe_intermediate_size": 24,
    "expert_ffn_hidden_size": 24, "ffn_hidden_size": 24, "shared_expert_intermediate_size": 20,
    "shared_intermediate_size": 20, "moe_shared_expert_intermediate_size": 20,
    "moe_hidden_size": 16, "shared_experts_intermediate_size": 20, "share_expert_dim": 20,
    "d_ff": 24, "num_experts": EXPERTS, "num_local_experts": EXPERTS, "n_routed_experts": EXPERTS,
    "moe_num_experts": EXPERTS, "num_experts_per_tok": K, "moe_topk": K, "moe_k": K, "moe_top_k": K,
    "top_k_experts": K, "n_group": 4, "topk_group": 2, "n_shared_experts": 2, "zero_expert_num": 5,
    "router_hidden_size": 12, "kv_channels": 8, "num_key_value_heads": 2, "vocab_size": 50,
    "part_features": 8,
}  # fmt: skip
SCALES = (
    "routed_scaling_factor", "route_scale", "router_scaling_factor", "moe_router_scaling_factor",
    "moe_routed_scaling_factor",
)  # fmt: skip
# What cannot be the sizes above.
OWN: dict[str, dict[str, Any]] = {
    "ernie4_5_vl_moe": {"moe_intermediate_size": [24, 16], "moe_num_shared_experts": 2},
    "laguna": {"moe_router_logit_softcapping": 2.0},
    "zaya": {"num_experts_per_tok": 1},
    "zaya:eda": {"num_experts_per_tok": 1},
    "switch_transformers": {"expert_capacity": 3, "router_jitter_noise": 0.0, "router_bias": True},
    "nllb_moe": {"router_bias": True},
    "longcat_flash": {"router_bias": True},
    "dots3_note": {"allow_global_per_layer_attribute_access": True},
    "phimoe": {"router_jitter_noise": 0.2},  # so that there often is somebody near
}


# What is no field, but an argument from which a configuration makes its fields.
ARGUMENTS = {
    "dots3_note:vision": {
        "hidden_size": WIDTH, "moe_intermediate_size": 24, "pyramid_num_routed": [EXPERTS] * 5,
        "num_experts_per_tok": K, "router_scaling_factor": 1.75, "adapter_in_dim": WIDTH,
        "num_attention_heads": 2,
    },
}  # fmt: skip


def configuration_of(name: str, changes: dict[str, Any]) -> Any:
    """The default configuration of a family, made small; nested ones too."""
    family = FAMILIES[name]
    module = importlib.import_module(
        f"transformers.models.{family.folder}.configuration_{family.folder}"
    )
    config = getattr(module, family.config)(**ARGUMENTS.get(name, {}))
    if name in ARGUMENTS:
        return config
    for field, value in ((family.changes or {}) | OWN.get(name, {})).items():
        setattr(config, field, value)
    wanted = SIZES | dict.fromkeys(SCALES, 1.75) | OWN.get(name, {}) | changes
    for part in (config, getattr(config, "ffn_config", None)):
        for field, value in wanted.items():
            if part is not None and hasattr(part, field):
                setattr(part, field, value)
    return config


def block_of(name: str, seed: int = 0, **changes: Any) -> nn.Module:
    """A tiny block of a family on the CPU, in evaluation, every weight and buffer random."""
    family = FAMILIES[name]
    config = configuration_of(name, changes)
    module = importlib.import_module(
        f"transformers.models.{family.folder}.modeling_{family.folder}"
    )
    block_class = getattr(module, family.block)
    code = block_class.__init__.__code__
    asked = code.co_varnames[: code.co_argcount]
    wanted = {"layer_idx": family.layer, "ffn_dim": 24}
    block: nn.Module = block_class(config, **{n: v for n, v in wanted.items() if n in asked})
    source = generator(seed)
    with torch.no_grad():
        for path, tensor in [*block.named_parameters(), *block.named_buffers()]:
            if path.endswith("tid2eid"):
                rows = torch.rand(len(tensor), EXPERTS, generator=source).argsort(-1)
                tensor.copy_(rows[:, : tensor.shape[1]])
            elif tensor.is_floating_point():
                deviation = 0.3 if tensor.ndim != 2 else 1.3 * tensor.shape[-1] ** -0.5
                tensor.copy_(deviation * torch.randn(tensor.shape, generator=source))
                if path.endswith(("scale", "norm.weight")):
                    tensor.add_(1.0)
    return block.eval()


def given_to_experts(block: Any, x_BSD: Tensor, **inputs: Any) -> tuple[Tensor, Tensor]:
    """The ids and weights that a block hands to its experts."""
    found: list[tuple[Any, ...]] = []
    hook = block.experts.register_forward_pre_hook(
        lambda _, args, kwargs: found.append((*args, *kwargs.values())), with_kwargs=True
    )
    with torch.no_grad():
        block(x_BSD.clone(), **inputs)
    hook.remove()
    (_, ids_TK, weights_TK), *_ = found
    return ids_TK, weights_TK
