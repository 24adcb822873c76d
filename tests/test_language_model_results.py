"""The stored runs of chapter 10: complete, fair, and of the models that the script builds now."""

import json
import math
from typing import Any

import pytest

from tools.train_language_models import KINDS, POINTS, RESULTS, SEEDS, build

CONTENT = json.loads(RESULTS.read_text(encoding="utf-8"))
ABOUT, RUNS = CONTENT["about"], CONTENT["runs"]


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
    assert sparse["settings"] == dense["settings"]


def test_all_end_at_the_same_training_compute() -> None:
    ends = [one["validation"][-1]["teraflops"] for one in RUNS]
    # The router of the sparse model, and one step of the wide one.
    assert max(ends) / min(ends) < 1.02


def test_settings_differ_in_nothing_but_steps_and_seed() -> None:
    free = {"steps", "warm_up", "seed"}
    kept = [{k: v for k, v in one["settings"].items() if k not in free} for one in RUNS]
    assert all(settings == kept[0] for settings in kept)


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
        assert len(one["layers"]) == ABOUT["layers"]
        for layer in one["layers"]:
            for found in layer["tells"].values():
                assert 0 <= found["shuffled"] <= found["label_entropy"]
                most = min(found["label_entropy"], math.log(ABOUT["experts"]))
                assert 0 <= found["information"] <= most + 1e-5
