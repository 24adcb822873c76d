"""One layer at a time: change what a single layer of a model does, and put it back.

A layer that chooses unstably and a layer that matters are two things: change one, measure the loss.
                                                                                     Chapter 15.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from moe_tutorial.layer.moe import MoELayer, MoEOutput
from moe_tutorial.uncertainty.perturbations import NoiseSize, check_gamma, noisy_tokens
from moe_tutorial.validation import check_choice, check_kind


def moe_layers(model: nn.Module) -> list[MoELayer]:
    """The MoE layers of a model, in the order of its modules.

    Raises:
        TypeError: what is no module.
        ValueError: a model without any.
    """
    check_kind("model", model, nn.Module)
    found = [module for module in model.modules() if isinstance(module, MoELayer)]
    if not found:
        raise ValueError("model must hold at least one MoELayer, got none")
    return found


@contextmanager
def changed(layer: MoELayer, **changes: Any) -> Iterator[None]:
    """Let one layer decide otherwise, as ``changed(layer, selection="sampled", temperature=2.0)``.

    Args:
        layer: of a model or alone.
        changes: fields of its :class:`~moe_tutorial.routing.configuration.RouterConfig`.

    Raises:
        TypeError, ValueError: as the configuration's.
    """
    check_kind("layer", layer, MoELayer)
    before = layer.router.config
    layer.router.config = replace(before, **changes)
    try:
        yield
    finally:
        layer.router.config = before


@contextmanager
def switched_off(layer: MoELayer) -> Iterator[None]:
    """Let one layer return zeros, so that the block's input passes by: how much does it matter?"""
    check_kind("layer", layer, MoELayer)

    def nothing(_: nn.Module, __: Any, output: MoEOutput) -> MoEOutput:
        return replace(output, y_TD=torch.zeros_like(output.y_TD))

    handle = layer.register_forward_hook(nothing)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def noisy_input(
    module: nn.Module,
    gamma: float,
    size: NoiseSize = "length",
    generator: torch.Generator | None = None,
) -> Iterator[None]:
    """Add noise to the first argument of a module, such as a layer, its router or a whole block.

    Args:
        module: whose first argument is tokens.
        gamma: as for :func:`~moe_tutorial.uncertainty.perturbations.noisy_tokens`.
        size: as there.
        generator: as there.

    Raises:
        TypeError, ValueError: as there.
    """
    check_kind("module", module, nn.Module)
    check_gamma(gamma)
    check_choice("size", size, ("length", "coordinate"))

    def add(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return noisy_tokens(arguments[0], gamma, size, generator), *arguments[1:]

    handle = module.register_forward_pre_hook(add)
    try:
        yield
    finally:
        handle.remove()
