"""A router as a pipeline: what each of its steps makes of one token's numbers.

logits, score, selection bias, groups, top-k, division, scale: only those that a recipe has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moe_tutorial.example import one_token, twelve_centroids
from moe_tutorial.figures.style import listing
from moe_tutorial.models.recipes import Recipe
from moe_tutorial.routing.combination import scatter_gates
from moe_tutorial.routing.configuration import Groups, RouterConfig
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.gates import gates_of
from moe_tutorial.routing.groups import limited
from moe_tutorial.routing.router import Router
from moe_tutorial.routing.scores import dot_scores

NUM_EXPERTS = 12
MOST_CHOSEN = 3
GROUPS = 4
BIAS_E = (0.1, -0.05, 0.05, 0.1, -0.1, -0.25, 0.1, 0.05, -0.05, 0.1, 0.0, -0.05)
"""Stands for every learned vector: a selection bias, a bias of the logits, a scale less 1."""

_SCORES = {
    "softmax": ("Softmax", "A softmax makes probabilities of all logits; they sum to 1."),
    "sigmoid": ("Sigmoid", "A sigmoid scores each expert on its own."),
    "sqrtsoftplus": (
        "Root of softplus",
        "The square root of the softplus scores each expert on its own, and can be above 1.",
    ),
}
_COUNTS = ("none", "one", "two", "three", "four")


@dataclass(frozen=True, eq=False)
class Step:
    """What one step of a router does to one token's experts.

    Attributes:
        name: of the step.
        field: what sets it, as it is written in a recipe or its configuration.
        values_E: one number for each expert after this step; minus infinity where one is out.
        said: what happened, in a sentence or two.
    """

    name: str
    field: str
    values_E: Tensor
    said: str


def small(recipe: Recipe) -> Recipe:
    """The same steps over twelve experts: sizes become smaller, and no other number changes."""
    config, share = recipe.config, recipe.config.null_experts / recipe.num_experts
    groups = config.groups
    if groups is not None:
        best = min(groups.best, NUM_EXPERTS // GROUPS)
        groups = Groups(GROUPS, GROUPS // 2, best=best, fill=groups.fill)
    return replace(
        recipe,
        num_experts=NUM_EXPERTS,
        config=replace(
            config,
            k=min(config.k, MOST_CHOSEN),
            groups=groups,
            null_experts=math.ceil(share * NUM_EXPERTS),
        ),
    )


def small_router(recipe: Recipe) -> Router:
    """A router of :func:`small` of the recipe: the book's centroids, and one vector for all."""
    router = small(recipe).router(2).double()
    bias_E = torch.tensor(BIAS_E, dtype=torch.float64)
    with torch.no_grad():
        router.centroids_ED.copy_(twelve_centroids())
        for vector_E, value_E in (
            (router.bias_E, bias_E),
            (router.logit_bias_E, bias_E),
            (router.expert_scale_E, 1 + bias_E),
        ):
            if vector_E is not None:
                vector_E.copy_(value_E)
    return router


@torch.no_grad()
def steps_of(recipe: Recipe) -> list[Step]:
    """Every step that the recipe has, on the token and the twelve experts of chapters 01 to 05.

    Args:
        recipe: of kind ``"centroids"``, with ``selection="top_k"``.

    Raises:
        ValueError: another kind or selection.
    """
    if recipe.config.selection != "top_k":
        raise ValueError(f"selection must be 'top_k', got {recipe.config.selection!r}")
    router = small_router(recipe)
    routing, recipe = router(one_token()), small(recipe)
    return [
        *_logits(recipe, router),
        _score(recipe.config, routing),
        *_choice(recipe, routing, router.bias_E),
        *_gates(recipe, routing),
    ]


def _logits(recipe: Recipe, router: Router) -> list[Step]:
    config, x_TD, field = recipe.config, one_token(), "num_experts=12"
    said = "Each expert's logit is its centroid's product with the token."
    if router.input_norm is not None:
        size = (x_TD.square().mean() + router.input_norm).sqrt()
        x_TD, field = x_TD / size, "input_norm=True"
        said = f"The token is divided by its root mean square, {size:.2f}: its length is gone."
    logits_TE = dot_scores(x_TD, router.centroids_ED)
    first, second = logits_TE[0].argsort(descending=True)[:2].tolist()
    said += f" Expert {first} has the largest logit, {logits_TE[0, first]:.2f}, and expert "
    said += f"{second} the second."
    steps = [Step("Logits", field, logits_TE[0], said)]
    if router.logit_bias_E is not None:
        logits_TE = logits_TE + router.logit_bias_E
        said = "A learned bias is added to each logit; scores and gates will see it."
        steps.append(Step("Bias of the logits", "logit_bias=True", logits_TE[0], said))
    if config.logit_scale != 1:
        logits_TE = logits_TE * config.logit_scale
        said = f"All logits are multiplied by {config.logit_scale:.3g}, and come nearer together."
        if config.logit_scale > 1:
            said = f"All logits are multiplied by {config.logit_scale:.3g}, and move apart."
        field = f"logit_scale={config.logit_scale:.3g}"
        steps.append(Step("Scale of the logits", field, logits_TE[0], said))
    if (cap := config.logit_cap) is not None:
        logits_TE = cap * torch.tanh(logits_TE / cap)
        said = f"A tanh keeps every logit between \N{MINUS SIGN}{cap:g} and {cap:g}."
        steps.append(Step("Cap", f"logit_cap={cap:g}", logits_TE[0], said))
    return steps


def _score(config: RouterConfig, routing: Routing) -> Step:
    scores_E = routing.probabilities_TE[0]
    name, said = _SCORES[config.probability]
    if config.probability != "softmax":
        said += f" The scores sum to {scores_E.sum():.2f}."
    return Step(name, f'probability="{config.probability}"', scores_E, said)


def _choice(recipe: Recipe, routing: Routing, bias_E: Tensor | None) -> list[Step]:
    config, steps = recipe.config, []
    chosen_by_TE, on = routing.probabilities_TE, "scores"
    if config.choice_on == "logits":
        chosen_by_TE, on = routing.logits_TE, "logits"
    if bias_E is not None:
        before, chosen_by_TE = chosen_by_TE.argmax(), chosen_by_TE + bias_E
        now = chosen_by_TE.argmax()
        lead = f"Expert {before} still leads."
        if now != before:
            lead = f"Expert {now} now leads in the place of expert {before}."
        field = "selection_bias=True"
        if on == "logits":
            field += ', choice_on="logits"'
        said = f"A bias is added to the {on}, for the choice alone. {lead}"
        steps.append(Step("Selection bias", field, chosen_by_TE[0], said))
    if (groups := config.groups) is not None:
        best, chosen_by_TE = int(chosen_by_TE.argmax()), limited(chosen_by_TE, groups)
        steps.append(_groups(groups, chosen_by_TE[0], best))
    ids = routing.experts_TK[0].tolist()
    own_E = torch.full((NUM_EXPERTS,), -torch.inf, dtype=torch.float64)
    own_E[ids] = routing.probabilities_TE[0, ids]
    without = "" if bias_E is None else " without the bias"
    field = f"k={config.k}" if config.renormalise else f"k={config.k}, renormalise=False"
    if len(ids) == 1:
        said = f"The largest is chosen: expert {ids[0]}."
        if not config.renormalise:
            said += f" Its score{without}, {own_E[ids[0]]:.2f}, is the gate."
    else:
        said = f"The {_COUNTS[len(ids)]} largest are chosen: experts {listing([*map(str, ids)])}."
        if not config.renormalise:
            said += f" Their scores{without} are the gates, and sum to {own_E[ids].sum():.2f}."
        elif bias_E is not None:
            said += " Their scores without the bias go on from here."
    return [*steps, Step(f"Top-{config.k}", field, own_E, said)]


def _groups(groups: Groups, limited_E: Tensor, best: int) -> Step:
    size = NUM_EXPERTS // groups.number
    # What stays was not overwritten: a group that is out has one value throughout.
    out_G = (limited_E.view(groups.number, size) == groups.fill).all(-1)
    stay = [f"{size * g} to {size * g + size - 1}" for g in (~out_G).nonzero().flatten().tolist()]
    rule = "whose best score is largest"
    if groups.best > 1:
        rule = f"whose {_COUNTS[groups.best]} best scores have the largest sum"
    lost = f" So expert {best}, the best of all, is out." if bool(out_G[best // size]) else ""
    arguments = [f"{groups.number}, {groups.kept}"]
    if groups.best != 2:
        arguments.append(f"best={groups.best}")
    if groups.fill == 0:
        arguments.append("fill=0.0")
    said = (
        f"Of {_COUNTS[groups.number]} groups the {_COUNTS[groups.kept]} stay {rule}: experts "
        f"{listing(stay)}.{lost}"
    )
    return Step("Groups", f"groups=Groups({', '.join(arguments)})", limited_E, said)


def _gates(recipe: Recipe, routing: Routing) -> list[Step]:
    config, ids = recipe.config, routing.experts_TK
    steps = []

    def row(gates_TK: Tensor) -> Tensor:
        gates_E = scatter_gates(gates_TK, ids, NUM_EXPERTS)[0]
        chosen_E = torch.isin(torch.arange(NUM_EXPERTS), ids)
        return gates_E.masked_fill(~chosen_E, -torch.inf)

    unscaled = replace(config, gate_scale=1.0)
    gates_TK = gates_of(routing.logits_TE, routing.probabilities_TE, ids, unscaled)
    if config.renormalise:
        total = routing.probabilities_TE.gather(-1, ids).sum()
        field, by = "renormalise=True", f"sum, {total:.2f}"
        if config.norm != 1:
            field, by = f"norm={config.norm:g}", f"{config.norm:g}-norm"
        for name in ("epsilon", "floor"):
            if value := getattr(config, name):
                field += f", {name}={value:.0e}"
        said = f"The scores are divided by their {by}. The gates now sum to {gates_TK.sum():.2f}."
        steps.append(Step("Division", field, row(gates_TK), said))
    if config.gate_scale != 1:
        gates_TK = gates_TK * config.gate_scale
        said = f"All gates are multiplied by {config.gate_scale:.4g}; they sum to "
        said += f"{gates_TK.sum():.2f}."
        field = f"gate_scale={config.gate_scale:.4g}"
        steps.append(Step("Scale of the gates", field, row(gates_TK), said))
    if recipe.expert_scale:
        said = "Each gate is multiplied by a learned scale of its expert; the gates sum to "
        said += f"{routing.gates_TK.sum():.2f}."
        steps.append(Step("Scale of each expert", "expert_scale=True", row(routing.gates_TK), said))
    if config.null_experts:
        steps.append(_null(config, row(routing.gates_TK), ids[0].tolist()))
    if recipe.gates_on == "input":
        said = "The gate multiplies the token before the expert, where others weigh its output."
        steps.append(Step("On the input", 'gates_on="input"', row(routing.gates_TK), said))
    return steps


def _null(config: RouterConfig, gates_E: Tensor, ids: Sequence[int]) -> Step:
    first = NUM_EXPERTS - config.null_experts
    chosen = [str(expert) for expert in ids if expert >= first]
    does = "the token times its gate" if config.null == "identity" else "nothing, with a gate of 0"
    said = f"Experts {first} to {NUM_EXPERTS - 1} have no weights. "
    said += f"What comes from expert {listing(chosen)} is {does}." if chosen else "None is chosen."
    field = f'null_experts={config.null_experts}, null="{config.null}"'
    return Step("Null experts", field, gates_E, said)
