"""Recipes: the table of published routers against the installed library, words and traits."""

from dataclasses import replace

import pytest
import torch

from moe_tutorial import Groups, RouterConfig
from moe_tutorial.models import zoo
from moe_tutorial.models.recipes import Recipe
from moe_tutorial.models.routers import ROUTERS
from tests.oracles import normal
from tools.new_families import blocks_with_experts, unknown


@pytest.fixture(scope="module")
def live() -> dict[str, Recipe]:
    return {name: zoo.default_recipe(name) for name in zoo.FAMILIES}


def test_the_table_is_what_the_installed_library_does_by_default(live: dict[str, Recipe]) -> None:
    assert list(live) == list(ROUTERS)
    for name, recipe in live.items():
        assert recipe == ROUTERS[name], name


def test_how_many_routers_there_are(live: dict[str, Recipe]) -> None:
    groups = zoo.distinct(live.values())
    assert sum(map(len, groups)) == len(live) == 82
    assert len(groups) == 24
    assert [len(group) for group in groups[:5]] == [20, 12, 10, 9, 5]
    assert len({str(zoo.traits(group[0])) for group in groups}) == len(groups)


def test_sizes_are_no_traits_and_everything_else_is() -> None:
    recipe = Recipe(16, RouterConfig(2, "sigmoid", groups=Groups(4, 2), gate_scale=2.0))
    config = recipe.config
    same = [
        replace(recipe, num_experts=32),
        replace(recipe, config=replace(config, k=3, gate_scale=5.0, epsilon=1e-9, floor=1e-9)),
        replace(recipe, config=replace(config, groups=Groups(8, 3))),
    ]
    assert len(zoo.distinct([recipe, *same])) == 1
    others = [
        replace(recipe, selection_bias=True),
        replace(recipe, selection_bias=True, config=replace(config, choice_on="logits")),
        replace(recipe, logit_bias=True),
        replace(recipe, expert_scale=True, config=replace(config, gate_scale=1.0)),
        replace(recipe, input_norm=True),
        replace(recipe, gates_on="input"),
        replace(recipe, kind="capacity"),
        replace(recipe, config=replace(config, probability="softmax")),
        replace(recipe, config=replace(config, probability="sqrtsoftplus")),
        replace(recipe, config=replace(config, groups=None)),
        replace(recipe, config=replace(config, groups=Groups(4, 2, 1))),
        replace(recipe, config=replace(config, groups=Groups(4, 2, fill=0.0))),
        replace(recipe, config=replace(config, gate_scale=1.0)),
        replace(recipe, config=replace(config, norm=2.0)),
        replace(recipe, config=replace(config, renormalise=False)),
        replace(recipe, config=replace(config, logit_scale=0.5)),
        replace(recipe, config=replace(config, logit_cap=5.0)),
        replace(recipe, config=replace(config, null_experts=2)),
        replace(recipe, config=replace(config, null_experts=2, null="skip")),
    ]
    assert len(zoo.distinct([recipe, *others])) == 1 + len(others)
    words = {str(it) for it in [recipe, *others]}
    # A fill of 0 is a trap and no sentence.
    assert len(words) == len(others)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "mixtral",
            "Each of 8 experts has a logit, its centroid's product with the token. A softmax makes "
            "probabilities of all logits. The two experts with the largest logits are chosen. "
            "Their probabilities, divided by their sum, weigh the outputs.",
        ),
        (
            "deepseek_v3",
            "Each of 256 experts has a logit, its centroid's product with the token. A sigmoid "
            "scores each expert on its own. A bias is added to the scores for the choice alone. "
            "The eight experts with the largest scores, out of those four of eight groups whose "
            "two best scores have the largest sum, are chosen. Their scores, divided by their sum "
            "and multiplied by 2.5, weigh the outputs.",
        ),
        (
            "llama4",
            "Each of 16 experts has a logit, its centroid's product with the token. A sigmoid "
            "scores each expert on its own. The expert with the largest logit is chosen. Its score "
            "multiplies the token before the expert.",
        ),
    ],
)
def test_a_recipe_in_words(name: str, words: str) -> None:
    assert str(ROUTERS[name]) == words


def test_every_recipe_has_words_of_its_own() -> None:
    for group in zoo.distinct(ROUTERS.values()):
        for recipe in group:
            text = zoo.in_words(recipe)
            assert text.endswith(".")
            assert str(recipe.num_experts) in text
            assert "  " not in text


def test_every_ordinary_recipe_makes_a_router() -> None:
    for name, recipe in ROUTERS.items():
        if recipe.kind == "centroids":
            router = recipe.router(8)
            assert (router.bias_E is not None) == recipe.selection_bias, name
            assert router(normal(3, 8, dtype=torch.float32)).experts_TK.shape == (
                3,
                recipe.config.k,
            )
        else:
            with pytest.raises(ValueError, match="is more than centroids"):
                recipe.router(8)


def test_bad_recipes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="num_experts must be at least 1, got 0"):
        Recipe(0, RouterConfig(1))
    with pytest.raises(TypeError, match="config must be a RouterConfig, got int"):
        Recipe(4, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind must be one of 'centroids'"):
        Recipe(4, RouterConfig(1), kind="hash")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gates_on must be one of 'output', 'input'"):
        Recipe(4, RouterConfig(1), gates_on="token")  # type: ignore[arg-type]


def test_no_family_of_the_installed_library_is_unknown() -> None:
    assert unknown() == []


def test_a_new_family_would_be_named() -> None:
    source = (
        "class NewTopKRouter(nn.Module):\n    pass\n\n"
        "class NewExperts(nn.Module):\n    pass\n\n"
        "class NewMoE(nn.Module):\n"
        "    def __init__(self, config):\n"
        "        self.gate = NewTopKRouter(config)\n"
        "        self.experts = NewExperts(config)\n"
    )
    assert blocks_with_experts(source) == [("NewMoE", "NewTopKRouter")]
    assert blocks_with_experts("class Attention(nn.Module):\n    pass\n") == []
