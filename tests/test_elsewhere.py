"""Routers of other programs against their formulas, by brute force."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_tutorial import Groups, RouterConfig, cosine_scores, route, softmax
from moe_tutorial.models.compositions import ScoredRouter
from moe_tutorial.models.elsewhere import (
    ELSEWHERE,
    CosineScorer,
    relu_gates,
    sinkhorn,
    top_1_then_drawn,
    top_p_gates,
)
from tests.oracles import ALPHA, generator, normal, same, softmax_of


@given(st.integers(0, 2**31), st.sampled_from([(4, 2), (6, 3), (6, 2), (4, 4)]))
def test_megatron_adds_up_as_many_as_a_group_can_give(seed: int, sizes: tuple[int, int]) -> None:
    k, kept = sizes
    logits_TE, bias_E = normal(3, 16, seed=seed), normal(16, seed=seed + 1)
    config = RouterConfig(k, "sigmoid", groups=Groups(4, kept, k // kept), epsilon=1e-20)
    routing = route(logits_TE, config, bias_E=bias_E)
    scores_TE = torch.sigmoid(logits_TE) + bias_E
    for row, experts in zip(scores_TE.tolist(), routing.experts_TK.tolist(), strict=True):
        of_group = [sorted(row[4 * g : 4 * g + 4])[-(k // kept) :] for g in range(4)]
        best = max(itertools.combinations(range(4), kept), key=lambda it: sum(
            sum(of_group[g]) for g in it))  # fmt: skip
        inside = [e for e in range(16) if e // 4 in best]
        assert set(experts) == set(sorted(inside, key=lambda e: -row[e])[:k])


def test_megatron_is_deepseek_only_where_k_is_twice_the_groups() -> None:
    logits_TE = normal(500, 16)
    for k, equal in ((4, True), (6, False)):
        megatron = RouterConfig(k, "sigmoid", groups=Groups(4, 2, k // 2))
        deepseek = replace(megatron, groups=Groups(4, 2))
        chosen = [route(logits_TE, it).experts_TK.sort(-1).values for it in (megatron, deepseek)]
        assert torch.equal(*chosen) is equal


def test_torchtitan_and_sigma_moe_are_configurations() -> None:
    logits_TE, bias_E = normal(40, 8), normal(8, seed=1)
    scores_TE = torch.sigmoid(logits_TE)
    config = replace(ELSEWHERE["torchtitan"].config, k=3)
    _, ids_TK = torch.topk(scores_TE + bias_E, 3)  # torchtitan's lines
    routing = route(logits_TE, config, bias_E=bias_E)
    same(routing.experts_TK, ids_TK)
    same(routing.gates_TK, scores_TE.gather(1, ids_TK))
    gates_TK, ids_TK = torch.sigmoid(logits_TE).topk(3)  # sigma-MoE's
    routing = route(logits_TE, replace(ELSEWHERE["sigma-MoE"].config, k=3))
    same(routing.experts_TK, ids_TK)
    same(routing.gates_TK, gates_TK)
    for recipe in ELSEWHERE.values():
        assert recipe.router(8).config == recipe.config


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 5))
def test_sinkhorn_gives_every_expert_its_share(seed: int, tokens: int, experts: int) -> None:
    logits_TE = 2 * normal(tokens, experts, seed=seed)
    shares_TE = sinkhorn(logits_TE, 1e-10)
    same(shares_TE.sum(1), torch.full((tokens,), 1 / tokens).double(), atol=1e-8)
    same(shares_TE.sum(0), torch.full((experts,), 1 / experts).double(), atol=1e-6)
    # It is e^l up to a factor of each row and one of each column.
    rest_TE = shares_TE.log() - logits_TE
    centred_TE = rest_TE - rest_TE.mean(0) - rest_TE.mean(1, keepdim=True) + rest_TE.mean()
    assert centred_TE.abs().max() < 1e-9


def test_sinkhorn_chooses_otherwise_than_evaluation() -> None:
    logits_TE = normal(300, 4) + torch.tensor([3.0, 0, 0, 0]).double()
    balanced = sinkhorn(logits_TE).argmax(-1).bincount(minlength=4)
    assert logits_TE.argmax(-1).bincount(minlength=4)[0] > 250
    assert balanced.max() < 110


@given(st.integers(0, 2**31), st.floats(0.05, 1.0))
def test_top_p_takes_the_fewest(seed: int, p: float) -> None:
    shares_TE = softmax(2 * normal(5, 6, seed=seed))
    for row, gates in zip(shares_TE.tolist(), top_p_gates(shares_TE, p).tolist(), strict=True):
        chosen = {e for e, gate in enumerate(gates) if gate}
        assert all(gates[e] == row[e] for e in chosen)
        fewest = next(
            n for n in range(1, 7) if n == 6 or sum(sorted(row, reverse=True)[:n]) >= p - 1e-12
        )
        assert abs(len(chosen) - fewest) <= (abs(p - 1) < 1e-9)
        assert chosen == set(sorted(range(6), key=lambda e: -row[e])[: len(chosen)])


def test_relu_gates_have_no_k() -> None:
    logits_TE = torch.tensor([[1.5, -2.0, 0.25], [-1.0, -1, -1]]).double()
    same(relu_gates(logits_TE), [[1.5, 0.0, 0.25], [0.0, 0, 0]])


def test_the_cosine_router_of_tutel() -> None:
    scorer = CosineScorer(8, 5, width=3, start=0.5).double()
    x_TD = normal(20, 8)
    projected = x_TD @ scorer.project.weight.T + scorer.project.bias
    cosines = torch.nn.functional.cosine_similarity(
        projected[:, None], scorer.centroids_EP[None], dim=-1
    )
    same(scorer(x_TD), 2 * cosines, atol=1e-6)
    scorer.log_scale.data.fill_(9.0)
    same(scorer(x_TD), 100 * cosines, atol=1e-5)
    router = ScoredRouter(scorer, 8, 5, RouterConfig(2))
    same(router(x_TD).experts_TK, cosine_scores(projected, scorer.centroids_EP).topk(2).indices)


def test_the_second_expert_of_deepspeed_is_a_draw_from_the_rest() -> None:
    logits = [1.0, 0.5, 0.0, -1.0]
    draws = 20000
    experts_TK = top_1_then_drawn(torch.tensor([logits]).expand(draws, 4), generator(0))
    assert (experts_TK[:, 0] == 0).all()
    counts = Counter(experts_TK[:, 1].tolist())
    for e, share in enumerate(softmax_of(logits[1:]), start=1):
        deviation = math.sqrt(draws * share * (1 - share))
        assert abs(counts[e] - draws * share) < 5.5 * deviation  # rarer than ALPHA
    assert ALPHA > 4e-8


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="p must be at most 1, got 2"):
        top_p_gates(torch.ones(1, 1), 2)
    with pytest.raises(ValueError, match="must sum to 1"):
        top_p_gates(torch.ones(1, 2), 0.5)
    with pytest.raises(ValueError, match="k must be between 1 and the number of experts"):
        top_1_then_drawn(torch.zeros(2, 1))
    with pytest.raises(ValueError, match="tolerance must be positive"):
        sinkhorn(torch.zeros(2, 2), 0.0)
    with pytest.raises(TypeError, match="scorer must be a Module"):
        ScoredRouter(3, 4, 4, RouterConfig(1))  # type: ignore[arg-type]
