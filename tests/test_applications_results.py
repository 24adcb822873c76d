"""The stored runs of chapter 13: complete, fair, and read as the chapter reads them."""

from typing import Any

import pytest
import torch

from experiments import applications_recommendation
from experiments.applications import KINDS, SEEDS, build
from experiments.models import best_rate
from moe_tutorial.learning.names import LANGUAGES
from moe_tutorial.results import applications, stored

NAMES = ("translation", "recommendation", "code")
KINDS_OF = {
    "translation": KINDS,
    "recommendation": tuple(applications_recommendation.KINDS),
    "code": KINDS,
}
EACH = [(name, kind) for name in NAMES for kind in KINDS_OF[name]]


def of(name: str, kind: str, part: str = "runs") -> list[dict[str, Any]]:
    return [run for run in stored(name)[part] if run["model"] == kind]  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "kind"), EACH)
def test_every_kind_has_every_seed_once_at_its_best_rate(name: str, kind: str) -> None:
    runs, trials = of(name, kind), of(name, kind, "trials")
    assert [run["seed"] for run in runs] == list(SEEDS)
    assert [it["settings"]["learning_rate"] for it in trials] == stored(name)["about"]["rates"]  # type: ignore[arg-type]
    best = best_rate("model", kind, trials)
    assert {run["settings"]["learning_rate"] for run in runs} == {best}


@pytest.mark.parametrize("name", NAMES)
def test_settings_differ_in_nothing_but_rate_and_seed(name: str) -> None:
    free = {"learning_rate", "seed"}
    kept = [
        {k: v for k, v in run["settings"].items() if k not in free} for run in stored(name)["runs"]
    ]  # type: ignore[arg-type]
    assert all(settings == kept[0] for settings in kept)


@pytest.mark.parametrize("name", ["translation", "code"])
def test_sizes_are_those_of_the_models_built_now(name: str) -> None:
    vocabulary = 256 if name == "code" else None
    for kind in KINDS:
        run = of(name, kind)[0]
        if vocabulary:
            model = build(kind, stored(name)["about"]["experts"], vocabulary)  # type: ignore[arg-type]
            assert run["total_parameters"] == sum(it.numel() for it in model.parameters())
    dense, sparse, wide = (of(name, kind)[0] for kind in KINDS)
    assert sparse["active_parameters"] / dense["active_parameters"] < 1.03
    assert 0.99 < sparse["total_parameters"] / wide["total_parameters"] < 1.02


def test_numbers_are_read_in_the_order_of_the_seeds() -> None:
    found = applications.each_seed("code", "dense", lambda run: run["seed"])
    assert found.tolist() == list(SEEDS)
    with pytest.raises(ValueError, match="kind must be one of dense, sparse, dense, wide, got 'x'"):
        applications.each_seed("code", "x", lambda run: run["seed"])


def test_the_mean_over_all_languages_is_the_loss_that_was_stored() -> None:
    for kind in KINDS:
        expected = [run["validation"][-1]["loss"] for run in of("translation", kind)]
        found = applications.translation_loss(kind, list(LANGUAGES))
        assert torch.allclose(found, torch.tensor(expected).double(), atol=1e-4)


def test_people_make_up_the_mean() -> None:
    by_person = applications.recommended_by_person("sparse")
    assert len(by_person) == stored("recommendation")["users"][2]
    assert 0 < by_person.mean() < 1
    assert applications.baselines("next").keys() != applications.baselines("liked").keys()


def test_what_experts_tell_is_no_more_than_there_is() -> None:
    for tells in (applications.translation_tells(), applications.recommendation_tells()):
        for nats in tells.values():
            assert 0 <= nats["trained"] <= nats["doubt"]


def test_guesses_are_shares_and_more_bytes_guess_better() -> None:
    for question in ("kind of token", "language"):
        found = applications.code_guesses(question, "trained")
        assert found["nothing"] < found["1 byte"] < found["3 bytes"] < 1
