"""The task of chapter 08: repeatable, alike for every remedy, and stored as it ran."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from experiments import balance as script
from experiments.many_layers import train_many
from moe_tutorial import expert_load
from moe_tutorial.learning.clusters import BATCH, EXPERTS, Run, make_task, train_layer
from moe_tutorial.results import stored as stored_results
from tests.oracles import generator, same

REMEDIES: list[dict[str, Any]] = [
    {"switch": 1.0},
    {"shazeer": 1.0},
    {"z": 1.0},
    {"bias_rate": 0.1},
    {"selection": "noisy_top_k", "shazeer": 1.0},
    {"selection": "sampled", "temperature": 2.0},
]


PARTS = ("trials", "runs")


def weights(run: Run) -> list[torch.Tensor]:
    return [value.detach() for value in run.layer.state_dict().values()]


def test_the_right_maps_leave_no_error_and_one_map_does() -> None:
    task = make_task(0)
    x_TD, y_TD = task.sample(2000, generator(1))
    nearest_T = torch.cdist(x_TD, task.centres_MD).argmin(-1)
    deviation_TD = 2 * (x_TD - task.centres_MD[nearest_T])
    by_cluster_TD = torch.bmm(deviation_TD[:, None], task.maps_MDD[nearest_T])[:, 0]
    ones_T1 = torch.ones(2000, 1, dtype=torch.float64)
    inputs = torch.cat([x_TD, ones_T1], -1)
    one_map_TD = inputs @ torch.linalg.lstsq(inputs, y_TD).solution
    total = y_TD.square().mean()
    # Some tokens lie nearer to another centre, so that the clusters are not quite certain.
    assert (by_cluster_TD - y_TD).square().mean() / total < 0.5
    assert (one_map_TD - y_TD).square().mean() / total > 0.8
    same(y_TD.mean(), 0.0, atol=0.05)


def test_a_seed_repeats_a_run() -> None:
    first, second = (train_layer(3, 5, selection="sampled") for _ in range(2))
    for a, b in zip(weights(first), weights(second), strict=True):
        same(a, b)
    same(first.load_NE, second.load_NE)
    assert first.error == second.error
    assert not torch.equal(train_layer(4, 5).load_NE, train_layer(3, 5).load_NE)


@pytest.mark.parametrize("remedy", REMEDIES, ids=str)
def test_a_remedy_changes_the_training_but_not_the_tokens(remedy: dict[str, Any]) -> None:
    plain, remedied = train_layer(0, 3), train_layer(0, 3, **remedy)
    assert not torch.equal(weights(plain)[0], weights(remedied)[0])
    if "selection" not in remedy:
        same(plain.load_NE[0], remedied.load_NE[0])
    assert remedied.load_NE.sum(-1).tolist() == [BATCH] * 3
    assert remedied.load_E.sum() == 4096
    assert not remedied.layer.training


def test_the_gradient_reaches_the_chosen_experts_alone() -> None:
    layer = train_layer(0, 1).layer
    layer.zero_grad()  # the last step's are still there
    x_TD, y_TD = make_task(0).sample(4, generator(0))
    output = layer(x_TD)
    (output.y_TD - y_TD).square().sum().backward()
    reached_E = layer.experts.in_EHD.grad.flatten(1).norm(dim=-1) > 0
    same(reached_E, expert_load(output.routing.experts_TK, EXPERTS) > 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"frozen": True},
        {"k": 2},
        {"switch": 0.3},
        {"switch": 0.3, "pieces": 8, "by_subject": True},
        {"shazeer": 0.3},
        {"z": 0.1},
        {"bias_rate": 0.03, "rest": 3},
        {"selection": "sampled", "temperature": 0.7},
        {"selection": "noisy_top_k", "shazeer": 0.1},
    ],
    ids=str,
)
def test_many_layers_at_once_are_as_many_one_by_one(options: dict[str, Any]) -> None:
    runs = [{"seed": s, "learning_rate": rate, **options} for s, rate in ((0, 0.03), (1, 0.1))]
    for run, many in zip(runs, train_many(runs, 6), strict=True):
        alone = train_layer(steps=6, **run)
        same(many.load_NE, alone.load_NE)
        same(many.load_E, alone.load_E)
        assert math.isclose(many.error, alone.error, rel_tol=1e-9)
        for a, b in zip(weights(many), weights(alone), strict=True):
            same(a, b, atol=1e-9)


def test_what_is_no_number_must_be_the_same_in_layers_that_are_trained_together() -> None:
    with pytest.raises(ValueError, match="these runs cannot be trained together"):
        train_many([{"seed": 0}, {"seed": 0, "k": 2}], 1)


def test_a_frozen_router_keeps_its_centroids_and_its_experts_learn() -> None:
    before, after = (train_layer(0, steps, frozen=True).layer for steps in (1, 4))
    same(before.router.centroids_ED, after.router.centroids_ED)
    assert not torch.equal(before.experts.in_EHD, after.experts.in_EHD)


def test_a_bias_that_rests_stays_as_it_was() -> None:
    moved, rested = (
        train_layer(0, steps, bias_rate=0.1, rest=rest).layer.router.bias_E
        for steps, rest in ((3, 0), (5, 2))
    )
    same(moved, rested)
    assert moved.abs().max() > 0


def test_pieces_of_one_subject_hold_few_clusters() -> None:
    task = make_task(0)
    x_TD, _ = task.sample(BATCH, generator(1))
    nearest_T = torch.cdist(x_TD, task.centres_MD).argmin(-1)
    pieces = nearest_T.sort().values.chunk(8)
    assert max(len(piece.unique()) for piece in pieces) <= 3
    assert min(len(piece.unique()) for piece in nearest_T.chunk(8)) >= 6


def test_what_is_stored_belongs_to_the_script() -> None:
    stored = stored_results("balance")
    settings = stored["about"]["settings"]
    assert settings["steps"] == script.STEPS
    assert settings["learning_rates"] == list(script.RATES)
    assert settings["trial_seeds"] == list(script.TRIALS)
    assert not set(script.TRIALS) & set(script.SEEDS)
    assert len(script.SEEDS) >= 10
    found = {part: Counter((r["name"], r["value"]) for r in stored[part]) for part in PARTS}
    for name, (_, values, _) in script.ALL.items():
        for value in values:
            assert found["runs"].pop((name, value)) == len(script.SEEDS)
            tried = len(script.RATES) * len(script.TRIALS) if name in script.SETTINGS else 0
            assert found["trials"].pop((name, value), 0) == tried
    assert not found["runs"] + found["trials"]
    for name in script.ALL:
        leader = script.FOLLOWERS[name][0] if name in script.FOLLOWERS else name
        best = script.best_rate(stored["trials"], leader)
        assert {r["learning_rate"] for r in stored["runs"] if r["name"] == name} == {best}


def test_a_stored_run_begins_as_it_does_here() -> None:
    """Later steps need not: training multiplies what the last bit of another processor differs."""
    every = script.EVERY
    runs = [run for run in stored_results("balance")["runs"] if "load" in run]
    assert {run["name"] for run in runs} == set(script.WATCHED)
    for run in (run for run in runs if run["seed"] < 2):
        here_E = train_many([script.options_of(run)], every)[0].load_NE.sum(0)
        assert (here_E - torch.tensor(run["load"][0])).abs().sum() <= 0.02 * BATCH * every * run_k(
            run
        )


def run_k(run: dict[str, Any]) -> int:
    return int(script.options_of(run).get("k", 1))


@pytest.mark.torch_from(2, 13, reason="an Adam that names its device")
def test_the_task_names_its_device() -> None:
    expected = train_layer(0, 3, selection="sampled", shazeer=0.1)
    torch.set_default_device("meta")
    try:
        here = train_layer(0, 3, selection="sampled", shazeer=0.1)
    finally:
        torch.set_default_device("cpu")
    same(here.load_NE, expected.load_NE)
    assert here.error == expected.error
    for a, b in zip(weights(here), weights(expected), strict=True):
        same(a, b)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed must be an int of at least 0, got -1"),
        ({"seed": True}, ValueError, "seed must be an int of at least 0, got True"),
        ({"seed": 2**64}, ValueError, f"seed must be an int below .*, got {2**64}"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"switch": -0.1}, ValueError, "switch must be finite and at least 0, got -0.1"),
        ({"shazeer": math.nan}, ValueError, "shazeer must be finite and at least 0, got nan"),
        ({"z": math.inf}, ValueError, "z must be finite and at least 0, got inf"),
        ({"bias_rate": "1"}, TypeError, "bias_rate must be a number, got '1' of type str"),
        ({"switch": True}, TypeError, "switch must be a number, got True of type bool"),
        ({"learning_rate": -1}, ValueError, "learning_rate must be finite and at least 0, got -1"),
        ({"pieces": 7}, ValueError, "pieces must divide the 256 tokens of a batch, got 7"),
        ({"rest": -1}, ValueError, "rest must be at least 0, got -1"),
        ({"k": 9}, ValueError, "k must be between 1 and the number of experts"),
    ],
)
def test_bad_input_is_refused_by_name(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_layer(**({"seed": 0, "steps": 1} | arguments))


def test_any_int_and_the_highest_seed_will_do() -> None:
    same(make_task(np.int64(3)).centres_MD, make_task(3).centres_MD)
    highest = make_task(2**63 - 1)
    assert not torch.equal(highest.centres_MD, make_task(2**63 - 2).centres_MD)


def test_a_generator_elsewhere_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or None, got int"):
        make_task(0).sample(3, 1)  # type: ignore[arg-type]
