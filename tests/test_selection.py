"""Chapter 03's functions: the tie rule, and which normalisations are the same."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moe_tutorial import keep, renormalise, sigmoid, softmax, softmax_over_chosen, top_k
from tests.oracles import generator, logits_rows, normal, same, softmax_of


def best_first(scores: list[float], k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda e: (-scores[e], e))[:k]


@given(logits_rows(max_experts=9), st.data())
def test_top_k_is_a_sort_by_score_then_id(scores_TE: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, scores_TE.shape[-1]))
    same(top_k(scores_TE, k), [best_first(row, k) for row in scores_TE.tolist()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 8, 511, 512])
# Of 512 experts with four different scores each choice of eight meets a tie, with 40000 hardly one.
@pytest.mark.parametrize("levels", [4, 600, 40000])
def test_equal_scores_go_to_the_lower_id(
    levels: int, k: int, dtype: torch.dtype, device: torch.device
) -> None:
    scores_TE = torch.randint(levels, (20, 512), generator=generator(0)).to(device, dtype)
    experts_TK = top_k(scores_TE, k)
    same(experts_TK, [best_first(row, k) for row in scores_TE.tolist()])
    same(top_k(scores_TE.view(4, 5, 512), k), experts_TK.view(4, 5, k))
    assert experts_TK.untyped_storage().nbytes() == 8 * 20 * k


@pytest.mark.parametrize("num_tokens", [6, 2000])
def test_one_graph_when_compiled(num_tokens: int) -> None:
    scores_TE = normal(num_tokens, 4)
    compiled = torch.compile(top_k, fullgraph=True, backend="eager")
    same(compiled(scores_TE, 2), top_k(scores_TE, 2))


def test_ties_by_hand(device: torch.device) -> None:
    scores_TE = torch.tensor([[1.0, 2.0, 2.0, 0.0], [0.0, -0.0, 0.0, -0.0]], device=device)
    same(top_k(scores_TE, 3), [[1, 2, 0], [0, 1, 2]])


@given(st.permutations(range(6)), st.integers(1, 6))
def test_the_choice_moves_with_its_experts(experts: list[int], k: int) -> None:
    scores_TE = normal(3, 6)
    moved_TK = top_k(scores_TE[:, experts], k)
    same(torch.tensor(experts)[moved_TK], top_k(scores_TE, k))


def test_the_choice_carries_no_gradient() -> None:
    assert not top_k(normal(3, 4).requires_grad_(), 2).requires_grad


@given(logits_rows(max_experts=9), st.data())
def test_two_normalisations_are_one_and_the_third_differs(
    logits_TE: Tensor, data: st.DataObject
) -> None:
    num_experts = logits_TE.shape[-1]
    k = data.draw(st.integers(1, num_experts))
    experts_TK = top_k(logits_TE, k)
    probabilities_TE = softmax(logits_TE)

    renormalised_TK = renormalise(probabilities_TE, experts_TK)
    same(softmax_over_chosen(logits_TE, experts_TK), renormalised_TK, atol=1e-15)

    kept_TK = keep(probabilities_TE, experts_TK)
    left_out_T = 1 - kept_TK.sum(-1)
    same((renormalised_TK - kept_TK).sum(-1), left_out_T, atol=1e-15)
    if k < num_experts:
        # Ten experts at most, 20 apart at most: one left out has at least this much.
        assert (left_out_T >= math.exp(-20) / 10).all()
    else:
        same(kept_TK, renormalised_TK, atol=1e-15)


@given(logits_rows(), st.floats(-2, 2), st.data())
def test_gates_over_the_chosen_are_a_small_softmax(
    logits_TE: Tensor, power: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, logits_TE.shape[-1]))
    ids = data.draw(st.permutations(range(logits_TE.shape[-1])))[:k]
    expected = [softmax_of([row[e] for e in ids], 10**power) for row in logits_TE.tolist()]
    experts_TK = torch.tensor([ids] * len(logits_TE))
    gates_TK = softmax_over_chosen(logits_TE, experts_TK, 10**power)
    same(gates_TK, expected, atol=1e-15, rtol=1e-12)
    same(gates_TK.sum(-1), [1.0] * len(logits_TE), atol=1e-15)


def test_gates_by_hand(device: torch.device) -> None:
    logits_TE = torch.tensor([[0.0, math.log(2), math.log(5)]], device=device)
    experts_TK = torch.tensor([[2, 1]], device=device)
    same(softmax_over_chosen(logits_TE, experts_TK), [[5 / 7, 2 / 7]], atol=1e-7)
    same(softmax_over_chosen(logits_TE, experts_TK, 0.5), [[25 / 29, 4 / 29]], atol=1e-7)
    same(keep(softmax(logits_TE), experts_TK), [[5 / 8, 2 / 8]], atol=1e-7)
    same(renormalise(softmax(logits_TE), experts_TK), [[5 / 7, 2 / 7]], atol=1e-7)
    same(renormalise(sigmoid(logits_TE), experts_TK), [[5 / 9, 4 / 9]], atol=1e-7)


def test_each_token_has_its_own_temperature_for_its_gates() -> None:
    logits_TE = normal(3, 5)
    experts_TK = top_k(logits_TE, 2)
    tau_T1 = torch.tensor([[0.1], [1.0], [9.0]], dtype=torch.float64)
    gates_TK = softmax_over_chosen(logits_TE, experts_TK, tau_T1)
    same(gates_TK, renormalise(softmax(logits_TE, tau_T1), experts_TK), atol=1e-15)


def test_a_single_chosen_expert_has_gate_one_and_no_gradient() -> None:
    logits_TE = normal(4, 3).requires_grad_()
    experts_TK = top_k(logits_TE, 1)
    for gates_TK in (
        softmax_over_chosen(logits_TE, experts_TK),
        renormalise(softmax(logits_TE), experts_TK),
    ):
        same(gates_TK, [[1.0]] * 4)
        (gradient_TE,) = torch.autograd.grad(gates_TK.sum(), logits_TE)
        # p / p still has rounding errors in its gradient; the shorter way has none.
        same(gradient_TE, torch.zeros_like(logits_TE), atol=1e-16)
    (gradient_TE,) = torch.autograd.grad(keep(softmax(logits_TE), experts_TK).sum(), logits_TE)
    assert (gradient_TE.abs().amax(-1) > 0.01).all()


def test_a_single_expert_gets_everything() -> None:
    logits_TE = normal(4, 1)
    experts_TK = top_k(logits_TE, 1)
    same(experts_TK, [[0]] * 4)
    for gates_TK in (
        keep(softmax(logits_TE), experts_TK),
        renormalise(softmax(logits_TE), experts_TK),
        softmax_over_chosen(logits_TE, experts_TK),
    ):
        same(gates_TK, [[1.0]] * 4)


def test_gates_of_experts_too_improbable_for_float64() -> None:
    logits_TE = torch.tensor([[1e4, 0.0, math.log(3)]], dtype=torch.float64)
    experts_TK = torch.tensor([[1, 2]])
    same(softmax_over_chosen(logits_TE, experts_TK), [[0.25, 0.75]], atol=1e-15)
    message = "must sum to more than 0, got a token where they sum to 0.0: use softmax_over_chosen"
    with pytest.raises(ValueError, match=message):
        renormalise(softmax(logits_TE), experts_TK)


@pytest.mark.parametrize(("gates", "divisor"), [(keep, 1.0), (renormalise, 1.2)])
def test_gates_need_no_probabilities_that_sum_to_one(
    gates: Callable[[Tensor, Tensor], Tensor], divisor: float
) -> None:
    scores_TE = torch.tensor([[0.9, 0.6, 0.3]], dtype=torch.float64)
    same(gates(scores_TE, torch.tensor([[2, 0]])), [[0.3 / divisor, 0.9 / divisor]], atol=1e-15)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_gradients(k: int) -> None:
    logits_TE = normal(3, 4).requires_grad_()
    experts_TK = top_k(logits_TE, k)
    scores_TE = sigmoid(normal(3, 4, seed=1)).requires_grad_()
    temperature = torch.full((3, 1), 0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda rows, tau: softmax_over_chosen(rows, experts_TK, tau), (logits_TE, temperature)
    )
    assert torch.autograd.gradcheck(lambda rows: renormalise(rows, experts_TK), scores_TE)
    assert torch.autograd.gradcheck(lambda rows: keep(rows, experts_TK), scores_TE)


@pytest.mark.parametrize("gates", [softmax_over_chosen, keep, renormalise])
def test_an_expert_named_twice_is_refused(gates: Callable[..., torch.Tensor]) -> None:
    probabilities_TE = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])
    with pytest.raises(ValueError, match="once per token, got 1 twice"):
        gates(probabilities_TE, torch.tensor([[0, 1], [1, 1]]))
