"""What several tests of many devices share: odd layers, a small model, and meshes."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from moe_tutorial import Attention, Block, Experts, FeedForward, LanguageModel, MoELayer, Router
from moe_tutorial.learning.text import corpus
from moe_tutorial.routing.configuration import RouterConfig

WIDTH, EXPERTS = 12, 8
TIME_OUT = 60.0

TEXTS = corpus(
    {
        "prose": ["the cat sat on the mat. " * 9, "a dog ran to the park. " * 9],
        "code": ["def f(x): return x+1\n" * 9, "for i in range(3): print(i)\n" * 9],
    }
)


def layer(**options: Any) -> MoELayer:
    """A layer in float64; options of its parts by name."""
    torch.manual_seed(0)
    k = options.pop("k", 2)
    router = Router(WIDTH, EXPERTS, k, **options.pop("router", {}))
    null = k.null_experts if isinstance(k, RouterConfig) else 0
    experts = Experts(EXPERTS - null, WIDTH, 6, **options.pop("experts", {}))
    shared = FeedForward(WIDTH, 6) if options.pop("shared", False) else None
    return MoELayer(router, experts, shared=shared, **options).double()


def to_one(crowded: MoELayer) -> MoELayer:
    """The layer with a router that sends every token to expert 5 first."""
    with torch.no_grad():
        crowded.router.logit_bias_E[5] = 50
    return crowded


# For each case a layer, and how many tokens ranks 0 to 3 have; fewer ranks have those of several.
CASES: dict[str, tuple[Callable[[], MoELayer], tuple[int, int, int, int]]] = {
    "even": (layer, (4, 4, 4, 4)),
    "uneven": (layer, (9, 1, 5, 2)),
    "a rank without tokens": (layer, (3, 0, 7, 6)),
    "one token": (layer, (0, 0, 1, 0)),
    "no tokens": (layer, (0, 0, 0, 0)),
    "all to one rank": (
        lambda: to_one(layer(k=1, router={"logit_bias": True})), (5, 3, 6, 2),
    ),
    "K = E": (lambda: layer(k=EXPERTS), (2, 3, 4, 1)),
    "biases": (lambda: layer(experts={"bias": True, "activation": "gelu"}), (3, 4, 0, 6)),
    "a shared expert with a gate": (lambda: layer(shared=True, shared_gate=True), (4, 2, 1, 5)),
    "gates on the input": (lambda: layer(gates_on="input"), (2, 5, 3, 4)),
    "a learned scale for each expert": (lambda: layer(router={"expert_scale": True}), (2, 5, 3, 4)),
    "frozen experts": (lambda: frozen(layer()), (2, 5, 3, 4)),
}  # fmt: skip


def frozen(model: MoELayer) -> MoELayer:
    """The layer with experts that do not learn."""
    model.experts.requires_grad_(False)
    return model


def tokens(case: str) -> tuple[Tensor, Tensor]:
    """All tokens of a case, and the weights of their outputs in its loss."""
    source = torch.Generator().manual_seed(1)
    shape = (sum(CASES[case][1]), WIDTH)
    draw = [torch.randn(shape, dtype=torch.float64, generator=source) for _ in range(2)]
    return draw[0], draw[1]


def my_slice(case: str) -> slice:
    """Which tokens are this rank's."""
    counts, rank, together = CASES[case][1], dist.get_rank(), 4 // dist.get_world_size()
    first = sum(counts[: rank * together])
    return slice(first, first + sum(counts[rank * together : (rank + 1) * together]))


def mesh_of(copies: int) -> DeviceMesh:
    """All ranks as a table of so many rows; of one dimension for one row."""
    ranks = dist.get_world_size()
    if copies == 1:
        return init_device_mesh("cpu", (ranks,), mesh_dim_names=("experts",))
    names = ("copies", "experts")
    return init_device_mesh("cpu", (copies, ranks // copies), mesh_dim_names=names)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on each rank; all ranks must ask."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """Every gradient, whole."""
    named = {name: it.grad for name, it in model.named_parameters()}
    return {name: whole(it) for name, it in named.items() if it is not None}


def furthest(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest difference between tensors of the same names."""
    assert found.keys() == wanted.keys()
    return max([(found[it] - wanted[it]).abs().max().item() for it in wanted], default=0.0)


def model(experts: int = 4, k: int = 2, seed: int = 0, **router: Any) -> LanguageModel:
    """A language model of two sparse blocks, in float64."""
    torch.manual_seed(seed)
    blocks = [
        Block(Attention(8, 2), MoELayer(Router(8, experts, k, **router), Experts(experts, 8, 6)))
        for _ in range(2)
    ]
    return LanguageModel(blocks).double()
