"""How likely each expert is to be among the K drawn: two ways in the package, three more here."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from moe_tutorial import (
    gumbel_top_k,
    inclusion_probabilities,
    inclusion_probabilities_by_enumeration,
)
from tests.oracles import ALPHA, generator, inclusion_of, logits_rows, normal, same, softmax_of

BOTH = [inclusion_probabilities, inclusion_probabilities_by_enumeration]
both = pytest.mark.parametrize("inclusion", BOTH)
Inclusion = Callable[..., Tensor]


def inclusion_by_gauss_legendre(logits: Tensor, k: int, expert: int) -> float:
    """The same probability from exponential clocks: expert e rings at time t, fewer than k before.

    Other variable, other quadrature and another library than the package's integral.
    """
    rates = np.exp(logits.double().numpy() - logits.double().numpy()[expert])
    nodes, weights = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(-45, 5, 101)
    half = (edges[1] - edges[0]) / 2
    log_time = ((edges[:-1] + half)[:, None] + half * nodes).ravel()
    time = np.exp(log_time)
    density = np.tile(half * weights, 100) * time * np.exp(-time)
    rung = np.zeros((k, len(time)))
    rung[0] = 1
    for rate in np.delete(rates, expert):
        not_yet = np.exp(-rate * time)
        rung[1:] = rung[1:] * not_yet + rung[:-1] * -np.expm1(-rate * time)
        rung[0] *= not_yet
    return float(density @ rung.sum(0))


@both
def test_published_numbers(inclusion: Inclusion, device: torch.device) -> None:
    logits_TE = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0]], dtype=torch.float64, device=device)
    expected = [[0.8537, 0.5268, 0.3343, 0.2074, 0.0778]]
    same(inclusion(logits_TE, 2), expected, atol=5e-5)


@both
def test_two_of_three_by_hand(inclusion: Inclusion) -> None:
    # Shares 1/2, 1/3, 1/6. Drawn first, or second after each of the others.
    logits_TE = torch.tensor([[3.0, 2.0, 1.0]], dtype=torch.float64).log()
    first = 1 / 2 + 1 / 3 * (3 / 4) + 1 / 6 * (3 / 5)
    second = 1 / 3 + 1 / 2 * (2 / 3) + 1 / 6 * (2 / 5)
    same(inclusion(logits_TE, 2), [[first, second, 2 - first - second]], atol=1e-14)


@both
@settings(max_examples=150)
@given(logits_rows(), st.floats(-1, 1), st.data())
def test_inclusion_is_the_sum_over_ordered_draws(
    inclusion: Inclusion, logits_TE: Tensor, power: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(4, logits_TE.shape[-1])))
    inclusion_TE = inclusion(logits_TE, k, 10**power)
    same(inclusion_TE, [inclusion_of(row, k, 10**power) for row in logits_TE.tolist()], atol=1e-13)
    same(inclusion_TE.sum(-1), [float(k)] * len(logits_TE), atol=1e-13)
    assert (inclusion_TE >= 0).all()
    assert (inclusion_TE <= 1 + 1e-13).all()


@both
@pytest.mark.parametrize("k", [1, 2, 3])
def test_inclusion_with_logits_far_apart(inclusion: Inclusion, k: int) -> None:
    for row in [[1e4, 0.0, -1e4, 3.0], [-1e4, -1e4, 1e4, 1e4 - 1], [5e3, 4.99e3, 0.0, 1.0]]:
        logits_TE = torch.tensor([row], dtype=torch.float64)
        same(inclusion(logits_TE, k), [inclusion_of(row, k)], atol=1e-13)


@both
@pytest.mark.parametrize("num_experts", [1, 2, 7])
def test_inclusion_of_one_draw_and_of_all(inclusion: Inclusion, num_experts: int) -> None:
    logits_TE = 3 * normal(4, num_experts)
    shares = [softmax_of(row, 0.7) for row in logits_TE.tolist()]
    same(inclusion(logits_TE, 1, 0.7), shares, atol=1e-13)
    same(inclusion(logits_TE, num_experts), torch.ones_like(logits_TE), atol=1e-13)


@both
@pytest.mark.parametrize("temperature", [1e-30, math.inf])
def test_inclusion_at_the_limits_of_the_temperature(
    inclusion: Inclusion, temperature: float
) -> None:
    logits_TE = torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0]], dtype=torch.float64)
    expected = [[0.6] * 5] if temperature == math.inf else [[0.0, 1.0, 0.5, 1.0, 0.5]]
    same(inclusion(logits_TE, 3, temperature), expected, atol=1e-13)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_temperature_at_which_the_quotients_overflow(
    inclusion: Inclusion, dtype: torch.dtype
) -> None:
    logits_TE = torch.tensor([[3.0, 1.0, -200.0, -200.0]], dtype=dtype)
    same(inclusion(logits_TE, 3, 5e-324).double(), [[1.0, 1.0, 0.5, 0.5]], atol=1e-13)


@both
def test_every_token_has_its_own_temperature(inclusion: Inclusion) -> None:
    logits_TE = normal(3, 4)
    tau_T1 = torch.tensor([[0.2], [1.0], [5.0]], dtype=torch.float64)
    rows = zip(logits_TE.tolist(), tau_T1.tolist(), strict=True)
    same(
        inclusion(logits_TE, 2, tau_T1), [inclusion_of(row, 2, t) for row, [t] in rows], atol=1e-13
    )


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_logits_lose_only_the_last_rounding(
    inclusion: Inclusion, dtype: torch.dtype
) -> None:
    logits_TE = normal(3, 5, dtype=dtype)
    expected = [inclusion_of(row, 2, 0.5) for row in logits_TE.tolist()]
    inclusion_TE = inclusion(logits_TE, 2, 0.5)
    assert inclusion_TE.dtype == torch.float32
    same(inclusion_TE, expected, atol=1e-6)
    if inclusion is inclusion_probabilities:
        same(inclusion_TE, inclusion(logits_TE.double(), 2, 0.5).float())


@given(logits_rows(max_tokens=1), st.data())
def test_a_larger_logit_is_included_more_often(logits_TE: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, logits_TE.shape[-1]))
    inclusion_TE = inclusion_probabilities(logits_TE, k)
    assert (inclusion_TE.gather(-1, logits_TE.argsort(-1)).diff() >= -1e-13).all()
    assert (inclusion_TE >= torch.softmax(logits_TE, -1) - 1e-13).all()


@given(st.permutations(range(6)), st.integers(1, 6))
def test_inclusion_moves_with_its_expert(experts: list[int], k: int) -> None:
    logits_TE = normal(2, 6)
    moved_TE = inclusion_probabilities(logits_TE[:, experts], k)
    same(moved_TE, inclusion_probabilities(logits_TE, k)[:, experts], atol=1e-13)


@both
@pytest.mark.parametrize("k", [1, 2, 4])
def test_gradients_of_the_inclusion(inclusion: Inclusion, k: int) -> None:
    logits_TE = normal(2, 4).requires_grad_()
    temperature = torch.full((2, 1), 0.8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda rows, tau: inclusion(rows, k, tau), (logits_TE, temperature)
    )


def test_gradients_stay_finite_with_logits_far_apart() -> None:
    logits_TE = torch.tensor([[1e4, 0.0, -1e4, 1.0]], dtype=torch.float64, requires_grad=True)
    inclusion_probabilities(logits_TE, 2)[0, 1].backward()
    assert logits_TE.grad is not None
    # Between experts 1 and 3 alone, the second draw is a sigmoid of their difference.
    slope = math.exp(1) / (1 + math.exp(1)) ** 2
    same(logits_TE.grad, [[0.0, slope, 0.0, -slope]], atol=1e-13)


def test_512_experts() -> None:
    num_experts, k, draws = 512, 8, 40_000
    logits_TE = 2 * normal(1, num_experts)
    inclusion_E = inclusion_probabilities(logits_TE, k)[0]
    same(inclusion_E.sum(), float(k), atol=1e-12)
    order = logits_TE[0].argsort()
    for expert in order[[0, 128, 256, 384, 480, 500, 508, 511]].tolist():
        expected = inclusion_by_gauss_legendre(logits_TE[0], k, expert)
        same(inclusion_E[expert], expected, atol=1e-13)

    rows_TE = logits_TE.float().expand(draws, num_experts)
    experts_TK = gumbel_top_k(rows_TE, k, 1.0, generator(0))
    counts = torch.bincount(experts_TK.flatten(), minlength=num_experts).tolist()
    for count, probability in zip(counts, inclusion_E.tolist(), strict=True):
        assert stats.binomtest(count, draws, probability).pvalue > ALPHA / num_experts


@pytest.mark.parametrize("k", [1, 3, 63, 64])
def test_64_equal_experts_share_the_draws(k: int) -> None:
    same(inclusion_probabilities(torch.full((1, 64), 7.0).double(), k), [[k / 64] * 64], atol=1e-13)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_quadrature_of_this_test_is_right(k: int) -> None:
    logits = [2.0, -1.0, 0.5, 0.0]
    ours = [inclusion_by_gauss_legendre(torch.tensor(logits), k, e) for e in range(4)]
    same(torch.tensor(ours, dtype=torch.float64), inclusion_of(logits, k), atol=1e-14)


def test_enumeration_refuses_what_would_take_too_long() -> None:
    message = r"k = 8 of 64 experts have \d+ ordered draws, more than 1000000: use inclusion_prob"
    with pytest.raises(ValueError, match=message):
        inclusion_probabilities_by_enumeration(normal(1, 64), 8)


def test_tiny_probabilities_keep_their_digits() -> None:
    logits_TE = torch.tensor([[0.0, -60.0, -80.0], [5.0, -150.0, -240.0]], dtype=torch.float64)
    expected = logits_TE.softmax(-1)
    assert torch.allclose(inclusion_probabilities(logits_TE, 1), expected, rtol=1e-12, atol=0)


def test_many_tokens_at_once_are_each_token_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    logits_TE = 5 * torch.randn(700, 12, generator=generator, dtype=torch.float64)
    together = inclusion_probabilities(logits_TE, 3)
    alone = torch.cat([inclusion_probabilities(row[None], 3) for row in logits_TE[::70]])
    assert torch.allclose(together[::70], alone, rtol=0, atol=1e-13)
