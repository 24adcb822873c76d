"""What all explorers share: their scripts, and the checks of what they show."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from moe_tutorial.figures import Picture
from moe_tutorial.figures.live import LivePicture, script_of
from moe_tutorial.validation import check_finite, check_floating

MOST_EXPERTS = 16
"""More bars than this cannot be told apart on a phone."""


class Explorer(LivePicture):
    """A picture that computes in the reader's browser: controls, numbers and bars, with no kernel.

    Attributes:
        alt: the sentence that says the first state.
    """

    def __init__(
        self, kind: str, title: str, config: Mapping[str, Any], stills: Sequence[Picture]
    ) -> None:
        parts = (f"explorers/{name}.js" for name in ("routing", "panels", "controls", kind))
        super().__init__(kind, f"Explorer: {title}", config, stills, script_of(*parts))


def one_token(logits_E: Any) -> Tensor:
    """One token's logits as a float64 row ``[1, E]`` on the CPU; refuses anything else."""
    check_floating("logits_E", logits_E, rank=1)
    check_finite("logits_E", logits_E)
    check_num_experts("logits_E", logits_E, 1)
    return logits_E.detach().cpu().double()[None]  # type: ignore[no-any-return]


def check_num_experts(name: str, tensor: Tensor, ndim: int) -> None:
    """Refuse another number of dimensions, or a number of experts that cannot be shown."""
    shape = tuple(tensor.shape)
    if tensor.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} dimension{'s' if ndim > 1 else ''}, got shape {shape}: "
            "an explorer shows one token"
        )
    if not 2 <= shape[0] <= MOST_EXPERTS:
        raise ValueError(
            f"{name} must have from 2 to {MOST_EXPERTS} experts, got {shape[0]}: more bars cannot "
            "be told apart on a phone"
        )


def number(temperature: float) -> float | str:
    """The temperature as JSON can hold it and JavaScript reads it."""
    return "Infinity" if math.isinf(temperature) else float(temperature)
