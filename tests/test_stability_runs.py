"""The stored runs on stability: what is read is what the file says, seed by seed."""

import itertools
from statistics import mean, stdev
from typing import Any

import pytest
import torch

from moe_tutorial.results import stability

PLACES = ("at the router", "at the first block")


def language_model(seed: int, order: int) -> dict[str, Any]:
    """A run with numbers that tell seed, order, setting and layer."""
    base = seed + order / 10
    quality = {"loss": base + 0.5, "ece": base + 0.25}
    return {
        "part": "language model", "method": "plain", "value": order, "seed": seed,
        "noise": [
            {"gamma": gamma} | {place: [base, gamma] for place in PLACES} for gamma in (0.1, 1.0)
        ],
        "sampling": [
            {"temperature": temperature, "layer": layer, "jaccard": base + layer,
             "one draw": quality, "outputs averaged": {"loss": layer, "ece": -layer}}
            for temperature in ("1.0", "inf") for layer in (0, 1)
        ],
        "switched off": [{"loss": base, "ece": 0.0}, {"loss": 2 * base, "ece": 0.0}],
        "context": {"8": [base, 1.0], "16": [base, 0.5]},
        "training": {"0": [0.1, 0.2], "3000": [1.0, 1.0]},
        "bfloat16": {"router alone": [base, 0.01], "whole model": [0.02, 0.03]},
    }  # fmt: skip


def pair(kind: str, one: int, other: int) -> dict[str, Any]:
    return {
        "part": "pair", "method": kind, "value": other, "seed": one,
        "raw": [one, other], "matched": [0.3, 0.4], "matched, tokens shuffled": [0.1, 0.2],
    }  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    # Runs stand in the order in which they ended.
    runs = [language_model(seed, order) for order in (1, 0) for seed in (3, 1, 0, 2, 4)]
    runs += [pair("same first weights", seed, seed) for seed in range(5)]
    runs += [pair("other first weights", a, b) for a, b in itertools.combinations(range(5), 2)]
    monkeypatch.setattr(stability, "stored", lambda name: {"stability": runs})


def expected(number: float) -> torch.Tensor:
    """Seeds 0 to 4, each the mean of two orders."""
    return number * (torch.arange(5).double() + 0.05)


def test_a_number_of_each_seed_is_the_mean_over_its_orders() -> None:
    found_S2 = stability.each_seed(lambda run: [run["seed"], run["value"]])
    assert torch.equal(found_S2, torch.stack([torch.arange(5), torch.full((5,), 0.5)], 1).double())


def test_every_table_has_a_row_for_each_seed_and_a_column_for_each_layer() -> None:
    noisy = stability.noisy("at the router")
    assert list(noisy) == [0.1, 1.0]
    assert torch.allclose(noisy[1.0][:, 0], expected(1))
    assert noisy[0.1][:, 1].tolist() == [0.1] * 5
    assert torch.allclose(stability.switched_off()[:, 1], expected(2))
    assert torch.allclose(stability.in_bfloat16("router alone")[:, 0], expected(1))
    assert stability.less_context()[16][:, 1].tolist() == [0.5] * 5
    assert list(stability.on_the_way()) == [0, 3000]
    assert stability.on_the_way()[0][4].tolist() == [0.1, 0.2]


def test_draws_are_told_apart_by_temperature_and_layer() -> None:
    overlap = stability.sampled("jaccard")
    assert list(overlap) == [1.0, float("inf")]
    assert torch.allclose(overlap[1.0], torch.stack([expected(1), expected(1) + 1], 1))
    assert torch.allclose(stability.sampled("loss")[1.0][:, 0], expected(1) + 0.5)
    assert torch.allclose(stability.sampled("ece")[float("inf")][:, 1], expected(1) + 0.25)
    assert stability.sampled("ece", averaged=True)[1.0].tolist() == [[0, -1]] * 5


def test_pairs_are_told_apart_by_their_first_weights() -> None:
    same, other = (
        stability.pairs(kind, "raw") for kind in ("same first weights", "other first weights")
    )
    assert same.tolist() == [[seed, seed] for seed in range(5)]
    assert other.tolist() == [list(it) for it in itertools.combinations(range(5), 2)]
    assert stability.pairs("same first weights", "matched")[2].tolist() == [0.3, 0.4]


def test_an_interval_is_students_for_five_seeds() -> None:
    values = [0.3, 0.1, 0.4, 0.1, 0.5]
    middle, half = stability.interval(torch.tensor([values, [1.0] * 5]).T)
    assert middle.tolist() == pytest.approx([mean(values), 1])
    assert half.tolist() == pytest.approx([2.776 * stdev(values) / 5**0.5, 0])
    with pytest.raises(ValueError, match="must have 5 rows"):
        stability.interval(torch.ones(4, 2))
    with pytest.raises(ValueError, match="must have 5 rows"):
        stability.interval(torch.tensor(1.0))


def test_the_point_of_students_distribution_is_that_of_four_degrees_of_freedom() -> None:
    # Its density at x is proportional to (1 + x^2 / 4)^(-5/2): integrate over half of the line.
    x = torch.linspace(0, 1000, 4_000_001, dtype=torch.float64)
    density = (1 + x.square() / 4).pow(-2.5)
    inside = density[x <= stability.STUDENT].sum() / density.sum()
    assert inside.item() == pytest.approx(0.95, abs=2e-4)
