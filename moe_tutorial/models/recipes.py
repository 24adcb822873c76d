"""Recipes: all that has to be said of a router, up to its sizes and weights, and how to say it.

One frozen record is a router; its traits tell which two differ, and by what.         Chapter 11.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from moe_tutorial.routing.configuration import RouterConfig
from moe_tutorial.routing.router import Router
from moe_tutorial.validation import check_choice, check_kind, check_size

Kind = Literal[
    "centroids", "product keys", "network", "token ids", "sparsemixer", "joint gates", "capacity",
    "two routers",
]  # fmt: skip
_KINDS: dict[str, str] = {
    "centroids": "",
    "product keys": "The experts form a square, and an expert's logit is the sum of two: one of "
    "its row and one of its column.",
    "network": "A small network takes the place of the centroids, and is handed the state of the "
    "router in the layer before.",
    "token ids": "Which experts those are, a table says for each token id; the logits only make "
    "their gates.",
    "sparsemixer": "Each of the two gates is a softmax over the experts whose logits are nearly "
    "as large; for the second gate, the first expert is left out.",
    "joint gates": "The shared experts, which are always chosen, have logits of their own and "
    "share in the sum of the gates.",
    "capacity": "An expert accepts a limited number of assignments, and the others are dropped.",
    "two routers": "Tokens of text and tokens of images have a router and experts each.",
}
_SCORES = {
    "softmax": "A softmax makes probabilities of all logits",
    "sigmoid": "A sigmoid scores each expert on its own",
    "sqrtsoftplus": "The square root of the softplus scores each expert on its own",
}


@dataclass(frozen=True)
class Recipe:
    """A router up to its width and its weights.

    Attributes:
        num_experts: E, null experts included.
        config: what becomes of the logits.
        kind: ``"centroids"`` for an ordinary router, or what it has in their place or beside them.
        selection_bias, logit_bias, expert_scale: which vectors of E numbers it has.
        input_norm: whether it divides tokens by their root mean square first.
        gates_on: where the layer multiplies by the gates.

    Raises:
        TypeError, ValueError: an argument outside what is listed above; the message names it.
    """

    num_experts: int
    config: RouterConfig
    kind: Kind = "centroids"
    selection_bias: bool = False
    logit_bias: bool = False
    expert_scale: bool = False
    input_norm: bool = False
    gates_on: Literal["output", "input"] = "output"

    def __post_init__(self) -> None:
        check_size("num_experts", self.num_experts)
        check_kind("config", self.config, RouterConfig)
        check_choice("kind", self.kind, tuple(_KINDS))
        check_choice("gates_on", self.gates_on, ("output", "input"))

    def router(self, model_width: int, input_norm: float = 1e-6) -> Router:
        """A new router of this recipe, with random centroids.

        Args:
            model_width: D.
            input_norm: what is added to the mean square, where tokens are divided by its root.

        Raises:
            ValueError: a kind that needs more than centroids; those come from
                :func:`moe_tutorial.models.zoo.from_transformers`.
        """
        if self.kind != "centroids":
            raise ValueError(
                f"a router of kind {self.kind!r} is more than centroids: build one of "
                "moe_tutorial.models.compositions, or take one with zoo.from_transformers"
            )
        return Router(
            model_width,
            self.num_experts,
            self.config,
            selection_bias=self.selection_bias,
            logit_bias=self.logit_bias,
            expert_scale=self.expert_scale,
            input_norm=input_norm if self.input_norm else None,
        )

    def __str__(self) -> str:
        """The recipe in the words of the book."""
        return in_words(self)


def traits(recipe: Recipe) -> dict[str, str]:
    """What a router is, sizes and numbers apart: two with the same traits are one function.

    K, E, how many groups there are and how many are kept, the value of a scale, and guards against
    a division by zero do not count.

    Args:
        recipe: of the router.

    Returns:
        A word for each of ten questions.
    """
    config, groups = recipe.config, recipe.config.groups
    bias = "none"
    if recipe.selection_bias:
        bias = config.choice_on
    best = "none"
    if groups is not None:
        best = f"best {groups.best}" + (", fill 0" if groups.fill == 0 else "")
    gates = "kept" if not config.renormalise else "divided by their sum"
    if config.renormalise and config.norm != 1:
        gates = "divided by their p-norm"
    scale = "of each expert" if recipe.expert_scale else "none"
    if config.gate_scale != 1:
        scale = "one number"
    changed = [
        name
        for name, is_there in {
            "input norm": recipe.input_norm,
            "bias": recipe.logit_bias,
            "scale": config.logit_scale != 1,
            "cap": config.logit_cap is not None,
        }.items()
        if is_there
    ]
    return {
        "kind": recipe.kind,
        "logits": ", ".join(changed) or "plain",
        "score": config.probability,
        "selection bias": bias,
        "groups": best,
        "gates": gates,
        "scale": scale,
        "null experts": config.null if config.null_experts else "none",
        "gates act on": recipe.gates_on,
    }


def distinct(recipes: Iterable[Recipe]) -> list[list[Recipe]]:
    """Recipes in groups of the same :func:`traits`, the largest group first."""
    groups: dict[tuple[str, ...], list[Recipe]] = {}
    for recipe in recipes:
        groups.setdefault(tuple(traits(recipe).values()), []).append(recipe)
    return sorted(groups.values(), key=len, reverse=True)


def in_words(recipe: Recipe) -> str:
    """A recipe as a few sentences, one step of the router after another."""
    check_kind("recipe", recipe, Recipe)
    config = recipe.config
    sentences = []
    if recipe.input_norm:
        sentences.append("The token is divided by its root mean square.")
    source = "its centroid's product with the token"
    if recipe.kind == "network":
        source = "an output of a small network"
    bias = ", plus a learned bias" if recipe.logit_bias else ""
    sentences.append(f"Each of {recipe.num_experts} experts has a logit, {source}{bias}.")
    if config.logit_scale != 1:
        sentences.append(f"Logits are multiplied by {config.logit_scale:.3g}.")
    if config.logit_cap is not None:
        sentences.append(
            f"A tanh keeps them between -{config.logit_cap:g} and {config.logit_cap:g}."
        )
    sentences.append(f"{_SCORES[config.probability]}.")
    sentences.append(_choice(recipe))
    if recipe.kind != "sparsemixer":
        sentences.append(_gates(recipe))
    if config.null_experts:
        does = "returns the token as it is"
        if config.null == "skip":
            does = "does nothing, so that its gate is 0"
        some = "expert is none: it"
        if config.null_experts > 1:
            some = f"{_number(config.null_experts)} experts are none: each"
        sentences.append(f"The last {some} {does}.")
    if _KINDS[recipe.kind]:
        sentences.append(_KINDS[recipe.kind])
    return " ".join(sentences)


def _choice(recipe: Recipe) -> str:
    config, groups = recipe.config, recipe.config.groups
    one, count = config.k == 1, _number(config.k)
    if recipe.kind == "token ids":
        return f"{count.capitalize()} experts are chosen."
    on_logits = config.choice_on == "logits" or not (recipe.selection_bias or groups)
    scores = "logit" if on_logits else "score"
    text = ""
    if recipe.selection_bias:
        text = f"A bias is added to the {scores}s for the choice alone. "
    text += (
        f"The expert with the largest {scores}"
        if one
        else (f"The {count} experts with the largest {scores}s")
    )
    if groups is not None:
        best = f"whose best {scores} is the largest"
        if groups.best > 1:
            best = f"whose {_number(groups.best)} best {scores}s have the largest sum"
        text += f", out of those {_number(groups.kept)} of {_number(groups.number)} groups {best},"
    return f"{text} {'is' if one else 'are'} chosen."


def _gates(recipe: Recipe) -> str:
    config = recipe.config
    name = {"softmax": "probabilities"}.get(config.probability, "scores")
    one = config.k == 1
    whose = (
        f"Its {'probability' if name == 'probabilities' else 'score'}" if one else f"Their {name}"
    )
    parts = []
    if config.renormalise:
        parts.append(
            "divided by their sum" if config.norm == 1 else f"divided by their {config.norm:g}-norm"
        )
    if config.gate_scale != 1:
        parts.append(f"multiplied by {config.gate_scale:.4g}")
    if recipe.expert_scale:
        parts.append("multiplied by a learned scale of each expert")
    done = f", {' and '.join(parts)}," if parts else ""
    target = "weighs the output" if one else "weigh the outputs"
    if recipe.gates_on == "input":
        target = (
            "multiplies the token before the expert" if one else "multiply the token before each"
        )
    return f"{whose}{done} {target}."


def _number(count: int) -> str:
    words = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[count - 1] if count <= len(words) else str(count)
