"""Balance: what each number reads, what others compute, and the traps that public code fell into.

A test of a trap has the wrong way inside it, and shows that the wrong way fails where ours holds.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func as mixtral_loss
from transformers.models.switch_transformers.modeling_switch_transformers import (
    load_balancing_loss_func as their_switch_loss,
)
from transformers.models.switch_transformers.modeling_switch_transformers import (
    router_z_loss_func as their_z_loss,
)

from moe_tutorial import (
    Router,
    dot_scores,
    expert_load,
    gshard_loss,
    importance,
    keep,
    load_metrics,
    noisy_logits,
    renormalise,
    sigmoid,
    smooth_load,
    softmax,
    softmax_over_chosen,
    squared_variation,
    switch_loss,
    top_k,
    updated_bias,
    z_loss,
)
from tests.oracles import generator, logits_rows, normal, same

SIZES = [(2, 1), (8, 1), (8, 2), (64, 6), (4, 4)]
sizes = pytest.mark.parametrize(("num_experts", "k"), SIZES)


def balanced(num_experts: int, k: int) -> tuple[Tensor, Tensor]:
    """Every expert chosen equally often, all probabilities equal."""
    experts_TK = (torch.arange(num_experts)[:, None] + torch.arange(k)) % num_experts
    return torch.full((num_experts, num_experts), 1 / num_experts).double(), experts_TK


def collapsed(num_experts: int, k: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """All tokens choose the same K experts, which share all the probability evenly."""
    experts_TK = (first + torch.arange(k)).expand(10, k)
    probabilities_TE = torch.zeros(10, num_experts).double().scatter(-1, experts_TK, 1 / k)
    return probabilities_TE, experts_TK


# --- what the numbers read ------------------------------------------------------------------------


@sizes
def test_what_the_metrics_read(num_experts: int, k: int) -> None:
    metrics = load_metrics(expert_load(balanced(num_experts, k)[1], num_experts))
    same(metrics.fraction_E, [1 / num_experts] * num_experts, atol=1e-15)
    same(metrics.max_over_mean, 1.0)
    same(metrics.coefficient_of_variation, 0.0)
    same(metrics.entropy, math.log(num_experts), atol=1e-14)
    same(metrics.effective_experts, float(num_experts), atol=1e-12)
    same(metrics.dead_experts, 0)
    metrics = load_metrics(expert_load(collapsed(num_experts, k)[1], num_experts))
    same(metrics.fraction_E, [1 / k] * k + [0.0] * (num_experts - k), atol=1e-15)
    same(metrics.max_over_mean, num_experts / k, atol=1e-13)
    same(metrics.coefficient_of_variation, math.sqrt(num_experts / k - 1), atol=1e-13)
    same(metrics.entropy, math.log(k), atol=1e-14)
    same(metrics.effective_experts, float(k), atol=1e-13)
    same(metrics.dead_experts, num_experts - k)


@sizes
def test_what_the_losses_read(num_experts: int, k: int) -> None:
    for (probabilities_TE, experts_TK), reads in (
        (balanced(num_experts, k), 1.0),
        (collapsed(num_experts, k), num_experts / k),
    ):
        same(switch_loss(probabilities_TE, experts_TK), reads, atol=1e-12)
        same(gshard_loss(probabilities_TE, experts_TK), reads, atol=1e-12)
        gates_TK = renormalise(probabilities_TE, experts_TK)
        weight_E = importance(gates_TK, experts_TK, num_experts)
        same(squared_variation(weight_E), reads - 1, atol=1e-12)
        load_E = expert_load(experts_TK, num_experts).double()
        same(squared_variation(load_E), reads - 1, atol=1e-12)


def test_gshard_reads_up_to_e_and_importance_up_to_e_minus_1() -> None:
    experts_TK = torch.tensor([[0, 1]]).expand(10, 2)
    sure_TE = torch.zeros(10, 8).double().index_fill(1, torch.tensor([0]), 1.0)
    same(gshard_loss(sure_TE, experts_TK), 8.0)
    same(switch_loss(sure_TE, experts_TK), 4.0)
    same(squared_variation(importance(keep(sure_TE, experts_TK), experts_TK, 8)), 7.0)


def test_gshard_sees_the_first_choices_alone() -> None:
    probabilities_TE = torch.full((8, 8), 1 / 8).double()
    first_T1 = torch.arange(8)[:, None]
    crowded_TK = torch.cat([first_T1, torch.where(first_T1 == 0, 1, 0)], dim=-1)
    same(gshard_loss(probabilities_TE, crowded_TK), 1.0, atol=1e-14)
    assert load_metrics(expert_load(crowded_TK, 8)).max_over_mean == 4.0


def test_the_z_loss_does_not_see_balance() -> None:
    same(z_loss(torch.zeros(5, 64).double()), math.log(64) ** 2, atol=1e-12)
    assert abs(z_loss(torch.zeros(5, 64)).item() - 17.30) < 0.005
    same(z_loss(torch.full((5, 64), -math.log(64)).double()), 0.0, atol=1e-12)


def test_metrics_and_loads_by_hand() -> None:
    experts_TK = torch.tensor([[[0, 1], [0, 2]], [[0, 1], [1, 0]]])
    load_E = expert_load(experts_TK, 4)
    same(load_E, [4, 3, 1, 0])
    metrics = load_metrics(load_E)
    same(metrics.max_over_mean, 2.0)
    same(metrics.coefficient_of_variation, math.sqrt(2.5) / 2, atol=1e-15)
    same(metrics.entropy, 0.5 * math.log(2) + 3 / 8 * math.log(8 / 3) + math.log(8) / 8, atol=1e-15)
    same(metrics.dead_experts, 1)
    gates_TK = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.5, 0.5]]).view(2, 2, 2)
    same(importance(gates_TK, experts_TK, 4), [2.25, 1.75, 0.0, 0.0])


def test_metrics_of_several_layers_are_those_of_each() -> None:
    load_LE = torch.tensor([[5, 0, 0], [1, 2, 2], [4, 4, 4]])
    together = load_metrics(load_LE)
    for i, load_E in enumerate(load_LE):
        for name, value in vars(load_metrics(load_E)).items():
            same(getattr(together, name)[i], value)


# --- what others compute --------------------------------------------------------------------------


def ours_in_layer(logits_TE: Tensor, k: int, mask_T: Tensor | None = None) -> Tensor:
    return switch_loss(softmax(logits_TE), top_k(logits_TE, k), mask_T)


@pytest.mark.parametrize(("num_experts", "k"), [(8, 1), (8, 2), (40, 8), (4, 4)])
def test_mixtral_in_transformers_is_k_times_ours(num_experts: int, k: int) -> None:
    logits_TE = 2 * normal(300, num_experts, dtype=torch.float32)
    theirs = mixtral_loss((logits_TE,), num_experts, k)
    same(k * ours_in_layer(logits_TE, k), theirs, rtol=1e-6)


def test_mixtral_in_transformers_masks_the_same_tokens() -> None:
    logits_TE = 2 * normal(60, 8, dtype=torch.float32)
    mask_BS = torch.arange(15).expand(4, 15) < torch.tensor([[15], [9], [1], [12]])
    theirs = mixtral_loss((logits_TE,), 8, 2, mask_BS.long())
    same(2 * ours_in_layer(logits_TE.view(4, 15, 8), 2, mask_BS), theirs, rtol=1e-6)
    assert abs(theirs - mixtral_loss((logits_TE,), 8, 2)) > 0.01


def test_switch_in_transformers_is_ours_in_each_group_of_tokens() -> None:
    probabilities_BSE = softmax(2 * normal(3, 50, 16, dtype=torch.float32))
    experts_BS1 = top_k(probabilities_BSE, 1)
    theirs = their_switch_loss(probabilities_BSE, experts_BS1)
    ours = [switch_loss(p, e) for p, e in zip(probabilities_BSE, experts_BS1, strict=True)]
    same(torch.stack(ours).mean(), theirs, rtol=1e-6)


def test_the_z_loss_of_switch_in_transformers_is_ours() -> None:
    logits_BSE = 3 * normal(3, 50, 16)
    same(z_loss(logits_BSE), their_z_loss(logits_BSE), rtol=1e-14)


@pytest.mark.parametrize("normalised", [True, False])
def test_deepseek_v3_in_transformers_chooses_with_the_bias_and_gates_without(
    normalised: bool,
) -> None:
    config = DeepseekV3Config(
        hidden_size=32, n_routed_experts=16, num_experts_per_tok=4, n_group=1, topk_group=1,
        routed_scaling_factor=1.0, norm_topk_prob=normalised,
    )  # fmt: skip
    theirs = DeepseekV3TopkRouter(config)
    theirs.weight.data = normal(16, 32, dtype=torch.float32) / 32**0.5
    bias_E = theirs.e_score_correction_bias.copy_(0.2 * normal(16, seed=2))
    x_TD = normal(200, 32, seed=1, dtype=torch.float32)
    _, their_gates_TK, their_experts_TK = theirs(x_TD)
    router = Router(32, 16, 4, probability="sigmoid", renormalise=normalised, selection_bias=True)
    router.load_state_dict({"centroids_ED": theirs.weight.data, "bias_E": bias_E})
    ours = router(x_TD)
    order_TK, their_order_TK = ours.experts_TK.argsort(-1), their_experts_TK.argsort(-1)
    same(ours.experts_TK.gather(-1, order_TK), their_experts_TK.gather(-1, their_order_TK))
    same(ours.gates_TK.gather(-1, order_TK), their_gates_TK.gather(-1, their_order_TK), atol=1e-6)
    assert not torch.equal(ours.experts_TK, top_k(ours.probabilities_TE, 4))


@pytest.mark.parametrize(("num_experts", "k"), [(2, 1), (6, 1), (6, 3), (6, 5)])
def test_the_smooth_load_is_the_chance_to_be_chosen(num_experts: int, k: int) -> None:
    """Over many draws of the noise its mean is the mean count (Shazeer et al. 2017, eq. 8)."""
    draws = 40_000
    logits_TE = normal(1, num_experts).expand(draws, num_experts)
    scores_TE = normal(1, num_experts, seed=1).expand(draws, num_experts)
    noisy_TE = noisy_logits(logits_TE, scores_TE, generator(2))
    counted_E = expert_load(top_k(noisy_TE, k), num_experts) / draws
    smooth_E = smooth_load(logits_TE, noisy_TE, scores_TE, k) / draws
    # Five standard errors of a share counted in this many draws.
    same(smooth_E, counted_E.double(), atol=5 * 0.5 / draws**0.5)
    assert (smooth_E - counted_E).abs().max() > 0


def test_the_smooth_load_by_hand() -> None:
    logits_TE = torch.tensor([[2.0, 1.0, 0.0]]).double()
    noisy_TE = torch.tensor([[1.5, 1.75, 0.25]]).double()
    scores_TE = torch.tensor([[0.0, 1.0, -1.0]]).double()
    # To experts 0 and 1, which are in, the second best of the others is 0.25; to expert 2, 1.5.
    expected = [
        0.5 * math.erfc(-(logit - bar) / (math.log1p(math.exp(n)) + 0.01) / math.sqrt(2))
        for logit, n, bar in zip([2, 1, 0], [0, 1, -1], [0.25, 0.25, 1.5], strict=True)
    ]
    same(smooth_load(logits_TE, noisy_TE, scores_TE, 2), expected, atol=1e-14)
    same(smooth_load(logits_TE, noisy_TE, scores_TE, 3), [1.0] * 3)


# --- gradients ------------------------------------------------------------------------------------

X_TD, MASK_T = normal(7, 4), torch.tensor([True, True, False, True, True, False, True])
SCORES_TE = normal(7, 5, seed=3)


def from_centroids(loss: str, k: int) -> Callable[[Tensor], Tensor]:
    """A loss as a function of the router's weights, with the choice as it is."""

    def value(centroids_ED: Tensor) -> Tensor:
        logits_TE = dot_scores(X_TD, centroids_ED)
        probabilities_TE, experts_TK = softmax(logits_TE), top_k(logits_TE, k)
        if loss == "z":
            return z_loss(logits_TE, MASK_T)
        if loss == "importance":
            weight_E = importance(keep(probabilities_TE, experts_TK), experts_TK, 5, MASK_T)
            return squared_variation(weight_E)
        if loss == "load":
            noisy_TE = noisy_logits(logits_TE, SCORES_TE, generator(1))
            return squared_variation(smooth_load(logits_TE, noisy_TE, SCORES_TE, k, MASK_T))
        return (switch_loss if loss == "switch" else gshard_loss)(
            probabilities_TE, experts_TK, MASK_T
        )

    return value


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("loss", ["switch", "gshard", "importance", "load", "z"])
def test_every_loss_has_the_gradient_of_finite_differences(loss: str, k: int) -> None:
    centroids_ED = normal(5, 4, seed=1).requires_grad_()
    function = from_centroids(loss, k)
    assert torch.autograd.gradcheck(function, centroids_ED, eps=1e-7, atol=1e-6)
    (gradient_ED,) = torch.autograd.grad(function(centroids_ED), centroids_ED)
    assert gradient_ED.norm() > 1e-4
    # A step against it lowers the loss.
    assert function(centroids_ED - 1e-4 * gradient_ED) < function(centroids_ED)


def test_the_smooth_load_has_a_gradient_in_its_noise() -> None:
    inputs = [normal(6, 5, seed=seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(lambda *x: smooth_load(*x, 2), inputs, eps=1e-7)


def test_each_token_lowers_the_probabilities_of_busy_experts() -> None:
    probabilities_TE, experts_TK = collapsed(4, 1)
    probabilities_TE = (0.9 * probabilities_TE + 0.025).requires_grad_()
    (gradient_TE,) = torch.autograd.grad(
        switch_loss(probabilities_TE, experts_TK), probabilities_TE
    )
    same(gradient_TE, [[0.4, 0.0, 0.0, 0.0]] * 10, atol=1e-15)


# --- padding --------------------------------------------------------------------------------------


def every_number(logits_TE: Tensor, k: int, mask_T: Tensor | None) -> dict[str, Tensor]:
    num_experts = logits_TE.shape[-1]
    probabilities_TE, experts_TK = softmax(logits_TE), top_k(logits_TE, k)
    gates_TK = softmax_over_chosen(logits_TE, experts_TK)
    load_E = expert_load(experts_TK, num_experts, mask_T)
    # The noise belongs to the token, wherever it stands.
    noisy_TE = logits_TE + logits_TE.flip(-1).sin()
    return {
        "load": load_E,
        "switch": switch_loss(probabilities_TE, experts_TK, mask_T),
        "gshard": gshard_loss(probabilities_TE, experts_TK, mask_T),
        "z": z_loss(logits_TE, mask_T),
        "importance": importance(gates_TK, experts_TK, num_experts, mask_T),
        "smooth": smooth_load(logits_TE, noisy_TE, logits_TE.cos(), k, mask_T),
        "bias": updated_bias(torch.zeros(num_experts, device=load_E.device), load_E, 0.1),
        **vars(load_metrics(load_E)),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tokens", [1, 5, 64, 1000])
def test_padding_changes_no_number_and_not_a_bit(
    tokens: int, dtype: torch.dtype, device: torch.device
) -> None:
    order_T = torch.randperm(3 * tokens, generator=generator(1))[:tokens].sort().values
    mask_T = torch.zeros(3 * tokens, dtype=torch.bool).index_fill(0, order_T, True)
    padded_TE = 50 * normal(3 * tokens, 8, seed=2, dtype=dtype)
    logits_TE = normal(tokens, 8, dtype=dtype)
    padded_TE[mask_T] = logits_TE
    without = every_number(logits_TE.to(device), 2, None)
    within = every_number(padded_TE.to(device), 2, mask_T.to(device))
    for name, value in without.items():
        same(within[name], value, rtol=0.0 if device.type == "cpu" else 1e-5)


def test_padding_gets_no_gradient_and_changes_none() -> None:
    logits_TE = normal(6, 5).requires_grad_()
    padded_TE = torch.cat([logits_TE, 3 * normal(4, 5, seed=1)]).detach().requires_grad_()
    mask_T = torch.arange(10) < 6
    for loss in ("switch", "z"):
        (plain,) = torch.autograd.grad(every_number(logits_TE, 2, None)[loss], logits_TE)
        (padded,) = torch.autograd.grad(every_number(padded_TE, 2, mask_T)[loss], padded_TE)
        same(padded, torch.cat([plain, torch.zeros(4, 5).double()]))


def test_the_compiled_losses_mask_too() -> None:
    logits_TE, mask_T = normal(40, 8), torch.arange(40) % 3 > 0
    for loss in (ours_in_layer, lambda logits, _, mask: z_loss(logits, mask)):
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        same(compiled(logits_TE, 2, mask_T), loss(logits_TE, 2, mask_T), rtol=1e-14)


# --- permutations ---------------------------------------------------------------------------------


@given(logits_TE=logits_rows(max_tokens=8), data=st.data())
def test_the_order_of_the_tokens_does_not_matter(logits_TE: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, logits_TE.shape[-1]))
    order = data.draw(st.permutations(range(len(logits_TE))))
    straight, mixed = (every_number(x, k, None) for x in (logits_TE, logits_TE[order]))
    for name, value in straight.items():
        same(mixed[name], value, rtol=1e-12, atol=1e-12)


@given(logits_TE=logits_rows(max_tokens=8), data=st.data())
def test_renaming_the_experts_renames_their_loads(logits_TE: Tensor, data: st.DataObject) -> None:
    num_experts = logits_TE.shape[-1]
    # Equal logits go to the lower id, so that names would matter: make all differ.
    logits_TE = logits_TE + 1e-3 * normal(*logits_TE.shape)
    k = data.draw(st.integers(1, num_experts))
    order = data.draw(st.permutations(range(num_experts)))
    straight, renamed = (every_number(x, k, None) for x in (logits_TE, logits_TE[:, order]))
    for name, value in straight.items():
        if name == "smooth":  # its noise above is no property of the expert
            continue
        same(renamed[name], value[order] if value.ndim else value, rtol=1e-12, atol=1e-12)


@given(logits_TE=logits_rows(max_tokens=8), data=st.data())
def test_loads_and_metrics_stay_within_their_bounds(logits_TE: Tensor, data: st.DataObject) -> None:
    tokens, num_experts = logits_TE.shape
    k = data.draw(st.integers(1, num_experts))
    experts_TK = top_k(logits_TE, k)
    load_E = expert_load(experts_TK, num_experts)
    assert load_E.sum() == tokens * k
    assert load_E.max() <= tokens
    metrics, bound = load_metrics(load_E), 1e-9
    assert 1 - bound <= metrics.max_over_mean <= num_experts / k + bound
    assert k - bound <= metrics.effective_experts <= num_experts + bound
    assert 0 <= metrics.dead_experts <= num_experts - k
    loss = switch_loss(softmax(logits_TE), experts_TK)
    assert 0 < loss <= num_experts / k + bound


# --- traps ----------------------------------------------------------------------------------------


def test_trap_balanced_is_k_in_one_library_and_1_in_another() -> None:
    """A coefficient copied from one to the other is K times too large or too small."""

    def megatron(probabilities_TE: Tensor, experts_TK: Tensor) -> Tensor:
        # As written there: sum(mean probability * count) * E / (tokens * k).
        tokens, num_experts = probabilities_TE.shape
        count_E = torch.bincount(experts_TK.flatten(), minlength=num_experts)
        mean_E = probabilities_TE.sum(0) / tokens
        return (mean_E * count_E).sum() * num_experts / (tokens * experts_TK.shape[1])

    for k in (1, 2, 4):
        probabilities_TE, experts_TK = balanced(8, k)
        # Equal logits leave the choice open, so theirs gets a slight preference for each.
        logits_TE = torch.zeros(8, 8).scatter(1, experts_TK, 1e-6)
        assert mixtral_loss((logits_TE,), 8, k).item() == pytest.approx(k, rel=1e-5)
        same(megatron(probabilities_TE, experts_TK), 1.0, atol=1e-12)
        same(switch_loss(probabilities_TE, experts_TK), 1.0, atol=1e-12)
    logits_TE = 2 * normal(50, 8)
    same(ours_in_layer(logits_TE, 3), megatron(softmax(logits_TE), top_k(logits_TE, 3)), rtol=1e-14)


def test_trap_two_collapsed_layers_pool_to_perfect() -> None:
    layers = [collapsed(2, 1, first=expert) for expert in (0, 1)]
    each = [switch_loss(*layer) for layer in layers]
    same(torch.stack(each), [2.0, 2.0])
    pooled = switch_loss(*(torch.cat(parts) for parts in zip(*layers, strict=True)))
    same(pooled, 1.0)  # the wrong way, on the same layers
    logits = tuple(100 * probabilities_TE.float() for probabilities_TE, _ in layers)
    assert mixtral_loss(logits, 2, 1).item() == 1.0
    load_LE = torch.stack([expert_load(experts_TK, 2) for _, experts_TK in layers])
    same(load_metrics(load_LE).dead_experts, [1, 1])
    same(load_metrics(load_LE.sum(0)).dead_experts, 0)


def test_trap_the_switch_loss_has_no_floor_at_1() -> None:
    # Nine of ten tokens lean slightly to expert 0 and one clearly to expert 1.
    probabilities_TE = torch.tensor([[0.51, 0.49]] * 9 + [[0.0, 1.0]], dtype=torch.float64)
    experts_TK = top_k(probabilities_TE, 1)
    same(load_metrics(expert_load(experts_TK, 2)).fraction_E, [0.9, 0.1], atol=1e-15)
    same(probabilities_TE.mean(0), [0.459, 0.541], atol=1e-15)
    value = switch_loss(probabilities_TE, experts_TK)
    same(value, 0.9344, atol=1e-12)
    assert value < switch_loss(*balanced(2, 1))  # less balanced, and a lower loss


def test_trap_a_load_after_drops_reads_perfect_on_a_collapse() -> None:
    experts_TK = torch.tensor([[0, 1]]).expand(64, 2)
    capacity = 64 * 2 // 8
    same(expert_load(experts_TK, 8), [64, 64, 0, 0, 0, 0, 0, 0])
    assert load_metrics(expert_load(experts_TK, 8)).max_over_mean == 4.0
    # The wrong way: what each expert kept, and only the experts that kept something.
    kept_E = expert_load(experts_TK, 8).clamp(max=capacity)
    assert load_metrics(kept_E[kept_E > 0]).max_over_mean == 1.0
    # Even over all experts, a fairly uneven load turns even once it is cut off at the capacity.
    uneven_E = torch.tensor([60, 20, 16, 16, 16])
    assert load_metrics(uneven_E).max_over_mean > 2.3
    assert load_metrics(uneven_E.clamp(max=16)).max_over_mean == 1.0


def test_trap_no_gradient_at_k_1() -> None:
    """The loss of a public tutorial: the variation of renormalised gates, constant 1 at K = 1."""

    def gradient(loss: Callable[[Tensor, Tensor], Tensor], k: int) -> float:
        centroids_ED = normal(5, 4, seed=1).requires_grad_()
        logits_TE = dot_scores(X_TD, centroids_ED)
        (result,) = torch.autograd.grad(loss(logits_TE, top_k(logits_TE, k)), centroids_ED)
        return result.norm().item()

    def wrong(logits_TE: Tensor, experts_TK: Tensor) -> Tensor:
        gates_TK = softmax_over_chosen(logits_TE, experts_TK)
        return squared_variation(importance(gates_TK, experts_TK, 5))

    def right(logits_TE: Tensor, experts_TK: Tensor) -> Tensor:
        return switch_loss(softmax(logits_TE), experts_TK)

    assert gradient(wrong, k=2) > 1e-2
    assert gradient(wrong, k=1) == 0.0
    assert gradient(right, k=2) > 1e-2
    assert gradient(right, k=1) > 1e-2


@pytest.mark.parametrize("probability", ["softmax", "sigmoid"])
@pytest.mark.parametrize("normalised", [True, False])
def test_trap_a_bias_that_leaks_into_the_gates(probability: Any, normalised: bool) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"probability": probability, "renormalise": normalised}
    plain = Router(8, 6, 2, **options).double()
    biased = Router(8, 6, 2, **options, selection_bias=True).double()
    biased.load_state_dict(plain.state_dict() | {"bias_E": 0.3 * normal(6)})
    x_TD = normal(100, 8)
    routing = biased(x_TD)
    same(routing.logits_TE, plain(x_TD).logits_TE)
    same(routing.probabilities_TE, plain(x_TD).probabilities_TE)
    same(routing.experts_TK, top_k(routing.probabilities_TE + biased.bias_E, 2))
    assert not torch.equal(routing.experts_TK, plain(x_TD).experts_TK)
    gates_of = renormalise if normalised else keep
    same(routing.gates_TK, gates_of(routing.probabilities_TE, routing.experts_TK), atol=1e-15)
    # The wrong way: gates of the biased scores, which can even be negative.
    leaked_TE = routing.probabilities_TE + biased.bias_E
    leaked_TK = leaked_TE.gather(-1, routing.experts_TK)
    if normalised:
        leaked_TK = leaked_TK / leaked_TK.sum(-1, keepdim=True)
    assert (leaked_TK - routing.gates_TK).abs().max() > 0.01


# --- the bias -------------------------------------------------------------------------------------


def test_a_bias_step_by_hand() -> None:
    bias_E = torch.tensor([0.5, 0.0, -0.5, 0.0])
    same(updated_bias(bias_E, torch.tensor([4, 1, 5, 2]), 0.25), [0.25, 0.25, -0.75, 0.25])
    same(updated_bias(bias_E, torch.tensor([3, 3, 3, 3]), 0.25), bias_E)
    same(bias_E, [0.5, 0.0, -0.5, 0.0])


def test_bias_steps_balance_a_router_without_touching_its_weights() -> None:
    torch.manual_seed(0)
    router = Router(8, 6, 2, selection_bias=True)
    x_TD = normal(3000, 8, dtype=torch.float32) + 0.5
    before = load_metrics(expert_load(router(x_TD).experts_TK, 6)).max_over_mean
    weights_ED = router.centroids_ED.detach().clone()
    for _ in range(300):
        load_E = expert_load(router(x_TD).experts_TK, 6)
        router.bias_E = updated_bias(router.bias_E, load_E, 0.002)
    after = load_metrics(expert_load(router(x_TD).experts_TK, 6)).max_over_mean
    assert before > 1.4
    assert after < 1.08
    same(router.centroids_ED.data, weights_ED)


def test_the_bias_is_kept_with_the_router_and_is_no_parameter() -> None:
    router = Router(8, 6, 2, selection_bias=True)
    assert list(dict(router.named_parameters())) == ["centroids_ED"]
    assert list(router.state_dict()) == ["centroids_ED", "bias_E"]
    assert "selection_bias=True" in repr(router)
    assert "selection_bias" not in repr(Router(8, 6, 2))
    x_TD = normal(50, 8, dtype=torch.float32)
    fresh = Router(8, 6, 2)
    fresh.load_state_dict({"centroids_ED": router.centroids_ED})
    same(router(x_TD).experts_TK, fresh(x_TD).experts_TK)
    router.bias_E = torch.ones(6)
    router.reset_parameters()
    same(router.bias_E, torch.zeros(6))


def test_a_biased_router_compiles() -> None:
    router = Router(8, 6, 2, selection_bias=True)
    router.bias_E = 0.2 * normal(6, dtype=torch.float32)
    x_TD = normal(50, 8, dtype=torch.float32)
    compiled = torch.compile(router, fullgraph=True, backend="aot_eager")
    same(compiled(x_TD).experts_TK, router(x_TD).experts_TK)


# --- promises that all functions of the package make ----------------------------------------------


def test_leading_dimensions_are_tokens_and_layout_does_not_matter(device: torch.device) -> None:
    logits_BSE = normal(3, 4, 8, device=device)
    mask_BS = (torch.arange(12, device=device) % 4 > 0).view(3, 4)
    flat = every_number(logits_BSE.flatten(0, 1), 2, mask_BS.flatten())
    strided_BSE = torch.stack([logits_BSE, -logits_BSE], -1)[..., 0]
    for other in (logits_BSE, strided_BSE, logits_BSE.mT.contiguous().mT):
        for name, value in every_number(other, 2, mask_BS).items():
            same(value, flat[name], rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_are_float32_at_least(dtype: torch.dtype) -> None:
    logits_TE = normal(6, 8, dtype=dtype)
    experts_TK = top_k(logits_TE, 2)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    probabilities_TE = softmax(logits_TE).to(dtype)
    for result in (
        switch_loss(probabilities_TE, experts_TK),
        gshard_loss(probabilities_TE, experts_TK),
        z_loss(logits_TE),
        importance(keep(probabilities_TE, experts_TK), experts_TK, 8),
        smooth_load(logits_TE, logits_TE, logits_TE, 2),
        squared_variation(logits_TE.abs()),
        load_metrics(logits_TE.abs()).entropy,
    ):
        assert result.dtype == wide
    with torch.autocast("cpu", torch.bfloat16):
        same(z_loss(logits_TE), z_loss(logits_TE))
        assert switch_loss(probabilities_TE, experts_TK).dtype == wide


def test_meta_tensors_give_shapes_without_numbers() -> None:
    logits_TE = torch.empty(6, 8, device="meta")
    mask_T = torch.empty(6, dtype=torch.bool, device="meta")
    real = every_number(normal(6, 8, dtype=torch.float32), 2, None)
    for mask in (None, mask_T):
        for name, value in every_number(logits_TE, 2, mask).items():
            assert value.is_meta
            assert (value.shape, value.dtype) == (real[name].shape, real[name].dtype)


def test_zero_tokens_load_nobody_and_have_no_loss() -> None:
    same(expert_load(torch.empty(0, 2, dtype=torch.int64), 4), [0, 0, 0, 0])
    with pytest.raises(ValueError, match="must have at least one token"):
        z_loss(torch.empty(0, 4))
    with pytest.raises(ValueError, match="must have at least one token"):
        switch_loss(torch.empty(0, 4), torch.empty(0, 2, dtype=torch.int64))


P_TE, IDS_TK = torch.full((3, 4), 0.25), torch.tensor([[0, 1], [1, 2], [2, 3]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: expert_load(IDS_TK.int(), 4),
            TypeError,
            "experts_TK must hold int64 expert ids, got torch.int32",
        ),
        (
            lambda: expert_load([[0]], 4),
            TypeError,
            "experts_TK must hold int64 expert ids, got list",
        ),
        (
            lambda: expert_load(IDS_TK[0], 4),
            ValueError,
            r"experts_TK must have at least 2 dimensions, got shape",
        ),
        (lambda: expert_load(IDS_TK, 3), ValueError, "experts_TK must hold ids from 0 to 2, got 3"),
        (lambda: expert_load(IDS_TK, 1), ValueError, r"k must be between .* \(1\), got 2"),
        (lambda: expert_load(IDS_TK, 4.0), TypeError, "num_experts must be an int, got 4.0"),
        (lambda: expert_load(IDS_TK * 0, 4), ValueError, "an expert once per token, got 0 twice"),
        (
            lambda: expert_load(IDS_TK, 4, torch.ones(3)),
            TypeError,
            "mask_T must be a bool tensor .* got torch.float32: .*bool",
        ),
        (
            lambda: expert_load(IDS_TK, 4, torch.ones(2, dtype=torch.bool)),
            ValueError,
            r"mask_T must have one entry per token of experts_TK, shape \(3,\), got shape \(2,\)",
        ),
        (
            lambda: switch_loss(P_TE, IDS_TK, torch.zeros(3, dtype=torch.bool)),
            ValueError,
            "mask_T must keep at least one token, got 3 entries, all False",
        ),
        (lambda: switch_loss(2 * P_TE, IDS_TK), ValueError, "every row of probabilities_TE must"),
        (lambda: switch_loss(sigmoid(P_TE), IDS_TK), ValueError, "must sum to 1"),
        (lambda: switch_loss(-P_TE, IDS_TK), ValueError, "probabilities_TE must not be negative"),
        (lambda: switch_loss(P_TE, IDS_TK[:2]), ValueError, "experts_TK must have one row per"),
        (lambda: gshard_loss(P_TE, IDS_TK + 1), ValueError, "ids from 0 to 3, got 4"),
        (lambda: z_loss(P_TE / 0), ValueError, "logits_TE must be finite, got inf"),
        (lambda: z_loss(IDS_TK), TypeError, "logits_TE must have a floating-point dtype"),
        (lambda: importance(P_TE[:, :2], IDS_TK[:2], 4), ValueError, "experts_TK must have the"),
        (lambda: smooth_load(P_TE, P_TE, P_TE, 5), ValueError, "k must be between 1 and"),
        (
            lambda: smooth_load(P_TE, P_TE[:2], P_TE, 1),
            ValueError,
            "noisy_logits_TE must have the shape of logits_TE",
        ),
        (lambda: smooth_load(P_TE, P_TE, P_TE * math.nan, 1), ValueError, "noise_scores_TE must"),
        (lambda: squared_variation(torch.tensor([1, 2])), TypeError, "values_E must have a float"),
        (lambda: squared_variation(torch.zeros(3)), ValueError, "values_E must sum to more than 0"),
        (lambda: load_metrics(torch.zeros(3)), ValueError, "load_E must sum to more than 0"),
        (
            lambda: load_metrics(torch.tensor([[1, 2], [0, 0]])),
            ValueError,
            "load_E must sum to more than 0 in each layer",
        ),
        (lambda: load_metrics(torch.tensor([1, -1, 4])), ValueError, "load_E must not be negative"),
        (lambda: load_metrics(torch.empty(0)), ValueError, "load_E must not be empty"),
        (lambda: load_metrics([1, 2]), TypeError, "load_E must be a torch.Tensor, got list"),
        (
            lambda: updated_bias(torch.zeros(3).bfloat16(), torch.ones(3), 0.1),
            TypeError,
            "bias_E must be a float32 or float64 tensor, .* got torch.bfloat16",
        ),
        (
            lambda: updated_bias(torch.zeros(3), torch.ones(4), 0.1),
            ValueError,
            r"bias_E and load_E must both have shape \[E\], got \(3,\) and \(4,\)",
        ),
        (
            lambda: updated_bias(torch.zeros(3), torch.ones(3), -1),
            ValueError,
            "rate must be positive, got -1",
        ),
        (
            lambda: updated_bias(torch.zeros(3), torch.ones(3), math.inf),
            ValueError,
            "rate must be finite, got inf",
        ),
        (
            lambda: Router(8, 4, 2, selection="sampled", selection_bias=True),
            ValueError,
            "selection_bias=True needs selection='top_k', got selection='sampled'",
        ),
    ],
)
def test_bad_input_is_refused_by_name(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


# --- what used to go wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_experts", [3, 6, 7, 10])
def test_even_float_loads_leave_the_bias_as_it_is(num_experts: int, dtype: torch.dtype) -> None:
    bias_E = normal(num_experts, dtype=torch.float32)
    for share in (0.1, 1 / 3, 1 / num_experts, 1e-30, 12345.678):
        even_E = torch.full((num_experts,), share, dtype=dtype)
        same(updated_bias(bias_E, even_E, 0.001), bias_E)
    # The same shares, summed in different orders.
    same(updated_bias(torch.zeros(2), torch.tensor([0.1 + 0.2, 0.3]).to(dtype), 0.1), [0.0, 0.0])
    same(
        updated_bias(torch.zeros(2).double(), torch.tensor([0.1 + 0.2, 0.3]).double(), 0.1), [0, 0]
    )


def test_the_mean_of_the_bias_is_held_at_0() -> None:
    """One busy expert and seven idle ones: without that all biases go up together."""
    bias_E = torch.zeros(8)
    load_E = torch.tensor([9, 1, 1, 1, 1, 1, 1, 1])
    for _ in range(1000):
        bias_E = updated_bias(bias_E, load_E, 0.001)
    assert bias_E.mean().abs() < 1e-5
    # The differences, which alone take part in the choice, are those of the papers' rule.
    same(bias_E[1:] - bias_E[0], torch.full((7,), 2.0), atol=1e-3)


def test_a_step_of_the_bias_is_torchtitans() -> None:
    for seed in range(5):
        load_E = torch.randint(0, 50, (16,), generator=generator(seed))
        bias_E = normal(16, seed=seed)
        delta_E = 0.01 * torch.sign(load_E.double().mean() - load_E)
        same(updated_bias(bias_E, load_E, 0.01), bias_E + delta_E - delta_E.mean(), atol=1e-15)


def test_a_rate_may_be_any_finite_number() -> None:
    load_E = torch.tensor([1, 3])
    same(updated_bias(torch.zeros(2), load_E, Fraction(1, 4)), [0.25, -0.25])
    same(updated_bias(torch.zeros(2), load_E, np.float32(0.25)), [0.25, -0.25])


def test_padding_may_hold_anything_and_its_gradient_is_0() -> None:
    mask_T = torch.tensor([True, False, True, True, False])
    logits_TE = normal(5, 4)
    experts_TK = top_k(logits_TE, 2)
    junk_TK = experts_TK.where(mask_T[:, None], -100)

    def results(*rows: Tensor, ids_TK: Tensor) -> list[Tensor]:
        first_TE, second_TE, gates_TK, probabilities_TE = rows
        return [
            expert_load(ids_TK, 4, mask_T).double(),
            importance(gates_TK, ids_TK, 4, mask_T),
            smooth_load(first_TE, second_TE, first_TE, 2, mask_T),
            switch_loss(probabilities_TE, ids_TK, mask_T),
            gshard_loss(probabilities_TE, ids_TK, mask_T),
            z_loss(first_TE, mask_T),
        ]

    clean = [logits_TE, logits_TE + 1, normal(5, 2).abs(), softmax(logits_TE)]
    for junk in (math.nan, math.inf):
        dirty = [row.where(mask_T[:, None], junk).requires_grad_() for row in clean]
        found = results(*dirty, ids_TK=junk_TK)
        for value, expected in zip(found, results(*clean, ids_TK=experts_TK), strict=True):
            same(value, expected)
        loss = torch.stack([value.square().sum() for value in found]).sum()
        for gradient in torch.autograd.grad(loss, dirty):
            assert gradient.isfinite().all()
            assert (gradient[~mask_T] == 0).all()


def test_a_default_device_elsewhere_changes_nothing() -> None:
    logits_TE, mask_T = normal(6, 5), torch.arange(6) < 4
    expected = every_number(logits_TE, 2, mask_T)
    torch.set_default_device("meta")
    try:
        load_E = expert_load(top_k(logits_TE, 2), 5, mask_T)
        same(load_E, expected["load"])
        same(switch_loss(softmax(logits_TE), top_k(logits_TE, 2), mask_T), expected["switch"])
        same(z_loss(logits_TE, mask_T), expected["z"])
        same(load_metrics(load_E).entropy, expected["entropy"])
        zeros_E = torch.zeros(5, device="cpu")
        same(updated_bias(zeros_E, load_E, 0.1), expected["bias"])
    finally:
        torch.set_default_device(None)
