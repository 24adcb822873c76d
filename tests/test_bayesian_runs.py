"""Chapter 16's reader: a setting is chosen on the calibration split, differences are paired."""

import pytest
import torch

from moe_tutorial.results.bayesian import PLAIN, Method, RouterRuns


def answers(calibration: float, test: float) -> dict[str, object]:
    ends = {"value": 0.0, "low": test - 1.35, "high": test - 1.15}
    return {
        "calibration": {"nll": calibration},
        "test": {"nll": test},
        "scaled": {"nll": test / 2},
        "test nll less the plain model's": ends,
    }


def row(method: Method, seed: int, **found: object) -> dict[str, object]:
    return {
        "part": method.part,
        "method": method.name,
        "value": method.value,
        "seed": seed,
        **found,
    }


LOW, HIGH = Method("draws", "sampled", 0.5), Method("draws", "sampled", 2.0)
PLAIN_NLL = [1.0, 1.2, 1.4, 1.1, 1.3]
RUNS = RouterRuns(
    {},
    [
        *(row(PLAIN, seed, plain=answers(1.0, nll)) for seed, nll in enumerate(PLAIN_NLL)),
        # The better one on the calibration split is the worse one on the test split.
        *(
            row(LOW, seed, **{"outputs averaged": answers(0.9, PLAIN_NLL[seed] + 0.1)})
            for seed in (4, 2, 0, 1, 3)
        ),
        *(
            row(HIGH, seed, **{"outputs averaged": answers(0.95, PLAIN_NLL[seed] - 0.1 * seed)})
            for seed in range(5)
        ),
    ],
)


def test_numbers_come_in_the_order_of_the_seeds() -> None:
    found_S = RUNS.each_seed(LOW, "outputs averaged", "test", "nll")
    assert found_S.tolist() == pytest.approx([nll + 0.1 for nll in PLAIN_NLL])
    assert RUNS.mean(PLAIN, "plain", "test", "nll") == pytest.approx(1.2)
    assert RUNS.tried() == [("plain", "plain"), ("draws", "sampled")]
    assert RUNS.settings("draws", "sampled") == [LOW, HIGH]


def test_the_test_split_has_no_say_in_what_is_chosen() -> None:
    assert RUNS.chosen("draws", "sampled") == LOW


def test_differences_are_taken_seed_by_seed() -> None:
    assert RUNS.change(LOW, "test", "nll") == pytest.approx((0.1, 0), abs=1e-12)
    value, half = RUNS.change(HIGH, "test", "nll")
    change_S = -0.1 * torch.arange(5).double()
    assert value == pytest.approx(change_S.mean().item())
    assert half == pytest.approx(2.776 * change_S.std().item() / 5**0.5)
    assert RUNS.change(HIGH, "test", "nll", other=LOW)[0] == pytest.approx(-0.3)
    assert RUNS.surely(LOW, "test", "nll") == (1, 2)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Method("draws", "nothing", 1.0), "name must be one of plain: plain, draws: sampled, got"),
        (Method("draws", "sampled", 1.0), "method must be one that was tried"),
    ],
)
def test_what_was_not_tried_is_refused(method: Method, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RUNS.each_seed(method, "seconds")
