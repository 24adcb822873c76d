"""Calibration, likelihood and detection against torchmetrics, scipy and brute force."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_calibration_error,
)

from moe_tutorial.uncertainty.calibration import (
    brier_score,
    calibration_floor,
    debiased_calibration_error,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    paired_bootstrap,
)
from moe_tutorial.uncertainty.prediction import (
    auroc,
    disagreement,
    inclusion_frequencies,
    logit_variance,
    mutual_information,
    predictive,
)
from tests.oracles import generator, normal, same


def forecasts(n: int, classes: int, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Probabilities, and labels that are drawn from them: a forecaster without fault."""
    probabilities_NC = (scale * normal(n, classes, seed=seed)).softmax(-1)
    others = generator(seed + 77_777)  # not the numbers that the forecasts came from
    labels_N = torch.multinomial(probabilities_NC, 1, generator=others).squeeze(1)
    return probabilities_NC, labels_N


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(2, 5), st.integers(1, 20), st.integers(0, 2**31))
def test_the_error_is_that_of_torchmetrics(n: int, classes: int, bins: int, seed: int) -> None:
    probabilities_NC, labels_N = forecasts(n, classes, seed)
    found = expected_calibration_error(probabilities_NC, labels_N, bins)
    expected = multiclass_calibration_error(
        probabilities_NC, labels_N, classes, n_bins=bins, norm="l1"
    )
    assert found == pytest.approx(expected.item(), abs=1e-6)
    assert 0 <= found <= 1
    order_N, names_C = (torch.randperm(it, generator=generator(seed)) for it in (n, classes))
    renamed = expected_calibration_error(
        probabilities_NC[order_N][:, names_C], names_C.argsort()[labels_N[order_N]], bins
    )
    assert renamed == pytest.approx(found, abs=1e-12)


def test_one_bin_of_certainty() -> None:
    sure_NC = torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)
    labels_N = torch.tensor([0, 0, 0, 1])
    assert expected_calibration_error(sure_NC, labels_N) == 0.25
    assert negative_log_likelihood(sure_NC, labels_N) == math.inf
    assert brier_score(sure_NC, labels_N) == 0.5


def test_without_fault_the_error_has_a_floor_and_its_debiased_square_none() -> None:
    floors = {}
    for n in (300, 3000):
        probabilities_NC, _ = forecasts(n, 8)
        floors[n] = calibration_floor(probabilities_NC, draws=40, generator=generator(0))
        assert floors[n].shape == (40,)
    assert 0.03 < floors[300].mean().item() < 0.08
    ratio = (floors[300].mean() / floors[3000].mean()).item()
    assert ratio == pytest.approx(math.sqrt(10), rel=0.15)
    found = torch.tensor(
        [debiased_calibration_error(*forecasts(300, 8, seed)) for seed in range(60)]
    )
    assert abs(found.mean().item()) < 3 * found.std().item() / math.sqrt(60)
    assert (found < 0).any()


def test_the_debiased_square_finds_a_fault() -> None:
    # Says 0.9 and is right in 0.6: the square of 0.3.
    probabilities_NC = torch.tensor([[0.9, 0.1]], dtype=torch.float64).expand(20_000, 2)
    labels_N = (torch.rand(20_000, generator=generator(0)) < 0.4).long()
    assert debiased_calibration_error(probabilities_NC, labels_N) == pytest.approx(0.09, abs=0.005)


def test_scores_are_their_formulas() -> None:
    probabilities_NC, labels_N = forecasts(50, 3)
    rows = list(zip(probabilities_NC.tolist(), labels_N.tolist(), strict=True))
    brier = sum((p - (c == y)) ** 2 for row, y in rows for c, p in enumerate(row)) / 50
    assert brier_score(probabilities_NC, labels_N) == pytest.approx(brier, rel=1e-12)
    surprise = -sum(math.log(row[y]) for row, y in rows) / 50
    found = negative_log_likelihood(probabilities_NC, labels_N)
    assert found == pytest.approx(surprise, rel=1e-12)


@pytest.mark.parametrize("too_sure", [0.4, 1.0, 3.0])
def test_the_temperature_is_that_of_a_search(too_sure: float) -> None:
    logits_NC = 2 * normal(3000, 5, seed=3)
    labels_N = torch.multinomial(logits_NC.softmax(-1), 1, generator=generator(1)).squeeze(1)
    found = fit_temperature(too_sure * logits_NC, labels_N)
    assert found == pytest.approx(too_sure, rel=0.1)
    searched = minimize_scalar(
        lambda t: torch.nn.functional.cross_entropy(too_sure * logits_NC / t, labels_N).item(),
        bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    assert found == pytest.approx(searched.x, rel=1e-6)


@settings(max_examples=25)
@given(st.integers(2, 40), st.integers(0, 2**31), st.booleans())
def test_the_area_is_that_of_all_pairs_and_one_minus_it_the_other_way(
    n: int, seed: int, tied: bool
) -> None:
    scores_N = normal(n, seed=seed)
    if tied:
        scores_N = scores_N.round()
    positive_N = torch.rand(n, generator=generator(seed)) < 0.5
    positive_N[0], positive_N[1] = True, False
    found = auroc(scores_N, positive_N)
    pairs = itertools.product(scores_N[positive_N].tolist(), scores_N[~positive_N].tolist())
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]
    assert found == pytest.approx(sum(wins) / len(wins), abs=1e-12)
    assert auroc(-scores_N, positive_N) == pytest.approx(1 - found, abs=1e-12)
    assert auroc(scores_N, ~positive_N) == pytest.approx(1 - found, abs=1e-12)
    if not tied:
        theirs = binary_auroc(scores_N.sigmoid(), positive_N.long()).item()
        assert found == pytest.approx(theirs, abs=1e-6)


@settings(max_examples=25)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 2**31))
def test_information_and_disagreement(passes: int, n: int, seed: int) -> None:
    logits_MNC = normal(passes, n, 4, seed=seed)
    probabilities_MNC = logits_MNC.softmax(-1)
    same(predictive(logits_MNC), probabilities_MNC.mean(0), atol=1e-15)
    found_N = mutual_information(probabilities_MNC)
    mean_NC = probabilities_MNC.mean(0)
    # The same as the mean divergence of a pass from the mean.
    ratio_MNC = (probabilities_MNC / mean_NC).log()
    same(found_N, (probabilities_MNC * ratio_MNC).sum(-1).mean(0), atol=1e-12)
    assert bool(((found_N > 0) & (found_N < math.log(passes))).all())
    same(mutual_information(probabilities_MNC[:1].repeat(3, 1, 1)), torch.zeros(n).double(),
         atol=1e-15)  # fmt: skip

    experts_MTK = torch.rand(passes, n, 6, generator=generator(seed)).argsort(-1)[..., :3]
    frequency_TE = inclusion_frequencies(experts_MTK, 6)
    same(frequency_TE.sum(-1), torch.full((n,), 3.0).double(), atol=1e-12)
    expected = []
    for t in range(n):
        sets = [set(row) for row in experts_MTK[:, t].tolist()]
        pairs = [len(a & b) / 3 for a, b in itertools.combinations(sets, 2)]
        expected.append(1 - sum(pairs) / len(pairs))
        for e in range(6):
            assert frequency_TE[t, e] == pytest.approx(sum(e in it for it in sets) / passes)
    same(disagreement(experts_MTK, 6), torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    order_E = torch.randperm(6, generator=generator(seed))
    same(disagreement(order_E[experts_MTK], 6), disagreement(experts_MTK, 6), atol=1e-12)


def test_variance_of_logits_is_over_passes() -> None:
    logits_MTE = torch.tensor([[[0.0, 1.0]], [[2.0, 1.0]]], dtype=torch.float64)
    same(logit_variance(logits_MTE), [1.0])  # of 0 and 2 it is 2, of 1 and 1 it is 0


def test_a_difference_and_none() -> None:
    good_NC, labels_N = forecasts(400, 3)
    bad_NC = (good_NC.log() * 3).softmax(-1)
    found = paired_bootstrap(brier_score, good_NC, bad_NC, labels_N, draws=60,
                             generator=generator(0))  # fmt: skip
    expected = brier_score(bad_NC, labels_N) - brier_score(good_NC, labels_N)
    assert found.value == pytest.approx(expected, abs=1e-15)
    assert 0 < found.low < found.value < found.high
    # A paired interval is as wide as the mean of the differences is uncertain.
    came_NC = torch.nn.functional.one_hot(labels_N, 3)
    each_N = ((bad_NC - came_NC) ** 2 - (good_NC - came_NC) ** 2).sum(-1)
    wide = 2 * 1.96 * each_N.std().item() / 20
    assert found.high - found.low == pytest.approx(wide, rel=0.35)
    none = paired_bootstrap(brier_score, good_NC, good_NC, labels_N, draws=3)
    assert (none.value, none.low, none.high) == (0, 0, 0)


P, Y = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([0, 1])
IDS = torch.tensor([[[0, 1]], [[1, 2]]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: expected_calibration_error(P, Y, 0), ValueError, "bins must be at least 1, got 0"),
        (lambda: expected_calibration_error(P, Y[:1]), ValueError, "labels_N must have shape"),
        (lambda: expected_calibration_error(P, Y + 1), ValueError, "ids from 0 to 1, got 2"),
        (lambda: expected_calibration_error(P * 2, Y), ValueError, "must sum to 1, got a row that"),
        (lambda: expected_calibration_error(P, Y.float()), TypeError, "labels_N must hold int64"),
        (lambda: brier_score(P[:0], Y[:0]), ValueError, "N >= 1 and C >= 2, got"),
        (lambda: brier_score(torch.ones(2, 1), Y * 0), ValueError, "N >= 1 and C >= 2, got"),
        (lambda: negative_log_likelihood(P[None], Y), ValueError, r"must have shape \[N, C\]"),
        (lambda: debiased_calibration_error(P, Y), ValueError, "two forecasts into some bin"),
        (lambda: calibration_floor(P, draws=0), ValueError, "draws must be at least 1, got 0"),
        (lambda: calibration_floor(P, generator=3), TypeError, "generator must be a torch.Gener"),
        (lambda: fit_temperature(P[:0], Y[:0]), ValueError, "logits_NC must have shape"),
        (lambda: fit_temperature(P, Y), ValueError, "labels_N must be likelier than chance"),
        (lambda: fit_temperature(P[1:], Y[:1]), ValueError, "must not all have the largest logit"),
        (lambda: paired_bootstrap(brier_score, P, P[:1], Y), ValueError, "second_NC must have the"),
        (lambda: paired_bootstrap(brier_score, P, P, Y, share=1.0), ValueError, "share must be be"),
        (lambda: paired_bootstrap(brier_score, P, P, Y, draws=0), ValueError, "draws must be at l"),
        (lambda: auroc(P[0], Y.bool() & False), ValueError, "must mark some examples and leave"),
        (lambda: auroc(P[0], Y), TypeError, "positive_N must be a bool tensor, got torch.int64"),
        (lambda: auroc(P[0] * torch.nan, Y.bool()), ValueError, "scores_N must be finite"),
        (lambda: auroc(P, Y.bool()), ValueError, r"must have one shape \[N\]"),
        (lambda: predictive(P), ValueError, "at least 3 dimensions"),
        (lambda: predictive(P[None][:0]), ValueError, "logits_MNC must hold at least 1 passes"),
        (lambda: mutual_information(2 * P[None]), ValueError, "must sum to 1"),
        (lambda: mutual_information(P[None][:0]), ValueError, "must hold at least 1 passes, got 0"),
        (lambda: disagreement(IDS[:1], 3), ValueError, "must hold at least 2 passes, got 1"),
        (lambda: disagreement(IDS, 2), ValueError, "ids from 0 to 1, got 2"),
        (lambda: disagreement(IDS[0], 3), ValueError, "experts_MTK must have at least 3 dim"),
        (lambda: inclusion_frequencies(IDS * 0, 3), ValueError, "name an expert once per token"),
        (lambda: logit_variance(P[None]), ValueError, "must hold at least 2 passes, got 1"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
