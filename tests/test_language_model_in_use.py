"""What people do to a model: compile it, save it, checkpoint it, train it in parallel."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from moe_tutorial.learning.language_model import LanguageModel
from tests.oracles import generator, same
from tests.test_language_model import MODELS, tokens


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    torch.manual_seed(0)
    return MODELS[request.param]()


def trained(model: nn.Module, **options: object) -> tuple[Tensor, list[Tensor]]:
    """The loss and all gradients; draws come from torch's own generator."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.grad = None
    logits = model(tokens(), **options).logits_BSV.float()
    loss = nn.functional.cross_entropy(logits.transpose(1, 2), tokens(1))
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in model.parameters()]


def test_compiled_at_several_lengths(model: LanguageModel) -> None:
    expected = trained(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    for loss, other in zip(flat(trained(compiled)), flat(expected), strict=True):
        same(loss, other, atol=1e-6)
    for length in (5, 8):
        x = tokens()[:, :length]
        torch.manual_seed(0)
        here = compiled(x).logits_BSV
        torch.manual_seed(0)
        same(here, model(x).logits_BSV, atol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_over_blocks(model: LanguageModel, reentrant: bool) -> None:
    """Without a generator of its own a router draws the same experts once more."""
    expected = trained(model)
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=reentrant)
    for here, other in zip(flat(trained(model)), flat(expected), strict=True):
        same(here, other)


def test_activation_checkpointing_with_a_generator_is_refused() -> None:
    model = MODELS["mixed"]()
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    with pytest.raises(RuntimeError, match="generator must be None where a forward is run again"):
        trained(model, generator=generator(1))


def test_safetensors_hold_the_model(model: LanguageModel, tmp_path: Path) -> None:
    """As it is, also after training has made gradients, and on two ways."""
    expected = trained(model)[0]
    others = [MODELS[name]() for name in MODELS for _ in range(2)]
    fitting = [it for it in others if set(it.state_dict()) == set(model.state_dict())]
    save_file(model.state_dict(), tmp_path / "dict")
    save_model(model, str(tmp_path / "model"))
    fitting[0].load_state_dict(load_file(tmp_path / "dict"))
    load_model(fitting[1], str(tmp_path / "model"))
    for other in fitting[:2]:
        same(trained(other)[0], expected)


def test_data_parallel_training(model: LanguageModel) -> None:
    expected = trained(model)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        for here, other in zip(flat(trained(parallel)), flat(expected), strict=True):
            same(here, other)
    finally:
        distributed.destroy_process_group()


def test_autocast_keeps_routers_and_gradients_wide(model: LanguageModel) -> None:
    expected, _ = trained(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(3)
        prediction = model(tokens())
        loss, gradients = trained(model)
    assert prediction.logits_BSV.dtype == torch.bfloat16
    assert {r.gates_TK.dtype for r in prediction.routings if r is not None} <= {torch.float32}
    same(loss, expected, atol=0.02)
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_every_tensor_names_its_device(model: LanguageModel) -> None:
    expected = trained(model)
    x, y = tokens(), tokens(1)
    torch.set_default_device("meta")
    try:
        torch.manual_seed(3)
        logits = model(x).logits_BSV
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), y)
    finally:
        torch.set_default_device("cpu")
    same(loss.detach(), expected[0])


def flat(result: tuple[Tensor, list[Tensor]]) -> list[Tensor]:
    return [result[0], *result[1]]
