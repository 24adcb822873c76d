"""Chapter 02's functions against SciPy, sums in Python, and their limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from torch import Tensor

from moe_tutorial import entropy, sigmoid, softmax
from tests.oracles import logits_rows, normal, same, softmax_of

temperatures = st.floats(-2, 2).map(lambda power: 10**power)


@given(logits_rows(), temperatures)
def test_softmax_is_exponentials_over_their_sum(logits_TE: Tensor, temperature: float) -> None:
    expected = [softmax_of(row, temperature) for row in logits_TE.tolist()]
    # Rounding l / tau, of up to 1000, moves a probability by up to 1e-13 of itself.
    same(softmax(logits_TE, temperature), expected, atol=1e-15, rtol=1e-12)


@given(logits_rows())
def test_softmax_at_temperature_one_is_scipys(logits_TE: Tensor) -> None:
    expected = torch.from_numpy(special.softmax(logits_TE.numpy(), axis=-1))
    same(softmax(logits_TE), expected, atol=1e-15)


def test_softmax_by_hand(device: torch.device) -> None:
    logits_TE = torch.tensor([[math.log(1), math.log(2), math.log(5)]], device=device)
    same(softmax(logits_TE), [[1 / 8, 2 / 8, 5 / 8]], atol=1e-7)
    same(softmax(logits_TE, 0.5), [[1 / 30, 4 / 30, 25 / 30]], atol=1e-7)


@given(logits_rows(), temperatures, st.floats(-100, 100))
def test_softmax_rows_are_distributions_and_ignore_a_shift(
    logits_TE: Tensor, temperature: float, shift: float
) -> None:
    probabilities_TE = softmax(logits_TE, temperature)
    assert (probabilities_TE >= 0).all()
    same(probabilities_TE.sum(-1), [1.0] * len(logits_TE), atol=1e-15 * logits_TE.shape[-1])
    # The shifted logits are rounded at 110, and a small temperature magnifies what that lost.
    tolerance = 1e-13 / min(temperature, 1)
    same(softmax(logits_TE + shift, temperature), probabilities_TE, atol=tolerance)


@given(logits_rows(), temperatures)
def test_softmax_keeps_the_order_and_equal_logits_equal(logits_TE: Tensor, tau: float) -> None:
    for logits, probabilities in zip(logits_TE, softmax(logits_TE, tau), strict=True):
        for i in range(len(logits)):
            assert (probabilities[logits > logits[i]] >= probabilities[i]).all()
            assert (probabilities[logits == logits[i]] == probabilities[i]).all()


@given(st.permutations(range(5)), temperatures)
def test_softmax_moves_with_its_expert(experts: list[int], temperature: float) -> None:
    logits_TE = normal(3, 5)
    moved_TE = softmax(logits_TE[:, experts], temperature)
    same(moved_TE, softmax(logits_TE, temperature)[:, experts], atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-300, 1e-50, 1e-30])
def test_towards_zero_the_largest_logits_share_everything(
    temperature: float, dtype: torch.dtype, device: torch.device
) -> None:
    logits_TE = torch.tensor([[1.0, 3.0, 2.0, 3.0], [-5, -6, -7, 1e4]], dtype=dtype, device=device)
    expected = [[0.0, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]]
    same(softmax(logits_TE, temperature), expected)
    same(softmax(logits_TE, torch.tensor(temperature, dtype=torch.float64).to(device)), expected)


@pytest.mark.parametrize("temperature", [1e30, 1e300, math.inf])
def test_towards_infinity_all_experts_are_equal(temperature: float, device: torch.device) -> None:
    logits_TE = torch.tensor([[1.0, 3.0, 2.0, -1e4, 1e4]], device=device)
    same(softmax(logits_TE, temperature), [[0.2] * 5], atol=1e-7)


@given(
    logits_rows(largest=1e4), st.floats(-30, 30), st.sampled_from([torch.float32, torch.float64])
)
def test_softmax_is_stable(logits_TE: Tensor, power: float, dtype: torch.dtype) -> None:
    probabilities_TE = softmax(logits_TE.to(dtype), 10**power)
    assert torch.isfinite(probabilities_TE).all()
    same(probabilities_TE.sum(-1), [1.0] * len(logits_TE), atol=16 * torch.finfo(dtype).eps)
    best_T = probabilities_TE.gather(-1, logits_TE.argmax(-1, keepdim=True))
    assert (best_T >= 1 / logits_TE.shape[-1] * (1 - 1e-6)).all()


@given(logits_rows(), temperatures, st.floats(1, 10))
def test_entropy_grows_with_the_temperature(logits_TE: Tensor, tau: float, factor: float) -> None:
    cooler_T, hotter_T = entropy(softmax(logits_TE, tau)), entropy(softmax(logits_TE, factor * tau))
    assert (hotter_T >= cooler_T - 1e-14).all()
    assert (cooler_T >= 0).all()
    assert (hotter_T <= math.log(logits_TE.shape[-1]) + 1e-14).all()


def test_every_token_can_have_its_own_temperature() -> None:
    logits_BSE = normal(2, 3, 4)
    tau_BS1 = torch.tensor([[0.1, 1.0, 7.0], [math.inf, 1e-30, 2.0]], dtype=torch.float64)[
        ..., None
    ]
    probabilities_BSE = softmax(logits_BSE, tau_BS1)
    for b in range(2):
        for s in range(3):
            alone_1E = softmax(logits_BSE[b, s][None], tau_BS1[b, s].item())
            same(probabilities_BSE[b, s][None], alone_1E, atol=1e-16)
    same(softmax(logits_BSE, tau_BS1[0]), softmax(logits_BSE, tau_BS1[:1].expand(2, 3, 1)))
    same(softmax(logits_BSE, torch.tensor(0.5)), softmax(logits_BSE, 0.5))


def test_a_float64_temperature_does_not_widen_float32_logits() -> None:
    logits_TE = normal(3, 4, dtype=torch.float32)
    tau_T1 = torch.full((3, 1), 0.5, dtype=torch.float64)
    same(softmax(logits_TE, tau_T1), softmax(logits_TE, 0.5))


@given(logits_rows(largest=700))
def test_sigmoid_is_scipys_and_half_a_hyperbolic_tangent(logits_TE: Tensor) -> None:
    expected = torch.from_numpy(special.expit(logits_TE.numpy()))
    same(sigmoid(logits_TE), expected, rtol=1e-14)
    same(sigmoid(logits_TE), (1 + torch.tanh(logits_TE / 2)) / 2, atol=1e-15)


def test_sigmoid_limits_and_independence(device: torch.device) -> None:
    logits_TE = torch.tensor([[-1e4, 0.0, 1e4]], device=device)
    same(sigmoid(logits_TE), [[0.0, 0.5, 1.0]])
    same(sigmoid(logits_TE[:, 1:]), sigmoid(logits_TE)[:, 1:])


@given(logits_rows(largest=1e3))
def test_entropy_is_scipys(logits_TE: Tensor) -> None:
    probabilities_TE = torch.from_numpy(special.softmax(logits_TE.numpy(), axis=-1))
    expected_T = torch.from_numpy(special.entr(probabilities_TE.numpy()).sum(-1))
    same(entropy(probabilities_TE), expected_T, atol=1e-15 * 6)


def test_entropy_by_hand(device: torch.device) -> None:
    probabilities_TE = torch.tensor(
        [[0.25] * 4, [0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0], [0, 0, 1, 0]], device=device
    )
    expected = [math.log(4), math.log(2), 1.5 * math.log(2), 0.0]
    same(entropy(probabilities_TE), expected, atol=2e-7)


def test_entropy_of_a_sure_token_has_a_finite_gradient() -> None:
    probabilities_TE = torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True)
    entropy(probabilities_TE).sum().backward()
    assert probabilities_TE.grad is not None
    same(probabilities_TE.grad[0, 1], -1.0)
    assert torch.isfinite(probabilities_TE.grad).all()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_gradients(temperature: float) -> None:
    logits_TE = normal(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: softmax(rows, temperature), logits_TE)
    assert torch.autograd.gradcheck(sigmoid, logits_TE)
    # Entropy takes distributions only, so its numeric derivative is taken along the logits.
    assert torch.autograd.gradcheck(lambda rows: entropy(softmax(rows, temperature)), logits_TE)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1)])
def test_gradients_reach_a_learned_temperature(shape: tuple[int, ...]) -> None:
    logits_TE = normal(3, 4).requires_grad_()
    temperature = torch.full(shape, 0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(softmax, (logits_TE, temperature))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.6, -0.1], "probabilities_TE must not be negative, got -0.1"),
        ([0.5, 0.25, 0.5], "every row of probabilities_TE must sum to 1, got.*1.25"),
        ([0.5, 0.25, 0.0], "every row of probabilities_TE must sum to 1, got.*0.75"),
        ([0.5, 0.498, 0.0], "every row of probabilities_TE must sum to 1, got.*0.998"),
        ([2.0, -1.0, 0.5], "probabilities_TE must not be negative, got -1.0"),
    ],
)
def test_entropy_refuses_what_is_no_distribution(row: list[float], message: str) -> None:
    good_row = [0.2, 0.3, 0.5]
    with pytest.raises(ValueError, match=message):
        entropy(torch.tensor([good_row, row], dtype=torch.float64))
