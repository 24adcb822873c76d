"""One token and a posterior to widen: clouds of logits, the sets they choose, and how often."""

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.explorers.page import Explorer, one_token
from moe_tutorial.figures import Picture, expert_bars
from moe_tutorial.routing.selection import top_k
from moe_tutorial.validation import check_generator, check_k


def posterior_explorer(
    mean_E: Tensor,
    k: int = 3,
    deviation: float = 1.0,
    shared: float = 0.0,
    *,
    generator: torch.Generator | None = None,
) -> Explorer:
    """One token's logits as a cloud of which a part is common to all; draw, and count who comes.

    With nothing shared, the first draw is the one that
    :func:`moe_tutorial.uncertainty.logit_clouds.mean_field_logits` makes with the same generator;
    later ones come from a generator in the browser that starts from the first draw's numbers.

    Args:
        mean_E: the means of one token's logits, ``[E]``, from 2 to 16 experts.
        k: how many experts are chosen at first.
        deviation: of every logit at first, from 0 to 6; the slider has steps of 0.1.
        shared: the share of its variance that all logits have in common, from 0 to 1, in steps of
            0.05.
        generator: the source of the first draw's randomness, on the CPU; None takes torch's own.

    Returns:
        The explorer; its sentence names the chosen experts and the likeliest ones.

    Raises:
        TypeError: means that are not floating point, a k that is not an int, or another number that
            is none.
        ValueError: a wrong shape, means that are not finite, a number out of range or between two
            steps of its slider, or a generator elsewhere.
    """
    mean_TE = one_token(mean_E)
    check_k(k, mean_TE.shape[-1])
    deviation = _step("deviation", deviation, 6, 10)
    shared = _step("shared", shared, 1, 20)
    check_generator(generator, mean_TE)
    noise_TE = torch.empty_like(mean_TE).normal_(generator=generator)
    common = torch.empty(1, dtype=torch.float64).normal_(generator=generator).item()
    seeds = (torch.special.ndtr(noise_TE[0, :3]) * 2**32).long().tolist()
    config = {
        "means": mean_TE[0].tolist(),
        "k": k,
        "deviation": deviation,
        "shared": shared,
        "noise": noise_TE[0].tolist(),
        "common": common,
        "seeds": [*seeds, 1][:3],
    }
    logits_TE = drawn_logits(mean_TE, deviation, shared, noise_TE, common)
    return Explorer(
        "posterior",
        "a posterior over one token's logits",
        config,
        [posterior_picture(mean_TE, logits_TE, k, deviation, shared)],
    )


def drawn_logits(
    mean_TE: Tensor, deviation: float, shared: float, noise_TE: Tensor, common: float
) -> Tensor:
    """A draw from these standard normal numbers."""
    return mean_TE + deviation * (math.sqrt(1 - shared) * noise_TE + math.sqrt(shared) * common)


def chosen_probabilities(mean_E: Tensor, deviation: float, k: int) -> Tensor:
    r"""How likely each expert is among the K largest of independent Gaussian logits.

    .. math:: \pi_e = \int \varphi(z) \, P \bigl( \text{fewer than } K \text{ others lie above }
              \mu_e + \sigma z \bigr) \, \mathrm dz

    Whatever all logits share changes no choice, so ``deviation`` is that of the rest.

    Args:
        mean_E: float64, ``[E]``.
        deviation: sigma; 0 for the plain top-k.
        k: K.

    Returns:
        share_E: float64; they sum to K.
    """
    experts = len(mean_E)
    if deviation == 0:
        return torch.zeros_like(mean_E).scatter(0, top_k(mean_E[None], k)[0], 1.0)
    z_Z = torch.arange(-8, 8.01, 1 / 8, dtype=torch.float64)
    gaps_EE = (mean_E[:, None] - mean_E) / deviation
    below_ZEE = torch.special.ndtr(z_Z[:, None, None] + gaps_EE)
    # The chance that m of the other experts lie above, one expert after another.
    count_ZEM = torch.zeros(len(z_Z), experts, experts, dtype=torch.float64)
    count_ZEM[..., 0] = 1
    for other in range(experts):
        below_ZE1 = below_ZEE[..., other : other + 1]
        one_more_ZEM = torch.nn.functional.pad(count_ZEM, (1, -1)) * (1 - below_ZE1)
        next_ZEM = count_ZEM * below_ZE1 + one_more_ZEM
        is_itself_E1 = (torch.arange(experts) == other)[:, None]
        count_ZEM = torch.where(is_itself_E1, count_ZEM, next_ZEM)
    density_Z1 = torch.exp(-(z_Z**2) / 2)[:, None] / math.sqrt(2 * math.pi) / 8
    return (density_Z1 * count_ZEM[..., :k].sum(-1)).sum(0)


def posterior_picture(
    mean_TE: Tensor, logits_TE: Tensor, k: int, deviation: float, shared: float
) -> Picture:
    """Bars of one draw ``[1, E]`` with its means as diamonds, and how often each expert comes."""
    chosen_K = top_k(logits_TE, k)[0]
    share_E = chosen_probabilities(mean_TE[0], deviation * math.sqrt(1 - shared), k)
    title = f"a draw of logits with deviation {deviation:g}"
    often = f"share of endless draws in which it is among {k}"
    return expert_bars(
        {title: logits_TE[0], often: share_E},
        "logit, share",
        chosen={title: chosen_K},
        markers={title: mean_TE[0]},
        marker_label="mean",
    )


def _step(name: str, value: Any, most: int, steps: int) -> float:
    """A number that a slider can show, from 0 to the most in so many steps a unit."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    number = float(value)
    if not 0 <= number <= most or abs(number * steps - round(number * steps)) > 1e-9:
        raise ValueError(f"{name} must be from 0 to {most} in steps of {1 / steps:g}, got {value}")
    return round(number * steps) / steps
