"""Published routers as Hugging Face transformers writes them, on the same random weights.

Each of theirs is set beside the same decision put together from this package's functions.
"""

import pytest
import torch
from torch import Tensor
from transformers import (
    DeepseekV3Config,
    MixtralConfig,
    NllbMoeConfig,
    Qwen2MoeConfig,
    SwitchTransformersConfig,
)
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter
from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeTop2Router
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeTopKRouter
from transformers.models.switch_transformers.modeling_switch_transformers import (
    SwitchTransformersSparseMLP,
    SwitchTransformersTop1Router,
)

from moe_tutorial import (
    Experts,
    MoELayer,
    Router,
    dispatch_kept,
    dot_scores,
    limit_capacity,
    renormalise,
    scatter_gates,
    sigmoid,
    top_k,
    within_capacity,
)
from tests.oracles import generator, normal, same

TOKENS, WIDTH = 200, 32
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def router_with(weight_ED: Tensor, k: int, *, renormalise: bool) -> Router:
    num_experts, model_width = weight_ED.shape
    router = Router(model_width, num_experts, k, renormalise=renormalise).to(weight_ED.dtype)
    router.load_state_dict({"centroids_ED": weight_ED})
    return router


def same_choice(
    gates_TK: Tensor,
    experts_TK: Tensor,
    their_gates_TK: Tensor,
    their_experts_TK: Tensor,
    num_experts: int,
    atol: float,
) -> None:
    """The same set of experts for every token, and the same gate for each, whatever their order."""
    same(experts_TK.sort(-1).values, their_experts_TK.sort(-1).values)
    same(
        scatter_gates(gates_TK.double(), experts_TK, num_experts),
        scatter_gates(their_gates_TK.double(), their_experts_TK, num_experts),
        atol=atol,
    )


@dtypes
@pytest.mark.parametrize(("num_experts", "k"), [(8, 2), (40, 8), (8, 8)])
def test_mixtral(num_experts: int, k: int, dtype: torch.dtype) -> None:
    config = MixtralConfig(hidden_size=WIDTH, num_local_experts=num_experts, num_experts_per_tok=k)
    theirs = MixtralTopKRouter(config).to(dtype)
    theirs.weight.data = normal(num_experts, WIDTH, dtype=dtype) / WIDTH**0.5
    x_TD = normal(TOKENS, WIDTH, seed=1, dtype=dtype)
    their_logits_TE, their_gates_TK, their_experts_TK = theirs(x_TD)
    ours = router_with(theirs.weight.data, k, renormalise=True)(x_TD)
    same(ours.logits_TE, their_logits_TE, atol=1e-5 if dtype == torch.float32 else 1e-13)
    # Theirs takes its softmax in float32, of float64 logits too.
    same_choice(ours.gates_TK, ours.experts_TK, their_gates_TK, their_experts_TK, num_experts, 1e-6)


@dtypes
@pytest.mark.parametrize("norm_topk_prob", [True, False])
def test_qwen2_moe(norm_topk_prob: bool, dtype: torch.dtype) -> None:
    num_experts, k = 60, 4
    config = Qwen2MoeConfig(
        hidden_size=WIDTH,
        num_experts=num_experts,
        num_experts_per_tok=k,
        norm_topk_prob=norm_topk_prob,
    )
    theirs = Qwen2MoeTopKRouter(config).to(dtype)
    theirs.weight.data = normal(num_experts, WIDTH, dtype=dtype) / WIDTH**0.5
    x_TD = normal(TOKENS, WIDTH, seed=1, dtype=dtype)
    _, their_gates_TK, their_experts_TK = theirs(x_TD)
    ours = router_with(theirs.weight.data, k, renormalise=norm_topk_prob)(x_TD)
    same_choice(ours.gates_TK, ours.experts_TK, their_gates_TK, their_experts_TK, num_experts, 1e-6)
    assert (ours.gates_TK.sum(-1) < 0.999).any() != norm_topk_prob


@pytest.mark.parametrize(
    ("token_dtype", "router_dtype", "atol"),
    [
        (torch.float32, torch.float32, 1e-6),
        (torch.bfloat16, torch.float32, 2**-9),  # theirs rounds the gates to the tokens' dtype
        (torch.float64, torch.float64, 1e-14),
    ],
)
def test_switch(token_dtype: torch.dtype, router_dtype: torch.dtype, atol: float) -> None:
    num_experts = 16
    config = SwitchTransformersConfig(
        d_model=WIDTH,
        num_experts=num_experts,
        expert_capacity=TOKENS,  # no token is dropped
        router_jitter_noise=0.0,
    )
    theirs = SwitchTransformersTop1Router(config)
    theirs.dtype = router_dtype  # its configuration knows no float64
    weight_ED = normal(num_experts, WIDTH, dtype=router_dtype) / WIDTH**0.5
    theirs.classifier.weight.data = weight_ED
    x_BSD = normal(4, TOKENS // 4, WIDTH, seed=1, dtype=token_dtype)
    their_mask_BSE, their_gates_BS1, their_logits_BSE = theirs(x_BSD)
    ours = router_with(weight_ED, 1, renormalise=False)(x_BSD)
    same(ours.logits_TE, their_logits_BSE, atol=1e-5 if router_dtype == torch.float32 else 1e-13)
    same(ours.experts_TK, their_mask_BSE.argmax(-1, keepdim=True))
    same(their_mask_BSE.sum(-1), torch.ones(4, TOKENS // 4, dtype=torch.int64))
    same(ours.gates_TK.double(), their_gates_BS1.double(), atol=atol)


def deepseek_choice(
    scores_TE: Tensor, bias_E: Tensor, k: int, num_groups: int, groups_kept: int
) -> Tensor:
    """The k best biased scores among the experts of the best groups (DeepSeek-V3, 2024)."""
    biased_TE = scores_TE + bias_E
    grouped_TGN = biased_TE.unflatten(-1, (num_groups, -1))
    group_scores_TG = grouped_TGN.gather(-1, top_k(grouped_TGN, 2)).sum(-1)
    kept_groups_TG = top_k(group_scores_TG, groups_kept)
    kept_TG = torch.zeros_like(group_scores_TG).scatter(-1, kept_groups_TG, 1.0)
    # top_k takes finite scores only; a biased score is above -10 here.
    lowered_TGN = torch.where(kept_TG[..., None] > 0, grouped_TGN, -10.0)
    return top_k(lowered_TGN.flatten(-2), k)


@dtypes
@pytest.mark.parametrize("norm_topk_prob", [True, False])
@pytest.mark.parametrize(("num_groups", "groups_kept"), [(1, 1), (4, 2), (8, 3), (8, 8)])
def test_deepseek_v3(
    num_groups: int, groups_kept: int, norm_topk_prob: bool, dtype: torch.dtype
) -> None:
    num_experts, k, factor = 32, 6, 2.5
    config = DeepseekV3Config(
        hidden_size=WIDTH,
        n_routed_experts=num_experts,
        num_experts_per_tok=k,
        n_group=num_groups,
        topk_group=groups_kept,
        routed_scaling_factor=factor,
        norm_topk_prob=norm_topk_prob,
    )
    theirs = DeepseekV3TopkRouter(config)
    weight_ED = normal(num_experts, WIDTH, dtype=torch.float32) / WIDTH**0.5
    theirs.weight.data = weight_ED
    bias_E = theirs.e_score_correction_bias.copy_(0.2 * normal(num_experts, seed=2))
    x_TD = normal(TOKENS, WIDTH, seed=1, dtype=torch.float32).to(dtype)
    _, their_gates_TK, their_experts_TK = theirs(x_TD)

    scores_TE = sigmoid(dot_scores(x_TD, weight_ED))
    experts_TK = deepseek_choice(scores_TE, bias_E, k, num_groups, groups_kept)
    gates_TK = scores_TE.gather(-1, experts_TK)
    if norm_topk_prob:
        gates_TK = renormalise(scores_TE, experts_TK)
    same_choice(factor * gates_TK, experts_TK, their_gates_TK, their_experts_TK, num_experts, 3e-6)
    # The bias moved the choice but not the gates, and the groups limited it.
    assert not torch.equal(experts_TK.sort(-1).values, top_k(scores_TE, k).sort(-1).values)
    groups_of_each = [len(set(ids)) for ids in (experts_TK // (num_experts // num_groups)).tolist()]
    assert max(groups_of_each) <= groups_kept


def test_the_sigmoid_router_is_deepseek_v3_without_groups_and_bias() -> None:
    config = DeepseekV3Config(
        hidden_size=WIDTH, n_routed_experts=16, num_experts_per_tok=4, n_group=1, topk_group=1,
        routed_scaling_factor=1.0, norm_topk_prob=True,
    )  # fmt: skip
    theirs = DeepseekV3TopkRouter(config)
    theirs.weight.data = normal(16, WIDTH, dtype=torch.float32) / WIDTH**0.5
    x_TD = normal(TOKENS, WIDTH, seed=1, dtype=torch.float32)
    _, their_gates_TK, their_experts_TK = theirs(x_TD)
    router = Router(WIDTH, 16, 4, probability="sigmoid")
    router.load_state_dict({"centroids_ED": theirs.weight.data})
    ours = router(x_TD)
    same_choice(ours.gates_TK, ours.experts_TK, their_gates_TK, their_experts_TK, 16, 1e-6)


@pytest.mark.parametrize("capacity", [1, 3, 9, 64])
def test_the_switch_router_of_transformers(capacity: int) -> None:
    config = SwitchTransformersConfig(
        d_model=16, num_experts=4, expert_capacity=capacity, router_jitter_noise=0.0
    )
    theirs = SwitchTransformersTop1Router(config).eval()
    theirs.classifier.weight.data = normal(4, 16, dtype=torch.float32)
    x_BSD = normal(3, 40, 16, seed=1, dtype=torch.float32)
    dispatched_BSE, gates_BS1, logits_BSE = theirs(x_BSD)
    for sequence in range(3):
        experts_TK = top_k(logits_BSE[sequence], 1)
        kept_TK = within_capacity(experts_TK, gates_BS1[sequence], 4, capacity)
        same(scatter_gates(kept_TK.float(), experts_TK, 4).long(), dispatched_BSE[sequence])


def test_a_switch_layer_of_transformers() -> None:
    config = SwitchTransformersConfig(
        d_model=16, d_ff=24, num_experts=4, expert_capacity=6, dense_act_fn="gelu"
    )
    config.router_jitter_noise, config.dropout_rate = 0.0, 0.0
    torch.manual_seed(0)
    theirs = SwitchTransformersSparseMLP(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    router = Router(16, 4, 1, renormalise=False)
    experts = Experts(4, 16, 24, activation="gelu")
    router.load_state_dict({"centroids_ED": theirs.router.classifier.weight.data})
    with torch.no_grad():
        for e in range(4):
            expert = getattr(theirs.experts, f"expert_{e}")
            experts.in_EHD[e], experts.out_EDF[e] = expert.wi.weight, expert.wo.weight
    layer = MoELayer(router, experts)
    # A factor of 1 for 24 tokens is a capacity of 6.
    router.register_forward_hook(lambda module, x, routing: limit_capacity(routing, 1.0))
    x_SD = normal(24, 16, seed=1, dtype=torch.float32)
    output = layer(x_SD)
    assert (~output.routing.kept_TK).any()
    same(output.y_TD, theirs(x_SD[None])[0], atol=2e-6)
    same(dispatch_kept(x_SD, output.routing, experts), output.y_TD, atol=2e-6)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("capacity", [1, 8, 20])
def test_the_top_2_router_of_nllb(capacity: int, renormalise: bool, padding: bool) -> None:
    config = NllbMoeConfig(
        d_model=16,
        num_experts=4,
        expert_capacity=capacity,
        normalize_router_prob_before_dropping=not renormalise,
        second_expert_policy="all",
    )
    theirs = NllbMoeTop2Router(config).train()
    theirs.classifier.weight.data = normal(4, 16, dtype=torch.float32)
    x_TD = normal(40, 16, seed=1, dtype=torch.float32)
    mask_T = torch.rand(40, generator=generator(2)) < (0.5 if padding else 2)
    _, their_gates_TE, _ = theirs(x_TD, (~mask_T).long() if padding else None)

    router = Router(16, 4, 2)
    router.load_state_dict({"centroids_ED": theirs.classifier.weight.data})
    # A factor that is rounded up to their capacity.
    factor = (capacity - 0.5) * 4 / (2 * int(mask_T.sum()))
    limited = limit_capacity(router(x_TD), factor, renormalise=renormalise, mask_T=mask_T)
    same(scatter_gates(limited.gates_TK, limited.experts_TK, 4), their_gates_TE, atol=1e-6)
