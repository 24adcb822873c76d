"""The pipeline explorer's numbers are those of the package, step by step."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from bs4 import BeautifulSoup

from moe_tutorial import RouterConfig, explorers, scatter_gates
from moe_tutorial.example import one_token, twelve_centroids
from moe_tutorial.explorers.pipeline import sizes
from moe_tutorial.explorers.pipeline_steps import BIAS_E, Step, small, small_router, steps_of
from moe_tutorial.explorers.pipeline_still import depths, label
from moe_tutorial.models import zoo
from moe_tutorial.models.recipes import Recipe
from moe_tutorial.routing.configuration import Groups

PLAIN = {name: it for name, it in zoo.ROUTERS.items() if it.kind == "centroids"}
MADE_UP = {
    "capped": Recipe(40, RouterConfig(9, "sigmoid", logit_cap=1.5)),
    "norm": Recipe(16, RouterConfig(4, norm=2.0, floor=1e-9)),
    "skip": Recipe(9, RouterConfig(2, null_experts=3, null="skip", gate_scale=0.5)),
    "fill": Recipe(
        32,
        RouterConfig(2, "sigmoid", groups=Groups(8, 1, best=4, fill=0.0), choice_on="logits"),
        selection_bias=True,
    ),
    "wider": Recipe(12, RouterConfig(1, logit_scale=3.0), logit_bias=True),
}
ALL = PLAIN | MADE_UP


@pytest.mark.parametrize("name", ALL)
def test_the_last_step_is_the_routers_own_decision(name: str) -> None:
    steps = steps_of(ALL[name])
    with torch.no_grad():
        routing = small_router(ALL[name])(one_token())
    gates_E = scatter_gates(routing.gates_TK, routing.experts_TK, 12)[0]
    last_E = steps[-1].values_E
    assert sorted(routing.experts_TK[0].tolist()) == last_E.isfinite().nonzero().flatten().tolist()
    torch.testing.assert_close(last_E.clamp(min=0), gates_E)
    named = {step.name: step.values_E for step in steps}
    score = next(i for i, step in enumerate(steps) if step.field.startswith("probability"))
    torch.testing.assert_close(steps[score].values_E, routing.probabilities_TE[0])
    torch.testing.assert_close(steps[score - 1].values_E, routing.logits_TE[0])
    assert len(named) == len(steps), "two steps have one name"


@pytest.mark.parametrize("name", ALL)
def test_the_fields_of_all_steps_are_the_recipe(name: str) -> None:
    """Whoever writes down every step's field has written the router, and nothing is left out."""
    wanted = small(ALL[name])
    options: dict[str, Any] = eval(
        f"dict({', '.join(step.field for step in steps_of(ALL[name]))})", {"Groups": Groups}
    )
    for number in ("logit_scale", "gate_scale"):
        exact = getattr(wanted.config, number)
        assert options.get(number, 1.0) == pytest.approx(exact, rel=2e-3)
        options[number] = exact
    of_config = {it.name for it in fields(RouterConfig)}
    config = RouterConfig(**{key: it for key, it in options.items() if key in of_config})
    rest = {key: it for key, it in options.items() if key not in of_config | {"num_experts"}}
    # On logits without a bias or groups, the choice is the same as on scores.
    assert Recipe(12, config, **rest) == wanted


def test_deepseek_v3_by_hand() -> None:
    logits_E = (twelve_centroids() @ one_token()[0]).tolist()
    scores = [1 / (1 + torch.tensor(-value).double().exp().item()) for value in logits_E]
    biased = [score + bias for score, bias in zip(scores, BIAS_E, strict=True)]
    sums = [sum(sorted(biased[3 * g : 3 * g + 3])[1:]) for g in range(4)]
    kept = sorted(range(4), key=lambda g: -sums[g])[:2]
    inside = [expert for expert in range(12) if expert // 3 in kept]
    chosen = sorted(inside, key=lambda expert: -biased[expert])[:3]
    total = sum(scores[expert] for expert in chosen)
    out = float("-inf")
    expected = [
        logits_E,
        scores,
        biased,
        [biased[e] if e in inside else out for e in range(12)],
        [scores[e] if e in chosen else out for e in range(12)],
        [scores[e] / total if e in chosen else out for e in range(12)],
        [2.5 * scores[e] / total if e in chosen else out for e in range(12)],
    ]
    found = [step.values_E.tolist() for step in steps_of(zoo.ROUTERS["deepseek_v3"])]
    for row, right in zip(found, expected, strict=True):
        assert row == pytest.approx(right)


def test_a_sentence_says_what_its_row_shows() -> None:
    said = {step.name: step.said for step in steps_of(zoo.ROUTERS["deepseek_v3"])}
    assert said["Selection bias"].endswith("Expert 8 now leads in the place of expert 5.")
    assert "experts 0 to 2 and 3 to 5. So expert 8, the best of all, is out." in said["Groups"]
    assert "experts 3, 0 and 4" in said["Top-3"]
    assert said["Scale of the gates"].endswith("sum to 2.50.")
    null = steps_of(zoo.ROUTERS["longcat_flash"])[-1]
    assert null.said.endswith("What comes from expert 8 is the token times its gate.")
    none = replace(zoo.ROUTERS["longcat_flash"], selection_bias=False, num_experts=3000)
    assert steps_of(none)[-1].said.endswith("None is chosen.")
    for name, recipe in ALL.items():
        for step in steps_of(recipe):
            words = len(f"LongCat-Flash, {step.name}: {step.said}")
            assert words <= 165, f"{name}: more than four lines on a phone"


def test_sizes_are_said_where_they_differ() -> None:
    assert sizes(zoo.ROUTERS["deepseek_v3"]) == "12 (not 256) experts, K = 3 (not 8)"
    assert sizes(zoo.ROUTERS["llama4"]) == "12 (not 16) experts, K = 1"


def test_the_script_is_given_every_step() -> None:
    recipes = {"first": zoo.ROUTERS["llama4"], "second": zoo.ROUTERS["deepseek_v3"]}
    explorer = explorers.pipeline_explorer(recipes)
    root = BeautifulSoup(explorer.html, "html.parser").select_one("[data-explorer=pipeline]")
    assert root is not None
    routers = json.loads(str(root["data-config"]))["routers"]
    assert [router["name"] for router in routers] == ["first", "second"]
    for router, recipe in zip(routers, recipes.values(), strict=True):
        for given, step in zip(router["steps"], steps_of(recipe), strict=True):
            out = [value is None for value in given["values"]]
            assert out == step.values_E.isinf().tolist()
            assert [text == "\N{MIDDLE DOT}" for text in given["labels"]] == out
            numbers = torch.tensor([value or 0.0 for value in given["values"]]).double()
            finite_E = step.values_E.masked_fill(step.values_E.isinf(), 0.0)
            torch.testing.assert_close(numbers, finite_E, atol=6e-5, rtol=0)
            assert (given["name"], given["field"], given["said"]) == (
                step.name, step.field, step.said,
            )  # fmt: skip
    for step in steps_of(recipes["first"]):
        assert f"{step.name}: {step.said}" in explorer.alt


def test_numbers_fit_their_cells() -> None:
    values = [2.48, 0.926, 0.0041, -0.0041, -0.04, -1.64, 0.996, -float("inf"), 10.4]
    expected = ["2.5", ".93", "0", "0", "-.04", "-1.6", "1.0", "\N{MIDDLE DOT}", "10.4"]
    assert [label(value).replace("\N{MINUS SIGN}", "-") for value in values] == expected
    row = torch.tensor([1.0, 2.0, 3.0] + 9 * [-torch.inf])
    assert depths(Step("", "", row, ""))[:4] == pytest.approx([0.2067, 0.3533, 0.5, 0], abs=1e-3)
    assert depths(Step("", "", torch.ones(12), "")) == 12 * [0.06]


@pytest.mark.parametrize(
    ("recipes", "error", "message"),
    [
        ([zoo.ROUTERS["mixtral"]], TypeError, "recipes must be a mapping from names"),
        ({}, ValueError, "recipes must name at least one entry"),
        ({"a": RouterConfig(2)}, TypeError, r"recipes\['a'\] must be a Recipe"),
        ({"Switch": zoo.ROUTERS["switch_transformers"]}, ValueError, "kind 'capacity' is more"),
        ({"b": Recipe(8, RouterConfig(2, selection="sampled"))}, ValueError, "'b'.*'sampled'"),
        (
            {str(i): zoo.ROUTERS["mixtral"] for i in range(17)},
            ValueError,
            "at most 16 routers, got 17",
        ),
    ],
)
def test_what_cannot_be_shown(recipes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        explorers.pipeline_explorer(recipes)
