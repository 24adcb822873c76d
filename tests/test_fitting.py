"""Fitting: the loop of chapter 13 beside that of chapter 10, and where it stops."""

import pytest
import torch
from torch import nn

from moe_tutorial.learning.fitting import fit
from moe_tutorial.learning.settings import Settings


def test_it_finds_a_least_square() -> None:
    torch.manual_seed(0)
    x, model = torch.randn(50, 3), nn.Linear(3, 1)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 3
    steps: list[int] = []
    seconds = fit(
        model, lambda: (model(x) - y).square().mean(),
        Settings(400, learning_rate=0.1, weight_decay=0.0), steps.append,
    )  # fmt: skip
    assert torch.allclose(model.weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=1e-3)
    assert steps == list(range(1, 401))
    assert seconds > 0


def test_vectors_do_not_decay_and_matrices_do() -> None:
    model = nn.Linear(2, 2)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    settings = Settings(1, learning_rate=0.1, warm_up=0, weight_decay=0.5)
    fit(model, lambda: 0 * sum(it.sum() for it in model.parameters()), settings)
    assert torch.allclose(model.weight, torch.full((2, 2), 0.95))
    assert torch.equal(model.bias, torch.ones(2))


def test_what_is_not_finite_ends_it() -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"must stay finite, got nan in step 0"):
        fit(model, lambda: model.weight.sum() * torch.nan, Settings(3, warm_up=0))
