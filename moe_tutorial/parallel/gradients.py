"""Gradients on many devices: which are summed over whom, and how long they are together.

dense: sum over all ranks;  an expert: sum over its copies.                         Chapter 14.
"""

import math
from collections import defaultdict

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from moe_tutorial.parallel.spread import SpreadExperts, experts_mesh
from moe_tutorial.validation import check_positive_number


def reduce_gradients(model: nn.Module, mesh: DeviceMesh) -> None:
    r"""Sum every gradient over those ranks that hold the same parameter.

    .. math:: \text{dense: } \sum_{r} g_r, \qquad \text{experts: } \sum_{\text{copies}} g_r

    Each rank's loss must be its *share*: the sum over its own tokens, divided by the number of
    tokens of all ranks. The exchange has brought an expert the gradients of the tokens of all
    ranks already, so nothing is left to sum but its copies; one more sum over all ranks would make
    it W times too large. What FSDP2 shards has been summed by FSDP2.

    Args:
        model: after a backward; its gradients are changed. A parameter that no token reached gets
            zeros where another rank may have a gradient.
        mesh: the one that its experts were spread over.
    """
    spread = {
        parameter
        for it in model.modules()
        if isinstance(it, SpreadExperts)
        for parameter in it.parameters()
    }
    copies = mesh.get_group("copies") if experts_mesh(mesh).ndim == 2 else None
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter in spread:
            if copies is not None:
                dist.all_reduce(local_part(_gradient(parameter)), group=copies)
        elif not isinstance(parameter, DTensor):
            dist.all_reduce(_gradient(parameter))


def clip_gradients(model: nn.Module, largest: float) -> float:
    r"""Scale all gradients down together, so that their norm is ``largest`` at most.

    .. math:: \lVert g \rVert^2 = \sum_{\text{dense}} \lVert g \rVert^2
              + \sum_{\text{ranks}} \sum_{\text{their experts}} \lVert g \rVert^2

    A rank sees only its own experts' gradients. If each clipped by the norm that it sees, dense
    parameters would be scaled differently on each, and their replicas would drift apart.

    Args:
        model: with gradients that were reduced; all ranks call this together.
        largest: positive.

    Returns:
        The norm before, the same number on every rank.
    """
    check_positive_number("largest", largest)
    gradients = [it.grad for it in model.parameters() if it.grad is not None]
    # Squares that lie in pieces are summed over the ranks that have them, others are whole already.
    squares: dict[tuple[dist.ProcessGroup, ...], Tensor | float] = defaultdict(float)
    for gradient in gradients:
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        squares[_pieces(gradient)] += local_part(gradient).to(dtype).square().sum()
    for groups, square in squares.items():
        assert isinstance(square, Tensor)
        for group in groups:
            dist.all_reduce(square, group=group)
    norm = math.sqrt(sum(squares.values()))
    factor = largest / (norm + 1e-6)  # as torch.nn.utils.clip_grad_norm_ has it
    if factor < 1:
        for gradient in gradients:
            local_part(gradient).mul_(factor)
    return norm


def local_part(tensor: Tensor) -> Tensor:
    """What of a tensor lies on this rank; it shares its memory."""
    with torch.no_grad():
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _pieces(gradient: Tensor) -> tuple[dist.ProcessGroup, ...]:
    if not isinstance(gradient, DTensor):
        return ()
    mesh = gradient.device_mesh
    return tuple(
        mesh.get_group(dim)
        for dim, placement in enumerate(gradient.placements)
        if isinstance(placement, Shard)
    )
