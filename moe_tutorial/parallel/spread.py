"""Spreading: each device holds some of the experts, and all of the rest.

parameters [E, ...] -> on each of W devices [E / W, ...].                           Chapter 14.
"""

import inspect

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

from moe_tutorial.layer.block import Block
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import ExpertWeights
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.parallel.exchange import dispatch_parallel
from moe_tutorial.validation import check_kind


class SpreadExperts(Experts):
    """Experts of which each device of a mesh holds an equal share, in the order of their ids.

    Parameters are of the class ``DTensor``: they have the shape of all experts, so whatever counts,
    prints or saves them sees the whole, and only the memory is divided.

    Args:
        experts: all of them, the same on every rank; they are not changed.
        mesh: see :func:`spread_experts`.
    """

    def __init__(self, experts: Experts, mesh: DeviceMesh) -> None:
        nn.Module.__init__(self)
        self.activation = experts.activation
        self.group = mesh.get_group("experts")
        # Copies of the experts stand along the first dimension, if there are two.
        placements: list[Placement] = [*[Replicate()] * (mesh.ndim - 1), Shard(0)]
        share = len(experts.in_EHD) // mesh.size(mesh.ndim - 1)
        first = mesh.get_local_rank("experts") * share
        for name in ("in_EHD", "out_EDF", "in_bias_EH", "out_bias_ED"):
            whole = getattr(experts, name)
            if whole is None:
                self.register_parameter(name, None)
                continue
            local = whole.detach()[first : first + share].clone()
            spread = DTensor.from_local(local, mesh, placements, run_check=False)
            setattr(self, name, nn.Parameter(spread, requires_grad=whole.requires_grad))

    @property
    def local(self) -> ExpertWeights:
        """The experts of this rank alone."""
        first, second, activation, *biases = self.weights
        in_bias_EH, out_bias_ED = (None if it is None else _local(it) for it in biases)
        return ExpertWeights(_local(first), _local(second), activation, in_bias_EH, out_bias_ED)

    def forward(self, x_TD: Tensor, experts_TK: Tensor, gates_TK: Tensor) -> Tensor:
        """As ``Experts.forward``, for this rank's tokens; all ranks must call it together."""
        return dispatch_parallel(x_TD, experts_TK, gates_TK, self.local, self.group)


def spread_experts(model: nn.Module, mesh: DeviceMesh) -> None:
    """Spread the experts of every MoE layer over the devices of a mesh, where they are.

    Every rank builds the whole model first, on the meta device if it is too large for one; see
    :func:`~moe_tutorial.parallel.agreement.check_agreement` for whether all built the same.

    Args:
        model: holds :class:`~moe_tutorial.layer.moe.MoELayer` modules; changed. On the meta
            device, follow with ``model.to_empty(device=...)`` and load a checkpoint.
        mesh: of all ranks, with the dimension ``"experts"``, over which experts are spread, or with
            ``("copies", "experts")``, where each row of the mesh holds a copy of all experts.

    Raises:
        ValueError: a mesh with other dimensions or without some ranks, a model without MoE layers,
            or a number of experts that the mesh does not divide; all ranks raise alike.
    """
    ranks = experts_mesh(mesh).size(mesh.ndim - 1)
    layers = {name: it for name, it in model.named_modules() if isinstance(it, MoELayer)}
    if not layers:
        raise ValueError("model must have at least one MoELayer, got none")
    for name, layer in layers.items():
        count = len(layer.experts.in_EHD)
        if count % ranks:
            possible = [it for it in range(1, count + 1) if count % it == 0]
            raise ValueError(
                f"the number of experts must be divisible by the ranks that share them, got "
                f"{count} experts in {name or 'the layer'} on {ranks} ranks: use one of "
                f"{possible} ranks, or a mesh with copies"
            )
    for layer in layers.values():
        layer.experts = SpreadExperts(layer.experts, mesh)


def shard_rest(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard what is not an expert with FSDP2, block by block, so that no rank keeps all of it.

    A rank then keeps 1 / W of each other parameter and asks for the rest when a block runs.
    Gradients come back summed over all ranks, as
    :func:`~moe_tutorial.parallel.gradients.reduce_gradients` would sum them: FSDP's own division by
    the number of ranks is switched off.

    Args:
        model: after :func:`spread_experts`; changed.
        mesh: the same.

    Raises:
        NotImplementedError: a torch whose ``fully_shard`` cannot leave parameters out.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise NotImplementedError(
            f"sharding needs torch 2.8 or newer, got {torch.__version__}: leave it out"
        )
    ignored = {
        parameter
        for it in model.modules()
        if isinstance(it, SpreadExperts)
        for parameter in it.parameters()
    }
    parts = [*(it for it in model.modules() if isinstance(it, Block)), model]
    for part in parts:
        fully_shard(part, mesh=experts_mesh(mesh), ignored_params=ignored)
    for part in parts:
        assert isinstance(part, FSDPModule)
        part.set_gradient_divide_factor(1)


def experts_mesh(mesh: DeviceMesh) -> DeviceMesh:
    """The mesh, if it is one that experts can be spread over.

    Raises:
        TypeError: no mesh.
        ValueError: other dimensions, or not all ranks.
    """
    check_kind("mesh", mesh, DeviceMesh)
    if mesh.mesh_dim_names not in (("experts",), ("copies", "experts")):
        raise ValueError(
            "mesh must have the dimensions ('experts',) or ('copies', 'experts'), got "
            f"{mesh.mesh_dim_names}: init_device_mesh('cpu', (2, 4), "
            "mesh_dim_names=('copies', 'experts'))"
        )
    if mesh.size() != dist.get_world_size():
        raise ValueError(
            f"mesh must hold all {dist.get_world_size()} ranks, got {mesh.size()} of them"
        )
    return mesh


def _local(parameter: Tensor) -> Tensor:
    assert isinstance(parameter, DTensor)
    return parameter.to_local()
