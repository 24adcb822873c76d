"""Every router of transformers, and the zoo's router beside it on the same random weights."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from moe_tutorial import Router, RouterConfig, scatter_gates
from moe_tutorial.models import zoo
from moe_tutorial.models.families import FAMILIES
from tests.oracles import generator, normal, same
from tests.zoo_cases import EXPERTS, WIDTH, K, block_of, given_to_experts

# Not every block calls its experts with ids and weights.
SPECIAL = {
    "gemma4", "diffusion_gemma", "diffusion_gemma:encoder", "llama4", "jetmoe", "jetmoe:moa",
    "doge", "ernie4_5_vl_moe", "switch_transformers", "nllb_moe", "zaya", "zaya:eda",
    "deepseek_v4:hash",
}  # fmt: skip
# These blocks multiply the experts' sum by something: the weights as applied at last are larger.
AFTERWARDS = {
    "beam": 1.75, "minimax_m3_vl": 1.75, "step3p7": 1.75, "laguna": 1.75,
    "openai_privacy_filter": 4.0,
}  # fmt: skip
FLAGS: list[dict[str, Any]] = [
    {"norm_topk_prob": True, "use_expert_bias": True, "num_shared_experts": 2},
    {"norm_topk_prob": False, "use_expert_bias": False, "n_group": 1, "topk_group": 1},
    {"n_group": 8, "topk_group": 5, "scoring_func": "sqrtsoftplus", "num_experts_per_tok": 3},
]


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
    if name.startswith("cohere2_moe") and block.num_shared_experts:  # (routed + shared) / 2
        weights_TK = weights_TK / 2
    same_decision(routing.experts_TK, routing.gates_TK, ids_TK, weights_TK, router.num_experts)


@pytest.mark.parametrize("name", ["gemma4", "diffusion_gemma", "diffusion_gemma:encoder"])
@pytest.mark.parametrize("case", range(3))
def test_gemma(name: str, case: int) -> None:
    theirs, x_BSD = block_of(name, case), tokens(case)
    _, their_gates_TK, their_ids_TK = theirs(x_BSD.flatten(0, 1))
    routing = zoo.from_transformers(theirs)(x_BSD)
    same_decision(routing.experts_TK, routing.gates_TK, their_ids_TK, their_gates_TK)
    assert (their_gates_TK.sum(-1) - 1).abs().max() > 0.05  # the scales are not 1


@pytest.mark.parametrize("k", [1, 3])
def test_llama_4(k: int) -> None:
    block, x_BSD = block_of("llama4", k, num_experts_per_tok=k), tokens(k)
    their_gates_TE, _ = block.router(x_BSD.flatten(0, 1))
    routing = zoo.from_transformers(block)(x_BSD)
    dense_TE = scatter_gates(routing.gates_TK, routing.experts_TK, EXPERTS).flatten(0, 1)
    same(dense_TE, their_gates_TE, atol=1e-6)


@pytest.mark.parametrize("name", ["jetmoe", "jetmoe:moa"])
@pytest.mark.parametrize("case", range(3))
def test_jetmoe(name: str, case: int) -> None:
    block, x_BSD = block_of(name, case), tokens(case)
    order_R, _, gates_R, sizes_E, _ = block.router(x_BSD.flatten(0, 1))
    ids_R = torch.repeat_interleave(torch.arange(EXPERTS), torch.tensor(sizes_E))
    back_R = order_R.argsort()
    routing = zoo.from_transformers(block)(x_BSD)
    same_decision(
        routing.experts_TK, routing.gates_TK, ids_R[back_R].view(-1, K), gates_R[back_R].view(-1, K)
    )


@pytest.mark.parametrize("score", ["sqrtsoftplus", "sigmoid"])
def test_the_hash_layers_of_deepseek_v4(score: str) -> None:
    block, x_BSD = block_of("deepseek_v4:hash", scoring_func=score), tokens(0)
    token_ids_BS = torch.randint(50, (3, 40), generator=generator(1))
    ids_TK, weights_TK = given_to_experts(block, x_BSD, input_ids=token_ids_BS)
    router = zoo.from_transformers(block)
    routing = router(x_BSD, token_ids_T=token_ids_BS)
    same_decision(routing.experts_TK, routing.gates_TK, ids_TK, weights_TK)
    # Equal ids go to equal experts, wherever they stand.
    first = token_ids_BS == token_ids_BS[0, 0]
    assert (routing.experts_TK[first] == routing.experts_TK[0, 0]).all()
    with pytest.raises(ValueError, match="token_ids_T must be given, since a hash router"):
        router(x_BSD)
    with pytest.raises(ValueError, match="token_ids_T must hold ids from 0 to 49, got 50"):
        router(x_BSD, token_ids_T=torch.full((3, 40), 50))


@pytest.mark.parametrize("name", ["zaya", "zaya:eda"])
@pytest.mark.parametrize("with_state", [False, True])
def test_zaya(name: str, with_state: bool) -> None:
    block, x_BSD = block_of(name), tokens(0)
    block.gate.balancing_biases.mul_(0.2)
    block.gate.balancing_biases[-1] = 0.1
    state_BSH = normal(3, 40, 12, seed=5, dtype=torch.float32) if with_state else None
    _, their_gates_TK, their_ids_TK, their_state = block.gate(x_BSD, router_states=state_BSH)
    router = zoo.from_transformers(block)
    if name == "zaya" and with_state:  # the first layer leaves out what it is given
        with pytest.raises(ValueError, match="state_TH must be None for a router of the first"):
            router(x_BSD, state_TH=state_BSH)
        return
    routing = router(x_BSD, state_TH=state_BSH)
    same(routing.state_TH, their_state, atol=1e-6)
    # Trap 13: theirs calls the skip expert 0, so that a count of ids is not the load.
    skipped_TK = routing.experts_TK.flatten(0, 1) == EXPERTS
    assert 0 < skipped_TK.sum() < len(skipped_TK)
    same(routing.experts_TK.flatten(0, 1).masked_fill(skipped_TK, 0), their_ids_TK)
    same(routing.gates_TK.flatten(0, 1), their_gates_TK, atol=1e-6)
    assert (their_gates_TK[skipped_TK] == 0).all()


def test_the_two_routers_of_ernie_vl() -> None:
    block, x_BSD = block_of("ernie4_5_vl_moe"), tokens(0)
    is_vision_BS = torch.rand(3, 40, generator=generator(1)) < 0.4
    given: dict[str, Any] = {}
    for part in ("text_moe", "vision_moe"):
        experts = getattr(block, part).experts
        experts.register_forward_pre_hook(
            lambda _, args, part=part: given.__setitem__(part, args[1:])
        )
    block(x_BSD, moe_mm_token_type_ids=is_vision_BS.int())
    routing = zoo.from_transformers(block)(x_BSD, is_vision_T=is_vision_BS)
    for part, mask, offset in (
        ("text_moe", ~is_vision_BS, 0), ("vision_moe", is_vision_BS, EXPERTS),
    ):  # fmt: skip
        ids_TK, gates_TK = given[part]
        same_decision(routing.experts_TK[mask] - offset, routing.gates_TK[mask], ids_TK, gates_TK)
    assert routing.logits_TE.shape == (3, 40, 2 * EXPERTS)
    text_only = zoo.from_transformers(block)(x_BSD)
    assert (text_only.experts_TK < EXPERTS).all()


def test_doge_hands_the_scores_of_a_token_to_others() -> None:
    block = block_of("doge")
    router = zoo.from_transformers(block)
    found: list[Tensor] = []
    block.down_embed.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    for shape in ((1, 1), (3, 40), (1, 7)):
        x_BSD = tokens(0, *shape)
        _, logits = block(x_BSD)
        first, second = logits
        routing = router(x_BSD.flatten(0, 1))
        ids_TK = found.pop()
        n = first.shape[-1]
        scores_TK = first.gather(-1, ids_TK // n) + second.gather(-1, ids_TK % n)
        same_decision(
            routing.experts_TK, routing.gates_TK, ids_TK, torch.softmax(scores_TK, -1), n * n
        )
    # Trap 3: a later token changes what an earlier one gets. The keys of each token alone do not.
    x_TD = tokens(1, 6)
    other_TD = torch.cat([x_TD[:5], tokens(2, 1)])
    assert not torch.equal(router(x_TD).experts_TK[4], router(other_TD).experts_TK[4])
    router.scorer.mixed = False
    same(router(x_TD).experts_TK[:5], router(other_TD).experts_TK[:5])
    # And then it is an ordinary router, whose centroids are sums of two keys.
    first, second = router.scorer.keys_ND.chunk(2)
    plain = Router(WIDTH, 16, RouterConfig(K))
    plain.centroids_ED.data.copy_((first[:, None] + second[None]).flatten(0, 1))
    same(plain(x_TD).experts_TK, router(x_TD).experts_TK)


@pytest.mark.parametrize("capacity", [1, 3, 40])
def test_switch_has_a_capacity_for_each_sequence(capacity: int) -> None:
    block, x_BSD = block_of("switch_transformers", expert_capacity=capacity), tokens(0)
    kept_BSE, gates_BS1, _ = block.router(x_BSD)
    routing = zoo.from_transformers(block)(x_BSD)
    same(scatter_gates(routing.kept_TK.float(), routing.experts_TK, EXPERTS).long(), kept_BSE)
    same(routing.gates_TK, gates_BS1 * kept_BSE.sum(-1, keepdim=True), atol=1e-6)
    # Trap 14: the capacity is not one of the batch.
    if capacity == 3:
        assert kept_BSE.flatten(0, 1).sum(0).max() > capacity


@pytest.mark.parametrize(("training", "share"), [(True, 1.0), (False, 0.1), (False, -1.0)])
@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=3)))
def test_nllb(training: bool, share: float, flags: tuple[bool, bool, bool]) -> None:
    before, surest, padded = flags
    block = block_of(
        "nllb_moe", expert_capacity=9, batch_prioritized_routing=surest,
        normalize_router_prob_before_dropping=before, moe_eval_capacity_token_fraction=share,
    )  # fmt: skip
    block.train(training)
    if padded:
        block.router.expert_capacity = None  # what the router knows and its configuration refuses
    x_TD = tokens(0, 120)
    mask_T = torch.rand(120, generator=generator(2)) < 0.7 if padded else None
    router = zoo.from_transformers(block)
    _, their_gates_TE, _ = block.router(x_TD, None if mask_T is None else (~mask_T).long())
    routing = router(x_TD, mask_T=mask_T)
    same(scatter_gates(routing.gates_TK, routing.experts_TK, EXPERTS), their_gates_TE, atol=1e-6)
    assert (~routing.kept_TK).any()
