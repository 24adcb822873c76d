"""The MoE layer and the block: equal to published implementations, and well-behaved modules."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    DeepseekV3Config,
    MixtralConfig,
    Qwen2MoeConfig,
    SwitchTransformersConfig,
)
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock
from transformers.models.switch_transformers.modeling_switch_transformers import (
    SwitchTransformersSparseMLP,
)

from moe_tutorial import Router, combine, keep, renormalise, sigmoid, top_k
from moe_tutorial.layer.block import Attention, Block
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import FeedForward, activate
from moe_tutorial.layer.moe import MoELayer

B, S, D, F, E, K = 3, 17, 32, 48, 8, 2


def randomise(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data.copy_(drawn / max(1, parameter.shape[-1]) ** 0.5)


def tokens(dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, S, D, generator=generator, dtype=torch.float64).to(dtype)


def same_outputs_and_gradients(
    ours: nn.Module, theirs: nn.Module, pairs: list[tuple[Tensor, Tensor]]
) -> None:
    """Equal outputs, token gradients, and weight gradients."""
    mine, other = (tokens().requires_grad_() for _ in range(2))
    y, reference = ours(mine), theirs(other)
    y = y if isinstance(y, Tensor) else y.y_TD
    grad_y = tokens(seed=2)
    y.backward(grad_y)
    reference.backward(grad_y)
    assert torch.allclose(y, reference, rtol=1e-6, atol=1e-6)
    assert torch.allclose(mine.grad, other.grad, rtol=1e-6, atol=1e-6)
    for weight, their_weight in pairs:
        assert torch.allclose(weight.grad, their_weight.grad, rtol=1e-6, atol=1e-6)


def load(target: Tensor, source: Tensor) -> None:
    with torch.no_grad():
        target.copy_(source)


def test_mixtral() -> None:
    config = MixtralConfig(
        hidden_size=D, intermediate_size=F, num_local_experts=E, num_experts_per_tok=K
    )
    theirs = MixtralSparseMoeBlock(config).double()
    randomise(theirs)
    ours = MoELayer(Router(D, E, K), Experts(E, D, F)).double()
    load(ours.router.centroids_ED, theirs.gate.weight)
    load(ours.experts.in_EHD, theirs.experts.gate_up_proj)
    load(ours.experts.out_EDF, theirs.experts.down_proj)
    same_outputs_and_gradients(
        ours,
        theirs,
        [
            (ours.router.centroids_ED, theirs.gate.weight),
            (ours.experts.in_EHD, theirs.experts.gate_up_proj),
            (ours.experts.out_EDF, theirs.experts.down_proj),
        ],
    )


@pytest.mark.parametrize("norm_topk_prob", [False, True])
def test_qwen2_moe_with_a_gated_shared_expert(norm_topk_prob: bool) -> None:
    config = Qwen2MoeConfig(
        hidden_size=D,
        moe_intermediate_size=F,
        shared_expert_intermediate_size=40,
        num_experts=E,
        num_experts_per_tok=K,
        norm_topk_prob=norm_topk_prob,
    )
    theirs = Qwen2MoeSparseMoeBlock(config).double()
    randomise(theirs)
    ours = MoELayer(
        Router(D, E, K, renormalise=norm_topk_prob),
        Experts(E, D, F),
        shared=FeedForward(D, 40),
        shared_gate=True,
    ).double()
    shared = theirs.shared_expert
    load(ours.router.centroids_ED, theirs.gate.weight)
    load(ours.experts.in_EHD, theirs.experts.gate_up_proj)
    load(ours.experts.out_EDF, theirs.experts.down_proj)
    load(ours.shared.into.weight, torch.cat([shared.gate_proj.weight, shared.up_proj.weight]))
    load(ours.shared.out.weight, shared.down_proj.weight)
    load(ours.shared_gate.weight, theirs.shared_expert_gate.weight)
    same_outputs_and_gradients(
        ours,
        theirs,
        [
            (ours.router.centroids_ED, theirs.gate.weight),
            (ours.experts.in_EHD, theirs.experts.gate_up_proj),
            (ours.experts.out_EDF, theirs.experts.down_proj),
            (ours.shared.out.weight, shared.down_proj.weight),
            (ours.shared_gate.weight, theirs.shared_expert_gate.weight),
        ],
    )


def test_switch() -> None:
    config = SwitchTransformersConfig(
        d_model=D,
        d_ff=F,
        num_experts=E,
        expert_capacity=B * S,
        router_jitter_noise=0.0,
        dense_act_fn="gelu",
        dropout_rate=0.0,
        router_dtype="float32",
    )
    theirs = SwitchTransformersSparseMLP(config).float()
    randomise(theirs)
    ours = MoELayer(Router(D, E, 1, renormalise=False), Experts(E, D, F, activation="gelu")).float()
    load(ours.router.centroids_ED, theirs.router.classifier.weight)
    experts = [theirs.experts[f"expert_{e}"] for e in range(E)]
    load(ours.experts.in_EHD, torch.stack([e.wi.weight for e in experts]))
    load(ours.experts.out_EDF, torch.stack([e.wo.weight for e in experts]))
    mine, other = (tokens(torch.float32).requires_grad_() for _ in range(2))
    y, reference = ours(mine).y_TD, theirs(other)
    assert torch.allclose(y, reference, rtol=1e-5, atol=1e-6)
    y.square().sum().backward()
    reference.square().sum().backward()
    assert torch.allclose(mine.grad, other.grad, rtol=1e-4, atol=1e-5)
    assert torch.allclose(
        ours.router.centroids_ED.grad, theirs.router.classifier.weight.grad, rtol=1e-4, atol=1e-5
    )
    their_in = torch.stack([e.wi.weight.grad for e in experts])
    assert torch.allclose(ours.experts.in_EHD.grad, their_in, rtol=1e-4, atol=1e-5)


def test_deepseek_v3_by_its_own_rule() -> None:
    config = DeepseekV3Config(
        hidden_size=D,
        moe_intermediate_size=F,
        n_routed_experts=E,
        num_experts_per_tok=K,
        n_group=1,
        topk_group=1,
        n_shared_experts=1,
        routed_scaling_factor=2.5,
        norm_topk_prob=True,
    )
    theirs = DeepseekV3MoE(config).double()
    randomise(theirs)
    bias_E = torch.linspace(-0.2, 0.2, E, dtype=torch.float64)
    theirs.gate.e_score_correction_bias = bias_E
    experts, shared = Experts(E, D, F).double(), FeedForward(D, F).double()
    load(experts.in_EHD, theirs.experts.gate_up_proj)
    load(experts.out_EDF, theirs.experts.down_proj)
    their_shared = theirs.shared_experts
    load(
        shared.into.weight,
        torch.cat([their_shared.gate_proj.weight, their_shared.up_proj.weight]),
    )
    load(shared.out.weight, their_shared.down_proj.weight)

    class ByHand(nn.Module):
        def forward(self, x_BSD: Tensor) -> Tensor:
            # Their router calculates in float32, whatever the model's dtype.
            scores = sigmoid(x_BSD.float() @ theirs.gate.weight.float().T)
            chosen = top_k(scores + bias_E.float(), K)
            gates = 2.5 * renormalise(scores, chosen)
            return experts(x_BSD, chosen, gates.double()) + shared(x_BSD)

    same_outputs_and_gradients(
        ByHand(),
        theirs,
        [
            (experts.in_EHD, theirs.experts.gate_up_proj),
            (experts.out_EDF, theirs.experts.down_proj),
            (shared.out.weight, their_shared.down_proj.weight),
        ],
    )


ROUTERS = [
    {},
    {"selection": "sampled", "temperature": 2.0},
    {"selection": "noisy_top_k"},
    {"scores": "cosine", "scale": 5.0},
    {"probability": "sigmoid"},
    {"renormalise": False},
    {"selection": "sampled", "gates": "tempered", "temperature": 0.5},
]


@pytest.mark.parametrize("options", ROUTERS, ids=str)
@pytest.mark.parametrize("gates_on", ["output", "input"])
def test_every_router_and_both_places_of_the_gates(options: dict, gates_on: str) -> None:
    layer = MoELayer(Router(D, E, K, **options), Experts(E, D, F), gates_on=gates_on).double()
    x = tokens()
    output = layer(x, torch.Generator().manual_seed(4))
    routing = output.routing
    outputs = []
    for k in range(K):
        in_HD, out_DF = (w[routing.experts_TK[..., k]] for w in layer.experts.parameters())
        u = x * routing.gates_TK[..., k, None] if gates_on == "input" else x
        hidden = torch.einsum("bsd,bshd->bsh", u, in_HD)
        outputs.append(torch.einsum("bsf,bsdf->bsd", activate(hidden, "swiglu"), out_DF))
    stacked = torch.stack(outputs, dim=-2)
    gates = torch.ones_like(routing.gates_TK) if gates_on == "input" else routing.gates_TK
    assert torch.allclose(output.y_TD, combine(stacked, gates), rtol=1e-12, atol=1e-12)
    output.y_TD.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_gates_reach_the_router() -> None:
    layer = MoELayer(Router(D, E, 1, renormalise=False), Experts(E, D, F)).double()
    x = tokens()

    def loss(centroids: Tensor) -> Tensor:
        logits = x @ centroids.T
        chosen = layer(x).routing.experts_TK
        gates = keep(torch.softmax(logits, -1), chosen)
        return layer.experts(x, chosen, gates).sum()

    layer(x).y_TD.sum().backward()
    (expected,) = torch.autograd.grad(loss(layer.router.centroids_ED), layer.router.centroids_ED)
    assert torch.allclose(layer.router.centroids_ED.grad, expected, rtol=1e-10, atol=1e-12)
    assert expected.abs().max() > 0


def small_block() -> Block:
    torch.manual_seed(0)
    layer = MoELayer(Router(D, E, K), Experts(E, D, F), shared=FeedForward(D, 16))
    return Block(Attention(D, 4), layer)


def test_state_dict_deepcopy_and_half() -> None:
    block, x = small_block(), tokens(torch.float32)
    other = small_block()
    randomise(other)
    other.load_state_dict(block.state_dict())
    assert torch.equal(other(x)[0], block(x)[0])
    assert torch.equal(copy.deepcopy(block)(x)[0], block(x)[0])
    for dtype in (torch.float16, torch.bfloat16):
        y, routing = copy.deepcopy(block).to(dtype)(x.to(dtype))
        assert y.dtype == dtype
        assert routing.gates_TK.dtype == torch.float32


def test_autocast_runs_experts_in_half_and_the_router_in_float32() -> None:
    block, x = small_block(), tokens(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = block.layer(x)
    assert output.y_TD.dtype == torch.bfloat16
    assert torch.equal(output.routing.logits_TE, block.layer(x).routing.logits_TE)
    assert torch.allclose(output.y_TD.float(), block.layer(x).y_TD, rtol=0.05, atol=0.02)


def test_compile_gives_the_same_and_breaks_the_graph_once() -> None:
    layer, x = small_block().layer, tokens(torch.float32)
    explained = torch._dynamo.explain(layer)(x)
    assert explained.graph_break_count == 1
    compiled = torch.compile(layer, backend="aot_eager")
    assert torch.allclose(compiled(x).y_TD, layer(x).y_TD, rtol=1e-6, atol=1e-6)


def test_the_residual_goes_around_the_layer_alone() -> None:
    block, x = small_block(), tokens(torch.float32)
    h = x + block.attention(block.attention_norm(x))
    expected = h + block.layer(block.layer_norm(h)).y_TD
    assert torch.equal(block(x)[0], expected)
    dense = Block(Attention(D, 4), FeedForward(D, F))
    y, routing = dense(x)
    assert routing is None
    assert y.shape == x.shape


def test_no_token_sees_a_later_one() -> None:
    block, x = small_block(), tokens(torch.float32)
    changed = x.clone()
    changed[:, -1] += 1
    before, after = block(x)[0], block(changed)[0]
    assert torch.allclose(before[:, :-1], after[:, :-1], rtol=0, atol=1e-6)
    assert not torch.allclose(before[:, -1], after[:, -1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MoELayer(Router(8, 4, 2), Experts(5, 8, 8)), "experts must be 4 of width 8"),
        (
            lambda: MoELayer(Router(8, 4, 2), Experts(4, 8, 8), shared=FeedForward(9, 8)),
            "shared must have width 8 as router, got 9",
        ),
        (
            lambda: MoELayer(Router(8, 4, 2), Experts(4, 8, 8), shared_gate=True),
            "shared_gate=True needs a shared expert",
        ),
        (
            lambda: MoELayer(Router(8, 4, 2), Experts(4, 8, 8), gates_on="both"),
            "gates_on must be one of 'output', 'input', got 'both'",
        ),
        (lambda: Experts(4, 8, 8, activation="relu"), "activation must be one of"),
        (lambda: Experts(0, 8, 8), "num_experts must be at least 1, got 0"),
        (lambda: FeedForward(8, -1), "hidden_width must be at least 1, got -1"),
        (lambda: Attention(10, 3), "num_heads must divide model_width 10, got 3"),
        (lambda: Block(Attention(8, 2), FeedForward(9, 8)), "layer must have width 8 as attention"),
        (
            lambda: Block(FeedForward(8, 8), FeedForward(8, 8)),
            "attention must be an Attention, got",
        ),
        (lambda: Block(Attention(8, 2), nn.Linear(8, 8)), "layer must be a FeedForward or a MoE"),
        (lambda: MoELayer(nn.Linear(8, 4), Experts(4, 8, 8)), "router must be a Router, got Lin"),
        (lambda: MoELayer(Router(8, 4, 2), 3), "experts must be an Experts, got int"),
        (
            lambda: MoELayer(Router(8, 4, 2), Experts(4, 8, 8), shared=nn.Linear(8, 8)),
            "shared must be a FeedForward, got Linear",
        ),
    ],
)
def test_bad_input_is_refused_by_name(make: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("bias", [False, True])
def test_an_expert_is_a_feed_forward_network(activation: str, bias: bool) -> None:
    experts = Experts(1, D, F, activation=activation, bias=bias).double()
    dense = FeedForward(D, F, activation=activation, bias=bias).double()
    load(experts.in_EHD, dense.into.weight[None])
    load(experts.out_EDF, dense.out.weight[None])
    if bias:
        load(experts.in_bias_EH, dense.into.bias[None])
        load(experts.out_bias_ED, dense.out.bias[None])
    x = tokens()
    layer = MoELayer(Router(D, 1, 1).double(), experts)
    assert torch.allclose(layer(x).y_TD, dense(x), rtol=1e-12, atol=1e-12)
