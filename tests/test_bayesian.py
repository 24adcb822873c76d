"""Bayesian routers in layers and over frozen ones; three gradients of a temperature."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from moe_tutorial import (
    Experts,
    MoELayer,
    Router,
    RouterConfig,
    plackett_luce_log_probability,
    route,
    softmax_over_chosen,
)
from moe_tutorial.uncertainty.bayesian import PosteriorRouter, over_frozen
from moe_tutorial.uncertainty.bayesian_routers import (
    DropoutRouter,
    GaussianRouter,
    LaplaceRouter,
    TemperatureRouter,
)
from moe_tutorial.uncertainty.temperature import (
    expected_over_draws,
    inferred_temperature,
    score_function_loss,
    straight_through_gates,
    temperature_penalty,
)
from tests.oracles import generator, normal, ordered_draws, same

D, E, K = 5, 6, 2


def laplace(router: Router) -> LaplaceRouter:
    made = over_frozen(LaplaceRouter, router)
    made.set_covariances(torch.eye(E), torch.eye(D) / 2)
    return made


KINDS: dict[str, Callable[[Router], Any]] = {
    "dropout": lambda it: over_frozen(DropoutRouter, it, rate=0.3),
    "laplace": laplace,
    "mean field": lambda it: over_frozen(GaussianRouter, it),
    "full covariance": lambda it: over_frozen(GaussianRouter, it, full_covariance=True),
    "temperature": lambda it: over_frozen(TemperatureRouter, it),
}


def plain() -> Router:
    torch.manual_seed(0)
    return Router(D, E, K)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_draws_repeatably_and_differently(kind: str, device: torch.device) -> None:
    router = KINDS[kind](plain()).to(device)
    layer = MoELayer(router, Experts(E, D, 4).to(device))
    x_BSD = normal(2, 30, D, dtype=torch.float32, device=device)
    once, again, other = (layer(x_BSD, generator(seed, device)) for seed in (1, 1, 2))
    same(once.y_TD, again.y_TD)
    assert not torch.equal(once.routing.experts_TK, other.routing.experts_TK)
    assert once.routing.divergence_T.shape == (2, 30)
    # What was drawn was decided as route decides it.
    expected = route(once.routing.logits_TE, RouterConfig(K))
    if kind != "temperature":
        same(once.routing.experts_TK, expected.experts_TK)
        same(once.routing.gates_TK, expected.gates_TK)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_router_keeps_its_weights_and_trains_the_posterior_alone(kind: str) -> None:
    router = plain()
    made = KINDS[kind](router)
    same(made.centroids_ED, router.centroids_ED)
    assert made.centroids_ED is not router.centroids_ED
    assert router.centroids_ED.requires_grad
    assert not made.centroids_ED.requires_grad
    names = {name.split(".")[0] for name, it in made.named_parameters() if it.requires_grad}
    assert names == {"mean field": {"posterior"}, "full covariance": {"posterior"},
                     "temperature": {"score"}}.get(kind, set())  # fmt: skip


@pytest.mark.parametrize("kind", ["mean field", "full covariance"])
def test_a_gaussian_starts_at_the_prior(kind: str) -> None:
    router = KINDS[kind](plain())
    x_TD = normal(20_000, D, dtype=torch.float32)[:1].expand(20_000, D)
    routing = router(x_TD, generator(0))
    same(routing.divergence_T, torch.zeros(20_000))
    noise_TE = routing.logits_TE - router.logits(x_TD)
    same(noise_TE.mean(0), torch.zeros(E), atol=0.04)
    same(torch.cov(noise_TE.T), torch.eye(E), atol=0.05)


@pytest.mark.parametrize("full", [False, True])
def test_joint_training_moves_centroids_and_cloud(full: bool) -> None:
    torch.manual_seed(1)
    layer = MoELayer(GaussianRouter(D, E, K, full_covariance=full), Experts(E, D, 4))
    output = layer(normal(40, D, dtype=torch.float32), generator(0))
    (output.y_TD.square().sum() + output.routing.divergence_T.sum()).backward()
    assert layer.router.centroids_ED.grad.abs().max() > 0
    grad = layer.router.posterior.weight.grad
    assert grad[:E].abs().max() > 0
    assert grad[E : 2 * E].abs().max() > 0
    assert not full or grad[2 * E :].abs().max() > 0


def test_averaging_inside_averages_probabilities() -> None:
    router = KINDS["mean field"](plain()).double()
    x_TD = normal(7, D)
    router.draws = 5
    found = router(x_TD, generator(3))
    logits_MTE, _ = router.drawn_logits(x_TD, 5, generator(3))
    mean_TE = logits_MTE.softmax(-1).mean(0)
    same(found.probabilities_TE, mean_TE, atol=1e-14)
    same(found.experts_TK, mean_TE.topk(K).indices)


def test_averaging_logits_of_dropout_ends_at_the_plain_router() -> None:
    router = KINDS["dropout"](plain()).double()
    x_TD = normal(4, D)
    logits_MTE, _ = router.drawn_logits(x_TD, 40_000, generator(0))
    same(logits_MTE.mean(0), router.logits(x_TD), atol=0.05)


def test_a_laplace_draw_is_one_set_of_centroids_for_all_tokens() -> None:
    router = laplace(plain()).double()
    x_TD = normal(9, D)
    logits_MTE, _ = router.drawn_logits(x_TD, 3, generator(0))
    for logits_TE in logits_MTE:
        solved_DE = torch.linalg.lstsq(x_TD, logits_TE).solution
        same(x_TD @ solved_DE, logits_TE, atol=1e-10)
    many_ME = router.drawn_logits(x_TD[:1], 20_000, generator(0))[0][:, 0]
    expected = x_TD[0].square().sum() / 2  # u' Sigma_D u, as Sigma_E is the identity
    same(torch.cov(many_ME.T), expected * torch.eye(E).double(), atol=0.05 * expected.item())


def test_without_covariances_a_laplace_router_is_the_plain_one() -> None:
    router = plain()
    x_TD = normal(9, D, dtype=torch.float32)
    found = over_frozen(LaplaceRouter, router)(x_TD, generator(0))
    same(found.experts_TK, router(x_TD).experts_TK)
    same(found.gates_TK, router(x_TD).gates_TK, atol=1e-6)


def test_a_router_of_your_own_takes_ten_lines() -> None:
    class NoisyRouter(PosteriorRouter):
        def drawn_logits(self, x_TD: Tensor, draws: int, generator: Any) -> tuple[Tensor, Tensor]:
            logits_TE = self.logits(x_TD)
            noise_MTE = torch.randn((draws, *logits_TE.shape), generator=generator)
            return logits_TE + noise_MTE, logits_TE.new_zeros(x_TD.shape[:-1])

    layer = MoELayer(over_frozen(NoisyRouter, plain(), draws=3), Experts(E, D, 4))
    assert layer(torch.ones(2, D), generator(0)).routing.experts_TK.shape == (2, K)


def test_a_temperature_of_one_at_the_start_and_gates_of_the_original_logits() -> None:
    router = KINDS["temperature"](plain())
    x_TD = normal(50, D, dtype=torch.float32)
    routing = router(x_TD, generator(0))
    same(router.temperature(x_TD), torch.ones(50, 1), atol=1e-5)
    same(routing.divergence_T, torch.zeros(50), atol=1e-5)
    expected = softmax_over_chosen(routing.logits_TE, routing.experts_TK)
    same(routing.gates_TK, expected, atol=1e-7)
    routing.gates_TK[:, 0].sum().backward()
    assert router.score.weight.grad.abs().max() > 0


def test_a_small_score_is_a_small_temperature_and_its_penalty_a_large_one() -> None:
    score_T1 = torch.tensor([[-30.0], [0.0], [5.0]], dtype=torch.float64)
    found_T1 = inferred_temperature(score_T1)
    same(found_T1, torch.log1p(score_T1.exp()) + 1e-6, rtol=1e-12)
    same(temperature_penalty(found_T1), -found_T1[:, 0].log())


LOGITS_TE = torch.tensor([[1.0, 0.2, -0.5, 0.7], [0.1, 0.0, 2.0, -1.0]], dtype=torch.float64)
OUTPUTS_ED = normal(4, 3, seed=7)


def loss_of(experts_TK: Tensor, gates_TK: Tensor) -> Tensor:
    """The squared length of what a tiny layer returns."""
    return (gates_TK[..., None] * OUTPUTS_ED[experts_TK]).sum(-2).square().sum(-1)


def value(draws_NTK: Tensor) -> Tensor:
    rows_NTE = LOGITS_TE.expand(len(draws_NTK), *LOGITS_TE.shape)
    return loss_of(draws_NTK, softmax_over_chosen(rows_NTE, draws_NTK))


def test_the_expectation_is_that_of_an_enumeration() -> None:
    found_T = expected_over_draws(value, LOGITS_TE, 2, 0.7)
    for t, logits in enumerate(LOGITS_TE.tolist()):
        expected = 0.0
        for drawn, p in ordered_draws(logits, 2, 0.7).items():
            draw_NTK = torch.tensor(drawn).expand(1, 2, 2)
            expected += p * value(draw_NTK)[0, t].item()
        assert found_T[t].item() == pytest.approx(expected, rel=1e-12)


def exact_gradient(tau_T1: Tensor) -> Tensor:
    (found_T1,) = torch.autograd.grad(
        expected_over_draws(value, LOGITS_TE, 2, tau_T1).sum(), tau_T1
    )
    return found_T1


def over_all_draws(surrogate: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The mean over draws, weighted by their odds, of a surrogate's gradient in the temperature."""
    total_T1 = torch.zeros(2, 1, dtype=torch.float64)
    for drawn in itertools.permutations(range(4), 2):
        tau_T1 = torch.tensor([[0.7], [1.3]], dtype=torch.float64, requires_grad=True)
        experts_TK = torch.tensor(drawn).expand(2, 2)
        (gradient_T1,) = torch.autograd.grad(surrogate(experts_TK, tau_T1).sum(), tau_T1)
        odds_T = plackett_luce_log_probability(LOGITS_TE, experts_TK, tau_T1).detach().exp()
        total_T1 += odds_T[:, None] * gradient_T1
    return total_T1


def test_the_exact_gradient_is_that_of_differences() -> None:
    tau_T1 = torch.tensor([[0.7], [1.3]], dtype=torch.float64, requires_grad=True)
    step = 1e-5
    high, low = (
        expected_over_draws(value, LOGITS_TE, 2, (tau_T1 + sign * step).detach())
        for sign in (1, -1)
    )
    same(exact_gradient(tau_T1)[:, 0], (high - low) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("baseline", [0.0, 0.6])
def test_the_score_function_is_right_on_average_whatever_its_baseline(baseline: float) -> None:
    def surrogate(experts_TK: Tensor, tau_T1: Tensor) -> Tensor:
        loss_T = value(experts_TK[None])[0]
        return score_function_loss(loss_T, LOGITS_TE, experts_TK, tau_T1, baseline)

    tau_T1 = torch.tensor([[0.7], [1.3]], dtype=torch.float64, requires_grad=True)
    same(over_all_draws(surrogate), exact_gradient(tau_T1), atol=1e-12)


def test_the_straight_through_gradient_is_another_one() -> None:
    def surrogate(experts_TK: Tensor, tau_T1: Tensor) -> Tensor:
        return loss_of(experts_TK, straight_through_gates(LOGITS_TE, experts_TK, tau_T1))

    tau_T1 = torch.tensor([[0.7], [1.3]], dtype=torch.float64, requires_grad=True)
    found_T1 = over_all_draws(surrogate)
    assert bool((found_T1 != 0).all())
    assert not torch.allclose(found_T1, exact_gradient(tau_T1), rtol=0.1)


X = torch.ones(2, D)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DropoutRouter(D, E, K, rate=1.0), ValueError, "rate must be at least 0 and below"),
        (lambda: GaussianRouter(D, E, K, draws=0), ValueError, "draws must be at least 1, got 0"),
        (lambda: GaussianRouter(D, E, K, selection="noisy_top_k"), ValueError, "needs selection="),
        (lambda: GaussianRouter(D, E, K, expert_scale=True), ValueError, "expert_scale=False, got"),
        (lambda: LaplaceRouter(D, E, K, scores="cosine"), ValueError, "needs scores='dot' and"),
        (lambda: TemperatureRouter(D, E, RouterConfig(K, temperature=2.0)), ValueError,
         "k must be an int or a configuration of nothing else"),
        (lambda: over_frozen(DropoutRouter, 3), TypeError, "router must be a Router, got int"),
        (lambda: over_frozen(DropoutRouter, laplace(plain())), TypeError, "must be a plain Router"),
        (lambda: laplace(plain()).set_covariances(-torch.eye(E), torch.eye(D)), ValueError,
         "covariance_EE must have no negative eigenvalue"),
        (lambda: GaussianRouter(D, E, K)(X, 3), TypeError, "generator must be a torch.Generator"),
        (lambda: GaussianRouter(D, E, K)(X * torch.nan), ValueError, "x_TD must be finite"),
        (lambda: inferred_temperature(X.long()), TypeError, "score_T1 must have a floating-point"),
        (lambda: temperature_penalty(X[:, :1] * 0), ValueError, "temperature_T1 must be positive"),
        (lambda: straight_through_gates(X, torch.tensor([[0, 0], [1, 2]]), torch.ones(2, 1)),
         ValueError, "must name an expert once"),
        (lambda: score_function_loss(torch.ones(3), X, torch.tensor([[0], [1]]), torch.ones(2, 1)),
         ValueError, "loss_T must have one number per token"),
        (lambda: expected_over_draws(lambda it: it[..., 0], torch.ones(1, 40), 5, 1.0), ValueError,
         "ordered draws, more than 1000000"),
        (lambda: expected_over_draws(lambda it: it.sum().double(), X, 1, 1.0), ValueError,
         "value must return shape"),
        (lambda: expected_over_draws(lambda it: it[..., 0], X, 1, 0.0), ValueError, "temperature"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
