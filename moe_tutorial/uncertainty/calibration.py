"""Calibration: of all forecasts that say 70 %, are 70 % right? And is a difference a difference?

ECE = sum over bins of n_b / N abs(right_b - said_b).                                Chapter 16.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.validation import (
    check_generator,
    check_id_range,
    check_int64,
    check_logits,
    check_positive_number,
    check_probabilities,
    check_same_device,
    check_same_shape,
    check_size,
)

Metric = Callable[[Tensor, Tensor], float]


def expected_calibration_error(probabilities_NC: Tensor, labels_N: Tensor, bins: int = 15) -> float:
    r"""How far confidence is from accuracy, on average over bins of confidence.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{N} \, \Bigl| \operatorname{mean}_{n \in b}
              [\hat y_n = y_n] - \operatorname{mean}_{n \in b} \max_c p_{nc} \Bigr|

    Bins of equal width from 0 to 1 (Guo et al. 2017). A forecaster without fault does
    not get 0, since a bin's accuracy is measured on few examples: :func:`calibration_floor` says
    what it gets, and below that nothing can be ranked.

    Args:
        probabilities_NC: N forecasts over C classes, at least two.
        labels_N: int64, what came.
        bins: how many.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError, ValueError: rows that are no distributions, labels that are no classes, no
            forecast, one class, or bins below 1.
    """
    count_B, said_B, right_B = _binned(probabilities_NC, labels_N, bins)
    return ((right_B - said_B).abs().sum() / count_B.sum()).item()


def debiased_calibration_error(probabilities_NC: Tensor, labels_N: Tensor, bins: int = 15) -> float:
    r"""The *squared* calibration error without what chance adds to it.

    .. math:: \sum_b \frac{n_b}{N} \Bigl( (a_b - c_b)^2 - \frac{a_b (1 - a_b)}{n_b - 1} \Bigr)

    a_b is a bin's accuracy, c_b its mean confidence; a bin with one example says nothing and is
    left out (Kumar et al. 2019). For a forecaster without fault it is about 0, and
    so as often below 0 as above.

    Args:
        probabilities_NC: N forecasts over C classes, at least two.
        labels_N: int64, what came.
        bins: how many.

    Returns:
        A number, perhaps negative; its square root would be biased again.

    Raises:
        TypeError, ValueError: as for :func:`expected_calibration_error`, or no bin with two
            examples.
    """
    count_B, said_B, right_B = _binned(probabilities_NC, labels_N, bins)
    some_B = count_B > 1
    if not some_B.any():
        raise ValueError("probabilities_NC must put two forecasts into some bin, got none")
    count_B, said_B, right_B = count_B[some_B], said_B[some_B], right_B[some_B]
    accuracy_B = right_B / count_B
    chance_B = accuracy_B * (1 - accuracy_B) / (count_B - 1)
    errors_B = (accuracy_B - said_B / count_B).square() - chance_B
    return ((count_B * errors_B).sum() / count_B.sum()).item()


def calibration_floor(
    probabilities_NC: Tensor,
    bins: int = 15,
    draws: int = 100,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The calibration errors of a forecaster without fault that says exactly these things.

    Labels are drawn from the forecasts themselves, again and again.

    Args:
        probabilities_NC: N forecasts over C classes, at least two.
        bins: as for :func:`expected_calibration_error`.
        draws: R, how often.
        generator: the source of randomness, on the forecasts' device; None takes torch's own.

    Returns:
        error_R: float64; their mean is the floor, their upper quantiles a test.

    Raises:
        TypeError, ValueError: as for :func:`expected_calibration_error`, draws below 1, or a
            generator elsewhere.
    """
    check_probabilities("probabilities_NC", probabilities_NC)
    check_size("draws", draws)
    check_generator(generator, probabilities_NC)
    _check_forecasts(probabilities_NC, torch.zeros_like(probabilities_NC[:, 0]).long())
    labels_NR = torch.multinomial(probabilities_NC, draws, True, generator=generator)
    errors = [expected_calibration_error(probabilities_NC, it, bins) for it in labels_NR.T]
    return torch.tensor(errors, dtype=torch.float64)


def brier_score(probabilities_NC: Tensor, labels_N: Tensor) -> float:
    r"""The mean squared distance from the forecast to what came.

    .. math:: \frac1N \sum_n \sum_c \bigl( p_{nc} - [c = y_n] \bigr)^2

    From 0 to 2 (Brier 1950, over all classes; others halve it, or take one class).

    Args:
        probabilities_NC: N forecasts over C classes, at least two.
        labels_N: int64, what came.

    Raises:
        TypeError, ValueError: as for :func:`expected_calibration_error`.
    """
    check_probabilities("probabilities_NC", probabilities_NC)
    _check_forecasts(probabilities_NC, labels_N)
    came_NC = torch.nn.functional.one_hot(labels_N, probabilities_NC.shape[1])
    return (probabilities_NC.double() - came_NC).square().sum(-1).mean().item()


def negative_log_likelihood(probabilities_NC: Tensor, labels_N: Tensor) -> float:
    r"""The mean surprise at what came, in nats; infinite where it was said to be impossible.

    .. math:: -\frac1N \sum_n \ln p_{n y_n}

    Args:
        probabilities_NC: N forecasts over C classes, at least two.
        labels_N: int64, what came.

    Raises:
        TypeError, ValueError: as for :func:`expected_calibration_error`.
    """
    check_probabilities("probabilities_NC", probabilities_NC)
    _check_forecasts(probabilities_NC, labels_N)
    odds_N = probabilities_NC.double().gather(1, labels_N[:, None])
    return -odds_N.log().mean().item()


def fit_temperature(logits_NC: Tensor, labels_N: Tensor) -> float:
    r"""The one number to divide logits by that makes the labels most likely.

    .. math:: \operatorname{argmin}_T \; -\frac1N \sum_n
              \ln \operatorname{softmax}(l_n / T)_{y_n}

    Temperature scaling (Guo et al. 2017): no answer changes, only how sure it is. Fit
    it on a split of its own, on neither the training nor the test split. The loss is convex in
    1 / T, and the number where its slope is 0 is found by halving intervals. For an average of
    outputs take the logarithms of its probabilities.

    Args:
        logits_NC: N rows over C classes, at least two.
        labels_N: int64, what came.

    Returns:
        T, above 1 where the model was too sure.

    Raises:
        TypeError, ValueError: what is not floating point and finite, labels that are no classes,
            no row, one class, or labels that no temperature makes most likely: all right, or no
            better than chance.
    """
    check_logits("logits_NC", logits_NC)
    _check_forecasts(logits_NC, labels_N, "logits_NC")
    rows_NC = logits_NC.detach().double()
    of_label_N = rows_NC.gather(1, labels_N[:, None]).squeeze(1)

    def slope(log_inverse: float) -> float:
        odds_NC = (math.exp(log_inverse) * rows_NC).softmax(-1)
        return ((odds_NC * rows_NC).sum(-1) - of_label_N).mean().item()

    low, high = -15.0, 15.0
    if slope(low) >= 0:
        raise ValueError("labels_N must be likelier than chance under logits_NC, and are not")
    if slope(high) <= 0:
        raise ValueError("labels_N must not all have the largest logit: no temperature is best")
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


@dataclass(frozen=True)
class Interval:
    """A difference and how far chance in the choice of examples would move it.

    Attributes:
        value: of all examples.
        low, high: the ends of the interval.
    """

    value: float
    low: float
    high: float


def paired_bootstrap(
    metric: Metric,
    first_NC: Tensor,
    second_NC: Tensor,
    labels_N: Tensor,
    *,
    draws: int = 1000,
    share: float = 0.95,
    generator: torch.Generator | None = None,
) -> Interval:
    """How much larger a metric is for the second of two forecasters of the same examples.

    Examples are drawn with replacement, the same ones for both, so what makes an example hard for
    both cancels (Efron and Tibshirani 1993). It says nothing of other training seeds.

    Args:
        metric: of probabilities and labels, such as :func:`brier_score`.
        first_NC: one forecaster's probabilities.
        second_NC: the other's, for the same examples.
        labels_N: int64, what came.
        draws: how often.
        share: of the draws that the interval holds, between 0 and 1.
        generator: the source of randomness, on the forecasts' device; None takes torch's own.

    Raises:
        TypeError, ValueError: forecasts that do not fit together, draws below 1, a share outside
            (0, 1), or a generator elsewhere.
    """
    check_size("draws", draws)
    check_positive_number("share", share)
    if share >= 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    check_same_shape("second_NC", second_NC, "first_NC", first_NC)
    _check_forecasts(first_NC, labels_N, "first_NC")
    check_generator(generator, first_NC)

    def difference(which: Tensor | slice) -> float:
        return metric(second_NC[which], labels_N[which]) - metric(first_NC[which], labels_N[which])

    n, device = len(labels_N), labels_N.device
    found = torch.tensor(
        [
            difference(torch.randint(n, (n,), generator=generator, device=device))
            for _ in range(draws)
        ],
        dtype=torch.float64,
    )
    ends = torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64)
    low, high = found.quantile(ends).tolist()
    return Interval(difference(slice(None)), low, high)


def _check_forecasts(rows_NC: Tensor, labels_N: Any, name: str = "probabilities_NC") -> None:
    check_int64("labels_N", labels_N, "labels")
    if rows_NC.ndim != 2 or len(rows_NC) == 0 or rows_NC.shape[1] < 2:
        raise ValueError(
            f"{name} must have shape [N, C] with N >= 1 and C >= 2, got {tuple(rows_NC.shape)}"
        )
    if labels_N.shape != rows_NC.shape[:1]:
        raise ValueError(
            f"labels_N must have shape {tuple(rows_NC.shape[:1])}, got {tuple(labels_N.shape)}"
        )
    check_same_device(**{name: rows_NC, "labels_N": labels_N})
    check_id_range("labels_N", labels_N, rows_NC.shape[1])


def _binned(probabilities_NC: Tensor, labels_N: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each bin: how many forecasts, the sum of their confidences, and how many were right."""
    check_probabilities("probabilities_NC", probabilities_NC)
    _check_forecasts(probabilities_NC, labels_N)
    check_size("bins", bins)
    said_N, guess_N = probabilities_NC.double().max(-1)
    bin_N = (said_N * bins).long().clamp(max=bins - 1)  # certainty belongs to the last bin
    parts = (torch.ones_like(said_N), said_N, (guess_N == labels_N).double())
    count_B, sum_B, right_B = (said_N.new_zeros(bins).index_add(0, bin_N, it) for it in parts)
    return count_B, sum_B, right_B
