"""On a GPU nothing in the layer asks for a value: no answer to wait for, and no check left out.

The same code runs here on a CPU, told that values check themselves, with every operation watched.
"""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from moe_tutorial import Router, gumbel_top_k, softmax
from moe_tutorial.layer.dispatch import dispatch
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.feed_forward import ExpertWeights, FeedForward
from moe_tutorial.layer.moe import MoELayer

# Operations whose result has to be known to the host before it can go on.
ASKING = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select"}
ASKING |= {"unique_consecutive", "_unique2", "bincount", "repeat_interleave"}

needs_grouped = pytest.mark.skipif(
    not hasattr(nn.functional, "grouped_mm"), reason="this torch has no grouped_mm"
)


class Watch(TorchDispatchMode):
    """Notes the operations that ask."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ASKING:
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def on_a_gpu() -> Iterator[None]:
    with (
        mock.patch("moe_tutorial.values.checks_itself", return_value=True),
        mock.patch("moe_tutorial.validation.checks_itself", return_value=True),
        mock.patch("moe_tutorial.layer.dispatch.chosen_method", return_value="grouped"),
    ):
        yield


def layer(**options: Any) -> MoELayer:
    shared = FeedForward(32, 16)
    router = Router(32, 8, 2, **options)
    return MoELayer(router, Experts(8, 32, 48), shared=shared, shared_gate=True).bfloat16()


@needs_grouped
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scores": "cosine"},
        {"probability": "sigmoid"},
        {"renormalise": False},
        {"selection": "sampled", "temperature": 0.5},
        {"selection": "noisy_top_k"},
    ],
)
@pytest.mark.parametrize("gates_on", ["output", "input"])
@pytest.mark.usefixtures("on_a_gpu")
def test_the_layer_asks_for_no_value(options: dict[str, Any], gates_on: Any) -> None:
    module = layer(**options)
    module.gates_on = gates_on
    x_TD = torch.randn(3, 7, 32).bfloat16().requires_grad_()
    with Watch() as watch:
        with torch.no_grad():
            module(x_TD)
        y_TD = module(x_TD).y_TD
        y_TD.backward(torch.ones_like(y_TD))
    assert watch.asked == []


def test_the_watch_sees_a_question() -> None:
    with Watch() as watch:
        torch.ones(1).item()
        layer()(torch.randn(2, 32).bfloat16())
    assert "_local_scalar_dense" in watch.asked[:1]
    assert len(watch.asked) > 1


def bad_dispatch(**change: Tensor) -> Tensor:
    arguments = {
        "x_TD": torch.ones(4, 16),
        "experts_TK": torch.tensor([[0, 1]] * 4),
        "gates_TK": torch.ones(4, 2),
    }
    experts = ExpertWeights(torch.ones(3, 16, 16), torch.ones(3, 16, 16), "gelu")
    return dispatch(**(arguments | change), experts=experts)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax(torch.tensor([[0.0, torch.nan]])), "logits_TE must be finite"),
        (
            lambda: gumbel_top_k(torch.zeros(2, 3), 1, torch.tensor([[1.0], [0.0]])),
            "temperature must be positive everywhere",
        ),
        (
            lambda: bad_dispatch(gates_TK=torch.full((4, 2), torch.inf)),
            "gates_TK must be finite",
        ),
        (
            lambda: bad_dispatch(experts_TK=torch.tensor([[0, 3]] * 4)),
            "experts_TK must hold ids from 0 to 2",
        ),
    ],
)
@pytest.mark.usefixtures("on_a_gpu")
def test_a_value_that_checks_itself_is_still_refused(call: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call()
