"""The stored runs of chapter 10: complete, fair, and of the models that the script builds now."""

import math
from typing import Any

import pytest
import torch

from experiments.language_models import KINDS, RATES, SEEDS, TRIALS, build
from experiments.models import POINTS, best_rate
from moe_tutorial.learning.specialisation import mutual_information
from moe_tutorial.results import stored

CONTENT = stored("language_models")
ABOUT, TRIED, RUNS = CONTENT["about"], CONTENT["trials"], CONTENT["runs"]


def of(kind: str) -> list[dict[str, Any]]:
    return [one for one in RUNS if one["model"] == kind]


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_has_every_seed_once(kind: str) -> None:
    assert sorted(one["seed"] for one in of(kind)) == list(SEEDS)
    for one in of(kind):
        assert one["settings"]["seed"] == one["seed"]
        assert len(one["validation"]) == POINTS


@pytest.mark.parametrize("kind", KINDS)
def test_the_parameters_are_those_of_the_model_built_now(kind: str) -> None:
    model = build(kind, ABOUT["width"], ABOUT["expert_width"])
    for one in of(kind):
        assert one["total_parameters"] == sum(p.numel() for p in model.parameters())
        assert one["active_parameters"] == model.counted().active_parameters()


def test_dense_and_sparse_use_equally_many_parameters_but_for_the_router() -> None:
    dense, sparse = of("dense")[0], of("sparse")[0]
    router = ABOUT["layers"] * ABOUT["experts"] * ABOUT["width"]
    assert sparse["active_parameters"] - dense["active_parameters"] == router
    assert router < 0.02 * dense["active_parameters"]
    assert sparse["settings"]["steps"] == dense["settings"]["steps"]


def test_all_end_at_the_same_training_compute() -> None:
    ends = [one["validation"][-1]["teraflops"] for one in RUNS]
    # The router of the sparse model, and one step of the wide one.
    assert max(ends) / min(ends) < 1.02


def test_settings_differ_in_nothing_but_steps_rate_and_seed() -> None:
    free = {"steps", "warm_up", "learning_rate", "seed"}
    kept = [{k: v for k, v in it["settings"].items() if k not in free} for it in TRIED + RUNS]
    assert all(settings == kept[0] for settings in kept)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_is_the_best_of_those_that_all_could_try(kind: str) -> None:
    tried = [(it["settings"]["learning_rate"], it["seed"]) for it in TRIED if it["model"] == kind]
    assert sorted(tried) == [(rate, seed) for rate in RATES for seed in TRIALS]
    best = best_rate("model", kind, TRIED)
    # A best rate at an end of the list would ask for a longer one.
    assert min(RATES) < best < max(RATES)
    assert {it["settings"]["learning_rate"] for it in of(kind)} == {best}
    assert not set(TRIALS) & set(SEEDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_run_has_learnt(kind: str) -> None:
    for one in of(kind):
        losses = [point["loss"] for point in one["validation"]]
        assert losses[-1] < losses[0] < math.log(256)
        for point in one["validation"]:
            mean = sum(point["by_domain"].values()) / len(point["by_domain"])
            assert point["loss"] == pytest.approx(mean, abs=1e-3)


def test_no_expert_tells_more_than_there_is_to_tell() -> None:
    for one in of("sparse"):
        for key in ("untrained_layers", "layers"):
            assert len(one[key]) == ABOUT["layers"]
            for layer in one[key]:
                for found in layer["tells"].values():
                    assert 0 <= found["shuffled"] <= found["label_entropy"]
                    most = min(found["label_entropy"], math.log(ABOUT["experts"]))
                    assert 0 <= found["information"] <= most + 1e-5


def test_the_counts_are_those_of_the_information() -> None:
    for one in of("sparse"):
        for layer in one["layers"]:
            found = mutual_information(torch.tensor(layer["domain_counts"]))
            assert found.item() == pytest.approx(layer["tells"]["domain"]["information"], abs=1e-5)
