"""One slider from the best expert alone to all alike: the softmax's temperature."""

import math

import torch
from torch import Tensor

from moe_tutorial.explorers.page import Explorer, number, one_token
from moe_tutorial.figures import Picture, curves, expert_bars
from moe_tutorial.routing.probabilities import entropy, softmax
from moe_tutorial.validation import check_positive_number


def temperature_explorer(logits_E: Tensor, temperature: float = 1.0) -> Explorer:
    """One token's probabilities and their entropy, with a slider for the temperature.

    The slider runs over four decades, 0.01 to 100, and at its ends into both limits.

    Args:
        logits_E: one token's logits, ``[E]``, from 2 to 16 experts.
        temperature: where the slider starts; ``math.inf`` is allowed.

    Returns:
        The explorer; its sentence names the best experts and the entropy.

    Raises:
        TypeError: logits that are not floating point, or a temperature that is not a number.
        ValueError: a wrong shape, logits that are not finite, or a temperature that is not
            positive.
    """
    logits_TE = one_token(logits_E)
    check_positive_number("temperature", temperature)
    return Explorer(
        "temperature",
        "the temperature of a softmax",
        {"logits": logits_TE[0].tolist(), "temperature": number(temperature)},
        temperature_pictures(logits_TE, temperature),
    )


def temperature_pictures(logits_TE: Tensor, temperature: float) -> list[Picture]:
    """The probabilities of one token's logits ``[1, E]``, and their entropy on its curve."""
    probabilities_TE = softmax(logits_TE, temperature)
    num_experts = logits_TE.shape[-1]
    undecided = entropy(probabilities_TE).item()
    tau_N1 = torch.logspace(-2, 2, 81, dtype=torch.float64)[:, None]
    curve_N = entropy(softmax(logits_TE.expand(len(tau_N1), -1), tau_N1))
    return [
        expert_bars(
            {f"temperature {in_words(temperature)}": probabilities_TE[0]},
            "probability",
            y_limits=scale(probabilities_TE),
        ),
        curves(
            tau_N1[:, 0],
            {"entropy": curve_N},
            x_label="temperature",
            y_label="entropy in nats",
            log_x=True,
            levels={f"ln {num_experts}": math.log(num_experts), f"{undecided:.2f} now": undecided},
        ),
    ]


COLD = 1e-9
"""What stands for the limit of temperature 0: logits 1e-7 apart are decided by e to the 100."""


def in_words(temperature: float) -> str:
    """A temperature as titles and a widget's slider name it."""
    if temperature == COLD:
        return "\N{RIGHTWARDS ARROW} 0"
    return "\N{INFINITY}" if math.isinf(temperature) else f"{temperature:g}"


def scale(values_TE: Tensor) -> tuple[float, float]:
    """The ends of an axis for shares: round, so that it rarely changes while a slider moves."""
    tops = (0.02, 0.05, 0.1, 0.2, 0.5)
    return 0, next((top for top in tops if values_TE.max() <= top), 1.02)
