"""A failure comes first, and a bad step leaves the last good checkpoint as it was."""

import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moe_tutorial.learning.checkpoint import read
from moe_tutorial.learning.language_model import Prediction
from moe_tutorial.learning.training import train
from moe_tutorial.routing.decision import Routing
from tests.test_checkpoint import SETTINGS, TEXT, equal, model

# --- a failure comes first -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("nowhere/some.pt", ValueError, "checkpoint must be a file that can be written, got .*now"),
        ("file/some.pt", ValueError, "checkpoint must be a file that can be written"),
        ("a" * 300, ValueError, "checkpoint must be a file that can be written"),
        ("some\0.pt", ValueError, "checkpoint must be a file that can be written"),
        ("", ValueError, "checkpoint must be a file, got the folder"),
        (None, TypeError, "checkpoint must be a path, got 3 of type int"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_the_first_step(
    tmp_path: Path, path: str | None, error: type[Exception], message: str
) -> None:
    (tmp_path / "file").touch()
    untouched = model()
    place: Any = 3 if path is None else f"{tmp_path}/{path}"
    with pytest.raises(error, match=message):
        train(untouched, TEXT, SETTINGS, checkpoint=place, after_step=do_nothing)
    assert equal(untouched, model())
    assert [it.name for it in tmp_path.iterdir()] == ["file"]


# --- a bad step leaves the last good file --------------------------------------------------------


class BadGradient(torch.autograd.Function):
    """A finite value with a gradient that is not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: float) -> Tensor:
        ctx.gradient = gradient
        return x.sum() * 0

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Any:
        return torch.full((2, 8, 2), ctx.gradient), None


def bad_at(step: int, make: Callable[[Routing], Tensor]) -> Callable[[Routing], Tensor]:
    calls = iter(range(100))
    return lambda routing: make(routing) if next(calls) == step else routing.gates_TK.sum() * 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: BadGradient.apply(r.gates_TK, math.nan), "the gradient must stay finite, got"),
        (lambda r: BadGradient.apply(r.gates_TK, math.inf), "the gradient must stay finite, got"),
        (lambda r: r.gates_TK.sum() * math.nan, "the loss must stay finite, got nan in step 2"),
        (lambda r: r.gates_TK.sum() * math.inf, "the loss must stay finite, got inf in step 2"),
        # the square root of nothing: a value of 0, a gradient of infinity times 0
        (lambda r: (r.gates_TK * 0).sum().sqrt(), "the gradient must stay finite, got norm nan"),
    ],
)
def test_a_step_that_is_not_finite_moves_no_weight(
    tmp_path: Path, make: Callable[[Routing], Tensor], message: str
) -> None:
    path, good, bad = tmp_path / "some.pt", model(), model()
    train(good, TEXT, SETTINGS, until=2)
    with pytest.raises(ValueError, match=message):
        train(bad, TEXT, SETTINGS, penalty=bad_at(2, make), checkpoint=path, save_every=1)
    assert equal(good, bad)
    fresh = model()
    fresh.load_state_dict(read(path)["model"])
    assert equal(good, fresh)


@pytest.mark.parametrize("save_every", [1, 100])
@pytest.mark.parametrize("place", ["head.weight", "blocks.1.layer.router.bias_E"])
def test_weights_that_something_else_spoilt_are_not_saved(
    tmp_path: Path, save_every: int, place: str
) -> None:
    path, spoilt = tmp_path / "some.pt", model(selection_bias=True)

    def spoil(_: Prediction) -> None:
        with torch.no_grad():
            spoilt.state_dict()[place].view(-1)[0] = math.nan

    options: dict[str, Any] = {"checkpoint": path, "save_every": save_every}
    train(spoilt, TEXT, SETTINGS, after_step=do_nothing, until=2, **options)
    content = path.read_bytes()
    spoil.__qualname__ = do_nothing.__qualname__
    with pytest.raises(ValueError, match=f"the weights must stay finite, got {place}"):
        train(spoilt, TEXT, SETTINGS, after_step=spoil, until=3, **options)
    assert path.read_bytes() == content


def test_weights_that_something_else_spoilt_are_not_returned_either() -> None:
    spoilt = model()
    with pytest.raises(ValueError, match=r"the weights must stay finite, got norm\.weight"):
        train(
            spoilt, TEXT, SETTINGS, until=1,
            after_step=lambda _: nn.init.constant_(spoilt.norm.weight, math.inf),
        )  # fmt: skip


def do_nothing(_: Prediction) -> None:
    pass


def test_a_digest_of_something_else_helps_nobody(tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    train(model(), TEXT, SETTINGS, checkpoint=path, until=1)
    line, junk = path.read_bytes().split(b"\n")[0] + b"\n", b"PK no archive"
    path.write_bytes(line + hashlib.sha256(junk).digest() + junk)
    with pytest.raises(ValueError, match=r"some\.pt cannot be read by torch"):
        read(path)


# --- another default device ----------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """A device that holds no numbers is the default: whoever leaves it unsaid loses them."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device("cpu")


def test_training_names_its_device(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "some.pt"
    whole, here, resumed = model(), model(), model()
    expected = train(whole, TEXT, SETTINGS)
    request.getfixturevalue("elsewhere")
    train(here, TEXT, SETTINGS, checkpoint=path, until=3)
    history = train(resumed, TEXT, SETTINGS, checkpoint=path)
    assert equal(whole, resumed)
    assert history.losses == expected.losses
