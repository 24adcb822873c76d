"""How many experts, and what their gates sum to: three ways to normalise, side by side."""

import torch
from torch import Tensor

from moe_tutorial.explorers.selection import WAYS
from moe_tutorial.figures import expert_bars
from moe_tutorial.routing.combination import scatter_gates
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.selection import keep, renormalise, softmax_over_chosen, top_k
from moe_tutorial.validation import check_k
from moe_tutorial.widgets.live import (
    LiveFigure,
    k_slider,
    page,
    rows_of,
    scale,
    table_of,
    token_slider,
)


def selection_widget(logits_TE: Tensor, k: int = 3) -> LiveFigure:
    """A token's K best experts, and their gates normalised in the three ways of chapter 03.

    Args:
        logits_TE: logits ``[T, E]`` with any leading dimensions, or one token's ``[E]``.
        k: where the slider for K starts.

    Raises:
        TypeError: logits that are not floating point, or a k that is not an int.
        ValueError: no token, logits that are not finite, or k out of range.
    """
    rows_TE = rows_of("logits_TE", logits_TE)
    check_k(k, rows_TE.shape[-1])

    def draw(k: int, token: int = 0) -> str:
        logits_TE = rows_TE[token : token + 1]
        probabilities_TE = softmax(logits_TE)
        experts_TK = top_k(logits_TE, k)
        ways = {
            WAYS["softmax"]: softmax_over_chosen(logits_TE, experts_TK),
            WAYS["renormalised"]: renormalise(probabilities_TE, experts_TK),
            WAYS["kept"]: keep(probabilities_TE, experts_TK),
        }
        gates = {
            name: scatter_gates(gates_TK, experts_TK, rows_TE.shape[-1])
            for name, gates_TK in ways.items()
        }
        rows = {"softmax over all experts": probabilities_TE, **gates}
        sums = ", ".join(f"{name.split()[0]}: {way.sum():.6f}" for name, way in ways.items())
        return page(
            [
                expert_bars(
                    {name: row_TE[0] for name, row_TE in rows.items()},
                    "share",
                    chosen=dict.fromkeys(rows, experts_TK[0]),
                    y_limits=scale(torch.cat(list(rows.values()))),
                )
            ],
            f"The gates sum to {sums}.",
            table_of(experts_TK, {"logit": logits_TE, "probability": probabilities_TE, **gates}),
        )

    return LiveFigure({**token_slider(len(rows_TE)), "k": k_slider(k, rows_TE.shape[-1])}, draw)
