"""The stored model is the one of the stored run, and its runs are complete and fair."""

import itertools

import pytest
import torch

from experiments import uncertainty_routers, uncertainty_scores
from experiments.models import POINTS, WINDOWS, best_rate, last_loss
from experiments.more_experts import EXPERTS, KEPT, KEPT_SEED, RATES, TRIAL, build
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.text import corpus
from moe_tutorial.learning.trained import trained_guesser, trained_model
from moe_tutorial.learning.training import evaluate
from moe_tutorial.results import stored

CONTENT = stored("more_experts")
RUNS, TRIED = CONTENT["runs"], CONTENT["trials"]
SEEDS = sorted({one["seed"] for one in RUNS})
COUNTS = sorted({one["experts"] for one in RUNS})


def test_every_number_of_experts_has_every_seed_once() -> None:
    assert list(EXPERTS) == COUNTS
    expected = list(itertools.product(SEEDS, COUNTS))
    assert [(one["seed"], one["experts"]) for one in RUNS] == expected
    assert all(len(one["validation"]) == POINTS for one in RUNS)


def test_rates_are_the_best_of_those_that_all_could_try() -> None:
    tried = [(it["experts"], it["seed"], it["settings"]["learning_rate"]) for it in TRIED]
    assert tried == [(count, TRIAL, rate) for count in EXPERTS for rate in RATES]
    assert TRIAL not in SEEDS
    for one in RUNS:
        rate = best_rate("experts", one["experts"], TRIED)
        assert one["settings"]["learning_rate"] == rate


def test_all_get_the_same_compute_and_differ_in_nothing_else() -> None:
    free = {"steps", "warm_up", "learning_rate", "seed"}
    kept = [{k: v for k, v in one["settings"].items() if k not in free} for one in RUNS]
    assert all(settings == kept[0] for settings in kept)
    ends = [one["validation"][-1]["teraflops"] for one in RUNS]
    assert max(ends) / min(ends) < 1.001


@pytest.mark.parametrize("count", COUNTS)
def test_sizes_are_those_of_the_model_built_now(count: int) -> None:
    about = CONTENT["about"]
    model = build(count, about["width"], about["expert_width"])
    for one in RUNS:
        if one["experts"] == count:
            assert one["total_parameters"] == sum(p.numel() for p in model.parameters())
            assert one["active_parameters"] == model.counted().active_parameters()


def test_the_stored_model_predicts_as_its_run_says() -> None:
    text = corpus(installed_documents())
    if text.validation.fingerprint() != CONTENT["about"]["text"][1]:
        pytest.skip("another text is installed here than the one that was measured")
    model = trained_model()
    assert not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float64}
    found = evaluate(model, text.validation, WINDOWS, RUNS[0]["settings"]["length"])
    (run,) = [it for it in RUNS if (it["experts"], it["seed"]) == (KEPT, KEPT_SEED)]
    assert sum(found.values()) / len(found) == pytest.approx(last_loss(run), abs=0.003)


def test_the_stored_guesser_is_the_first_plain_run() -> None:
    model = trained_guesser()
    built = uncertainty_routers.build(0)
    assert str(model) == str(built.double())
    test = uncertainty_scores.data().test
    with torch.no_grad():
        logits_NC = model(test.tokens_NS).logits_BC
    nll = torch.nn.functional.cross_entropy(logits_NC, test.labels_N).item()
    plain = next(it for it in stored("uncertainty")["routers"] if it["part"] == "plain")
    assert plain["seed"] == 0
    assert nll == pytest.approx(plain["plain"]["test"]["nll"], abs=1e-3)  # rounded to half
