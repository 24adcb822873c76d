"""The configuration: everything that a router does with its logits, as one frozen record.

Each field is one step of a formula, and at its default the step is left out.
                                                                          Chapters 05 and 11.
"""

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal

from moe_tutorial.validation import (
    check_choice,
    check_flag,
    check_k,
    check_kind,
    check_positive_number,
    check_size,
)
from moe_tutorial.values import as_float

Probability = Literal["softmax", "sigmoid", "sqrtsoftplus"]
_NUMBERS = ("temperature", "logit_scale", "norm", "epsilon", "floor", "gate_scale")


@dataclass(frozen=True)
class Groups:
    r"""A token may choose from its best groups of experts only.

    Expert e is in group :math:`\lfloor e \, G / E \rfloor`, so a group can be what one device holds
    and a token is sent to few devices (DeepSeek-V2, 2024, section 2.2.2).

    Attributes:
        number: G, how many groups of neighbours the experts form.
        kept: how many groups a token keeps.
        best: how many of its largest scores are added up to a group's own: 1 in DeepSeek-V2, 2 in
            DeepSeek-V3, K // kept in Megatron-Core.
        fill: what the scores of all other experts become: minus infinity, or 0.0, which does the
            same as long as scores are positive. Below that, an expert outside can win.

    Raises:
        TypeError, ValueError: an argument outside what is listed above; the message names it.
    """

    number: int
    kept: int
    best: int = 2
    fill: float = -math.inf

    def __post_init__(self) -> None:
        check_size("number", self.number)
        check_size("kept", self.kept)
        check_size("best", self.best)
        if self.kept > self.number:
            raise ValueError(f"kept must be at most number ({self.number}), got {self.kept}")
        if self.fill not in (-math.inf, 0):
            raise ValueError(f"fill must be -inf or 0.0, got {self.fill!r}")
        object.__setattr__(self, "fill", as_float(self.fill))


@dataclass(frozen=True)
class RouterConfig:
    """What a router does with its logits, apart from weights and randomness.

    Attributes:
        k: experts per token, at least 1.
        probability: ``"softmax"``, or one of two scores of each expert on its own (for
            ``"top_k"`` at temperature 1): ``"sigmoid"``, or ``"sqrtsoftplus"``, the square root
            of ln(1 + e^l).
        selection: ``"top_k"``, the K largest; ``"sampled"``, K draws without replacement from
            softmax(l / tau); or ``"noisy_top_k"``, the K largest of logits with learned noise
            (Shazeer et al. 2017), where noise is given.
        temperature: tau, of the probabilities and of the draw.
        gates: from the ``"original"`` or from the ``"tempered"`` logits.
        renormalise: whether the K gates of a token sum to 1. With a softmax and k = 1 the gate is
            then the constant 1 and the router learns nothing through it: pass False.
        logit_scale: what all logits are multiplied by.
        logit_cap: c of c tanh(l / c), which keeps logits between -c and c; None for none.
        choice_on: what a bias is added to and groups are compared by, ``"probabilities"`` or
            ``"logits"``. With neither, both lead to the same choice.
        groups: the groups of experts that a token may choose from; None for all experts.
        norm: p, with ``renormalise``: the gates are divided by their p-norm. 1 divides by the sum.
        epsilon: is added to that norm, and then the sum of the gates is a little below 1.
        floor: the least that is divided by.
        gate_scale: what the gates are multiplied by at last.
        null_experts: how many experts, the last ones, are none: they have a logit and no weights.
        null: what such an expert does: ``"identity"`` returns the token, ``"skip"`` nothing at
            all, so that its gate is 0.

    Raises:
        TypeError, ValueError: an argument outside what is listed above, or two that exclude each
            other; the message names them.
    """

    k: int
    probability: Probability = "softmax"
    selection: Literal["top_k", "sampled", "noisy_top_k"] = "top_k"
    temperature: float = 1.0
    gates: Literal["original", "tempered"] = "original"
    renormalise: bool = True
    logit_scale: float = 1.0
    logit_cap: float | None = None
    choice_on: Literal["probabilities", "logits"] = "probabilities"
    groups: Groups | None = None
    norm: float = 1.0
    epsilon: float = 0.0
    floor: float = 0.0
    gate_scale: float = 1.0
    null_experts: int = 0
    null: Literal["identity", "skip"] = "identity"

    def __post_init__(self) -> None:
        check_size("k", self.k)
        check_choice("probability", self.probability, ("softmax", "sigmoid", "sqrtsoftplus"))
        check_choice("selection", self.selection, ("top_k", "sampled", "noisy_top_k"))
        check_choice("gates", self.gates, ("original", "tempered"))
        check_choice("choice_on", self.choice_on, ("probabilities", "logits"))
        check_choice("null", self.null, ("identity", "skip"))
        check_flag("renormalise", self.renormalise)
        check_size("null_experts", self.null_experts, least=0)
        check_positive_number("temperature", self.temperature)
        check_positive_number("norm", self.norm)
        for name in ("logit_scale", "logit_cap", "gate_scale"):
            _check_positive_and_finite(name, getattr(self, name))
        for name in ("epsilon", "floor"):
            _check_not_negative(name, getattr(self, name))
        if self.groups is not None:
            check_kind("groups", self.groups, Groups)
        # A NumPy number or a fraction becomes what every file and every print can hold.
        for name in _NUMBERS:
            object.__setattr__(self, name, as_float(getattr(self, name)))
        if self.logit_cap is not None:
            object.__setattr__(self, "logit_cap", as_float(self.logit_cap))
        self._check_together()

    def _check_together(self) -> None:
        plain = self.selection == "top_k" and self.temperature == 1
        if self.probability != "softmax" and not plain:
            raise ValueError(
                f"probability={self.probability!r} needs selection='top_k' and temperature=1, got "
                f"selection={self.selection!r} and temperature={self.temperature}"
            )
        if self.groups is not None and self.selection != "top_k":
            raise ValueError(f"groups needs selection='top_k', got selection={self.selection!r}")
        if not self.renormalise and not self.divides_by_the_sum:
            raise ValueError(
                "norm, epsilon and floor say how to renormalise, so they need renormalise=True, "
                f"got norm={self.norm}, epsilon={self.epsilon} and floor={self.floor}"
            )
        if self.null == "skip" and not self.null_experts:
            raise ValueError("null='skip' needs null_experts of at least 1, got 0")

    @property
    def divides_by_the_sum(self) -> bool:
        """Whether gates are divided by their sum and by nothing else, if they are."""
        return self.norm == 1 and self.epsilon == 0 and self.floor == 0

    def __str__(self) -> str:
        """The configuration as arguments, without parentheses or what few routers have."""
        shown = [it for i, it in enumerate(fields(self)) if i < 6 or self._has(it.name, it.default)]
        return ", ".join(f"{it.name}={getattr(self, it.name)!r}" for it in shown)

    def _has(self, name: str, default: Any) -> bool:
        return bool(getattr(self, name) != default)


def check_config(config: Any, num_experts: int) -> None:
    """Refuse what is no configuration, or one that E experts cannot serve."""
    check_kind("config", config, RouterConfig)
    check_k(config.k, num_experts)
    if config.null_experts >= num_experts:
        raise ValueError(
            f"null_experts must be below the number of experts ({num_experts}), got "
            f"{config.null_experts}"
        )
    groups = config.groups
    if groups is None:
        return
    if num_experts % groups.number:
        raise ValueError(
            f"groups.number must divide the number of experts ({num_experts}), got {groups.number}"
        )
    size = num_experts // groups.number
    if groups.best > size:
        raise ValueError(
            f"groups.best must be at most the size of a group ({size}), got {groups.best}"
        )
    if config.k > groups.kept * size:
        raise ValueError(
            f"k must be at most the {groups.kept * size} experts of the groups that a token keeps, "
            f"got {config.k}"
        )


def _check_positive_and_finite(name: str, value: Any) -> None:
    if value is None and name == "logit_cap":
        return
    check_positive_number(name, value)
    if math.isinf(as_float(value)):
        raise ValueError(f"{name} must be finite, got {as_float(value)}")


def _check_not_negative(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not 0 <= as_float(value) < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {as_float(value)}")
