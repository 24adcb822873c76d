"""One widget for each of the chapters 01 to 04; their pictures are those of the explorers."""

import math
from typing import Any

import ipywidgets
import torch
from torch import Tensor

from moe_tutorial.explorers.centroids import AXES, SCORES, centroid_pictures
from moe_tutorial.explorers.sampled import check_rule, routing_columns, routing_picture
from moe_tutorial.explorers.selection import selection_picture, three_gates
from moe_tutorial.explorers.temperature import temperature_pictures
from moe_tutorial.routing.probabilities import entropy, softmax
from moe_tutorial.routing.sampling import gumbel_top_k
from moe_tutorial.routing.selection import top_k
from moe_tutorial.validation import (
    check_choice,
    check_floating,
    check_k,
    check_positive_number,
    check_same_device,
)
from moe_tutorial.widgets.live import (
    LiveFigure,
    choice,
    page,
    rows_of,
    slider,
    table_of,
    temperature_slider,
    token_and_k,
    token_slider,
)


def centroid_widget(
    x_TD: Tensor, centroids_ED: Tensor, k: int = 3, *, scores: str = "dot"
) -> LiveFigure:
    """Move a token among the centroids of a router, of any width, and see whom it is sent to.

    Two sliders move it along the coordinates of the plane or, for D > 2, along the two directions
    in which the centroids differ most (their first principal components). The picture shows these
    two; the logits always use all D coordinates.

    Takes and refuses what :func:`~moe_tutorial.explorers.centroid_explorer` does, but for tokens
    ``[T, D]``, or one ``[D]``, and centroids ``[E, D]`` of any number and width, all on one device,
    such as the weight of a router's ``nn.Linear``.
    """
    tokens_TD = rows_of("x_TD", x_TD)
    check_floating("centroids_ED", centroids_ED)
    if centroids_ED.ndim != 2 or min(centroids_ED.shape) < 2:
        raise ValueError(
            "centroids_ED must have shape [E, D] with at least 2 experts and 2 coordinates, got "
            f"shape {tuple(centroids_ED.shape)}"
        )
    check_same_device(x_TD=x_TD, centroids_ED=centroids_ED)
    check_k(k, len(centroids_ED))
    check_choice("scores", scores, tuple(SCORES))
    centroids_ED = rows_of("centroids_ED", centroids_ED)
    SCORES[scores](tokens_TD, centroids_ED)  # refuses widths that do not fit
    if not centroids_ED.any():
        raise ValueError("centroids_ED must not be all zero: there is nothing to move among")

    plane_2D, axes, note = _plane(centroids_ED)
    places_E2 = centroids_ED @ plane_2D.T
    reach = torch.cat([places_E2, tokens_TD @ plane_2D.T]).abs().max().item()

    def draw(first: float, second: float, scores: str, k: int, token: int = 0) -> str:
        shift_D = torch.tensor([first, second], dtype=torch.float64) @ plane_2D
        moved_TD = tokens_TD[token : token + 1] + shift_D
        place_2 = (moved_TD @ plane_2D.T)[0]
        logits_TE = SCORES[scores](moved_TD, centroids_ED)
        return page(
            centroid_pictures(place_2, places_E2, logits_TE, k, scores, axes),
            f"{note}Token at ({place_2[0]:.3f}, {place_2[1]:.3f}).",
            table_of(top_k(logits_TE, k), {"logit": logits_TE, "probability": softmax(logits_TE)}),
        )

    moves = {"min": -2 * reach, "max": 2 * reach, "step": reach / 50, "readout_format": ".3f"}
    controls = {
        "first": slider(f"along {axes[0]}", ipywidgets.FloatSlider, 0.0, **moves),
        "second": slider(f"along {axes[1]}", ipywidgets.FloatSlider, 0.0, **moves),
        "scores": choice("scores", {"dot": "dot product", "cosine": "cosine"}, scores),
    }
    return LiveFigure({**controls, **token_and_k(len(tokens_TD), k, len(centroids_ED))}, draw)


def _plane(centroids_ED: Tensor) -> tuple[Tensor, tuple[str, str], str]:
    """Two orthogonal directions ``[2, D]``, what they are called, and a sentence on them."""
    width = centroids_ED.shape[1]
    if width == 2:
        return torch.eye(2, dtype=torch.float64), AXES, ""
    _, spread, directions = torch.linalg.svd(
        centroids_ED - centroids_ED.mean(0), full_matrices=False
    )
    plane_2D = directions[:2]
    # A principal component has no sign of its own: its largest entry is made positive.
    largest_21 = plane_2D.gather(1, plane_2D.abs().argmax(1, keepdim=True))
    share = (spread[:2].square().sum() / spread.square().sum()).item()
    return (
        plane_2D * largest_21.sign(),
        ("direction 0", "direction 1"),
        f"The plane shows {100 * share:.0f} % of the centroids' variance; logits use all {width} "
        "coordinates. ",
    )


def temperature_widget(logits_TE: Tensor, temperature: float = 1.0) -> LiveFigure:
    """A token's probabilities and their entropy at any temperature, both limits included.

    Takes and refuses what :func:`~moe_tutorial.explorers.temperature_explorer` does, but for logits
    ``[..., E]`` of any number of tokens and experts.
    """
    rows_TE = rows_of("logits_TE", logits_TE)
    check_positive_number("temperature", temperature)

    def draw(temperature: float, token: int = 0) -> str:
        logits_TE = rows_TE[token : token + 1]
        probabilities_TE = softmax(logits_TE, temperature)
        undecided = entropy(probabilities_TE).item()
        return page(
            temperature_pictures(logits_TE, temperature),
            f"Entropy {undecided:.6f} nats, as undecided as a fair choice among "
            f"{math.exp(undecided):.2f} experts.",
            table_of(
                top_k(logits_TE, logits_TE.shape[-1]),
                {"logit": logits_TE, "probability": probabilities_TE},
            ),
        )

    return LiveFigure(
        {**token_slider(len(rows_TE)), "temperature": temperature_slider(temperature)}, draw
    )


def selection_widget(logits_TE: Tensor, k: int = 3) -> LiveFigure:
    """A token's K best experts, and their gates normalised in the three ways of chapter 03.

    Takes and refuses what :func:`~moe_tutorial.explorers.selection_explorer` does, but for logits
    ``[..., E]`` of any number of tokens and experts.
    """
    rows_TE = rows_of("logits_TE", logits_TE)
    check_k(k, rows_TE.shape[-1])

    def draw(k: int, token: int = 0) -> str:
        logits_TE = rows_TE[token : token + 1]
        gates = three_gates(logits_TE, k)
        sums = ", ".join(f"{name.split()[0]}: {way.sum():.6f}" for name, way in gates.items())
        columns = {"logit": logits_TE, "probability": softmax(logits_TE), **gates}
        return page(
            [selection_picture(logits_TE, k)],
            f"The gates sum to {sums}.",
            table_of(top_k(logits_TE, k), columns),
        )

    return LiveFigure(token_and_k(len(rows_TE), k, rows_TE.shape[-1]), draw)


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

    Takes and refuses what :func:`~moe_tutorial.explorers.routing_explorer` does, but for logits
    ``[..., E]`` of any number of tokens and experts.
    """
    rows_TE = rows_of("logits_TE", logits_TE)
    check_rule(rows_TE, k, temperature, selection, gates, generator)
    # What was drawn so far under one rule; another rule begins again.
    rule: tuple[Any, ...] = ()
    drawn_NK = torch.zeros(0, 0, dtype=torch.int64)

    def more(number: int, under: tuple[int, int, float, str]) -> None:
        nonlocal rule, drawn_NK
        token, k, temperature, selection = under
        rows_NE = rows_TE[token : token + 1].expand(number, -1)
        sampled = selection == "sampled"
        new_NK = gumbel_top_k(rows_NE, k, temperature, generator) if sampled else top_k(rows_NE, k)
        drawn_NK = torch.cat([drawn_NK, new_NK]) if rule == under else new_NK
        rule = under

    def draw(temperature: float, k: int, selection: str, gates: str, token: int = 0) -> str:
        logits_TE = rows_TE[token : token + 1]
        if rule != (token, k, temperature, selection):
            more(1, (token, k, temperature, selection))
        for button in buttons.values():
            button.disabled = selection == "top_k"
        last_TK = drawn_NK[-1:]
        columns = routing_columns(logits_TE, drawn_NK, temperature, selection)
        return page(
            [routing_picture(columns, drawn_NK, temperature, gates)],
            f"{'Drawn' if selection == 'sampled' else 'The best'}, in this order: "
            f"{', '.join(str(expert) for expert in last_TK[0].tolist())}.",
            table_of(last_TK, columns),
        )

    def again(number: int) -> None:
        more(number, rule)
        live.redraw()

    buttons = {
        "draw_again": ipywidgets.Button(description="Draw again"),
        "draw_1000": ipywidgets.Button(description="Draw 1000 times"),
    }
    buttons["draw_again"].on_click(lambda _: again(1))
    buttons["draw_1000"].on_click(lambda _: again(1000))
    sources = {"original": "original logits", "tempered": "tempered logits"}
    controls = {
        "selection": choice("selection", {"top_k": "Top-K", "sampled": "sampled"}, selection),
        "temperature": temperature_slider(temperature),
        **token_and_k(len(rows_TE), k, rows_TE.shape[-1]),
        "gates": choice("gates from", sources, gates),
    }
    live = LiveFigure(controls, draw, buttons)
    return live
