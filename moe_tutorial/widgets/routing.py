"""A router that draws its experts, or takes the best: draw again, and count who comes."""

from typing import Any

import ipywidgets
import torch
from torch import Tensor

from moe_tutorial.figures import expert_bars
from moe_tutorial.routing.combination import scatter_gates
from moe_tutorial.routing.inclusion import inclusion_probabilities
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.sampling import gumbel_top_k
from moe_tutorial.routing.selection import softmax_over_chosen, top_k
from moe_tutorial.validation import check_choice, check_generator, check_k, check_positive_number
from moe_tutorial.widgets.live import (
    LiveFigure,
    choice,
    in_words,
    k_slider,
    page,
    rows_of,
    table_of,
    temperature_slider,
    token_slider,
)


def routing_widget(
    logits_TE: Tensor,
    k: int = 3,
    temperature: float = 1.0,
    *,
    selection: str = "sampled",
    gates: str = "original",
    generator: torch.Generator | None = None,
) -> LiveFigure:
    """A router that draws a token's experts, or takes the best; draw again, and count who comes.

    Args:
        logits_TE: logits ``[T, E]`` with any leading dimensions, or one token's ``[E]``.
        k: how many experts are chosen at first.
        temperature: of the probabilities at first; ``math.inf`` is allowed.
        selection: ``"sampled"`` or ``"top_k"`` at first.
        gates: ``"original"`` for gates from the logits, ``"tempered"`` from logits / temperature.
        generator: the source of randomness, on the CPU; None takes torch's own.

    Raises:
        TypeError: logits that are not floating point, a k that is not an int, a temperature that is
            not a number, or a generator that is not one.
        ValueError: no token, logits that are not finite, k or temperature out of range, a word that
            is not one of the allowed ones, or a generator elsewhere.
    """
    rows_TE = rows_of("logits_TE", logits_TE)
    num_experts = rows_TE.shape[-1]
    check_k(k, num_experts)
    check_positive_number("temperature", temperature)
    check_choice("selection", selection, ("sampled", "top_k"))
    check_choice("gates", gates, ("original", "tempered"))
    check_generator(generator, rows_TE)
    draws = _Draws(generator)

    def draw(temperature: float, k: int, selection: str, gates: str, token: int = 0) -> str:
        logits_TE = rows_TE[token : token + 1]
        draws.under((token, k, temperature, selection), logits_TE)
        for button in buttons.values():
            button.disabled = selection == "top_k"
        experts_TK = draws.experts_TK
        columns = {
            "logit": logits_TE,
            "probability": softmax(logits_TE, temperature),
            "gate, original": scatter_gates(
                softmax_over_chosen(logits_TE, experts_TK), experts_TK, num_experts
            ),
            "gate, tempered": scatter_gates(
                softmax_over_chosen(logits_TE, experts_TK, temperature), experts_TK, num_experts
            ),
            "share of draws": draws.counts_E[None] / draws.number,
            "inclusion probability": draws.inclusion_TE,
        }
        titles = {
            f"probabilities at T = {in_words(temperature)}": "probability",
            f"gates from the {gates} logits": f"gate, {gates}",
            f"how often in {draws.number} draw{'s' if draws.number > 1 else ''}": "share of draws",
        }
        return page(
            [
                expert_bars(
                    {title: columns[name][0] for title, name in titles.items()},
                    "share",
                    chosen=dict.fromkeys(titles, experts_TK[0]),
                    markers={list(titles)[-1]: draws.inclusion_TE[0]},
                    marker_label="inclusion probability",
                    y_limits=(0, 1.02),
                )
            ],
            f"{'Drawn' if draws.sampled else 'The best'}, in this order: "
            f"{', '.join(str(expert) for expert in experts_TK[0].tolist())}.",
            table_of(experts_TK, columns),
        )

    def again(number: int) -> None:
        draws.add(number)
        live.redraw()

    buttons = {
        "draw_again": ipywidgets.Button(description="Draw again"),
        "draw_1000": ipywidgets.Button(description="Draw 1000 times"),
    }
    buttons["draw_again"].on_click(lambda _: again(1))
    buttons["draw_1000"].on_click(lambda _: again(1000))
    live = LiveFigure(
        {
            **token_slider(len(rows_TE)),
            "selection": choice("selection", {"top_k": "Top-K", "sampled": "sampled"}, selection),
            "temperature": temperature_slider(temperature),
            "k": k_slider(k, num_experts),
            "gates": choice(
                "gates from", {"original": "original logits", "tempered": "tempered logits"}, gates
            ),
        },
        draw,
        buttons,
    )
    return live


class _Draws:
    """What was drawn so far under one rule; another rule begins again."""

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator
        self.rule: tuple[Any, ...] = ()

    def under(self, rule: tuple[int, int, float, str], logits_TE: Tensor) -> None:
        """Go on under this token, k, temperature and selection, or begin if they are new."""
        if rule == self.rule:
            return
        self.rule, self.logits_TE = rule, logits_TE
        _, self.k, self.temperature, selection = rule
        self.sampled = selection == "sampled"
        self.number, self.counts_E = 0, torch.zeros(logits_TE.shape[-1], dtype=torch.float64)
        self.add(1)
        self.inclusion_TE = (
            inclusion_probabilities(logits_TE, self.k, self.temperature)
            if self.sampled
            else self.counts_E[None].clone()
        )

    def add(self, number: int) -> None:
        """Draw so many times more."""
        rows_NE = self.logits_TE.expand(number, -1)
        experts_NK = (
            gumbel_top_k(rows_NE, self.k, self.temperature, self.generator)
            if self.sampled
            else top_k(rows_NE, self.k)
        )
        self.counts_E += torch.bincount(experts_NK.flatten(), minlength=len(self.counts_E))
        self.number += number
        self.experts_TK = experts_NK[-1:]
