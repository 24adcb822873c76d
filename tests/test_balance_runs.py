"""The stored comparison of remedies: what is read, paired and chosen is what the file says."""

from statistics import mean, stdev

import pytest
import torch

from moe_tutorial.results import stored
from moe_tutorial.results.balance import STUDENT, balance_runs

RUNS = balance_runs()
RAW = stored("balance")


def errors(name: str, value: float) -> dict[int, float]:
    return {r["seed"]: r["error"] for r in RAW["runs"] if (r["name"], r["value"]) == (name, value)}


def test_all_remedies_were_judged_on_the_same_twenty_seeds() -> None:
    for name in {run["name"] for run in RAW["runs"]}:
        for value in RUNS.values(name):
            assert list(errors(name, value)) == list(range(20))
            assert len(RUNS.of(name, value, "error")) == 20


def test_a_change_pairs_the_seeds() -> None:
    with_it, without = errors("Switch", 0.1), errors("nothing", 0.0)
    differences = [with_it[seed] - without[seed] for seed in without]
    change, half = RUNS.change("Switch", 0.1)
    assert change == pytest.approx(mean(differences))
    assert half == pytest.approx(2.093 * stdev(differences) / 20**0.5)
    assert RUNS.change("Switch", 0.1, ("Switch", 0.1)) == (0, 0)
    assert RUNS.change("bias", 0.03, ("Switch", 0.1))[0] == pytest.approx(
        RUNS.change("bias", 0.03)[0] - change
    )


def test_the_point_of_students_distribution_is_that_of_nineteen_degrees_of_freedom() -> None:
    # Its density at x is proportional to (1 + x^2 / 19)^(-10): integrate over half of the line.
    x = torch.linspace(0, 1000, 4_000_001, dtype=torch.float64)
    density = (1 + x.square() / 19).pow(-10)
    inside = torch.trapezoid(density[x <= STUDENT], x[x <= STUDENT]) / torch.trapezoid(density, x)
    assert inside.item() == pytest.approx(0.95, abs=2e-4)


def test_a_setting_is_chosen_on_the_trial_seeds_alone() -> None:
    judged = {run["seed"] for run in RAW["runs"]}
    assert not judged & {run["seed"] for run in RAW["trials"]}
    tried = RUNS.tried("Switch", "error")
    assert (min(tried.values()), RUNS.chosen("Switch")) == (tried[0.03, 0.1], 0.1)
    four = [
        run["error"]
        for run in RAW["trials"]
        if (run["name"], run["learning_rate"], run["value"]) == ("Switch", 0.03, 0.1)
    ]
    assert (len(four), tried[0.03, 0.1]) == (4, pytest.approx(mean(four)))


def test_loads_are_counts_of_every_assignment() -> None:
    loads_SNE = RUNS.loads("nothing")
    assert loads_SNE.shape == (20, 20, 8)
    assert (loads_SNE.sum(-1) == 10 * 256).all()


def test_what_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"name must be one of .*Switch.*, got 'swich'"):
        RUNS.values("swich")
    with pytest.raises(ValueError, match=r"value must be one of \[0.01, .*, got 0.2"):
        RUNS.of("Switch", 0.2, "error")
    with pytest.raises(ValueError, match="whose loads were kept, got 'Switch'"):
        RUNS.loads("Switch")
    with pytest.raises(KeyError):
        RUNS.of("Switch", 0.1, "eror")
