"""Agreement: what all ranks must have in common, compared by all of them, before it is too late.

Another k, seed or weight on one rank raises nothing anywhere: training goes on, with replicas
that are no replicas.                                                               Chapter 14.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from moe_tutorial.learning.checkpoint import describe
from moe_tutorial.parallel.gradients import local_part


def check_agreement(model: nn.Module, also: Mapping[str, Any] | None = None) -> None:
    """Refuse, on all ranks alike, a model that is not the same everywhere.

    Compared are every module's options, every parameter's and buffer's shape and dtype, and their
    values to the bit: of spread experts, those of ranks that hold the same ones.

    Args:
        model: before or after :func:`~moe_tutorial.parallel.spread.spread_experts`; all ranks call
            this together.
        also: other things that must be alike, by name, such as the settings.

    Raises:
        ValueError: on every rank, with what differs first, and between which ranks.
    """
    mine: dict[str, Any] = {**(also or {}), **describe(model)}
    mine |= {name: _digest(it) for name, it in _tensors(model)}
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    first: dict[str, tuple[int, Any]] = {}
    for rank, theirs in enumerate(everyone):
        for name, value in theirs.items():
            other, expected = first.setdefault(name, (rank, value))
            if value != expected:
                raise ValueError(
                    f"all ranks must have the same {name}, got {expected!r} on rank {other} and "
                    f"{value!r} on rank {rank}"
                )
    plain = [{name for name in theirs if "[" not in name} for theirs in everyone]
    for rank, names in enumerate(plain):
        if names != plain[0]:
            odd = min(names ^ plain[0])
            has, lacks = (rank, 0) if odd in names else (0, rank)
            raise ValueError(
                f"all ranks must have the same parts, got {odd} on rank {has} and none on "
                f"rank {lacks}"
            )


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    found = []
    for name, value in model.state_dict().items():
        if value.is_meta:
            continue
        where = ""
        if isinstance(value, DTensor):
            # Ranks that hold the same piece have the same place along the dimensions that divide.
            at: list[int] = list(value.device_mesh.get_coordinate() or [])
            where = str([i for i, p in zip(at, value.placements, strict=True) if p == Shard(0)])
        found.append((f"value of {name}{where}", value))
    return found


def _digest(tensor: Tensor) -> str:
    values = local_part(tensor).cpu().contiguous().flatten()
    digest = hashlib.sha256(values.view(torch.uint8).numpy().tobytes()).hexdigest()[:12]
    total = values.double().sum().item() if values.is_floating_point() else int(values.sum())
    return f"sum {total:.6g}, digest {digest}"
