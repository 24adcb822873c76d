r"""The selection bias: balance without a loss, moved by hand between two steps of training.

b_e <- b_e + gamma (s_e - mean of s),  s_e = sign(mean load - load_e).              Chapter 08.
"""

import sys

import torch
from torch import Tensor

from moe_tutorial.learning.loads import counted_loads
from moe_tutorial.validation import check_positive_number, check_same_device


def updated_bias(bias_E: Tensor, load_E: Tensor, rate: float) -> Tensor:
    r"""Balance without a loss: raise the bias of idle experts, lower that of busy ones, one step.

    .. math:: b_e \leftarrow b_e + \gamma \Bigl( s_e - \frac{1}{E} \sum_j s_j \Bigr), \qquad
              s_e = \operatorname{sign} \bigl( \overline{\text{load}} - \text{load}_e \bigr)

    The bias takes part in the selection alone, never in a gate (Wang et al. 2024; DeepSeek-V3 2024
    with gamma = 0.001). Call it once per step, with the load of the whole batch, of all devices.
    Every step has the size gamma, however near the balance: the bias ends up swinging about it.

    The papers take s_e alone. One busy expert and many idle ones then raise nearly all biases, and
    step by step they drift off together: no choice sees it, since only differences count, until
    steps are lost in the rounding of large numbers. So the mean of the step is subtracted, as
    torchtitan does too: the mean of a bias that started at 0 stays there. Loads that differ from
    their mean by no more than the rounding of their dtype are even, and even loads change nothing.

    Args:
        bias_E: ``[E]``, float32 or float64: narrower formats would round small steps away.
        load_E: counts ``[E]`` from :func:`~moe_tutorial.learning.loads.expert_load`, or shares of
            any floating dtype.
        rate: gamma, positive and finite.

    Returns:
        bias_E: the new bias; the old one stays as it was. To use it:
        ``router.bias_E = updated_bias(router.bias_E, load_E, 0.001)``.

    Raises:
        TypeError: a bias that is not float32 or float64, or a load or rate that is no number.
        ValueError: shapes that differ, a negative or non-finite load, no load at all, a rate that
            is not positive and finite, or two devices.
    """
    if not isinstance(bias_E, Tensor) or bias_E.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            "bias_E must be a float32 or float64 tensor, since 16 bits round small steps away, got "
            f"{bias_E.dtype if isinstance(bias_E, Tensor) else type(bias_E).__name__}"
        )
    wide_E = counted_loads(load_E).double()
    if bias_E.shape != wide_E.shape or bias_E.ndim != 1:
        raise ValueError(
            f"bias_E and load_E must both have shape [E], got {tuple(bias_E.shape)} and "
            f"{tuple(wide_E.shape)}"
        )
    check_same_device(bias_E=bias_E, load_E=load_E)
    check_positive_number("rate", rate)
    if rate > sys.float_info.max:
        raise ValueError(f"rate must be finite, got {rate}")
    # Two units in the last place: a share such as 0.1 + 0.2 is one away from 0.3.
    dtype = load_E.dtype if load_E.is_floating_point() else torch.float64
    even = 2 * torch.finfo(dtype).eps * wide_E.mean()
    gap_E = wide_E.mean() - wide_E
    sign_E = gap_E.sign().where(gap_E.abs() > even, 0)
    step_E: Tensor = float(rate) * (sign_E - sign_E.mean())
    return bias_E.detach() + step_E.to(bias_E.dtype)
