"""Settings: the numbers that decide how a model is trained.

rate = highest (s + 1) / w while it warms up, then along half a cosine.              Chapter 10.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from moe_tutorial.validation import check_positive_number, check_size


@dataclass(frozen=True)
class Settings:
    """How a model is trained: with one seed, on one machine, these numbers decide every weight.

    Attributes:
        steps: how often the weights move.
        batch_size: B, the windows of a step.
        length: S, the tokens of a window.
        learning_rate: its highest value.
        warm_up: in how many steps it rises to that, in a straight line.
        lowest_rate: what share of it is left after the last step, along half a cosine.
        weight_decay: of AdamW, for matrices alone (Loshchilov and Hutter 2019): those of attention,
            networks, experts, routers, embedding and output. Biases, an expert's too, the weights
            of norms and a router's learned scale do not decay.
        largest_gradient: longer gradients, all parameters' together, are scaled down to this norm.
        seed: of the windows, and of routers that draw; below 2**63.

    Raises:
        TypeError, ValueError: a number outside what makes sense; the message names it.
    """

    steps: int
    batch_size: int = 16
    length: int = 128
    learning_rate: float = 3e-3
    warm_up: int = 20
    lowest_rate: float = 0.1
    weight_decay: float = 0.1
    largest_gradient: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        # Whatever kind of number was given, a plain one is kept, which every file can hold.
        for name in ("steps", "batch_size", "length", "warm_up"):
            self._keep(name, Integral, int)
        for name in ("learning_rate", "lowest_rate", "weight_decay", "largest_gradient"):
            self._keep(name, Real, float)
        object.__setattr__(self, "seed", plain_seed("seed", self.seed))
        for name in ("steps", "batch_size", "length"):
            check_size(name, getattr(self, name))
        for name in ("learning_rate", "largest_gradient"):
            check_positive_number(name, getattr(self, name))
        for name in ("warm_up", "lowest_rate", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("learning_rate", "weight_decay"):
            if math.isinf(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if self.lowest_rate > 1:
            raise ValueError(f"lowest_rate must be at most 1, got {self.lowest_rate}")
        if self.warm_up >= self.steps:
            raise ValueError(f"warm_up must be below steps ({self.steps}), got {self.warm_up}")

    def _keep(self, name: str, kind: type, plain: Callable[[Any], float]) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, kind):
            what = "an int" if plain is int else "a number"
            raise TypeError(f"{name} must be {what}, got {value!r} of type {type(value).__name__}")
        try:
            object.__setattr__(self, name, plain(value))
        except OverflowError as error:
            raise ValueError(f"{name} must fit into a float, got a larger number") from error

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        way = (step - self.warm_up) / max(1, self.steps - 1 - self.warm_up)
        falling = (1 + math.cos(math.pi * way)) / 2
        return self.learning_rate * (self.lowest_rate + (1 - self.lowest_rate) * falling)


def plain_seed(name: str, seed: Any) -> int:
    """A seed as a plain int, which every generator takes.

    Raises:
        ValueError: what is no int from 0 to 2**63 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral) or int(seed) < 0:
        raise ValueError(f"{name} must be an int of at least 0, got {seed!r}")
    if int(seed) >= 2**63:
        raise ValueError(f"{name} must be an int below 2**63, got {seed}")
    return int(seed)
