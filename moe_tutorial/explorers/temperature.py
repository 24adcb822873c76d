"""One slider from the best expert alone to all alike: the softmax's temperature."""

import math

import torch
from torch import Tensor

from moe_tutorial.explorers.page import (
    Explorer,
    check_one_temperature,
    check_one_token,
    temperature_in_words,
)
from moe_tutorial.explorers.svg import (
    LEFT,
    PAPER,
    RIGHT,
    bars,
    fixed,
    line,
    panel,
    place,
    share,
    text,
)
from moe_tutorial.figures.style import INK
from moe_tutorial.routing.probabilities import entropy, softmax
from moe_tutorial.routing.selection import top_k

STEPS = 20
"""Positions of a slider for each decade of temperature."""

LAST = 4 * STEPS + 2
"""The last position: 0 and LAST are the limits, two decades lie to each side of temperature 1."""


def temperature_explorer(logits_E: Tensor, temperature: float = 1.0) -> Explorer:
    """One token's probabilities and their entropy, with a slider for the temperature.

    The slider runs over four decades, 0.01 to 100, and at its ends into both limits.

    Args:
        logits_E: one token's logits, ``[E]``, from 2 to 16 experts.
        temperature: where the slider starts; ``math.inf`` is allowed.

    Returns:
        The explorer; its sentence names the best expert and the entropy.

    Raises:
        TypeError: logits that are not floating point, or a temperature that is not a number.
        ValueError: a wrong shape, logits that are not finite, or a temperature that is not
            positive.
    """
    logits = check_one_token(logits_E)
    temperature = check_one_temperature(temperature)
    probabilities_TE = softmax(logits_E.double()[None], temperature)
    values = probabilities_TE[0].tolist()
    undecided = entropy(probabilities_TE).item()
    best = int(top_k(probabilities_TE, 1))
    sentence = (
        f"Temperature {temperature_in_words(temperature)}: expert {best} leads with probability "
        f"{fixed(values[best], 3)}. Entropy {fixed(undecided, 2)} nats, as undecided as a fair "
        f"choice among {fixed(math.exp(undecided), 1)} experts."
    )
    return Explorer(
        "temperature",
        "Explorer: the temperature of a softmax",
        sentence,
        {"logits": logits, "temperature": number(temperature)},
        [
            bars(
                "probabilities",
                "Probability of each expert",
                values,
                [share(value) for value in values],
                height=236,
            )
        ],
        [_entropy_panel(logits_E, temperature, undecided)],
    )


def number(temperature: float) -> float | str:
    """The temperature as JSON can hold it and JavaScript reads it."""
    return "Infinity" if math.isinf(temperature) else temperature


def position_of(temperature: float) -> float:
    """Where a temperature lies on the slider."""
    if math.isinf(temperature):
        return LAST
    return min(max(LAST / 2 + STEPS * math.log10(temperature), 0), LAST)


def _entropy_panel(logits_E: Tensor, temperature: float, undecided: float) -> str:
    num_experts = len(logits_E)
    most = math.log(num_experts)
    top, height = 34, 160
    zero = height - 24
    unit = round((zero - top) / most, 4)

    def x(position: float) -> float:
        return LEFT + (RIGHT - 10 - LEFT) * position / LAST

    positions = torch.arange(1, LAST, dtype=torch.float64)
    tau_T1 = 10 ** ((positions - LAST / 2) / STEPS)[:, None]
    entropy_T = entropy(softmax(logits_E.double().expand(len(positions), -1), tau_T1))
    points = " ".join(
        f"{place(x(position))},{place(zero - unit * value)}"
        for position, value in zip(positions.tolist(), entropy_T.tolist(), strict=True)
    )
    here = f"translate({place(x(position_of(temperature)))} {place(zero - unit * undecided)})"
    decades = [(LAST / 2 + STEPS * d, f"{10.0**d:g}") for d in (-1, 0, 1)]
    decades += [(0, "\N{RIGHTWARDS ARROW} 0"), (LAST, "\N{INFINITY}")]
    reading = f"{fixed(undecided, 2)} nats"
    parts = [
        text(
            0,
            12,
            "Entropy at each temperature",
            "title",
            text_anchor="start",
            font_size=12.5,
            font_weight=600,
        ),
        text(RIGHT, 12, reading, "reading", text_anchor="end", font_weight=600),
        line(LEFT, top, RIGHT, top, "rule", stroke_dasharray="3 3"),
        text(
            LEFT,
            top - 5,
            f"ln {num_experts} = {fixed(most, 2)}, all alike",
            "quiet",
            text_anchor="start",
        ),
        line(LEFT - 4, zero, RIGHT, zero, "axis", stroke=INK, stroke_width=0.8),
        text(LEFT - 8, zero + 3.5, "0", "quiet", text_anchor="end"),
        *(text(x(position), zero + 17, word, "quiet") for position, word in decades),
        f'<polyline class="curve" points="{points}" fill="none" stroke="#4b2ca0" stroke-width="2"/>'
        f'<circle class="here" r="6" fill="{INK}" stroke="{PAPER}" stroke-width="2" '
        f'transform="{here}"/>',
    ]
    label = (
        f"Curve of the entropy against the temperature: it rises from the left to "
        f"ln {num_experts} = {fixed(most, 2)} nats; a dot marks {reading}."
    )
    return panel("entropy", height, label, parts, left=x(0), right=x(LAST), zero=zero, unit=unit)
