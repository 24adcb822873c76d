"""One slider from the best expert alone to all alike: the softmax's temperature."""

import math

import torch
from torch import Tensor

from moe_tutorial.figures import curves, expert_bars
from moe_tutorial.routing.probabilities import entropy, softmax
from moe_tutorial.routing.selection import top_k
from moe_tutorial.validation import check_positive_number
from moe_tutorial.widgets.live import (
    LiveFigure,
    in_words,
    page,
    rows_of,
    scale,
    table_of,
    temperature_slider,
    token_slider,
)


def temperature_widget(logits_TE: Tensor, temperature: float = 1.0) -> LiveFigure:
    """A token's probabilities and their entropy at any temperature, both limits included.

    Args:
        logits_TE: logits ``[T, E]`` with any leading dimensions, or one token's ``[E]``.
        temperature: where the slider starts; ``math.inf`` is allowed.

    Raises:
        TypeError: logits that are not floating point, or a temperature that is not a number.
        ValueError: no token, logits that are not finite, or a temperature that is not positive.
    """
    rows_TE = rows_of("logits_TE", logits_TE)
    check_positive_number("temperature", temperature)
    num_experts = rows_TE.shape[-1]
    tau_N1 = torch.logspace(-2, 2, 81, dtype=torch.float64)[:, None]

    def draw(temperature: float, token: int = 0) -> str:
        logits_TE = rows_TE[token : token + 1]
        probabilities_TE = softmax(logits_TE, temperature)
        undecided = entropy(probabilities_TE).item()
        curve_N = entropy(softmax(logits_TE.expand(len(tau_N1), -1), tau_N1))
        levels = {f"ln {num_experts}": math.log(num_experts), f"{undecided:.2f} now": undecided}
        return page(
            [
                expert_bars(
                    {f"T = {in_words(temperature)}": probabilities_TE[0]},
                    "probability",
                    y_limits=scale(probabilities_TE),
                ),
                curves(
                    tau_N1[:, 0],
                    {"entropy": curve_N},
                    x_label="temperature",
                    y_label="entropy in nats",
                    log_x=True,
                    levels=levels,
                ),
            ],
            f"Entropy {undecided:.6f} nats, as undecided as a fair choice among "
            f"{math.exp(undecided):.2f} experts.",
            table_of(
                top_k(logits_TE, num_experts),
                {"logit": logits_TE, "probability": probabilities_TE},
            ),
        )

    controls = {
        **token_slider(len(rows_TE)),
        "temperature": temperature_slider(temperature),
    }
    return LiveFigure(controls, draw)
