"""What published routers add to a decision, against loops of plain Python."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moe_tutorial import (
    Groups,
    Router,
    RouterConfig,
    dot_scores,
    limit_to_groups,
    renormalise,
    route,
    sigmoid,
    sqrt_softplus,
    top_k,
)
from tests.oracles import generator, normal, same, softmax_of

E = 6

scores = {
    "softmax": softmax_of,
    "sigmoid": lambda row: [1 / (1 + math.exp(-it)) for it in row],
    "sqrtsoftplus": lambda row: [math.sqrt(math.log1p(math.exp(it))) for it in row],
}

groups = st.builds(
    lambda number, kept, best, fill: Groups(
        number, min(kept, number), min(best, E // number), fill
    ),
    number=st.sampled_from([1, 2, 3]),
    kept=st.integers(1, 3),
    best=st.integers(1, 3),
    fill=st.sampled_from([-math.inf, 0.0]),
)
positive = st.floats(0.2, 4.0)


@st.composite
def configurations(draw: st.DrawFn) -> RouterConfig:
    chosen = draw(st.none() | groups)
    most = E if chosen is None else chosen.kept * (E // chosen.number)
    normalised = draw(st.booleans())
    null_experts = draw(st.integers(0, 2))
    return RouterConfig(
        draw(st.integers(1, most)),
        draw(st.sampled_from(sorted(scores))),
        renormalise=normalised,
        logit_scale=draw(positive),
        logit_cap=draw(st.none() | positive),
        choice_on=draw(st.sampled_from(["probabilities", "logits"])),
        groups=chosen,
        norm=draw(st.sampled_from([1.0, 2.0, 0.5, math.inf])) if normalised else 1.0,
        epsilon=draw(st.sampled_from([0.0, 1e-6, 0.5])) if normalised else 0.0,
        floor=draw(st.sampled_from([0.0, 0.8])) if normalised else 0.0,
        gate_scale=draw(positive),
        null_experts=null_experts,
        null=draw(st.sampled_from(["identity", "skip"])) if null_experts else "identity",
    )


def decided(
    row: list[float], config: RouterConfig, bias: list[float]
) -> tuple[list[float], list[int], list[float]]:
    """Logits, experts and gates of one token, step by step."""
    row = [config.logit_scale * logit for logit in row]
    if config.logit_cap is not None:
        row = [config.logit_cap * math.tanh(logit / config.logit_cap) for logit in row]
    shares = scores[config.probability](row)
    by = row if config.choice_on == "logits" else shares
    by = [b + s for b, s in zip(bias, by, strict=True)]
    if config.groups is not None:
        size = len(row) // config.groups.number
        of_group = [by[g * size : (g + 1) * size] for g in range(config.groups.number)]
        values = [sum(sorted(group)[-config.groups.best :]) for group in of_group]
        best = sorted(range(len(values)), key=lambda g: -values[g])[: config.groups.kept]
        by = [s if e // size in best else config.groups.fill for e, s in enumerate(by)]
    experts = sorted(range(len(row)), key=lambda e: -by[e])[: config.k]
    gates = [shares[e] for e in experts]
    if config.renormalise:
        if math.isinf(config.norm):
            norm = max(gates)
        else:
            norm = sum(g**config.norm for g in gates) ** (1 / config.norm)
        gates = [g / max(norm + config.epsilon, config.floor) for g in gates]
    if config.null == "skip":
        first = len(row) - config.null_experts
        gates = [0.0 if e >= first else g for e, g in zip(experts, gates, strict=True)]
    return row, experts, [config.gate_scale * g for g in gates]


@given(configurations(), st.booleans(), st.integers(0, 2**31))
def test_a_decision_is_its_steps(config: RouterConfig, biased: bool, seed: int) -> None:
    logits_TE = 2 * normal(4, E, seed=seed)
    bias_E = normal(E, seed=seed + 1) * biased
    routing = route(logits_TE, config, bias_E=bias_E if biased else None)
    rows = [decided(row, config, bias_E.tolist()) for row in logits_TE.tolist()]
    same(routing.logits_TE, [row for row, _, _ in rows], atol=1e-12)
    same(routing.experts_TK, [experts for _, experts, _ in rows])
    same(routing.gates_TK, [gates for _, _, gates in rows], atol=1e-12, rtol=1e-12)
    # One token alone is decided as in company.
    alone = route(logits_TE[:1], config, bias_E=bias_E if biased else None)
    same(alone.experts_TK, routing.experts_TK[:1])


@given(configurations(), st.integers(0, 2**31))
def test_what_holds_for_every_configuration(config: RouterConfig, seed: int) -> None:
    logits_TE = normal(5, E, seed=seed)
    routing = route(logits_TE, config)
    assert all(len(set(row)) == config.k for row in routing.experts_TK.tolist())
    assert (routing.gates_TK >= 0).all()
    if config.groups is not None:
        size = E // config.groups.number
        assert all(
            len({e // size for e in row}) <= config.groups.kept
            for row in routing.experts_TK.tolist()
            if config.groups.fill < 0
        )
    doubled = dataclasses.replace(config, gate_scale=2 * config.gate_scale)
    same(route(logits_TE, doubled).gates_TK, 2 * routing.gates_TK, atol=1e-15)
    if config.renormalise and not config.floor and config.null == "identity":
        norms_T = torch.linalg.vector_norm(routing.gates_TK / config.gate_scale, config.norm, -1)
        assert (norms_T <= 1 + 1e-12).all()
        assert config.epsilon or torch.allclose(norms_T, torch.ones(5).double())
    if config.groups == Groups(1, 1, config.groups.best if config.groups else 2):
        free = dataclasses.replace(config, groups=None)
        same(route(logits_TE, free).experts_TK, routing.experts_TK)


def test_groups_by_hand() -> None:
    scores_TE = torch.tensor([[0.875, 0.125, 0.5, 0.625, 0.25, 0.25]]).double()
    inf = math.inf
    # The largest score is in the first group, the largest sum of two in the second.
    same(limit_to_groups(scores_TE, Groups(3, 1, 1)), [[0.875, 0.125, -inf, -inf, -inf, -inf]])
    same(limit_to_groups(scores_TE, Groups(3, 1, 2)), [[-inf, -inf, 0.5, 0.625, -inf, -inf]])
    same(limit_to_groups(scores_TE, Groups(3, 2, 2, 0.0)), [[0.875, 0.125, 0.5, 0.625, 0.0, 0.0]])
    same(limit_to_groups(scores_TE, Groups(3, 3)), scores_TE)


def test_where_masked_groups_become_zero_an_expert_outside_can_win() -> None:
    logits_TE, bias_E = torch.zeros(1, 4).double(), torch.tensor([-0.6, -0.6, -0.7, -0.7]).double()
    config = RouterConfig(2, "sigmoid", groups=Groups(2, 1))
    same(route(logits_TE, config, bias_E=bias_E).experts_TK, [[0, 1]])
    zero = dataclasses.replace(config, groups=Groups(2, 1, fill=0.0))
    same(route(logits_TE, zero, bias_E=bias_E).experts_TK, [[2, 3]])


def test_no_gate_underflows() -> None:
    far_TE = torch.tensor([[-900.0, -901.0, -902.0]]).double()
    bias_E = torch.zeros(3).double()
    for probability, share in {"sigmoid": math.e, "sqrtsoftplus": math.sqrt(math.e)}.items():
        routing = route(far_TE, RouterConfig(2, probability), bias_E=bias_E)  # type: ignore[arg-type]
        same(routing.gates_TK, [[share / (1 + share), 1 / (1 + share)]], atol=1e-12)
    routing = route(far_TE, RouterConfig(2, "sigmoid", norm=2.0), bias_E=bias_E)
    length = math.hypot(math.e, 1)
    same(routing.gates_TK, [[math.e / length, 1 / length]], atol=1e-12)


def test_the_square_root_of_softplus() -> None:
    logits_TE = torch.tensor([[-200.0, -41, -40, -39, 0, 3, 800]]).double().requires_grad_()
    # log1p of a tiny number is that number; of e^800 it is 800.
    expected = [math.sqrt(math.log1p(math.exp(min(it, 700)))) for it in logits_TE[0].tolist()]
    expected[-1] = math.sqrt(800)
    same(sqrt_softplus(logits_TE).detach(), [expected], rtol=1e-14)
    assert torch.autograd.gradcheck(sqrt_softplus, (logits_TE[:, 3:].detach().requires_grad_(),))
    sqrt_softplus(logits_TE).sum().backward()
    assert logits_TE.grad is not None
    assert torch.isfinite(logits_TE.grad).all()


def test_gradients_reach_the_logits_through_every_kind_of_gate() -> None:
    configs = [
        RouterConfig(2, "sqrtsoftplus", epsilon=1e-6, gate_scale=2.0),
        RouterConfig(2, "sigmoid", norm=2.0, groups=Groups(3, 2)),
        RouterConfig(2, logit_cap=2.0, logit_scale=0.5, floor=0.1),
    ]
    for seed, config in enumerate(configs):
        logits_TE = normal(3, E, seed=seed).requires_grad_()
        assert torch.autograd.gradcheck(lambda it, c=config: route(it, c).gates_TK, (logits_TE,))


def router_of(config: RouterConfig, **options: Any) -> Router:
    router = Router(4, E, config, **options).double()
    router.reset_parameters(generator(0))
    for weight in (router.bias_E, router.logit_bias_E, router.expert_scale_E):
        if weight is not None:
            torch.nn.init.normal_(weight, generator=generator(1))
    return router


def test_a_bias_of_the_logits_reaches_the_gates() -> None:
    router, x_TD = router_of(RouterConfig(2), logit_bias=True), normal(9, 4)
    same(router.logits(x_TD), x_TD @ router.centroids_ED.T + router.logit_bias_E, atol=1e-14)
    routing = router(x_TD)
    same(routing.gates_TK, route(router.logits(x_TD), RouterConfig(2)).gates_TK)
    routing.gates_TK[:, 0].sum().backward()
    assert router.logit_bias_E is not None
    assert router.logit_bias_E.grad is not None


def test_tokens_of_one_direction_look_alike_to_a_router_with_an_input_norm() -> None:
    router, x_TD = router_of(RouterConfig(2), input_norm=1e-6), normal(9, 4)
    root_T1 = (x_TD.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    same(router.logits(x_TD), (x_TD / root_T1) @ router.centroids_ED.T, atol=1e-14)
    same(router.logits(100 * x_TD), router.logits(1000 * x_TD), atol=1e-7)


def test_a_scale_of_each_expert_multiplies_its_gates() -> None:
    router, x_TD = router_of(RouterConfig(3), expert_scale=True), normal(9, 4)
    plain = route(router.logits(x_TD), RouterConfig(3))
    routing = router(x_TD)
    same(routing.experts_TK, plain.experts_TK)
    assert router.expert_scale_E is not None
    for t, k in torch.cartesian_prod(torch.arange(9), torch.arange(3)).tolist():
        scale = router.expert_scale_E[plain.experts_TK[t, k]]
        same(routing.gates_TK[t, k], plain.gates_TK[t, k] * scale)


def test_deepseek_v3_is_one_line() -> None:
    config = RouterConfig(4, "sigmoid", groups=Groups(3, 2), gate_scale=2.5)
    router, x_TD = router_of(config, selection_bias=True), normal(50, 4)
    scores_TE = sigmoid(dot_scores(x_TD, router.centroids_ED))
    assert isinstance(router.bias_E, Tensor)
    experts_TK = top_k(limit_to_groups(scores_TE + router.bias_E, Groups(3, 2, fill=0.0)) + 9, 4)
    routing = router(x_TD)
    inside = (scores_TE + router.bias_E > 0).all(-1)  # where 0 cannot win
    same(routing.experts_TK[inside], experts_TK[inside])
    same(routing.gates_TK, 2.5 * renormalise(scores_TE, routing.experts_TK), atol=1e-14)


def test_a_configuration_prints_what_is_special_about_it() -> None:
    assert str(RouterConfig(2)) == (
        "k=2, probability='softmax', selection='top_k', temperature=1.0, gates='original', "
        "renormalise=True"
    )
    assert str(RouterConfig(2, gate_scale=2.5, groups=Groups(8, 4))).endswith(
        "renormalise=True, groups=Groups(number=8, kept=4, best=2, fill=-inf), gate_scale=2.5"
    )
    router = Router(4, E, RouterConfig(2), logit_bias=True, input_norm=1e-6, expert_scale=True)
    assert ", logit_bias=True, input_norm=1e-06, expert_scale=True" in repr(router)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"probability": "sqrtsoftplus", "temperature": 2.0}, ValueError, "'sqrtsoftplus' needs"),
        ({"groups": 4}, TypeError, "groups must be a Groups, got int"),
        ({"groups": Groups(2, 1), "selection": "sampled"}, ValueError, "groups needs selection="),
        ({"renormalise": False, "norm": 2.0}, ValueError, "need renormalise=True, got norm=2.0"),
        ({"renormalise": False, "epsilon": 1e-9}, ValueError, "got norm=1.0, epsilon=1e-09"),
        ({"renormalise": False, "floor": 1e-9}, ValueError, "and floor=1e-09"),
        ({"norm": 0}, ValueError, "norm must be positive, got 0"),
        ({"epsilon": -1.0}, ValueError, "epsilon must be at least 0 and finite, got -1.0"),
        ({"floor": math.nan}, ValueError, "floor must be at least 0 and finite, got nan"),
        ({"floor": "0"}, TypeError, "floor must be a number, got str"),
        ({"gate_scale": 0.0}, ValueError, "gate_scale must be positive, got 0.0"),
        ({"logit_scale": math.inf}, ValueError, "logit_scale must be finite, got inf"),
        ({"logit_cap": -1}, ValueError, "logit_cap must be positive, got -1"),
        ({"choice_on": "gates"}, ValueError, "choice_on must be one of"),
        ({"null_experts": -1}, ValueError, "null_experts must be at least 0, got -1"),
        ({"null": "skip"}, ValueError, "null='skip' needs null_experts of at least 1, got 0"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RouterConfig(2, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1), ValueError, "number must be at least 1, got 0"),
        ((2, 3), ValueError, r"kept must be at most number \(2\), got 3"),
        ((2, 1, 0), ValueError, "best must be at least 1, got 0"),
        ((2, 1, 2, 1.0), ValueError, r"fill must be -inf or 0.0, got 1.0"),
        ((2.0, 1), TypeError, r"number must be an int, got 2\.0"),
    ],
)
def test_bad_groups_are_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Groups(*arguments)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RouterConfig(2, groups=Groups(4, 2)), r"groups.number must divide .*\(6\), got 4"),
        (
            RouterConfig(2, groups=Groups(6, 2)),
            r"groups.best must be at most .* group \(1\), got 2",
        ),
        (RouterConfig(3, groups=Groups(3, 1)), "k must be at most the 2 experts of the groups"),
        (RouterConfig(2, null_experts=6), r"null_experts must be below .*\(6\), got 6"),
    ],
)
def test_a_configuration_that_the_experts_cannot_serve_is_refused(
    config: RouterConfig, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        route(torch.zeros(2, E), config)
    with pytest.raises(ValueError, match=message):
        Router(4, E, config)
    router = Router(4, E, 1)
    with pytest.raises(ValueError, match=message):
        router.config = config


def test_a_configuration_and_options_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="in the place of k says all that becomes of the logits"):
        Router(4, E, RouterConfig(2), temperature=0.5)
    with pytest.raises(ValueError, match="input_norm must be None with scores='cosine'"):
        Router(4, E, 2, scores="cosine", input_norm=1e-6)
    with pytest.raises(ValueError, match="input_norm must be positive, got 0"):
        Router(4, E, 2, input_norm=0.0)
    with pytest.raises(TypeError, match="logit_bias must be True or False, got 1"):
        Router(4, E, 2, logit_bias=1)  # type: ignore[arg-type]
