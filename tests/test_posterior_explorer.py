"""The explorer of clouds: who is chosen how often, as a drawing, an integral and a script say."""

import math
from collections.abc import Callable

import pytest
import torch

from moe_tutorial import inclusion_probabilities, top_k
from moe_tutorial.explorers import posterior_explorer
from moe_tutorial.explorers.posterior import chosen_probabilities, drawn_logits
from moe_tutorial.uncertainty.logit_clouds import mean_field_logits
from moe_tutorial.uncertainty.prediction import inclusion_frequencies
from tests.explorer_words import listing
from tests.test_explorers import LOGITS_E, javascript, worst


def test_shares_are_those_of_many_draws() -> None:
    mean_NE = LOGITS_E.expand(100_000, 12)
    for deviation, k in ((0.5, 3), (3.0, 1), (1.0, 11)):
        log_deviation_NE = torch.full_like(mean_NE, math.log(deviation))
        drawn_NE = mean_field_logits(mean_NE, log_deviation_NE, torch.Generator().manual_seed(k))
        often_E = inclusion_frequencies(top_k(drawn_NE, k)[:, None], 12)[0]
        share_E = chosen_probabilities(LOGITS_E, deviation, k)
        error_E = (share_E * (1 - share_E) / 100_000).sqrt() + 1e-6
        assert ((often_E - share_E).abs() < 4.5 * error_E).all()


def test_shares_of_two_and_their_limits() -> None:
    pair_E = torch.tensor([0.3, -0.5], dtype=torch.float64)
    first = torch.special.ndtr(torch.tensor(0.8 / math.sqrt(2) / 0.7, dtype=torch.float64))
    found_E = chosen_probabilities(pair_E, 0.7, 1)
    torch.testing.assert_close(found_E, torch.stack([first, 1 - first]), rtol=0, atol=1e-12)
    assert chosen_probabilities(LOGITS_E, 0.0, 3).nonzero().flatten().tolist() == [4, 5, 8]
    equal_E = chosen_probabilities(LOGITS_E, 1e6, 3)
    torch.testing.assert_close(equal_E, torch.full_like(equal_E, 0.25), rtol=0, atol=1e-5)
    assert chosen_probabilities(LOGITS_E, 1.0, 5).sum().item() == pytest.approx(5, abs=1e-12)
    # Gaussian noise is not Gumbel noise: chapter 04's shares are others.
    assert (chosen_probabilities(LOGITS_E, 1.0, 3) - inclusion_probabilities(LOGITS_E[None], 3)[0]
            ).abs().max() > 0.01  # fmt: skip


def test_the_script_calculates_the_same() -> None:
    rows = [LOGITS_E, torch.zeros(5).double(), torch.linspace(-3, 4, 16).double()]
    cases = [(row, s, k) for row in rows for s in (0.0, 0.1, 1.0, 6.0) for k in (1, 3, len(row))]
    answers = javascript([("chosenProbabilities", r.tolist(), s, k) for r, s, k in cases])
    assert worst(answers, [chosen_probabilities(*case) for case in cases]) < 1e-11
    z_N = torch.linspace(-9, 9, 400, dtype=torch.float64)
    answers = javascript([("normalBelow", z) for z in z_N.tolist()])
    assert worst(answers, list(torch.special.ndtr(z_N))) < 1e-13


def test_the_first_draw_is_the_packages_own() -> None:
    explorer = posterior_explorer(LOGITS_E, generator=torch.Generator().manual_seed(6))
    zero_TE = torch.zeros_like(LOGITS_E[None])
    drawn_TE = mean_field_logits(LOGITS_E[None], zero_TE, torch.Generator().manual_seed(6))
    best_K = top_k(drawn_TE, 3)[0].tolist()
    words = listing([f"expert {e} ({drawn_TE[0, e]:.2f})" for e in best_K])
    assert f"largest at {words}; outlined: {listing(best_K)};" in explorer.alt
    # What all share shifts every logit by the same.
    shift_TE = drawn_logits(LOGITS_E[None], 2.0, 1.0, zero_TE, 0.7) - LOGITS_E
    torch.testing.assert_close(shift_TE, torch.full_like(shift_TE, 1.4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: posterior_explorer(LOGITS_E, 13), ValueError, "k must be between"),
        (lambda: posterior_explorer(LOGITS_E, deviation=7.0), ValueError, "from 0 to 6 in steps"),
        (lambda: posterior_explorer(LOGITS_E, shared=0.33), ValueError, "steps of 0.05, got 0.33"),
        (lambda: posterior_explorer(LOGITS_E, deviation="1"), TypeError, "must be a number, got"),
        (lambda: posterior_explorer(LOGITS_E, generator=1), TypeError, "generator must be"),
        (lambda: posterior_explorer(LOGITS_E[None]), ValueError, "mean_E|logits_E"),
    ],
)
def test_bad_input_is_refused_by_name(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
