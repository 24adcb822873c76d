r"""What many devices cost, on paper: bytes, seconds, and who waits for whom.

exchange / compute = (b_out + b_back) flops / (6 F bandwidth).                      Chapter 14.

Nothing here needs a device. Experts are numbered so that rank r of W holds those from r E / W on;
a row is one assignment, a token on its way to one expert.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_tutorial.validation import check_positive_number, check_sets, check_size


@dataclass(frozen=True)
class Device:
    """What one device can do.

    Attributes:
        flops: FLOPs a second in matrix products, as reached, not as advertised.
        bandwidth: bytes a second that it sends to others while it receives as many.
        latency: seconds that an exchange takes before its first byte.
    """

    flops: float
    bandwidth: float
    latency: float = 0.0

    def __post_init__(self) -> None:
        check_positive_number("flops", self.flops)
        check_positive_number("bandwidth", self.bandwidth)
        if not self.latency >= 0:
            raise ValueError(f"latency must be at least 0, got {self.latency}")


@dataclass(frozen=True)
class Row:
    """What one row costs, forward.

    Attributes:
        model_width: D.
        hidden_width: F, of a SwiGLU expert.
        bytes_out: for each number on its way to the expert: 2 for bfloat16, 1 for float8.
        bytes_back: for each number on its way back.
    """

    model_width: int
    hidden_width: int
    bytes_out: float = 2
    bytes_back: float = 2

    def __post_init__(self) -> None:
        check_size("model_width", self.model_width)
        check_size("hidden_width", self.hidden_width)
        check_positive_number("bytes_out", self.bytes_out)
        check_positive_number("bytes_back", self.bytes_back)

    def flops(self) -> int:
        """Of three matrix products, 2 for each multiply-add: 6 D F."""
        return 6 * self.model_width * self.hidden_width

    def bytes(self) -> float:
        """There and back."""
        return self.model_width * (self.bytes_out + self.bytes_back)


def bytes_per_token(row: Row, k: int, ranks: int) -> float:
    r"""What a token sends and gets back in one layer, forward, with tokens and experts anywhere.

    .. math:: K \, (1 - 1 / W) \, D \, (b_{out} + b_{back})

    One expert in W is at home. The backward moves as many bytes once more.
    """
    check_size("k", k)
    check_size("ranks", ranks)
    return k * (1 - 1 / ranks) * row.bytes()


def exchange_over_compute(row: Row, device: Device) -> float:
    r"""How long the exchange takes, in units of the experts' own time, on many ranks.

    .. math:: \frac{K D (b_{out} + b_{back}) / \beta}{K \cdot 6 D F / \text{flops}}
              = \frac{(b_{out} + b_{back}) \, \text{flops}}{6 F \beta}

    K and D cancel. Only a wider expert makes the exchange matter less: finer experts cost network.
    """
    return (row.bytes() / device.bandwidth) / (row.flops() / device.flops)


def rows_sent(experts_WTK: Tensor, num_experts: int) -> Tensor:
    """How many rows each rank sends to each rank, those that stay at home included.

    Args:
        experts_WTK: int64 ids that the tokens of each rank chose, ``[W, T, K]``, with any leading
            dimensions, such as one for copies of all experts.
        num_experts: E, a multiple of W.

    Returns:
        rows_WW: int64 ``[W, W]``, from the first to the second, with the same leading dimensions.

    Raises:
        ValueError: ids that are no sets of experts, or a number of experts that W does not divide.
    """
    check_sets(experts_WTK, num_experts, "experts_WTK")
    if experts_WTK.ndim < 3:
        raise ValueError(f"experts_WTK must have shape [W, T, K], got {tuple(experts_WTK.shape)}")
    ranks = experts_WTK.shape[-3]
    if num_experts % ranks:
        raise ValueError(f"num_experts must be a multiple of {ranks} ranks, got {num_experts}")
    chosen = experts_WTK.shape[-2] * experts_WTK.shape[-1]
    to_NX = (experts_WTK // (num_experts // ranks)).reshape(-1, chosen)  # a line for each sender
    rows_NW = torch.zeros(len(to_NX), ranks, dtype=torch.int64)
    rows_NW.scatter_add_(1, to_NX, torch.ones_like(to_NX))
    return rows_NW.view(*experts_WTK.shape[:-2], ranks)


@dataclass(frozen=True, eq=False)
class LayerTime:
    """Where the seconds of one layer's forward go, on every rank.

    Attributes:
        exchange: both exchanges, ``[...]``: one number for each copy of the experts.
        compute_W: a rank's own products, ``[..., W]``.
        waiting_W: for the busiest rank of its copy, ``[..., W]``.
    """

    exchange: Tensor
    compute_W: Tensor
    waiting_W: Tensor

    @property
    def total(self) -> Tensor:
        """Seconds until the last rank of a copy is done."""
        return self.exchange + self.compute_W.amax(-1)


def layer_time(rows_WW: Tensor, row: Row, device: Device) -> LayerTime:
    r"""The forward of one layer, with nothing overlapped.

    .. math:: 2 \alpha + \frac{(b_{out} + b_{back}) D \max_r \text{rows}_r}{\beta}
              + \frac{6 D F \max_r \text{arrived}_r}{\text{flops}}

    A rank is busy in an exchange as long as the larger of what it sends and what it receives takes;
    what stays at home costs nothing. The exchange ends with its slowest rank, and so does the
    layer.

    Args:
        rows_WW: from :func:`rows_sent`, with any leading dimensions.
        row: what each costs.
        device: every one is alike.

    Returns:
        The seconds, float64.
    """
    home_W = rows_WW.diagonal(dim1=-2, dim2=-1)
    arrived_W = rows_WW.sum(-2)
    busiest = torch.maximum(rows_WW.sum(-1) - home_W, arrived_W - home_W).amax(-1).double()
    exchange = 2 * device.latency + busiest * row.bytes() / device.bandwidth
    compute_W = arrived_W.double() * row.flops() / device.flops
    return LayerTime(exchange, compute_W, compute_W.amax(-1, keepdim=True) - compute_W)


def tokens_for(
    experts_NK: Tensor, shape: tuple[int, ...], tokens: int, generator: torch.Generator
) -> Tensor:
    """Give each of many ranks a stretch of text, from what a router chose for a long one.

    Args:
        experts_NK: int64, the choices for N tokens of text in their order.
        shape: of the ranks, such as ``(copies, W)``.
        tokens: T, the tokens of each rank; a stretch that reaches the end goes on at the start.
        generator: where each stretch begins.

    Returns:
        experts: ``[*shape, T, K]``, for :func:`rows_sent`.
    """
    check_size("tokens", tokens)
    first = torch.randint(len(experts_NK), (*shape, 1), generator=generator)
    return experts_NK[(first + torch.arange(tokens)) % len(experts_NK)]


def bytes_across(
    experts_TK: Tensor,
    num_experts: int,
    nodes: int,
    my_node: int,
    row_bytes: float,
    *,
    once: bool,
) -> float:
    """What the tokens of one node send to other nodes.

    A node is a group of ranks with fast links between them. Where a token's row crosses once and is
    copied behind the crossing, it pays for each *node* that it visits, else for each expert.

    Args:
        experts_TK: int64 ids that the node's tokens chose.
        num_experts: E, a multiple of the number of nodes.
        nodes: how many there are.
        my_node: where the tokens are.
        row_bytes: of one row, in one direction.
        once: whether a row crosses once for each node.

    Raises:
        ValueError: ids that are no sets of experts, or numbers that do not fit.
    """
    at_TK = _nodes(experts_TK, num_experts, nodes)
    if not 0 <= my_node < nodes:
        raise ValueError(f"my_node must be from 0 to {nodes - 1}, got {my_node}")
    if not once:
        return int((at_TK != my_node).sum()) * row_bytes
    visited_TN = _visited(at_TK, nodes)
    visited_TN[..., my_node] = False
    return int(visited_TN.sum()) * row_bytes


def nodes_visited(experts_TK: Tensor, num_experts: int, nodes: int) -> Tensor:
    """On how many nodes a token's experts are, its own included if one is there: int64 ``[T]``."""
    return _visited(_nodes(experts_TK, num_experts, nodes), nodes).sum(-1)


def _nodes(experts_TK: Tensor, num_experts: int, nodes: int) -> Tensor:
    check_sets(experts_TK, num_experts)
    check_size("nodes", nodes)
    if num_experts % nodes:
        raise ValueError(f"num_experts must be a multiple of {nodes} nodes, got {num_experts}")
    return experts_TK // (num_experts // nodes)


def _visited(at_TK: Tensor, nodes: int) -> Tensor:
    visited_TN = torch.zeros(*at_TK.shape[:-1], nodes, dtype=torch.bool)
    return visited_TN.scatter(-1, at_TK, True)
