"""The widgets with the ipywidgets that is installed here; `make colab` repeats it with Colab's."""

import math
from collections.abc import Callable

import pytest
import torch

from moe_tutorial.widgets import (
    centroid_widget,
    routing_widget,
    selection_widget,
    temperature_widget,
)
from tests.widget_checks import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_moved(check: Callable[[], None]) -> None:
    check()


def test_tensors_of_any_device(device: torch.device) -> None:
    live = selection_widget(torch.tensor([0.0, 1.0, 2.0], device=device), 1)
    assert "<th scope=row>2</th>" in live.shown.value


ONE, TWO = torch.zeros(1, 4), torch.ones(4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: temperature_widget([1.0, 2.0]), "logits_TE must be a torch.Tensor, got list"),
        (lambda: temperature_widget(torch.tensor([1, 2])), "logits_TE must have a floating-point"),
        (lambda: temperature_widget(torch.tensor(1.0)), "logits_TE must have at least 1 dim"),
        (lambda: temperature_widget(torch.zeros(0, 4)), r"at least one token, got shape \(0, 4\)"),
        (lambda: temperature_widget(torch.zeros(2, 0)), "last dimension of logits_TE must not be"),
        (lambda: temperature_widget(ONE * math.nan), "logits_TE must be finite, got nan"),
        (lambda: temperature_widget(ONE, 0.0), "temperature must be positive, got 0.0"),
        (lambda: temperature_widget(ONE, math.nan), "temperature must be positive, got nan"),
        (lambda: temperature_widget(ONE, "hot"), "temperature must be a number, got str"),
        (lambda: selection_widget(ONE, 5), r"experts \(4\), got 5"),
        (lambda: selection_widget(ONE, 1.0), "k must be an int, got 1.0"),
        (lambda: routing_widget(ONE, 0), "k must be between 1"),
        (lambda: routing_widget(ONE, 1, -1.0), "temperature must be positive, got -1.0"),
        (lambda: routing_widget(ONE, 1, selection="best"), "selection must be one of 'sampled'"),
        (lambda: routing_widget(ONE, 1, gates="hot"), "gates must be one of 'original'"),
        (lambda: routing_widget(ONE, 1, generator=3), "generator must be a torch.Generator"),
        (lambda: centroid_widget(torch.ones(2), torch.ones(4)), r"centroids_ED must have at least"),
        (lambda: centroid_widget(torch.ones(3), TWO), "the same width D, got 3 and 2"),
        (lambda: centroid_widget(torch.ones(1), torch.ones(4, 1)), "at least 2 experts and 2 coo"),
        (lambda: centroid_widget(torch.ones(2), 0 * TWO), "centroids_ED must not be all zero"),
        (lambda: centroid_widget(torch.ones(0, 2), TWO, 2), "x_TD must hold at least one token"),
        (lambda: centroid_widget(torch.ones(2), TWO, 5), r"experts \(4\), got 5"),
        (lambda: centroid_widget(torch.ones(2), TWO, 2, scores="l2"), "scores must be one of"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
