"""Checkpoints: what was written can be read, and a file that does not fit changes nothing."""

import copy
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from moe_tutorial.layer.block import Attention, Block
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import FeedForward
from moe_tutorial.layer.moe import MoELayer
from moe_tutorial.learning.checkpoint import read
from moe_tutorial.learning.language_model import LanguageModel
from moe_tutorial.learning.text import Text
from moe_tutorial.learning.training import Settings, train
from moe_tutorial.routing.decision import Routing
from moe_tutorial.routing.router import Router

D = 8
TEXT = Text(("x", "y"), torch.arange(200, dtype=torch.uint8), (0, 90, 200))
SETTINGS = Settings(steps=6, warm_up=1, batch_size=2, length=8)


def model(
    num_experts: int = 4, k: int = 2, heads: int = 2, layers: int = 2, **options: Any
) -> LanguageModel:
    torch.manual_seed(0)
    blocks = [Block(Attention(D, heads), FeedForward(D, 8))]
    for _ in range(layers - 1):
        sparse = MoELayer(Router(D, num_experts, k, **options), Experts(num_experts, D, 8))
        blocks.append(Block(Attention(D, heads), sparse))
    return LanguageModel(blocks)


def state(one: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in one.state_dict().items()}


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(state(one).values(), state(other).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A checkpoint of three steps."""
    path = tmp_path / "some.pt"
    train(model(), TEXT, SETTINGS, checkpoint=path, until=3)
    return path


def refused(message: str, path: Path, one: LanguageModel, **options: Any) -> None:
    """Nothing has changed, neither the model nor the file nor torch's own generator."""
    before, content, generator = state(one), path.read_bytes(), torch.get_rng_state()
    modes = [module.training for module in one.modules()]
    arguments = {"text": TEXT, "settings": SETTINGS, "checkpoint": path} | options
    with pytest.raises(ValueError, match=message) as caught:
        train(one, **arguments)
    assert path.name in str(caught.value)
    assert all(torch.equal(before[name], now) for name, now in state(one).items())
    assert path.read_bytes() == content
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in one.modules()] == modes
    assert list(path.parent.iterdir()) == [path]


# --- what was written can be read ----------------------------------------------------------------

WHOLE: list[Callable[[int], Any]] = [int, np.int64, np.int32, np.uint64]
REAL: list[Callable[[float], Any]] = [float, np.float64, np.float32, Fraction]


@given(st.data())
def test_all_settings_that_can_be_made_are_kept_and_resumed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    small = {"steps": 3, "batch_size": 2, "length": 4}
    given_numbers: dict[str, Any] = {
        name: data.draw(st.sampled_from(WHOLE), name)(most) for name, most in small.items()
    }
    given_numbers["warm_up"] = data.draw(st.sampled_from(WHOLE))(data.draw(st.integers(0, 2)))
    given_numbers["seed"] = data.draw(st.sampled_from([int, np.uint64]))(
        data.draw(st.one_of(st.integers(0, 2**63 - 1), st.just(2**63 - 1)))
    )
    ranges = {
        "learning_rate": (2**-20, 2**-7),
        "lowest_rate": (0.0, 1.0),
        "weight_decay": (0.0, 1.0),
    }
    for name, (least, most) in ranges.items():
        value = data.draw(st.floats(least, most, width=32), name)
        given_numbers[name] = data.draw(st.sampled_from(REAL))(value)
    given_numbers["largest_gradient"] = data.draw(st.sampled_from([1, 0.5, math.inf]))
    settings = Settings(**given_numbers)
    for field in fields(settings):
        value = getattr(settings, field.name)
        assert type(value) is (int if field.name in {*small, "warm_up", "seed"} else float)
        assert value == given_numbers[field.name]
    assert Settings(**json.loads(json.dumps(vars(settings)))) == settings
    path = tmp_path_factory.mktemp("kept") / "x.pt"
    whole, stopped, resumed = model(), model(), model()
    train(whole, TEXT, settings)
    train(stopped, TEXT, settings, checkpoint=path, until=1)
    train(resumed, TEXT, settings, checkpoint=path)
    assert equal(whole, resumed)


def test_a_path_is_a_path(tmp_path: Path) -> None:
    name = str(tmp_path / "some.pt")
    one, other = model(), model()
    train(one, TEXT, SETTINGS, checkpoint=name)
    train(other, TEXT, SETTINGS, checkpoint=Path(name))
    assert equal(one, other)


@pytest.mark.parametrize("way", ["compiled first", "compiled later", "parallel", "blocks"])
def test_a_wrapper_leaves_no_name_in_the_file(tmp_path: Path, way: str) -> None:
    def compiled(one: nn.Module) -> nn.Module:
        return torch.compile(one, backend="eager")

    def by_block(one: LanguageModel) -> LanguageModel:
        one.blocks[1] = compiled(one.blocks[1])
        return one

    class Parallel(nn.Module):
        """As DistributedDataParallel names its parts, without a process group."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Any) -> Any:
            return self.module(*inputs)

    first, later = {
        "compiled first": (compiled, model().to),
        "compiled later": (lambda it: it, compiled),
        "parallel": (Parallel, lambda it: it),
        "blocks": (by_block, Parallel),
    }[way]
    if way == "compiled first":
        later = copy.copy
    whole, one, other = model(), model(), model()
    path = tmp_path / "some.pt"
    train(whole, TEXT, SETTINGS)
    train(first(one), TEXT, SETTINGS, checkpoint=path, until=3)
    assert set(read(path)["model"]) == set(whole.state_dict())
    train(later(other), TEXT, SETTINGS, checkpoint=path)
    for name, tensor in state(whole).items():
        torch.testing.assert_close(state(other)[name], tensor, msg=name)


def test_a_checkpoint_holds_the_weights_for_whoever_wants_them(file: Path) -> None:
    trained = model()
    train(trained, TEXT, SETTINGS, until=3)
    fresh = model()
    fresh.load_state_dict(read(file)["model"])
    assert equal(trained, fresh)


# --- a refused file changes nothing --------------------------------------------------------------


def twice(routing: Routing) -> Tensor:
    return 2 * routing.gates_TK.sum()


def scaled(routing: Routing, factor: float) -> Tensor:
    return factor * routing.gates_TK.sum()


def frozen() -> LanguageModel:
    one = model()
    one.embedding.requires_grad_(False)
    return one


OTHER_MODELS: dict[str, tuple[Callable[[], LanguageModel], str]] = {
    "experts": (lambda: model(num_experts=8), r"centroids_ED was 'float32 \[4, 8\]' and is "),
    "k": (lambda: model(k=1), r"another blocks\.1\.layer\.router: .*k=2.*k=1"),
    "selection": (lambda: model(selection="sampled"), "another blocks.1.layer.router: .*sampled"),
    "temperature": (lambda: model(temperature=2.0), "another blocks.1.layer.router: .*=2.0"),
    "renormalise": (lambda: model(renormalise=False), "another blocks.1.layer.router: "),
    "scores": (lambda: model(scores="cosine"), "another blocks.1.layer.router: .*cosine"),
    "scale": (lambda: model(scores="cosine", scale=3.0), "another blocks.1.layer.router: .*3.0"),
    "bias": (lambda: model(selection_bias=True), "another .*bias_E"),
    "heads": (lambda: model(heads=4), r"another blocks\.0\.attention.*num_heads=2.*num_heads=4"),
    "layers": (lambda: model(layers=3), r"another blocks\.2, .* more: blocks\.2 was None"),
    "dtype": (lambda: model().double(), "was 'float32 .* and is 'float64"),
    "frozen": (frozen, r"another embedding\.weight: .* and is 'float32 \[256, 8\], frozen'"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHER_MODELS)
def test_another_model_is_refused_by_name_and_left_alone(file: Path, what: str) -> None:
    make, message = OTHER_MODELS[what]
    refused(message, file, make())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": replace(SETTINGS, seed=1)}, "another seed: seed was 0 and is 1"),
        ({"text": replace(TEXT, domains=("x", "z"))}, "another text: "),
        ({"penalty": twice}, "another penalty: penalty was None and is 'twice'"),
        ({"penalty": partial(scaled, factor=0.5)}, r"is 'scaled\(factor=0.5\)'"),
        ({"after_step": print}, "another after_step: after_step was None and is 'print'"),
    ],
    ids=["seed", "text", "penalty", "partial", "after_step"],
)
def test_another_run_is_refused_by_name(file: Path, options: dict[str, Any], message: str) -> None:
    refused(message, file, model(), **options)


def test_another_coefficient_is_seen_and_the_same_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    whole, stopped, resumed = model(), model(), model()
    half, more = partial(scaled, factor=0.5), partial(scaled, factor=0.6)
    train(whole, TEXT, SETTINGS, penalty=half)
    train(stopped, TEXT, SETTINGS, penalty=half, checkpoint=path, until=2)
    refused("factor=0.5.*factor=0.6", path, model(), penalty=more)
    train(resumed, TEXT, SETTINGS, penalty=partial(scaled, factor=0.5), checkpoint=path)
    assert equal(whole, resumed)


def test_parts_in_another_order_are_refused(file: Path) -> None:
    """The optimizer knows parameters by their order alone."""
    turned = model()
    router = turned.blocks[1].layer._modules.pop("router")
    turned.blocks[1].layer._modules["router"] = router
    refused("parts in another order", file, turned)


def foreign(path: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    theirs = path.with_name("theirs")
    torch.save({"model": model().state_dict(), "identity": {}}, theirs)
    saved = theirs.read_bytes()
    theirs.unlink()
    return {
        "empty": b"",
        "text": b"to be or not to be",
        "pickle": pickle.dumps({"a": 1}),
        "another program": saved,
        "another format": whole.replace(b"format 1\n", b"format 2\n", 1),
        "first line alone": whole[:34],
        "half": whole[: len(whole) // 2],
        "last byte": whole[:-1],
        "one more": whole + b"\0",
        "two": whole + whole,
        "zeros": whole[:200] + bytes(len(whole) - 200),
    }


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "some.pt is empty"),
        ("text", "some.pt was not written by moe_tutorial"),
        ("pickle", "some.pt was not written by moe_tutorial"),
        ("another program", "some.pt was not written by moe_tutorial"),
        ("another format", "some.pt has the format 2, and this version reads format 1"),
        ("first line alone", "some.pt is damaged"),
        ("half", "some.pt is damaged"),
        ("last byte", "some.pt is damaged"),
        ("one more", "some.pt is damaged"),
        ("two", "some.pt is damaged"),
        ("zeros", "some.pt is damaged"),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused(file: Path, kind: str, message: str) -> None:
    file.write_bytes(foreign(file)[kind])
    refused(message, file, model())


def test_every_flipped_bit_is_found(file: Path) -> None:
    whole = file.read_bytes()
    pick = np.random.default_rng(0).integers(0, 8 * len(whole), 60).tolist()
    for bit in [*range(0, 8 * 70, 9), *pick]:  # the first line and the digest, and anywhere
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"checkpoint .*some\.pt "):
            read(file)
    file.write_bytes(whole)
    read(file)
