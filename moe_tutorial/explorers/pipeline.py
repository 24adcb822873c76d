"""Routers of published models as pipelines: one token's numbers after each step."""

from collections.abc import Mapping
from typing import Any

from moe_tutorial.explorers.page import Explorer
from moe_tutorial.explorers.pipeline_steps import Step, small, steps_of
from moe_tutorial.explorers.pipeline_still import label, pipeline_still
from moe_tutorial.figures.style import check_named
from moe_tutorial.models.recipes import Recipe
from moe_tutorial.validation import check_kind

MOST_ROUTERS = 16
"""More names to choose from would push the picture off the screen."""


def pipeline_explorer(recipes: Mapping[str, Recipe]) -> Explorer:
    """Routers side by side: choose one, and see what each of its steps does to the experts.

    Every router gets the token and the twelve experts of chapters 01 to 05, and one made-up vector
    wherever it has a learned one. Sizes are made smaller, up to three chosen experts and two of
    four groups; all other numbers are the recipe's own.

    Args:
        recipes: up to 16, by the names to be shown, such as
            ``{"Mixtral": zoo.ROUTERS["mixtral"]}``; the first is shown first.

    Returns:
        The explorer; its sentence goes through the first router's steps.

    Raises:
        TypeError: what is no mapping from names to recipes.
        ValueError: none or too many, or a recipe that is more than centroids and a configuration,
            or whose selection is not ``"top_k"``.
    """
    check_named("recipes", recipes)
    if len(recipes) > MOST_ROUTERS:
        raise ValueError(f"recipes must hold at most {MOST_ROUTERS} routers, got {len(recipes)}")
    pipelines = {}
    for name, recipe in recipes.items():
        check_kind(f"recipes[{name!r}]", recipe, Recipe)
        try:
            pipelines[name] = steps_of(recipe)
        except ValueError as error:
            raise ValueError(f"recipes[{name!r}]: {error}") from error
    routers = [
        {"name": name, "sizes": sizes(recipes[name]), "steps": [_shown(step) for step in steps]}
        for name, steps in pipelines.items()
    ]
    name = next(iter(pipelines))
    still = pipeline_still(f"{name}, {sizes(recipes[name])}", pipelines[name])
    return Explorer("pipeline", "a router, step by step", {"routers": routers}, [still])


def sizes(recipe: Recipe) -> str:
    """How many experts there are and are chosen, and how many there would be in the model."""
    here = small(recipe)
    pairs = ((here.num_experts, recipe.num_experts), (here.config.k, recipe.config.k))
    experts, k = (f"{a}" if a == b else f"{a} (not {b})" for a, b in pairs)
    return f"{experts} experts, K = {k}"


def _shown(step: Step) -> dict[str, Any]:
    """A step as the script is given it: numbers for bars, letters for cells."""
    values_E = [None if value == -float("inf") else value for value in step.values_E.tolist()]
    return {
        "name": step.name,
        "field": step.field,
        "values": [value if value is None else round(value, 4) for value in values_E],
        "labels": [label(value) for value in step.values_E.tolist()],
        "said": step.said,
    }
