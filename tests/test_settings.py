"""Settings: plain numbers, or a clear error, and the learning rate that follows from them."""

import itertools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from moe_tutorial.learning.settings import Settings
from tests.oracles import same


def test_the_learning_rate_rises_and_falls() -> None:
    settings = Settings(steps=101, learning_rate=2.0, warm_up=20, lowest_rate=0.25)
    rates = [settings.rate(step) for step in range(101)]
    same(torch.tensor(rates[:20]), torch.arange(1, 21) / 10, atol=1e-6)
    assert rates[20] == 2.0
    assert rates[60] == pytest.approx(1.25)
    assert rates[100] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    # From step to step as torch's own schedule has it.
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 80, eta_min=0.5)
    for rate in rates[20:]:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an int"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be positive"),
        ({"warm_up": 30}, ValueError, r"warm_up must be below steps \(30\), got 30"),
        ({"warm_up": -1}, ValueError, "warm_up must not be negative, got -1"),
        ({"lowest_rate": 1.5}, ValueError, "lowest_rate must be at most 1"),
        ({"weight_decay": float("nan")}, ValueError, "weight_decay must not be negative"),
        ({"seed": -1}, ValueError, "seed must be an int of at least 0, got -1"),
        ({"seed": 0.5}, ValueError, "seed must be an int of at least 0, got 0.5"),
        ({"seed": True}, ValueError, "seed must be an int of at least 0, got True"),
        ({"seed": np.int64(-1)}, ValueError, "seed must be an int of at least 0, got"),
        ({"seed": 2**63}, ValueError, f"seed must be an int below .*, got {2**63}"),
        ({"seed": np.uint64(2**64 - 1)}, ValueError, f"seed must be an int .*, got {2**64 - 1}"),
        ({"steps": True}, TypeError, "steps must be an int, got True"),
        ({"length": torch.tensor(3)}, TypeError, r"length must be an int, got tensor\(3\)"),
        ({"warm_up": 2.0}, TypeError, "warm_up must be an int, got 2.0"),
        ({"warm_up": float("nan")}, TypeError, "warm_up must be an int, got nan"),
        ({"weight_decay": "0.1"}, TypeError, "weight_decay must be a number, got '0.1'"),
        ({"lowest_rate": None}, TypeError, "lowest_rate must be a number, got None"),
        ({"learning_rate": torch.tensor(0.1)}, TypeError, "learning_rate must be a number"),
        ({"learning_rate": Decimal("0.1")}, TypeError, "learning_rate must be a number"),
        ({"learning_rate": 1j}, TypeError, "learning_rate must be a number"),
        ({"learning_rate": math.inf}, ValueError, "learning_rate must be finite, got inf"),
        ({"weight_decay": math.inf}, ValueError, "weight_decay must be finite, got inf"),
        ({"learning_rate": 10**400}, ValueError, "learning_rate must fit into a float"),
        # positive, but no longer so as a float
        ({"learning_rate": Fraction(1, 10**400)}, ValueError, "learning_rate must be positive"),
        ({"largest_gradient": 0}, ValueError, "largest_gradient must be positive"),
    ],
)
def test_bad_settings_are_refused_by_name(
    arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Settings(**{"steps": 30, **arguments})
