"""The router zoo: any router of transformers, taken over with its weights as a router of the book.

zoo.from_transformers(block)(x_TD).gates_TK are the weights that the block's experts get
at last.                                                                             Chapter 11.
"""

import importlib
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from moe_tutorial.models.capped import CappedRouter
from moe_tutorial.models.compositions import (
    HashRouter,
    JointRouter,
    ModalityRouter,
    ProductKeys,
    ScoredRouter,
    StatefulRouter,
)
from moe_tutorial.models.families import FAMILIES, UNSUPPORTED, Family
from moe_tutorial.models.readers import READERS, centroids_of, in_block
from moe_tutorial.models.recipes import Recipe, distinct, in_words, traits
from moe_tutorial.models.routers import ROUTERS
from moe_tutorial.models.sparsemixer import SparseMixerRouter
from moe_tutorial.routing.router import Router
from moe_tutorial.validation import check_kind

__all__ = [
    "FAMILIES", "ROUTERS", "UNSUPPORTED", "Recipe", "default_block", "default_recipe", "distinct",
    "from_transformers", "in_words", "recipe_of", "router_and_block", "traits",
]  # fmt: skip

_BIAS_AT = (
    "e_score_correction_bias", "expert_bias", "balancing_biases",
    "moe_statics.e_score_correction_bias",
)  # fmt: skip


def router_and_block(module: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """The router of a block of transformers, and the block; None for it where a router is given.

    Raises:
        TypeError: what is no module.
        ValueError: a class that the zoo does not know, by name.
    """
    check_kind("module", module, nn.Module)
    if type(module).__name__ in READERS:
        return module, None
    for name in ("gate", "router"):
        router = getattr(module, name, None)
        if type(router).__name__ in READERS:
            return router, module  # type: ignore[return-value]
    kind = type(module).__name__
    if kind in UNSUPPORTED:
        raise ValueError(f"{kind} {UNSUPPORTED[kind]}")
    inside = [n for n in ("gate", "router") if isinstance(getattr(module, n, None), nn.Module)]
    names = [f"{kind}.{n} is a {type(getattr(module, n)).__name__}" for n in inside]
    raise ValueError(
        f"module must be a router of transformers or a block with one as gate or router, and "
        f"{names[0] if names else kind + ' is none'} that the zoo knows"
    )


def recipe_of(module: nn.Module) -> Recipe:
    """What a router of transformers does, or that of a block, without its weights.

    Args:
        module: a router or a block, also on the meta device.

    Raises:
        TypeError, ValueError: as :func:`from_transformers`.
    """
    if type(module).__name__ == "Ernie4_5_VLMoeMoeBlock":
        return replace(recipe_of(module.text_moe), kind="two routers")  # type: ignore[arg-type]
    router, block = router_and_block(module)
    return READERS[type(router).__name__](router, block)


def from_transformers(module: nn.Module) -> Router:
    """A router of the book that decides as one of transformers does, with a copy of its weights.

    Ids are the same sets, and ``gates_TK`` are the weights as they are applied at last, with a
    scale that only the block knows. Logits, scores and gates are float32 at least; some routers of
    transformers follow the dtype of the model, and a model in bfloat16 may choose otherwise.

    Args:
        module: a router of transformers, or a block that has one as ``gate`` or ``router``. A
            router alone will not do where its bias, K or scale is a field of the block.

    Returns:
        A router, in training or evaluation as the module is. Those that need more than the token
        take it by name: ``token_ids_T``, ``state_TH``, ``mask_T`` or ``is_vision_T``.

    Raises:
        TypeError: what is no module.
        ValueError: a class that the zoo does not know, or a field of which it does not know the
            value; the message names them.
    """
    if type(module).__name__ == "Ernie4_5_VLMoeMoeBlock":
        text, vision = from_transformers(module.text_moe), from_transformers(module.vision_moe)  # type: ignore[arg-type]
        return ModalityRouter(text, vision)  # type: ignore[return-value]
    theirs, block = router_and_block(module)
    recipe = READERS[type(theirs).__name__](theirs, block)
    ours = _built(theirs, recipe)
    with torch.no_grad():
        for vector, source in _vectors(ours, theirs, block):
            vector.copy_(source.reshape(vector.shape))
    return ours.train(module.training)


def _built(theirs: Any, recipe: Recipe) -> Router:
    """A router with their centroids, or what they have in their place."""
    config, num_experts = recipe.config, recipe.num_experts
    if recipe.kind == "network":
        scale = getattr(theirs, "router_states_scale", None)
        into, network = deepcopy(theirs.down_proj), deepcopy(theirs.router_mlp)
        return StatefulRouter(into, network, scale, config, num_experts)
    weight = centroids_of(theirs).detach()
    model_width = weight.shape[1]
    if recipe.kind == "product keys":
        keys = ProductKeys(weight, mixed=True)
        return ScoredRouter(keys, model_width, num_experts, config).to(weight)
    if recipe.kind == "centroids":
        norm = theirs.eps if recipe.input_norm else 1.0
        ours = recipe.router(model_width, norm)
    elif recipe.kind == "token ids":
        ours = HashRouter(model_width, num_experts, config, theirs.tid2eid)
    elif recipe.kind == "sparsemixer":
        ours = SparseMixerRouter(model_width, num_experts, theirs.router_jitter_noise)
    elif recipe.kind == "joint gates":
        ours = JointRouter(model_width, num_experts, theirs.n_shared_experts, config)
        ours.shared_SD.data.copy_(weight[num_experts:])
        weight = weight[:num_experts]
    else:
        ours = _capped(theirs, recipe, model_width)
    if recipe.input_norm:  # a scale of the token's entries is one of the centroids' entries
        weight = weight * theirs.scale.detach() * theirs.scalar_root_size
    ours.centroids_ED.data.copy_(weight)
    return ours.to(weight)


def _capped(theirs: Any, recipe: Recipe, model_width: int) -> CappedRouter:
    options: dict[str, Any] = {"logit_bias": recipe.logit_bias, "capacity": theirs.expert_capacity}
    config = recipe.config
    if config.k == 1:
        return CappedRouter(model_width, recipe.num_experts, config, per_sequence=True, **options)
    before = theirs.normalize_router_prob_before_dropping
    floor = torch.finfo(torch.float32).eps
    config = replace(config, floor=floor) if before else replace(config, renormalise=False)
    share = theirs.moe_eval_capacity_token_fraction
    return CappedRouter(
        model_width, recipe.num_experts, config, eval_share=share if share > 0 else None,
        surest_first=theirs.batch_prioritized_routing, renormalise_kept=not before, **options,
    )  # fmt: skip


def _vectors(ours: Router, theirs: Any, block: Any) -> list[tuple[Tensor, Tensor]]:
    """Each vector of E numbers that ours has, and where theirs stands."""
    found: list[tuple[Tensor, Tensor]] = []
    if ours.bias_E is not None:
        places = [it for it in (theirs, block) if it is not None]
        found.append((ours.bias_E, _first(places, _BIAS_AT)))
    if ours.logit_bias_E is not None:
        bias = getattr(theirs, "bias", None)
        found.append((ours.logit_bias_E, theirs.classifier.bias if bias is None else bias))
    if ours.expert_scale_E is not None:
        found.append((ours.expert_scale_E, theirs.per_expert_scale))
    return found


def _first(places: list[Any], paths: tuple[str, ...]) -> Tensor:
    for place in places:
        for path in paths:
            found = place
            for name in path.split("."):
                found = getattr(found, name, None)
            if isinstance(found, Tensor):
                return found
    tensor: Tensor = in_block(places[0], None, " or ".join(paths))
    return tensor


def default_block(name: str) -> nn.Module:
    """A block of the installed transformers as its default configuration makes it.

    Args:
        name: one of ``FAMILIES``.

    Returns:
        The block, or the router, on the meta device: shapes and fields, no weights.
    """
    if name not in FAMILIES:
        raise ValueError(f"name must be one of FAMILIES, got {name!r}")
    return made(FAMILIES[name])


def made(family: Family, **changes: Any) -> nn.Module:
    """A family's block on the meta device, with fields of its configuration changed."""
    base = f"transformers.models.{family.folder}"
    modelling = importlib.import_module(f"{base}.modeling_{family.folder}")
    configuration = importlib.import_module(f"{base}.configuration_{family.folder}")
    config = getattr(configuration, family.config)()
    for field, value in {**(family.changes or {}), **changes}.items():
        setattr(config, field, value)
    block_class = getattr(modelling, family.block)
    wanted = {"layer_idx": family.layer, "ffn_dim": 8}
    asked = block_class.__init__.__code__.co_varnames[: block_class.__init__.__code__.co_argcount]
    with torch.device("meta"):
        block: nn.Module = block_class(config, **{n: v for n, v in wanted.items() if n in asked})
    return block


def default_recipe(name: str) -> Recipe:
    """What the router of a family does by default, read from the installed transformers."""
    return recipe_of(default_block(name))
