"""How many experts, and what their gates sum to: three ways to normalise, side by side."""

import torch
from torch import Tensor

from moe_tutorial.explorers.page import Explorer, one_token
from moe_tutorial.explorers.temperature import scale
from moe_tutorial.figures import Picture, expert_bars
from moe_tutorial.routing.combination import scatter_gates
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.selection import keep, renormalise, softmax_over_chosen, top_k
from moe_tutorial.validation import check_k

WAYS = {
    "softmax": "1  Top-k, softmax",
    "renormalised": "2  Softmax, top-k, renormalise",
    "kept": "3  Softmax, top-k, keep",
}


def selection_explorer(logits_E: Tensor, k: int = 3) -> Explorer:
    """One token's K best experts and their gates, normalised in three ways, with a slider for K.

    Args:
        logits_E: one token's logits, ``[E]``, from 2 to 16 experts.
        k: where the slider starts.

    Returns:
        The explorer; its sentence names the chosen experts and the gates' sums.

    Raises:
        TypeError: logits that are not floating point, or a k that is not an int.
        ValueError: a wrong shape, logits that are not finite, or k out of range.
    """
    logits_TE = one_token(logits_E)
    check_k(k, logits_TE.shape[-1])
    return Explorer(
        "selection",
        "K experts and three ways to make gates",
        {"logits": logits_TE[0].tolist(), "k": k, "ways": WAYS},
        [selection_picture(logits_TE, k)],
    )


def three_gates(logits_TE: Tensor, k: int) -> dict[str, Tensor]:
    """The K best experts' gates in three ways by their titles, each scattered to ``[1, E]``."""
    probabilities_TE, experts_TK = softmax(logits_TE), top_k(logits_TE, k)
    gates = (
        softmax_over_chosen(logits_TE, experts_TK),
        renormalise(probabilities_TE, experts_TK),
        keep(probabilities_TE, experts_TK),
    )
    return {
        title: scatter_gates(gates_TK, experts_TK, logits_TE.shape[-1])
        for title, gates_TK in zip(WAYS.values(), gates, strict=True)
    }


def selection_picture(logits_TE: Tensor, k: int) -> Picture:
    """Bars of the probabilities of one token's logits ``[1, E]`` and of the three ways' gates."""
    rows = {"softmax over all experts": softmax(logits_TE)}
    for title, gates_TE in three_gates(logits_TE, k).items():
        rows[f"{title} (sum {gates_TE.sum():.3f})"] = gates_TE
    return expert_bars(
        {title: row_TE[0] for title, row_TE in rows.items()},
        "share",
        chosen=dict.fromkeys(rows, top_k(logits_TE, k)[0]),
        y_limits=scale(torch.cat(list(rows.values()))),
    )
