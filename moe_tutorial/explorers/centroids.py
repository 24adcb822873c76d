"""A token to drag through the plane of the centroids, and what each expert scores on the way."""

import math

from torch import Tensor

from moe_tutorial.explorers.page import Explorer, check_num_experts
from moe_tutorial.figures import Picture, centroid_space, expert_bars
from moe_tutorial.routing.scores import cosine_scores, dot_scores
from moe_tutorial.routing.selection import top_k
from moe_tutorial.validation import check_choice, check_finite, check_floating, check_k

SCORES = {"dot": dot_scores, "cosine": cosine_scores}
AXES = ("coordinate 0", "coordinate 1")


def centroid_explorer(
    x_D: Tensor, centroids_ED: Tensor, k: int = 3, *, scores: str = "dot"
) -> Explorer:
    """A token among centroids in the plane: drag it, and logits, probabilities and choice follow.

    The plane is coloured by the expert with the largest logit; the regions are exact polygons.

    Args:
        x_D: where the token starts, ``[2]``.
        centroids_ED: the centroids, ``[E, 2]``, from 2 to 16 experts.
        k: how many experts are chosen at first.
        scores: ``"dot"`` or ``"cosine"`` at first.

    Returns:
        The explorer; its sentence gives the token's place and the chosen experts.

    Raises:
        TypeError: an argument that is not a floating-point tensor, or a k that is not an int.
        ValueError: a width other than 2, values that are not finite, k out of range, a word that is
            not one of the allowed ones, or centroids that are all zero.
    """
    for name, tensor, rank in (("x_D", x_D, 1), ("centroids_ED", centroids_ED, 2)):
        check_floating(name, tensor, rank=rank)
        check_finite(name, tensor)
    if x_D.shape != (2,) or centroids_ED.shape[-1] != 2:
        raise ValueError(
            "x_D must have shape [2] and centroids_ED [E, 2] to lie in the plane, got "
            f"{list(x_D.shape)} and {list(centroids_ED.shape)}"
        )
    check_num_experts("centroids_ED", centroids_ED, 2)
    if not centroids_ED.any():
        raise ValueError("centroids_ED must not be all zero: no place of the plane has a winner")
    check_k(k, len(centroids_ED))
    check_choice("scores", scores, tuple(SCORES))
    x_TD, centroids_ED = (t.detach().cpu().double() for t in (x_D[None], centroids_ED))
    # Two digits more than the size of the numbers; room beyond the furthest one for its disc.
    furthest = max(centroids_ED.abs().max().item(), x_TD.abs().max().item())
    size = math.floor(math.log10(furthest))
    digits = max(0, 2 - size)
    return Explorer(
        "centroids",
        "a token among centroids",
        {
            "token": x_TD[0].tolist(),
            "centroids": centroids_ED.tolist(),
            "k": k,
            "scores": scores,
            "reach": round(math.ceil(11.2 * furthest / 10.0**size) * 10.0**size / 10, digits),
            "digits": digits,
        },
        centroid_pictures(x_TD[0], centroids_ED, SCORES[scores](x_TD, centroids_ED), k, scores),
    )


def centroid_pictures(
    place_2: Tensor,
    places_E2: Tensor,
    logits_TE: Tensor,
    k: int,
    scores: str,
    axes: tuple[str, str] = AXES,
) -> list[Picture]:
    """The plane with the K best experts ringed, and bars of one token's logits ``[1, E]``."""
    chosen_K = top_k(logits_TE, k)[0]
    # A foot on the token's line stands for a dot product only if nothing lies off the plane.
    project = scores == "dot" and axes == AXES and bool(place_2.any())
    return [
        centroid_space(place_2, places_E2, chosen=chosen_K, project=project, axes=axes),
        expert_bars({"logits": logits_TE[0]}, "logit", chosen={"logits": chosen_K}),
    ]
