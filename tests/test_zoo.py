"""Every router of transformers, and the zoo's router beside it on the same random weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moe_tutorial import scatter_gates
from moe_tutorial.models import zoo
from moe_tutorial.models.families import FAMILIES
from tests.oracles import generator, normal, same
from tests.zoo_cases import EXPERTS, WIDTH, block_of, given_to_experts

# Not every block calls its experts with ids and weights.
SPECIAL = {
    "gemma4", "diffusion_gemma", "diffusion_gemma:encoder", "llama4", "jetmoe", "jetmoe:moa", "doge",
    "ernie4_5_vl_moe", "switch_transformers", "nllb_moe", "zaya", "zaya:eda", "deepseek_v4:hash",
}  # fmt: skip
# These blocks multiply the experts' sum by something: the weights as applied at last are larger.
AFTERWARDS = {
    "beam": 1.75, "minimax_m3_vl": 1.75, "step3p7": 1.75, "laguna": 1.75,
    "openai_privacy_filter": 4.0,
}  # fmt: skip
FLAGS = [
    {"norm_topk_prob": True, "moe_renormalize": True, "use_expert_bias": True},
    {"norm_topk_prob": False, "moe_renormalize": False, "use_expert_bias": False, "n_group": 1,
     "topk_group": 1},
    {"n_group": 8, "topk_group": 5, "scoring_func": "sqrtsoftplus", "num_experts_per_tok": 3},
]  # fmt: skip


def tokens(seed: int, *shape: int) -> Tensor:
    return normal(*(shape or (3, 40)), WIDTH, seed=seed, dtype=torch.float32)


def same_decision(
    experts_TK: Tensor,
    gates_TK: Tensor,
    their_ids_TK: Tensor,
    their_gates_TK: Tensor,
    num_experts: int = EXPERTS,
) -> None:
    """The same set of experts for every token, and for each the same gate."""
    experts_TK, gates_TK = experts_TK.flatten(0, -2), gates_TK.flatten(0, -2)
    same(experts_TK.sort(-1).values, their_ids_TK.sort(-1).values)
    same(
        scatter_gates(gates_TK, experts_TK, num_experts),
        scatter_gates(their_gates_TK, their_ids_TK, num_experts),
        atol=1e-6,
    )


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in SPECIAL])
def test_every_family(name: str, case: int) -> None:
    flags = dict(FLAGS[case])
    if name == "openai_privacy_filter":
        flags.pop("num_experts_per_tok", None)
    block = block_of(name, case, **flags)
    x_BSD = tokens(case)
    ids_TK, weights_TK = given_to_experts(block, x_BSD)
    router = zoo.from_transformers(block)
    routing = router(x_BSD)
    weights_TK = weights_TK * AFTERWARDS.get(name, 1.0)
    if name.startswith("cohere2_moe") and block.shared_expert_combination_strategy == "average":
        weights_TK = weights_TK / 2
    same_decision(routing.experts_TK, routing.gates_TK, ids_TK, weights_TK, router.num_experts)
