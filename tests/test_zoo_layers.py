"""Whole layers of transformers and of the book, the traps, and what the zoo refuses."""

from typing import Any

import pytest
import torch
from torch import nn

from moe_tutorial import Experts, MoELayer, Router, RouterConfig
from moe_tutorial.models import zoo
from moe_tutorial.models.families import FAMILIES
from tests.oracles import normal, same
from tests.zoo_cases import EXPERTS, WIDTH, block_of

# Why a block is no MoELayer: the error names the class and the field.
REFUSED = {
    "axk1": r"AXK1MoE.post_mlp_layernorm norms",
    "glm5_next": r"Glm5NextTextExperts.(swiglu_)?limit limits",
    "hy_v4": r"HYV4Experts.(swiglu_)?limit limits",
    "nemotron_h": r"NemotronHExperts.gate_up_proj is not there",
    "minimax_m3_vl": r"MiniMaxM3VLExperts.swiglu_alpha is a part of another activation",
    "deepseek_v4": r"DeepseekV4Experts.limit limits",
    "deepseek_v4:hash": r"DeepseekV4Experts.limit limits",
    "inkling2": r"Inkling2Experts.act_fn must be a SiLU, got Inkling2SoftcappedSwiGLU",
    "muse_spark": r"MuseSparkMoE.pre_expert_proj projects",
    "inkling": r"InklingMoE weighs its shared experts by gates",
    "gpt_oss": r"GptOssExperts.gate_up_proj_bias is a part of another activation",
    "openai_privacy_filter": r"OpenAIPrivacyFilterExperts.gate_up_proj_bias is a part",
    "zaya:eda": r"ZayaSparseMoeBlock.gate.use_eda hands on a state",
    "gemma4": r"Gemma4TextRouter is a router alone",
    "diffusion_gemma": r"DiffusionGemmaTextRouter is a router alone",
    "diffusion_gemma:encoder": r"DiffusionGemmaTextRouter is a router alone",
    "jetmoe": r"JetMoeMoE.bias is added to the sum",
    "jetmoe:moa": r"JetMoeMoA.bias is added to the sum",
    "ernie4_5_vl_moe": r"Ernie4_5_VLMoeMoeBlock has two sets of experts",
    "nllb_moe": r"NllbMoeSparseMLP runs experts 0 and 1 only",
    "doge": r"DogeCDMoE is a router alone",
}
LAYERS = [name for name in FAMILIES if name not in REFUSED]
ERF = {"dense_act_fn": "gelu", "hidden_act": "silu", "hidden_activation": "silu"}


def tokens(seed: int) -> torch.Tensor:
    return normal(2, 30, WIDTH, seed=seed, dtype=torch.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_with_ordinary_experts(name: str) -> None:
    block = block_of(name, 1, **ERF, num_shared_experts=2)
    layer, x_BSD = MoELayer.from_transformers(block), tokens(1)
    with torch.no_grad():
        theirs = block(x_BSD.clone())
        y_BSD = theirs[0] if isinstance(theirs, tuple) else theirs
        ours = layer(x_BSD)
    same(ours.y_TD, y_BSD.view(x_BSD.shape), atol=1e-5)
    assert y_BSD.abs().mean() > 0.1
    # A copy of the weights: what happens to theirs does not reach ours.
    for parameter in block.parameters():
        parameter.data.zero_()
    same(layer(x_BSD).y_TD.detach(), ours.y_TD)


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_are_more_are_refused_by_class_and_field(name: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[name]):
        MoELayer.from_transformers(block_of(name, **ERF))


def test_another_activation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"MixtralExperts.act_fn must be a SiLU, got GELU"):
        MoELayer.from_transformers(block_of("mixtral", hidden_act="gelu"))
    with pytest.raises(
        ValueError, match=r"SwitchTransformersDenseActDense.act must be an exact GE"
    ):
        MoELayer.from_transformers(block_of("switch_transformers"))


def test_what_is_unknown_is_refused_by_class_and_field() -> None:
    class OddTopKRouter(nn.Linear):
        pass

    class OddMoE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = OddTopKRouter(4, 3)

    with pytest.raises(ValueError, match=r"OddMoE.gate is a OddTopKRouter that the zoo knows|OddM"):
        zoo.from_transformers(OddMoE())
    with pytest.raises(ValueError, match="OddTopKRouter is none that the zoo knows"):
        zoo.from_transformers(OddTopKRouter(4, 3))
    with pytest.raises(TypeError, match="module must be a Module, got int"):
        zoo.from_transformers(3)  # type: ignore[arg-type]
    block: Any = block_of("afmoe")
    with pytest.raises(ValueError, match="AfmoeTokenChoiceRouter is not complete without expert_b"):
        zoo.from_transformers(block.router)
    for name, field in (("beam", "routed_scaling_factor"), ("minimax_m2", "e_score_correction_bi")):
        block = block_of(name)
        with pytest.raises(ValueError, match=f"is not complete without {field}"):
            zoo.from_transformers(block.gate)
    block = block_of("deepseek_v2")
    block.gate.topk_method = "random"
    with pytest.raises(ValueError, match=r"DeepseekV2TopkRouter.topk_method is 'random'"):
        zoo.from_transformers(block)
    block = block_of("inkling2")
    block.gate.score_fn = nn.Tanh()
    with pytest.raises(
        ValueError, match=r"Inkling2TopKRouter.score_fn must be one of .*, got Tanh"
    ):
        zoo.from_transformers(block)
    block = block_of("nllb_moe", second_expert_policy="sampling")
    with pytest.raises(ValueError, match=r"NllbMoeTop2Router.second_expert_policy must be 'all'"):
        zoo.from_transformers(block)
    with pytest.raises(ValueError, match="VitPoseBackboneMoeMLP has no router"):
        zoo.from_transformers(type("VitPoseBackboneMoeMLP", (nn.Module,), {})())
    with pytest.raises(ValueError, match="name must be one of FAMILIES, got 'gpt2'"):
        zoo.default_block("gpt2")


@pytest.mark.parametrize("name", ["minimax_m3_vl", "openai_privacy_filter"])
def test_gates_are_those_applied_at_last_where_experts_are_not_ordinary(name: str) -> None:
    block: Any = block_of(name)
    x_BSD = tokens(0)
    theirs = block(x_BSD)
    y_TD = (theirs[0] if isinstance(theirs, tuple) else theirs).flatten(0, 1)
    if hasattr(block, "shared_experts"):
        y_TD = y_TD - block.shared_experts(x_BSD.flatten(0, 1))
    routing = zoo.from_transformers(block)(x_BSD.flatten(0, 1))
    same(block.experts(x_BSD.flatten(0, 1), routing.experts_TK, routing.gates_TK), y_TD, atol=1e-5)


def test_null_experts_of_a_layer() -> None:
    for null in ("identity", "skip"):
        config = RouterConfig(3, null_experts=2, null=null)  # type: ignore[arg-type]
        layer = MoELayer(Router(8, 6, config), Experts(4, 8, 8)).double()
        x_TD = normal(40, 8)
        output = layer(x_TD)
        expected = torch.zeros(40, 8).double()
        for t, k in torch.cartesian_prod(torch.arange(40), torch.arange(3)).tolist():
            e, gate = output.routing.experts_TK[t, k], output.routing.gates_TK[t, k]
            if e < 4:
                expected[t] += layer.experts(x_TD[t : t + 1], e.view(1, 1), gate.view(1, 1))[0]
            elif null == "identity":
                expected[t] += gate * x_TD[t]
        same(output.y_TD.detach(), expected.detach(), atol=1e-12)
    with pytest.raises(ValueError, match="experts must be 4 of width 8 as in router, got 6"):
        MoELayer(Router(8, 6, config), Experts(6, 8, 8))
    with pytest.raises(ValueError, match="gates_on='input' needs a router without null experts"):
        MoELayer(Router(8, 6, config), Experts(4, 8, 8), gates_on="input")


def test_traps_of_the_gates() -> None:
    x_BSD = tokens(0)
    # 6. norm_topk_prob changes nothing in DeepSeek-V2, DeepSeek-V4 and Cohere2 under a softmax.
    for name in ("deepseek_v2", "deepseek_v4", "cohere2_moe"):
        recipes = [zoo.recipe_of(block_of(name, norm_topk_prob=flag)) for flag in (False, True)]
        assert recipes[0] == recipes[1], name
    # 7. The router's own output is not the gate applied.
    block: Any = block_of("laguna")
    _, alone_TK, _ = block.gate(x_BSD.flatten(0, 1))
    same(
        zoo.from_transformers(block)(x_BSD).gates_TK.sum(-1).flatten(),
        1.75 * alone_TK.sum(-1), atol=1e-6,
    )  # fmt: skip
    # 9. Kolibri's bias stands on logits, and no gate sees it.
    assert zoo.ROUTERS["kolibri1"].config.choice_on == "logits"
    # 10. PhiMoE takes two experts whatever is asked for, and the gates do not sum to 1.
    router = zoo.from_transformers(block_of("phimoe", num_experts_per_tok=5))
    sums_T = router(normal(4000, WIDTH, dtype=torch.float32)).gates_TK.sum(-1)
    assert router.config.k == 2
    assert sums_T.max() == 2
    assert sums_T.min() < 0.9
    # 11. Inkling's gates sum to the scale only with those of the shared experts.
    block = block_of("inkling")
    routing = zoo.from_transformers(block)(x_BSD)
    scale = block.gate.route_scale * block.gate.global_scale.item()
    both_T = routing.gates_TK.sum(-1) + routing.shared_gates_TS.sum(-1)
    same(both_T, torch.full((2, 30), scale), atol=1e-5)
    assert (routing.gates_TK.sum(-1).abs() < abs(scale)).all()
    same(routing.shared_gates_TS.flatten(0, 1), block.gate(x_BSD)[3], atol=1e-6)
    # 18. DBRX's normalise is the order of a norm.
    block = block_of("dbrx", moe_normalize_expert_weights=2.0)
    gates_TK = zoo.from_transformers(block)(x_BSD).gates_TK
    same(gates_TK.pow(2).sum(-1), torch.ones(2, 30), atol=1e-6)
    with pytest.raises(RuntimeError, match="runs in evaluation only"):
        router.train()(x_BSD)


def test_traps_of_the_choice() -> None:
    # 4. AXK2 fills masked groups with 0, which beats scores that a bias made negative.
    block: Any = block_of("axk2")
    block.gate.e_score_correction_bias.fill_(-3.0)
    x_TD = tokens(0).flatten(0, 1)
    _, _, ids_TK = block.gate(x_TD)
    config = zoo.recipe_of(block).config
    assert config.groups is not None
    kept = zoo.from_transformers(block_with_minus_infinity(block))(x_TD).experts_TK
    inside = [set(row) for row in (kept // (EXPERTS // config.groups.number)).tolist()]
    theirs = (ids_TK // (EXPERTS // config.groups.number)).tolist()
    assert all(not set(row) & best for row, best in zip(theirs, inside, strict=True))
    # 5. DeepSeek-V3 takes masked experts where too few are left; a configuration like that is
    # refused here.
    block = block_of("deepseek_v3", n_group=8, topk_group=1)
    block.gate(x_TD)
    with pytest.raises(ValueError, match="k must be at most the 2 experts of the groups"):
        zoo.from_transformers(block)
    # 17. LongCat's router_bias makes a bias that is never used.
    block = block_of("longcat_flash")
    assert block.router.classifier.bias is not None
    before = block.router(x_TD)[1]
    block.router.classifier.bias.data += 5
    same(block.router(x_TD)[1], before)
    assert not zoo.recipe_of(block).logit_bias
    # 20. A sigmoid of float32 is 1 from about 17 up, where logits still differ.
    scores_TE = torch.tensor([[17.0, 18.0, 19.0]])
    same(torch.sigmoid(scores_TE), torch.ones(1, 3))
    # 2. NLLB in evaluation writes over the capacity that it was given.
    block = block_of("nllb_moe", expert_capacity=7, moe_eval_capacity_token_fraction=0.5)
    block.router(x_TD)
    assert block.router.expert_capacity == 30
    # 12. Gemma 4's first output are probabilities.
    block = block_of("gemma4")
    same(block(x_TD)[0].sum(-1), torch.ones(60), atol=1e-5)
    # 21. One default configuration builds no block.
    family = FAMILIES["qwen3_omni_moe:talker"]
    with pytest.raises(AttributeError, match="shared_expert_intermediate_size"):
        zoo.made(family._replace(changes=None))
    # 15. Jitter is written into the tokens, which experts then see.
    block = block_of("mixtral", router_jitter_noise=0.1)
    x_BSD = tokens(0)
    changed = x_BSD.clone()
    block.train()(changed)
    assert not torch.equal(changed, x_BSD)


def block_with_minus_infinity(block: Any) -> nn.Module:
    """AXK2's block with DeepSeek-V3's router around the same weights."""
    other: Any = block_of("deepseek_v3")
    other.gate.weight.data.copy_(block.gate.weight)
    other.gate.e_score_correction_bias.copy_(block.gate.e_score_correction_bias)
    module: nn.Module = other
    return module


def test_nllb_runs_two_experts_whatever_was_chosen() -> None:
    block: Any = block_of("nllb_moe")
    ran: set[str] = set()
    for name, expert in block.experts.items():
        if name.startswith("expert_"):
            expert.register_forward_pre_hook(lambda *_, name=name: ran.add(name))
    block(tokens(0))
    assert ran == {"expert_0", "expert_1"}
