"""Clouds of logits and centroids: KLs against torch.distributions, draws and gradients."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from moe_tutorial.uncertainty.centroid_clouds import (
    centroid_variance,
    dropped,
    laplace_covariances,
)
from moe_tutorial.uncertainty.logit_clouds import (
    cholesky_factor,
    full_covariance_kl,
    full_covariance_logits,
    mean_field_kl,
    mean_field_logits,
)
from tests.oracles import generator, normal, same


def factor_of(tokens: int, num_experts: int, seed: int) -> Tensor:
    entries = num_experts * (num_experts - 1) // 2
    return cholesky_factor(
        normal(tokens, num_experts, seed=seed) / 2, normal(tokens, entries, seed=seed + 1)
    )


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**31))
def test_divergences_are_those_of_torch(tokens: int, num_experts: int, seed: int) -> None:
    shift_TE, log_TE = (normal(tokens, num_experts, seed=seed + i) for i in (5, 6))
    unit = Normal(torch.zeros(num_experts).double(), 1.0)
    expected_T = kl_divergence(Normal(shift_TE, log_TE.exp()), unit).sum(-1)
    found_T = mean_field_kl(shift_TE, log_TE)
    same(found_T, expected_T, atol=1e-12, rtol=1e-12)
    factor_TEE = factor_of(tokens, num_experts, seed)
    prior = MultivariateNormal(torch.zeros(num_experts).double(), torch.eye(num_experts).double())
    full_T = full_covariance_kl(shift_TE, factor_TEE)
    expected_T = kl_divergence(MultivariateNormal(shift_TE, scale_tril=factor_TEE), prior)
    same(full_T, expected_T, atol=1e-11, rtol=1e-11)
    assert bool((found_T > 0).all())
    assert bool((full_T > 0).all())
    diagonal_TEE = torch.diag_embed(log_TE.exp())
    same(full_covariance_kl(shift_TE, diagonal_TEE), found_T, atol=1e-12, rtol=1e-12)
    # Other names for the experts, in both the mean and the covariance, change nothing.
    order_E = torch.randperm(num_experts, generator=generator(seed))
    same(mean_field_kl(shift_TE[:, order_E], log_TE[:, order_E]), found_T, atol=1e-12, rtol=1e-12)
    covariance_TEE = (factor_TEE @ factor_TEE.mT)[:, order_E][:, :, order_E]
    renamed_T = full_covariance_kl(shift_TE[:, order_E], torch.linalg.cholesky(covariance_TEE))
    same(renamed_T, full_T, atol=1e-9, rtol=1e-9)


def test_a_divergence_is_zero_at_the_prior_and_exact_beside_it() -> None:
    zeros_TE = torch.zeros(2, 3)
    same(mean_field_kl(zeros_TE, zeros_TE), torch.zeros(2))
    same(full_covariance_kl(zeros_TE, torch.eye(3).expand(2, 3, 3)), torch.zeros(2))
    nearly = mean_field_kl(zeros_TE, zeros_TE + 1e-4)  # E d^2 for a tiny ln sigma d
    same(nearly, torch.full((2,), 3e-8), rtol=1e-2)


@pytest.mark.parametrize("num_experts", [1, 2, 5])
def test_a_factor_is_that_of_one_covariance(num_experts: int) -> None:
    factor_TEE = factor_of(3, num_experts, 0)
    same(torch.linalg.cholesky(factor_TEE @ factor_TEE.mT), factor_TEE, atol=1e-12)
    if num_experts > 2:
        below_X = torch.arange(1.0, 11)[None]
        rows = cholesky_factor(torch.zeros(1, 5), below_X)[0].tolist()
        assert rows[3] == [4, 5, 6, 1, 0]


def test_draws_have_the_mean_and_the_covariance_that_they_should(device: torch.device) -> None:
    mean_E = normal(4, seed=1).to(device)
    factor_EE = factor_of(1, 4, 2)[0].to(device)
    many_NE = mean_E.expand(40_000, 4)
    full_NE = full_covariance_logits(many_NE, factor_EE, generator(0, device))
    same(full_NE.mean(0), mean_E, atol=0.06)
    same(torch.cov(full_NE.T), factor_EE @ factor_EE.T, atol=0.15, rtol=0.03)
    log_NE = factor_EE.diagonal().log().expand_as(many_NE)
    apart_NE = mean_field_logits(many_NE, log_NE, generator(0, device))
    same(apart_NE.mean(0), mean_E, atol=0.06)
    same(torch.cov(apart_NE.T), factor_EE.diagonal().square().diag(), atol=0.06, rtol=0.03)
    # The same numbers from the generator: with a diagonal factor both are one.
    same(full_covariance_logits(many_NE, log_NE[0].exp().diag(), generator(3, device)),
         mean_field_logits(many_NE, log_NE, generator(3, device)))  # fmt: skip


def test_gradients_are_those_of_differences() -> None:
    mean_TE, log_TE = (normal(2, 3, seed=i).requires_grad_() for i in (0, 1))
    below_TX = normal(2, 3, seed=2).requires_grad_()

    def full(mean_TE: Tensor, log_TE: Tensor, below_TX: Tensor) -> tuple[Tensor, Tensor]:
        factor_TEE = cholesky_factor(log_TE, below_TX)
        logits_TE = full_covariance_logits(mean_TE, factor_TEE, generator(4))
        return logits_TE, full_covariance_kl(mean_TE, factor_TEE)

    assert torch.autograd.gradcheck(full, (mean_TE, log_TE, below_TX))
    assert torch.autograd.gradcheck(
        lambda mean, log: (mean_field_logits(mean, log, generator(4)), mean_field_kl(mean, log)),
        (mean_TE, log_TE),
    )


def test_dropout_drops_as_often_as_it_says_and_keeps_the_mean(device: torch.device) -> None:
    x_TD = torch.full((200, 500), 2.0, device=device)
    found_TD = dropped(x_TD, 0.2, generator(0, device))
    assert set(found_TD.unique().tolist()) == {0.0, 2.5}
    assert (found_TD == 0).float().mean().item() == pytest.approx(0.2, abs=0.006)
    same(found_TD, dropped(x_TD, 0.2, generator(0, device)))
    same(dropped(x_TD, 0.0, generator(0, device)), x_TD)


def test_the_laplace_posterior_of_a_linear_model_is_the_exact_one() -> None:
    # Least squares with unit noise: the loss |y - W u|^2 / 2 has the curvature I for each token,
    # and the posterior over a row of W is Gaussian with the precision U'U + lambda.
    x_TD = normal(4000, 3, seed=1) @ normal(3, 3, seed=2)
    gradient_TE = normal(4000, 2, seed=3)  # y - W u with a label drawn from the model
    covariance_EE, covariance_DD = laplace_covariances(x_TD, gradient_TE, 1e-8)
    found = torch.kron(covariance_EE, covariance_DD)
    exact_DD = torch.linalg.inv(x_TD.T @ x_TD).contiguous()
    expected = torch.kron(torch.eye(2).double(), exact_DD)
    scale = exact_DD.diagonal().max().item()
    same(found, expected, atol=0.06 * scale)


def test_without_curvature_the_prior_is_left() -> None:
    covariance_EE, covariance_DD = laplace_covariances(torch.zeros(5, 3), torch.zeros(5, 2), 4.0)
    same(torch.kron(covariance_EE, covariance_DD), torch.eye(6).double() / 4, atol=1e-12)


def test_the_variance_of_a_direction_is_that_of_draws() -> None:
    x_TD = normal(5, 3, seed=1)
    _, covariance_DD = laplace_covariances(normal(50, 3), normal(50, 2), 2.0)
    weights_ND = MultivariateNormal(torch.zeros(3).double(), covariance_DD).rsample((100,))
    found_T = centroid_variance(x_TD, covariance_DD)
    same(found_T, torch.einsum("ti,ij,tj->t", x_TD, covariance_DD, x_TD), atol=1e-12)
    assert weights_ND.shape == (100, 3)
    assert bool((found_T > 0).all())


ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mean_field_logits(ONES, ONES[:1]), ValueError, "must have the shape of mean_TE"),
        (lambda: mean_field_logits(ONES, ONES.long()), TypeError, "must have a floating-point dty"),
        (lambda: mean_field_kl(ONES * torch.nan, ONES), ValueError, "shift_TE must be finite"),
        (lambda: mean_field_logits(ONES, ONES, 3), TypeError, "generator must be a torch.Generat"),
        (lambda: cholesky_factor(ONES, ONES[:, :2]), ValueError, "below_TX must have shape"),
        (lambda: full_covariance_logits(ONES, ONES.T), ValueError, "factor_TEE must end in 3 x 3"),
        (lambda: full_covariance_logits(ONES, torch.ones(3, 3)), ValueError, "lower triangular"),
        (lambda: full_covariance_kl(ONES, -torch.eye(3)), ValueError, "a positive diagonal"),
        (lambda: dropped(ONES, 1.0), ValueError, "rate must be at least 0 and below 1, got 1.0"),
        (lambda: dropped(ONES, -0.1), ValueError, "rate must be at least 0 and below 1, got -0.1"),
        (lambda: dropped(ONES, True), TypeError, "rate must be a number, got bool"),
        (lambda: laplace_covariances(ONES, ONES, 0.0), ValueError, "prior_precision must be posit"),
        (lambda: laplace_covariances(ONES, ONES, torch.inf), ValueError, "must be finite"),
        (lambda: laplace_covariances(ONES, ONES[:1], 1.0), ValueError, "for the tokens of x_TD"),
        (lambda: laplace_covariances(ONES[:0], ONES[:0], 1.0), ValueError, "at least one"),
        (lambda: centroid_variance(ONES, torch.eye(2)), ValueError, r"must have shape \(3, 3\)"),
        (lambda: centroid_variance(ONES, -torch.eye(3)), ValueError, "no negative eigenvalue, got"),
        (lambda: centroid_variance(ONES, torch.eye(3) + torch.ones(3, 3).tril(-1)), ValueError,
         "covariance_DD must be symmetric"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
