"""Launching: one settings file says what is trained, on how many devices soever.

settings.json -> Plan -> model, text, mesh.                                         Chapter 14.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from moe_tutorial.layer.block import Attention, Block
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import FeedForward
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.learning.language_model import LanguageModel, Prediction
from moe_tutorial.learning.selection_bias import updated_bias
from moe_tutorial.learning.settings import Settings
from moe_tutorial.parallel.balancing import global_switch_loss, total_load
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.router import Router
from moe_tutorial.validation import check_size


@dataclass(frozen=True)
class ModelPlan:
    """The model: blocks of attention and an MoE layer, all alike.

    Attributes:
        layers: how many blocks.
        width: D.
        heads: of attention; they share D.
        experts: E, in each layer.
        k: how many a token chooses.
        expert_width: F.
        shared_width: of an expert that is always on; 0 for none.
    """

    layers: int = 2
    width: int = 64
    heads: int = 4
    experts: int = 8
    k: int = 2
    expert_width: int = 128
    shared_width: int = 0


@dataclass(frozen=True)
class Plan:
    """A training run.

    Attributes:
        training: steps, batch of all devices together, learning rate and so on.
        model: its sizes.
        balance_loss: the coefficient of the balance loss of the whole batch.
        bias_rate: by how much a selection bias moves after each step; 0 for no bias.
        languages: of the text, as Babel names them; none needs no Babel.
        copies: on how many rows of devices all experts are; the devices of a row share them.
        shard_rest: whether FSDP2 shards what is no expert.
        save_every: steps between two checkpoints.
        time_out: seconds that a device waits for another one.

    Raises:
        TypeError, ValueError: a value outside what makes sense; the message names it.
    """

    training: Settings
    model: ModelPlan = field(default_factory=ModelPlan)
    balance_loss: float = 0.01
    bias_rate: float = 0.0
    languages: tuple[str, ...] = ()
    copies: int = 1
    shard_rest: bool = False
    save_every: int = 100
    time_out: float = 600.0

    def __post_init__(self) -> None:
        for name in ("copies", "save_every"):
            check_size(name, getattr(self, name))
        for it in fields(self.model):
            least = 0 if it.name == "shared_width" else 1
            check_size(f"model.{it.name}", getattr(self.model, it.name), least=least)
        for name in ("balance_loss", "bias_rate"):
            if not isinstance(getattr(self, name), int | float) or not getattr(self, name) >= 0:
                raise ValueError(
                    f"{name} must be a number of at least 0, got {getattr(self, name)!r}"
                )
        if not isinstance(self.time_out, int | float) or not 0 < self.time_out < 1e6:
            raise ValueError(f"time_out must be seconds above 0, got {self.time_out!r}")
        if not isinstance(self.shard_rest, bool):
            raise TypeError(f"shard_rest must be true or false, got {self.shard_rest!r}")


def read_plan(path: Path) -> Plan:
    """Read a settings file: JSON with the names of :class:`Plan`, of which most may be left out.

    Raises:
        FileNotFoundError: no such file.
        TypeError, ValueError: no JSON, an unknown name, or a value that makes no sense.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name} must be JSON, got something else: {error}") from error
    _check_names(path.name, content, Plan)
    if "training" not in content:
        raise ValueError(f'{path.name} must have "training", with "steps" at least')
    parts: dict[str, Any] = {}
    for name, kind in (("training", Settings), ("model", ModelPlan)):
        if name in content:
            _check_names(name, content[name], kind)
            parts[name] = kind(**content[name])
    languages = content.get("languages", [])
    if not isinstance(languages, list) or not all(isinstance(it, str) for it in languages):
        raise ValueError(f'languages must be a list such as ["de", "fr"], got {languages!r}')
    return Plan(**{**content, **parts, "languages": tuple(languages)})


def _check_names(what: str, content: Any, kind: type) -> None:
    known = [it.name for it in fields(kind)]
    if not isinstance(content, dict):
        raise TypeError(f"{what} must hold names and values, got {content!r}")
    for name in content:
        if name not in known:
            raise ValueError(f"{what} must hold {', '.join(known)} alone, got {name!r}")


def connect(time_out: float) -> torch.device:
    """Join the other processes that ``torchrun`` started, or be the only one, if it did not.

    Args:
        time_out: seconds that a rank waits for another one, in each operation.

    Returns:
        This process's device: a GPU of its own where there are any, else the CPU.
    """
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    wait = timedelta(seconds=time_out)
    if "RANK" in os.environ:
        dist.init_process_group(backend, timeout=wait)
    else:
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group(
            backend,
            store=torch._C._distributed_c10d.HashStore(),
            rank=0,
            world_size=1,
            timeout=wait,
        )
    return device


def make_mesh(copies: int, device: torch.device) -> DeviceMesh:
    """All ranks as a table: each row holds all experts, and its ranks share them.

    Raises:
        ValueError: copies that do not divide the number of ranks.
    """
    ranks = dist.get_world_size()
    if ranks % copies:
        raise ValueError(f"copies must divide the number of ranks ({ranks}), got {copies}")
    shape = (copies, ranks // copies)
    return init_device_mesh(device.type, shape, mesh_dim_names=("copies", "experts"))


def make_model(plan: Plan) -> LanguageModel:
    """The model with weights drawn from the plan's seed, the same on every rank, on the CPU."""
    torch.manual_seed(plan.training.seed)
    sizes = plan.model
    blocks = []
    for _ in range(sizes.layers):
        router = Router(sizes.width, sizes.experts, sizes.k, selection_bias=plan.bias_rate > 0)
        experts = Experts(sizes.experts, sizes.width, sizes.expert_width)
        shared = FeedForward(sizes.width, sizes.shared_width) if sizes.shared_width else None
        layer = MoELayer(router, experts, shared=shared)
        blocks.append(Block(Attention(sizes.width, sizes.heads), layer))
    return LanguageModel(blocks)


def penalty_of(plan: Plan) -> Callable[[Routing], Tensor] | None:
    """The balance loss of the whole batch times its coefficient; None for a coefficient of 0."""
    return partial(_penalty, coefficient=plan.balance_loss) if plan.balance_loss else None


def _penalty(routing: Routing, coefficient: float) -> Tensor:
    return coefficient * global_switch_loss(routing)


def bias_mover(model: LanguageModel, rate: float) -> Callable[[Prediction], None] | None:
    """What moves every layer's selection bias by the load of all ranks; None for a rate of 0."""
    return partial(_move_biases, _routers(model), rate=rate) if rate else None


def _routers(model: LanguageModel) -> list[Router]:
    return [it for it in model.modules() if isinstance(it, Router)]


def _move_biases(routers: list[Router], prediction: Prediction, rate: float) -> None:
    for router, routing in zip(routers, prediction.routings, strict=True):
        assert routing is not None
        assert router.bias_E is not None
        router.bias_E = updated_bias(router.bias_E, total_load(routing), rate)
