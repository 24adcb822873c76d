"""A token to move among the centroids of a router of any width."""

import ipywidgets
import torch
from torch import Tensor

from moe_tutorial.figures import centroid_space, expert_bars
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.scores import cosine_scores, dot_scores
from moe_tutorial.routing.selection import top_k
from moe_tutorial.validation import check_choice, check_floating, check_k, check_same_device
from moe_tutorial.widgets.live import (
    LiveFigure,
    choice,
    k_slider,
    page,
    rows_of,
    slider,
    table_of,
    token_slider,
)

SCORES = {"dot": dot_scores, "cosine": cosine_scores}


def centroid_widget(
    x_TD: Tensor, centroids_ED: Tensor, k: int = 3, *, scores: str = "dot"
) -> LiveFigure:
    """Move a token among the centroids of a router, of any width, and see whom it is sent to.

    Two sliders move it along the coordinates of the plane or, for D > 2, along the two directions
    in which the centroids differ most (their first principal components). The picture shows these
    two; the logits always use all D coordinates.

    Args:
        x_TD: tokens ``[T, D]``, or one token ``[D]``.
        centroids_ED: the centroids, ``[E, D]``, such as the weight of a router's ``nn.Linear``.
        k: how many experts are chosen at first.
        scores: ``"dot"`` or ``"cosine"`` at first.

    Raises:
        TypeError: an argument that is not a floating-point tensor, or a k that is not an int.
        ValueError: wrong shapes, no token, fewer than two experts or coordinates, values that are
            not finite, centroids that are all zero, two devices, k out of range, or a word that is
            not one of the allowed ones.
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

    plane_2D, names, note = _plane(centroids_ED)
    places_E2 = centroids_ED @ plane_2D.T
    reach = torch.cat([places_E2, tokens_TD @ plane_2D.T]).abs().max().item()

    def draw(first: float, second: float, scores: str, k: int, token: int = 0) -> str:
        shift_D = torch.tensor([first, second], dtype=torch.float64) @ plane_2D
        moved_TD = tokens_TD[token : token + 1] + shift_D
        place_2 = (moved_TD @ plane_2D.T)[0]
        logits_TE = SCORES[scores](moved_TD, centroids_ED)
        experts_TK = top_k(logits_TE, k)
        # A foot on the token's line stands for a dot product only if nothing lies off the plane.
        project = scores == "dot" and tokens_TD.shape[1] == 2 and bool(place_2.any())
        return page(
            [
                centroid_space(
                    place_2, places_E2, chosen=experts_TK[0], project=project, axes=names
                ),
                expert_bars({"logits": logits_TE[0]}, "logit", chosen={"logits": experts_TK[0]}),
            ],
            f"{note}Token at ({place_2[0]:.3f}, {place_2[1]:.3f}).",
            table_of(experts_TK, {"logit": logits_TE, "probability": softmax(logits_TE)}),
        )

    moves = {"min": -2 * reach, "max": 2 * reach, "step": reach / 50, "readout_format": ".3f"}
    return LiveFigure(
        {
            **token_slider(len(tokens_TD)),
            "first": slider(f"along {names[0]}", ipywidgets.FloatSlider, 0.0, **moves),
            "second": slider(f"along {names[1]}", ipywidgets.FloatSlider, 0.0, **moves),
            "scores": choice("scores", {"dot": "dot product", "cosine": "cosine"}, scores),
            "k": k_slider(k, len(centroids_ED)),
        },
        draw,
    )


def _plane(centroids_ED: Tensor) -> tuple[Tensor, tuple[str, str], str]:
    """Two orthogonal directions ``[2, D]``, what they are called, and a sentence on them."""
    width = centroids_ED.shape[1]
    if width == 2:
        return torch.eye(2, dtype=torch.float64), ("coordinate 0", "coordinate 1"), ""
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
