"""Chapter 04's draws against exact Plackett-Luce probabilities.

Every statistical test fails by chance once in a million untried seeds (``ALPHA``); the seeds are
fixed, so what passed once passes always. The last tests show that the method finds real mistakes.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from moe_tutorial import gumbel_top_k, noisy_logits, plackett_luce_log_probability
from tests.oracles import (
    ALPHA,
    chi_square_p_value,
    count_draws,
    generator,
    inclusion_of,
    logits_rows,
    normal,
    ordered_draws,
    same,
)

LOGITS = [2.0, 1.0, 0.5, 0.0, -1.0]
DRAWS = 100_000


def rows_of(logits: list[float], rows: int, device: torch.device | str = "cpu") -> Tensor:
    return torch.tensor(logits, device=device).expand(rows, len(logits))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, math.inf])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_ordered_draws_have_plackett_luce_probabilities(
    k: int, temperature: float, device: torch.device
) -> None:
    logits_TE = rows_of(LOGITS, DRAWS, device)
    experts_TK = gumbel_top_k(logits_TE, k, temperature, generator(k, device))
    assert chi_square_p_value(experts_TK, ordered_draws(LOGITS, k, temperature)) > ALPHA


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_draw_the_same_way(dtype: torch.dtype, device: torch.device) -> None:
    logits_TE = rows_of(LOGITS, DRAWS, device).to(dtype)
    experts_TK = gumbel_top_k(logits_TE, 2, 0.5, generator(1, device))
    assert chi_square_p_value(experts_TK, ordered_draws(LOGITS, 2, 0.5)) > ALPHA


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_experts_are_included_as_often_as_they_should(temperature: float) -> None:
    experts_TK = gumbel_top_k(rows_of(LOGITS, DRAWS), 2, temperature, generator(3))
    counts = torch.bincount(experts_TK.flatten(), minlength=len(LOGITS)).tolist()
    for count, probability in zip(counts, inclusion_of(LOGITS, 2, temperature), strict=True):
        assert stats.binomtest(count, DRAWS, probability).pvalue > ALPHA / len(LOGITS)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_multinomial_without_replacement_draws_alike(temperature: float) -> None:
    rows_TE = rows_of(LOGITS, DRAWS)
    ours = count_draws(gumbel_top_k(rows_TE, 2, temperature, generator(4)))
    theirs = count_draws(
        torch.multinomial((rows_TE / temperature).softmax(-1), 2, generator=generator(5))
    )
    draws = sorted(ours.keys() | theirs.keys())
    table = [[ours[drawn] for drawn in draws], [theirs[drawn] for drawn in draws]]
    assert len(draws) == 20
    assert stats.chi2_contingency(table).pvalue > ALPHA


def test_every_token_draws_at_its_own_temperature() -> None:
    tau_T1 = torch.tensor([0.4, 5.0]).repeat(DRAWS // 2)[:, None]
    experts_TK = gumbel_top_k(rows_of(LOGITS, DRAWS), 2, tau_T1, generator(6))
    for start, temperature in enumerate([0.4, 5.0]):
        expected = ordered_draws(LOGITS, 2, temperature)
        assert chi_square_p_value(experts_TK[start::2], expected) > ALPHA


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-6])
def test_towards_temperature_zero_only_ties_are_left_to_chance(temperature: float) -> None:
    experts_TK = gumbel_top_k(rows_of([1.0, 3.0, 2.0, 3.0], 20_000), 3, temperature, generator(7))
    assert chi_square_p_value(experts_TK, {(1, 3, 2): 0.5, (3, 1, 2): 0.5}) > ALPHA


def test_gumbel_orders_experts_whose_probability_is_zero_in_float32() -> None:
    experts_TK = gumbel_top_k(rows_of([0.0, -200.0, -300.0, -400.0], 2000), 4, 1.0, generator(8))
    same(experts_TK, [[0, 1, 2, 3]] * 2000)


@given(logits_rows(largest=1e4), st.floats(-30, 30), st.integers(0, 2**32), st.data())
def test_no_expert_is_drawn_twice_and_a_seed_repeats_its_draw(
    logits_TE: Tensor, power: float, seed: int, data: st.DataObject
) -> None:
    num_experts = logits_TE.shape[-1]
    k = data.draw(st.integers(1, num_experts))
    for rows in (logits_TE, logits_TE.float()):
        experts_TK = gumbel_top_k(rows, k, 10**power, generator(seed))
        assert experts_TK.shape == (len(logits_TE), k)
        assert all(len(set(ids)) == k for ids in experts_TK.tolist())
        assert set(experts_TK.flatten().tolist()) <= set(range(num_experts))
        same(gumbel_top_k(rows, k, 10**power, generator(seed)), experts_TK)


def test_draws_come_from_the_given_generator_and_no_other() -> None:
    logits_TE = normal(50, 8)
    ours = generator(9)
    first_TK = gumbel_top_k(logits_TE, 3, 1.0, ours)
    assert not torch.equal(gumbel_top_k(logits_TE, 3, 1.0, ours), first_TK)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    gumbel_top_k(logits_TE, 3, 1.0, ours)
    noisy_logits(logits_TE, logits_TE, ours)
    assert torch.equal(torch.get_rng_state(), before)
    # Without one, torch's own is used, and both kinds of generator count alike.
    same(gumbel_top_k(logits_TE, 3), first_TK)


def test_a_uniform_number_of_zero_rules_no_expert_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    same(gumbel_top_k(torch.tensor([[0.0, 1.0, 2.0]]), 2), [[2, 1]])


@pytest.mark.parametrize("score", [-20.0, -1.0, 0.0, 3.0])
def test_noise_has_the_deviation_that_its_scores_say(score: float, device: torch.device) -> None:
    logits_TE = normal(DRAWS, 2, device=device)
    noise_scores_TE = torch.full_like(logits_TE, score)
    noisy_TE = noisy_logits(logits_TE, noise_scores_TE, generator(10, device))
    deviation = math.log(1 + math.exp(score)) + 0.01
    z_TE = ((noisy_TE - logits_TE) / deviation).cpu()
    assert stats.kstest(z_TE.flatten(), "norm").pvalue > ALPHA
    # Twice the smaller tail: 200 000 draws tell a deviation from one 2 % larger or smaller.
    tail = stats.chi2.cdf(z_TE.square().sum(), z_TE.numel())
    assert 2 * min(tail, 1 - tail) > ALPHA
    assert stats.pearsonr(z_TE[:, 0], z_TE[:, 1]).pvalue > ALPHA
    assert stats.pearsonr(z_TE[:-1, 0], z_TE[1:, 0]).pvalue > ALPHA


def test_noise_differs_between_experts_by_their_scores() -> None:
    noise_scores_TE = torch.tensor([[-30.0, 5.0]]).expand(DRAWS, 2)
    noisy_TE = noisy_logits(torch.zeros(DRAWS, 2), noise_scores_TE, generator(11))
    same(noisy_TE.std(0), [0.01, 5.01671535], rtol=0.02)


def test_gradients_flow_through_noisy_logits() -> None:
    operands = normal(3, 4).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda logits, noise: noisy_logits(logits, noise, generator(12)), operands
    )


@pytest.mark.parametrize("spread", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 10.0])
@pytest.mark.parametrize("k", [1, 3, 4])
def test_log_probability_of_an_ordered_draw(k: int, temperature: float, spread: float) -> None:
    for logits in (spread * normal(5, 4, seed=k)).tolist():
        draws = ordered_draws(logits, k, temperature)
        rows_NE = torch.tensor([logits] * len(draws), dtype=torch.float64)
        log_probability_N = plackett_luce_log_probability(
            rows_NE, torch.tensor(list(draws)), temperature
        )
        same(log_probability_N.exp(), list(draws.values()), atol=1e-14, rtol=1e-12)
        same(log_probability_N.exp().sum(), 1.0, atol=1e-13)


def test_log_probability_stays_finite_where_the_probability_is_zero() -> None:
    logits_TE = torch.tensor([[0.0, -1e4, -2e4]], dtype=torch.float64)
    same(plackett_luce_log_probability(logits_TE, torch.tensor([[2, 1]])), [-3e4])
    same(plackett_luce_log_probability(logits_TE, torch.tensor([[2, 1]]), 0.5), [-6e4])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_probability_at_a_temperature_at_which_the_quotients_overflow(
    dtype: torch.dtype,
) -> None:
    logits_TE = torch.tensor([[3.0, 1.0, -200.0, -200.0]], dtype=dtype).expand(3, 4)
    experts_TK = torch.tensor([[0, 1, 2], [0, 1, 3], [1, 0, 2]])
    log_probability_T = plackett_luce_log_probability(logits_TE, experts_TK, 5e-324)
    same(log_probability_T.double().exp(), [0.5, 0.5, 0.0], atol=1e-7)


def test_drawing_an_expert_twice_is_impossible() -> None:
    repeated = torch.tensor([[1, 1], [0, 2], [2, 2]])
    log_probability_T = plackett_luce_log_probability(normal(3, 3), repeated)
    assert log_probability_T.isneginf().tolist() == [True, False, True]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_gradients_of_the_log_probability(k: int) -> None:
    experts_TK = torch.tensor([[2, 0, 3, 1], [0, 1, 2, 3]])[:, :k]
    temperature = torch.full((2, 1), 0.8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda rows, tau: plackett_luce_log_probability(rows, experts_TK, tau),
        (normal(2, 4).requires_grad_(), temperature),
    )


def test_the_chi_square_test_rejects_gumbel_softmax_then_top_k() -> None:
    torch.manual_seed(13)
    one_hot_TE = torch.nn.functional.gumbel_softmax(rows_of(LOGITS, DRAWS), hard=True)
    experts_TK = one_hot_TE.topk(2).indices
    # Its first draw is right, which is why the mistake is hard to see.
    assert chi_square_p_value(experts_TK[:, :1], ordered_draws(LOGITS, 1)) > ALPHA
    assert chi_square_p_value(experts_TK, ordered_draws(LOGITS, 2)) < ALPHA


def test_the_chi_square_test_rejects_multinomial_at_probability_zero() -> None:
    logits = [0.0, -200.0, -300.0, -400.0]
    experts_TK = torch.multinomial(rows_of(logits, 2000).softmax(-1), 2, generator=generator(14))
    assert chi_square_p_value(experts_TK, ordered_draws(logits, 2)) < ALPHA
    ours_TK = gumbel_top_k(rows_of(logits, 2000), 2, 1.0, generator(14))
    assert chi_square_p_value(ours_TK, ordered_draws(logits, 2)) > ALPHA


def test_the_chi_square_test_rejects_a_slightly_wrong_temperature() -> None:
    experts_TK = gumbel_top_k(rows_of(LOGITS, DRAWS), 2, 1.05, generator(15))
    assert chi_square_p_value(experts_TK, ordered_draws(LOGITS, 2)) < ALPHA
