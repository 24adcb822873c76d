"""One function from logits to a decision, its configuration, and how a decision prints."""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_tutorial import LimitedRouting, Router, RouterConfig, Routing, limit_capacity, route
from tests.oracles import generator, normal, same

configurations = st.builds(
    RouterConfig,
    k=st.integers(1, 5),
    selection=st.sampled_from(["top_k", "sampled", "noisy_top_k"]),
    temperature=st.sampled_from([0.1, 1.0, 3.0]),
    gates=st.sampled_from(["original", "tempered"]),
    renormalise=st.booleans(),
) | st.builds(
    RouterConfig, k=st.integers(1, 5), probability=st.just("sigmoid"), renormalise=st.booleans()
)


@given(configurations, st.integers(0, 2**31))
def test_a_router_is_its_scores_and_route(config: RouterConfig, seed: int) -> None:
    router = Router(4, 5, config).double()
    router.reset_parameters(generator(seed))
    x_TD = normal(6, 4, seed=seed)
    noise_TE = None
    if router.noise_ED is not None:
        torch.nn.init.normal_(router.noise_ED, generator=generator(seed))
        noise_TE = x_TD @ router.noise_ED.T
    expected = route(
        x_TD @ router.centroids_ED.T, config, noise_scores_TE=noise_TE, generator=generator(seed)
    )
    found = router(x_TD, generator(seed))
    for field in dataclasses.fields(Routing):
        same(getattr(found, field.name), getattr(expected, field.name), atol=1e-12)


@given(configurations, st.integers(0, 2**31))
def test_what_holds_for_every_decision(config: RouterConfig, seed: int) -> None:
    logits_TE = 3 * normal(7, 5, seed=seed)
    routing = route(logits_TE, config, generator=generator(seed))
    assert routing.experts_TK.shape == routing.gates_TK.shape == (7, config.k)
    assert all(len(set(row)) == config.k for row in routing.experts_TK.tolist())
    assert (routing.gates_TK > 0).all()
    if config.renormalise:
        same(routing.gates_TK.sum(-1), torch.ones(7).double(), atol=1e-12)
    else:
        most = 1 + 1e-12 if config.probability == "softmax" else 5
        assert (routing.gates_TK.sum(-1) <= most).all()
    if config.selection == "top_k":
        kth_T1 = routing.logits_TE.gather(-1, routing.experts_TK).amin(-1, keepdim=True)
        assert ((logits_TE > kth_T1).sum(-1) <= config.k - 1).all()


def test_a_bias_moves_the_choice_and_no_gate() -> None:
    logits_TE, config = normal(50, 6), RouterConfig(2, probability="sigmoid", renormalise=False)
    bias_E = torch.tensor([0.0, 9, 0, 9, 0, 0]).double()
    routing = route(logits_TE, config, bias_E=bias_E)
    same(routing.experts_TK.sort(-1).values, torch.tensor([1, 3]).expand(50, 2))
    same(routing.gates_TK, torch.sigmoid(logits_TE).gather(-1, routing.experts_TK))


@pytest.mark.parametrize("temperature", [np.float64(0.5), np.float32(0.5), Fraction(1, 2), 0.5])
def test_any_number_becomes_a_plain_one(temperature: Any) -> None:
    config = RouterConfig(2, temperature=temperature)
    assert type(config.temperature) is float
    assert config == RouterConfig(2, temperature=0.5)
    assert Router(4, 3, 2, temperature=temperature).config == config


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 2.0}, TypeError, r"k must be an int, got 2\.0"),
        ({"renormalise": 1}, TypeError, "renormalise must be True or False, got 1"),
        ({"probability": ["softmax"]}, ValueError, "probability must be one of"),
        ({"temperature": math.nan}, ValueError, "temperature must be positive, got nan"),
    ],
)
def test_bad_configurations_are_refused_by_name(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RouterConfig(**({"k": 2} | options))


@pytest.mark.parametrize(
    ("config", "change", "error", "message"),
    [
        ({}, {"logits_TE": torch.full((2, 3), math.nan)}, ValueError, "logits_TE must be finite"),
        ({}, {"config": 2}, TypeError, "config must be a RouterConfig, got int"),
        ({"k": 4}, {}, ValueError, r"k must be between 1 and the number of experts \(3\), got 4"),
        ({}, {"bias_E": torch.ones(2)}, ValueError, r"bias_E must have shape \(3,\), got \(2,\)"),
        ({}, {"bias_E": torch.ones(1, 3)}, ValueError, r"bias_E must have shape \(3,\)"),
        ({}, {"bias_E": 1}, TypeError, "bias_E must be a torch.Tensor, got int"),
        (
            {"selection": "sampled"},
            {"bias_E": torch.ones(3)},
            ValueError,
            "bias_E needs selection='top_k', got selection='sampled'",
        ),
        (
            {},
            {"noise_scores_TE": torch.ones(2, 3)},
            ValueError,
            "noise_scores_TE needs selection='noisy_top_k', got selection='top_k'",
        ),
        (
            {"selection": "noisy_top_k"},
            {"noise_scores_TE": torch.ones(3, 3)},
            ValueError,
            "noise_scores_TE must have the shape of logits_TE",
        ),
        ({}, {"generator": 3}, TypeError, "generator must be a torch.Generator or None, got int"),
    ],
)
def test_bad_calls_are_refused_by_name(
    config: dict[str, Any], change: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"logits_TE": torch.zeros(2, 3), "config": RouterConfig(**({"k": 2} | config))}
    with pytest.raises(error, match=message):
        route(**(arguments | change))  # type: ignore[arg-type]


def test_the_configuration_is_changed_as_a_whole_and_never_silently() -> None:
    router = Router(4, 3, 2)
    for name, value in {"k": 1, "temperature": 0.5, "selection": "sampled"}.items():
        with pytest.raises(AttributeError, match=rf"replace\(router\.config, {name}="):
            setattr(router, name, value)
    router.config = dataclasses.replace(router.config, k=3)
    assert router(torch.zeros(2, 4)).experts_TK.shape == (2, 3)
    with pytest.raises(ValueError, match="k must be between 1 and the number of experts"):
        router.config = RouterConfig(4)
    with pytest.raises(ValueError, match="'noisy_top_k' needs a router that was made with it"):
        router.config = RouterConfig(2, selection="noisy_top_k")
    with pytest.raises(TypeError, match="config must be a RouterConfig, got str"):
        router.config = "sampled"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="selection_bias=True needs selection='top_k'"):
        Router(4, 3, 2, selection_bias=True).config = RouterConfig(2, selection="sampled")


def test_a_decision_prints_a_few_lines() -> None:
    logits_TE = torch.tensor([[2.0, 1, 0, -9], [0, 1, 2, -9], [0, 2, 1, -9]]).double()
    routing = route(logits_TE, RouterConfig(2))
    assert repr(routing).splitlines() == [
        "Routing",
        "  tokens: 3, each to 2 of 4 experts",
        "  load: 3 experts were chosen; expert 1 most often, 3 times (2.00 times the mean)",
        "  gates: 0.73, 0.27 on average (float64, cpu)",
        "  first token: experts 0 (0.73), 1 (0.27)",
    ]
    html = routing._repr_html_()
    assert html.count("<tr>") == 4
    assert "0.73, 0.27 on average" in html
    batch = route(logits_TE.expand(2, 3, 4), RouterConfig(2))
    assert "tokens: 6 (2 x 3), each to 2 of 4 experts" in repr(batch)
    limited = limit_capacity(batch, 1.0)
    assert isinstance(limited, LimitedRouting)
    assert repr(limited).startswith("LimitedRouting\n")
    kept = int(limited.kept_TK.sum())
    assert f"kept: {kept} of 12 assignments ({kept / 12:.0%})" in repr(limited)


@pytest.mark.parametrize("tokens", [0, 1, 5000])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_decision_of_any_size_prints(tokens: int, device: str) -> None:
    routing = route(torch.zeros(tokens, 70, device=device), RouterConfig(64))
    assert 3 <= len(repr(routing).splitlines()) <= 6
    assert len(repr(routing)) < 500


def test_a_layers_output_prints_a_few_lines_too() -> None:
    from moe_tutorial import Experts, MoELayer

    output = MoELayer(Router(8, 4, 2), Experts(4, 8, 8))(torch.randn(300, 8))
    assert len(repr(output)) < 500
    assert "y_TD: (300, 8), float32" in repr(output)
