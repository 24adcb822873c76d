"""The layer in other people's training code: what they do to a module, and what it must survive."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.checkpoint import checkpoint

from moe_tutorial import Experts, FeedForward, MoELayer, Router, dispatch
from moe_tutorial.layer.block import Attention, Block
from moe_tutorial.layer.dispatch import chosen_method
from moe_tutorial.learning.language_model import LanguageModel
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import corpus
from moe_tutorial.learning.training import train

D, F, E, K = 16, 24, 6, 2


def layer_of(*, bias: bool = False, **options: Any) -> MoELayer:
    torch.manual_seed(0)
    experts = Experts(E, D, F, bias=bias)
    return MoELayer(Router(D, E, K, **options), experts, shared=FeedForward(D, F))


def tokens(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*(shape or (5, 7)), D, generator=generator, dtype=torch.float64).to(dtype)


def gradients(layer: MoELayer) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_every_parameter_is_contiguous(bias: bool) -> None:
    for module in (layer_of(bias=bias), layer_of(bias=bias, selection="noisy_top_k")):
        assert all(parameter.is_contiguous() for parameter in module.parameters())


def test_safetensors_keeps_a_layer(tmp_path: Path) -> None:
    layer, other = layer_of(selection_bias=True), layer_of(selection_bias=True)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    other.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    assert torch.equal(layer(tokens()).y_TD, other(tokens()).y_TD)


def test_a_vector_of_all_parameters_and_back() -> None:
    layer = layer_of()
    before = layer(tokens()).y_TD
    vector = parameters_to_vector(layer.parameters())
    vector_to_parameters(vector.clone(), layer.parameters())
    assert torch.equal(layer(tokens()).y_TD, before)


def test_lbfgs_lowers_a_loss() -> None:
    layer, x = layer_of(), tokens()
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = (layer(x).y_TD - x).square().mean()
        loss.backward()
        return loss

    first = closure().item()
    optimizer.step(closure)
    assert closure().item() < first


@pytest.mark.parametrize("frozen", ["experts", "router", "shared"])
def test_frozen_parts_have_no_gradient_and_change_no_other(frozen: str) -> None:
    whole, part, x = layer_of(), layer_of(), tokens().requires_grad_()
    getattr(part, frozen).requires_grad_(False)
    for layer in (whole, part):
        layer(x).y_TD.square().sum().backward()
    expected = {n: g for n, g in gradients(whole).items() if not n.startswith(frozen)}
    found = gradients(part)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("tokens_count", [40, 4000])  # grouped, loop
def test_frozen_experts_cost_no_memory_for_gradients(tokens_count: int) -> None:
    experts = Experts(4, 64, 512).requires_grad_(False)
    x = torch.randn(tokens_count, 64, requires_grad=True)
    ids = torch.rand(tokens_count, 4).topk(2).indices
    gates = torch.full((tokens_count, 2), 0.5)
    method = chosen_method(x, ids, experts.weights)
    assert method == ("loop" if tokens_count == 4000 else chosen_method(x, ids, experts.weights))
    made, theirs = [], {p.untyped_storage().data_ptr() for p in experts.parameters()}

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in theirs:
                made.append(result.shape)
            return result

    y = experts(x, ids, gates)
    with Watch():
        y.sum().backward()
    assert x.grad is not None
    assert experts.in_EHD.shape not in made
    assert experts.out_EDF.shape not in made


# --- hooks and adapters ---------------------------------------------------------------------------


def test_hooks_on_the_experts_run() -> None:
    layer, seen = layer_of(), []
    layer.experts.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    layer(tokens())
    assert seen == [(5, 7, D)]


def test_an_adapter_in_the_place_of_a_weight_is_used_and_learns() -> None:
    """As PEFT's LoRA does for stacked experts: the weight becomes W + B A."""

    class LowRank(nn.Module):
        def __init__(self, weight: Tensor, rank: int = 2) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.randn(len(weight), rank, weight.shape[2]) / 10)
            self.b = nn.Parameter(torch.zeros(len(weight), weight.shape[1], rank))

        def forward(self, weight: Tensor) -> Tensor:
            return weight + self.b @ self.a

    layer, x = layer_of(), tokens()
    before = layer(x).y_TD
    layer.experts.requires_grad_(False)
    nn.utils.parametrize.register_parametrization(
        layer.experts, "in_EHD", LowRank(layer.experts.in_EHD)
    )
    adapter = layer.experts.parametrizations.in_EHD[0]
    assert torch.allclose(layer(x).y_TD, before)
    layer(x).y_TD.sum().backward()
    assert adapter.b.grad.abs().max() > 0
    with torch.no_grad():
        adapter.b.add_(0.1)
    assert not torch.allclose(layer(x).y_TD, before)


# --- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_selection_bias_stays_wide(dtype: torch.dtype) -> None:
    router = Router(D, E, K, selection_bias=True)
    bias_E = torch.tensor([0.001, 1.0001, -0.3333, 0.2, 2.71828, 0.0])
    router.bias_E = bias_E.clone()
    layer = MoELayer(router, Experts(E, D, F)).to(dtype)
    assert layer.router.centroids_ED.dtype == dtype
    assert layer.router.bias_E.dtype == torch.float32
    assert torch.equal(layer.router.bias_E, bias_E)
    assert layer.double().router.bias_E.dtype == torch.float64
    assert copy.deepcopy(layer).router.bias_E.dtype == torch.float64
    assert Router(D, E, K, selection_bias=True).to("meta").to(dtype).bias_E.is_meta


def test_autocast_leaves_float64_alone_as_linear_does() -> None:
    layer, x = layer_of().double(), tokens(dtype=torch.float64)
    expected = layer(x).y_TD
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nn.Linear(D, 2).double()(x).dtype == torch.float64
        found = layer(x).y_TD
    assert found.dtype == torch.float64
    assert torch.equal(found, expected)


@pytest.mark.parametrize("method", ["loop", "grouped"])
def test_gates_are_not_rounded_to_the_dtype_of_the_rows(method: Any) -> None:
    if method == "grouped" and not hasattr(nn.functional, "grouped_mm"):
        pytest.skip("this torch has no grouped_mm")
    # An expert that gives back ones: the sum of gates shows what became of each gate.
    experts = Experts(8, 8, 8, activation="gelu").bfloat16().requires_grad_(False)
    nn.init.constant_(experts.in_EHD, 8.0)  # gelu(64) = 64
    nn.init.constant_(experts.out_EDF, 1 / 512)
    x = torch.ones(40, 8).bfloat16()
    ids = torch.arange(8).expand(40, 8)
    gates = torch.softmax(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), -1)
    y = dispatch(x, ids, gates, experts, method=method)
    assert (y.float() - 1).abs().max() <= 2**-9  # the last rounding alone


@pytest.mark.parametrize("method", ["loop", "grouped"])
def test_a_gates_gradient_is_widened_before_it_is_multiplied(method: Any) -> None:
    if method == "grouped" and not hasattr(nn.functional, "grouped_mm"):
        pytest.skip("this torch has no grouped_mm")
    experts = Experts(1, 8, 8, activation="gelu").half()
    nn.init.constant_(experts.in_EHD, 2.0)
    nn.init.constant_(experts.out_EDF, 2.0)
    x = torch.ones(1, 8).half()  # gelu(16) = 16, outputs 256
    gates = torch.ones(1, 1, requires_grad=True)
    y = dispatch(x, torch.zeros(1, 1, dtype=torch.int64), gates, experts, method=method)
    grad = torch.tensor([[60000.0, -60000.0, 30000.0, -30000.0, 1.0, 0, 0, 0]]).half()
    y.backward(grad)
    expected = (y.detach().double() * grad.double()).sum()
    assert torch.isfinite(gates.grad).all()
    assert torch.allclose(gates.grad.double(), expected[None, None], rtol=1e-6)


def test_sigmoid_gates_are_exact_where_sigmoids_underflow() -> None:
    router = Router(2, 3, 2, probability="sigmoid")
    with torch.no_grad():
        router.centroids_ED.copy_(torch.tensor([[-120.0, 0], [-121.0, 0], [-300.0, 0]]))
    routing = router(torch.tensor([[1.0, 0.0]]))
    expected = torch.softmax(torch.tensor([-120.0, -121.0]).double(), -1)
    assert torch.allclose(routing.gates_TK.double(), expected[None], rtol=1e-6)


# --- recomputation --------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("selection", ["top_k", "sampled", "noisy_top_k"])
def test_activation_checkpointing_draws_the_same_experts(selection: str, reentrant: bool) -> None:
    found = []
    for recompute in (False, True):
        layer, x = layer_of(selection=selection), tokens().requires_grad_()
        torch.manual_seed(5)
        run = (
            (lambda x, it=layer: checkpoint(lambda u: it(u).y_TD, x, use_reentrant=reentrant))
            if (recompute)
            else (lambda x, it=layer: it(x).y_TD)
        )
        run(x).square().sum().backward()
        found.append(gradients(layer) | {"x": x.grad})
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("selection", ["sampled", "noisy_top_k"])
def test_a_generator_that_would_draw_anew_is_refused(selection: str, reentrant: bool) -> None:
    layer, x = layer_of(selection=selection), tokens().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    y = checkpoint(lambda u: layer(u, generator).y_TD, x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="generator must be None where a forward is run again"):
        y.sum().backward()


# --- torch.compile, torch.func, the meta device, export -------------------------------------------


@pytest.mark.parametrize("selection", ["top_k", "sampled", "noisy_top_k"])
def test_compiled_router_takes_other_sizes(selection: Any) -> None:
    router = Router(D, E, K, selection=selection)
    compiled = torch.compile(router, backend="aot_eager")
    for size in (5, 8, 13):
        routing = compiled(tokens(size))
        assert routing.experts_TK.shape == (size, K)
        if selection == "top_k":
            assert torch.equal(routing.experts_TK, router(tokens(size)).experts_TK)


def test_compiled_layer_takes_other_sizes_and_learns() -> None:
    layer = layer_of()
    compiled = torch.compile(layer, backend="aot_eager")
    for size in (5, 8, 13):
        layer.zero_grad()
        compiled(tokens(size)).y_TD.square().sum().backward()
        found = gradients(layer)
        layer.zero_grad()
        layer(tokens(size)).y_TD.square().sum().backward()
        for name, gradient in gradients(layer).items():
            assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-5), name


@pytest.mark.torch_from(2, 13, reason="no tolist inside of torch.func")
def test_functional_gradients_are_those_of_autograd() -> None:
    layer, x = layer_of(bias=True).double(), tokens(dtype=torch.float64)
    parameters = dict(layer.named_parameters())

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x,)).y_TD.square().sum()

    found = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, gradient in gradients(layer).items():
        assert torch.allclose(found[name], gradient, rtol=1e-10, atol=1e-12), name


@pytest.mark.torch_from(2, 13, reason="no tolist inside of torch.func")
def test_forward_derivatives_are_those_of_differences() -> None:
    layer, x = layer_of().double(), tokens(dtype=torch.float64)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double()
    _, found = torch.func.jvp(lambda u: layer(u).y_TD, (x,), (direction,))
    step = 1e-6
    difference = (layer(x + step * direction).y_TD - layer(x - step * direction).y_TD) / (2 * step)
    assert torch.allclose(found, difference, rtol=1e-5, atol=1e-7)


def gradient_of_a_penalty(layer: MoELayer, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    u = x.clone().requires_grad_()
    experts = layer.experts.weights._replace(in_EHD=weight)
    routing = layer.router(u)
    y = dispatch(u, routing.experts_TK, routing.gates_TK, experts)
    (grad,) = torch.autograd.grad(y.square().sum(), u, create_graph=True)
    penalty = grad.square().sum()
    return penalty, torch.autograd.grad(penalty, weight)[0]


def test_gradients_can_be_differentiated_again() -> None:
    """A gradient penalty: in float64 beside finite differences, in float32 beside float64."""
    layer, x = layer_of().double(), tokens(dtype=torch.float64)
    weight = layer.experts.in_EHD.detach().clone().requires_grad_()
    _, exact = gradient_of_a_penalty(layer, x, weight)
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).double()
    ahead, behind = (
        gradient_of_a_penalty(layer, x, (weight + s * direction).detach().requires_grad_())[0]
        for s in (1e-6, -1e-6)
    )
    difference = ((ahead - behind) / 2e-6).item()
    assert (exact * direction).sum().item() == pytest.approx(difference, rel=1e-6)
    narrow = weight.detach().float().requires_grad_()
    _, found = gradient_of_a_penalty(layer.float(), x.float(), narrow)
    assert torch.allclose(found.double(), exact, rtol=1e-3, atol=1e-4)


def test_vmap_is_refused_in_one_sentence() -> None:
    experts = Experts(E, D, F)
    ids, gates = torch.zeros(4, 3, K, dtype=torch.int64), torch.ones(4, 3, K)
    with pytest.raises(RuntimeError, match=r"dispatch does not run under torch\.vmap"):
        torch.vmap(experts)(tokens(4, 3), ids, gates)


def test_the_router_runs_under_vmap() -> None:
    router, x = Router(D, E, K), tokens(4, 3)
    routing = torch.vmap(router)(x)
    assert torch.equal(routing.experts_TK, router(x).experts_TK)
    assert torch.allclose(routing.gates_TK, router(x).gates_TK)


@pytest.mark.parametrize("bias", [False, True])
def test_the_meta_device_gives_shapes_and_gradients(bias: bool) -> None:
    layer = layer_of(bias=bias).to("meta")
    output = layer(torch.empty(5, 7, D, device="meta"))
    assert output.y_TD.shape == (5, 7, D)
    output.y_TD.sum().backward()
    assert all(p.grad.shape == p.shape for p in layer.parameters())


@pytest.mark.torch_from(2, 8, reason="our reason in its refusal")
def test_export_is_refused_in_one_sentence() -> None:
    with pytest.raises(Exception, match=r"torch\.export"):
        torch.export.export(layer_of(), (tokens(5),))


def test_a_decision_is_a_tree_of_tensors() -> None:
    layer = layer_of()
    output = layer(tokens())
    leaves, tree = torch.utils._pytree.tree_flatten(output)
    assert len(leaves) == 5
    again = torch.utils._pytree.tree_unflatten([2 * leaf for leaf in leaves], tree)
    assert type(again.routing) is type(output.routing)
    assert torch.equal(again.routing.gates_TK, 2 * output.routing.gates_TK)


# --- many processes -------------------------------------------------------------------------------


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.torch_from(2, 8, reason="no fully_shard on a CPU")
@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("apart", [False, True])
def test_fully_shard_trains_as_before(apart: bool) -> None:
    from torch.distributed.fsdp import fully_shard

    layer, sharded, x = layer_of(), layer_of(), tokens()
    mesh = init_device_mesh("cpu", (1,))
    if apart:
        fully_shard(sharded.experts, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    for module in (layer, sharded):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            module(x).y_TD.square().sum().backward()
            optimizer.step()
    for (name, one), other in zip(layer.named_parameters(), sharded.parameters(), strict=True):
        assert torch.allclose(one, other.full_tensor(), rtol=1e-5, atol=1e-6), name


@pytest.mark.torch_from(2, 8, reason="no fully_shard on a CPU")
@pytest.mark.usefixtures("one_process")
def test_a_file_is_refused_for_what_is_spread_over_processes(tmp_path: Path) -> None:
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = LanguageModel([Block(Attention(D, 2), layer_of())])
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    text = corpus({"lines": [f"the {i}th line of some text" for i in range(40)]}).training
    settings = Settings(steps=2, batch_size=2, length=8, warm_up=1)
    with pytest.raises(ValueError, match=r"spread over processes.*torch\.distributed"):
        train(model, text, settings, checkpoint=tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
    assert len(train(model, text, settings).losses) == 2


@pytest.mark.usefixtures("one_process")
def test_distributed_data_parallel_trains_as_before() -> None:
    layer, parallel = layer_of(), nn.parallel.DistributedDataParallel(layer_of())
    for module in (layer, parallel):
        module(tokens()).y_TD.square().sum().backward()
    for one, other in zip(layer.parameters(), parallel.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-5, atol=1e-6)


# --- any default device ---------------------------------------------------------------------------


def test_another_default_device_changes_nothing() -> None:
    layer, x = layer_of(selection="sampled"), tokens()
    expected = layer(x, torch.Generator().manual_seed(0))
    torch.set_default_device("meta")
    try:
        found = layer(x, torch.Generator("cpu").manual_seed(0))
        found.y_TD.sum().backward()
    finally:
        torch.set_default_device(None)
    assert torch.equal(found.y_TD, expected.y_TD)
