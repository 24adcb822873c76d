"""Chapter 05's functions against sums written out in Python."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moe_tutorial import combine, scatter_gates, softmax_over_chosen, top_k
from tests.oracles import logits_rows, normal, same


def test_combine_is_a_sum_of_products() -> None:
    outputs_TKD, gates_TK = normal(3, 4, 5), normal(3, 4, seed=1)
    expected = [
        [
            math.fsum(g * o for g, o in zip(gates, column, strict=True))
            for column in zip(*rows, strict=True)
        ]
        for rows, gates in zip(outputs_TKD.tolist(), gates_TK.tolist(), strict=True)
    ]
    same(combine(outputs_TKD, gates_TK), expected, atol=1e-14)


def test_combine_by_hand(device: torch.device) -> None:
    outputs_TKD = torch.tensor([[[1.0, 2.0], [10.0, 20.0]], [[0.0, -1.0], [4.0, 4.0]]])
    gates_TK = torch.tensor([[0.5, 0.25], [1.0, 0.5]])
    same(combine(outputs_TKD.to(device), gates_TK.to(device)), [[3.0, 6.0], [2.0, 1.0]])


@given(logits_rows(), st.data())
def test_identical_experts_give_back_their_output(logits_TE: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, logits_TE.shape[-1]))
    gates_TK = softmax_over_chosen(logits_TE, top_k(logits_TE, k))
    output_TD = normal(len(logits_TE), 3)
    outputs_TKD = output_TD[:, None].expand(-1, k, -1)
    same(combine(outputs_TKD, gates_TK), output_TD, rtol=2e-15)


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_combine_is_linear_in_the_outputs_and_in_the_gates(a: float, b: float) -> None:
    left_TKD, right_TKD = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    gates_TK, other_TK = normal(2, 3, seed=2), normal(2, 3, seed=3)
    same(
        combine(a * left_TKD + b * right_TKD, gates_TK),
        a * combine(left_TKD, gates_TK) + b * combine(right_TKD, gates_TK),
        atol=1e-13,
    )
    same(
        combine(left_TKD, a * gates_TK + b * other_TK),
        a * combine(left_TKD, gates_TK) + b * combine(left_TKD, other_TK),
        atol=1e-13,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gates_dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_combine_keeps_the_outputs_dtype(dtype: torch.dtype, gates_dtype: torch.dtype) -> None:
    outputs_TKD, gates_TK = normal(3, 2, 5, dtype=dtype), normal(3, 2, seed=1, dtype=gates_dtype)
    exact_TD = torch.einsum("tkd,tk->td", outputs_TKD.double(), gates_TK.double())
    y_TD = combine(outputs_TKD, gates_TK)
    assert y_TD.dtype == dtype
    # One rounding of a float32 sum, and so one or two units in the last place of the result.
    same(y_TD.double(), exact_TD, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_combine_adds_up_in_float32() -> None:
    # Each small term alone vanishes beside 1 in bfloat16; together they are its next number.
    outputs_TKD = torch.tensor([[[1.0], [2**-8], [2**-8]]], dtype=torch.bfloat16)
    gates_TK = torch.ones(1, 3, dtype=torch.bfloat16)
    same(combine(outputs_TKD, gates_TK), [[1 + 2**-7]])
    same(outputs_TKD[:, 0] + outputs_TKD[:, 1] + outputs_TKD[:, 2], [[1.0]])


@given(logits_rows(), st.data())
def test_scattered_gates_can_be_gathered_again(logits_TE: Tensor, data: st.DataObject) -> None:
    num_experts = logits_TE.shape[-1]
    k = data.draw(st.integers(1, num_experts))
    experts_TK = top_k(logits_TE, k)
    gates_TK = softmax_over_chosen(logits_TE, experts_TK)
    gates_TE = scatter_gates(gates_TK, experts_TK, num_experts)
    assert gates_TE.shape == logits_TE.shape
    same(gates_TE.gather(-1, experts_TK), gates_TK)
    chosen_TE = (torch.arange(num_experts) == experts_TK[..., None]).any(1)
    assert (gates_TE[~chosen_TE] == 0).all()
    same(gates_TE.sum(-1), [1.0] * len(logits_TE), atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_scatter_gates_by_hand(dtype: torch.dtype, device: torch.device) -> None:
    gates_TK = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=dtype, device=device)
    experts_TK = torch.tensor([[3, 0], [1, 2]], device=device)
    same(scatter_gates(gates_TK, experts_TK, 4), [[0.25, 0, 0, 0.75], [0, 0.5, 0.5, 0]])


def test_the_sum_over_the_chosen_is_the_sum_over_all() -> None:
    outputs_TED, logits_TE = normal(4, 6, 3), normal(4, 6, seed=1)
    experts_TK = top_k(logits_TE, 2)
    gates_TK = softmax_over_chosen(logits_TE, experts_TK)
    outputs_TKD = outputs_TED[torch.arange(4)[:, None], experts_TK]
    dense_TD = torch.einsum("ted,te->td", outputs_TED, scatter_gates(gates_TK, experts_TK, 6))
    same(combine(outputs_TKD, gates_TK), dense_TD, atol=1e-15)


def test_gradients() -> None:
    outputs_TKD, gates_TK = normal(3, 2, 4).requires_grad_(), normal(3, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(combine, (outputs_TKD, gates_TK))
    experts_TK = torch.tensor([[4, 1], [0, 2], [3, 4]])
    assert torch.autograd.gradcheck(lambda gates: scatter_gates(gates, experts_TK, 5), gates_TK)


@pytest.mark.parametrize(
    ("outputs_shape", "gates_shape", "message"),
    [
        ((3, 2, 4), (3, 4), r"outputs_TKD must have shape \[T, K, D\].*\(3, 4\).*got \(3, 2, 4\)"),
        ((3, 2, 4), (4, 2), r"outputs_TKD must have shape \[T, K, D\].*\(4, 2\).*got \(3, 2, 4\)"),
        ((1, 2, 4), (3, 2), r"outputs_TKD must have shape \[T, K, D\].*\(3, 2\).*got \(1, 2, 4\)"),
        ((2, 3, 2, 4), (3, 2), r"outputs_TKD must have shape .* got \(2, 3, 2, 4\)"),
        ((2, 4), (2, 4), r"outputs_TKD must have at least 3 dimensions, got shape \(2, 4\)"),
        ((3, 2, 4), (3,), r"gates_TK must have at least 2 dimensions, got shape \(3,\)"),
        ((3, 2, 0), (3, 2), r"last dimension of outputs_TKD must not be empty"),
        ((3, 0, 4), (3, 0), r"last dimension of gates_TK must not be empty"),
    ],
)
def test_combine_refuses_shapes_that_do_not_fit(
    outputs_shape: tuple[int, ...], gates_shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        combine(torch.ones(outputs_shape), torch.ones(gates_shape))


@pytest.mark.parametrize(
    ("experts", "num_experts", "error", "message"),
    [
        (
            torch.tensor([[0, 1]]).int(),
            3,
            TypeError,
            "experts_TK.*int64 expert ids, got torch.int32",
        ),
        ([[0, 1]], 3, TypeError, "experts_TK must hold int64 expert ids, got list"),
        (torch.tensor([[0]]), 3, ValueError, r"shape of gates_TK, \(1, 2\), got \(1, 1\)"),
        (torch.tensor([0, 1]), 3, ValueError, r"experts_TK must have at least 2 dim.*\(2,\)"),
        (torch.tensor([[0, 3]]), 3, ValueError, "experts_TK must hold ids from 0 to 2, got 3"),
        (torch.tensor([[-1, 2]]), 3, ValueError, "experts_TK must hold ids from 0 to 2, got -1"),
        (torch.tensor([[0, 0]]), 1, ValueError, r"k must be .* number of experts \(1\), got 2"),
        (torch.tensor([[0, 1]]), 0, ValueError, "num_experts must be at least 1, got 0"),
        (torch.tensor([[0, 1]]), 3.0, TypeError, "num_experts must be an int, got 3.0"),
        (torch.tensor([[0, 1]]), True, TypeError, "num_experts must be an int, got True"),
    ],
)
def test_scatter_gates_refuses_ids_that_do_not_fit(
    experts: Tensor, num_experts: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        scatter_gates(torch.ones(1, 2), experts, num_experts)
