"""A token to drag through the plane of the centroids, and what each expert scores on the way."""

import math

from torch import Tensor

from moe_tutorial.explorers.page import Explorer, as_numbers, check_num_experts, experts_in_words
from moe_tutorial.explorers.plane import draw_plane
from moe_tutorial.explorers.svg import bars, fixed, round_below, share, tick
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.scores import cosine_scores, dot_scores
from moe_tutorial.routing.selection import top_k
from moe_tutorial.validation import check_choice, check_finite, check_floating, check_k

SCORES = {"dot": dot_scores, "cosine": cosine_scores}


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
    _check_plane(x_D, centroids_ED)
    check_num_experts("centroids_ED", centroids_ED, 2)
    check_k(k, len(centroids_ED))
    check_choice("scores", scores, tuple(SCORES))
    x_TD, centroids_ED = x_D.double()[None], centroids_ED.double()
    token, centroids = as_numbers(x_TD)[0], as_numbers(centroids_ED)
    # Two digits more than the size of the numbers; room beyond the furthest one for its disc.
    furthest = max(centroids_ED.abs().max().item(), x_TD.abs().max().item())
    size = math.floor(math.log10(furthest))
    digits = max(0, 2 - size)
    reach = round(math.ceil(11.2 * furthest / 10.0**size) * 10.0**size / 10, digits)
    place = f"({', '.join(fixed(value, digits) for value in token)})"

    logits_TE = SCORES[scores](x_TD, centroids_ED)
    logits = as_numbers(logits_TE)[0]
    probabilities = as_numbers(softmax(logits_TE))[0]
    chosen = top_k(logits_TE, k)[0].tolist()
    # The largest logit that the plane has to offer: the scale stays while the token moves.
    bound = reach * centroids_ED.abs().sum(-1).max().item()
    step = round_below(bound)
    return Explorer(
        "centroids",
        "Explorer: a token among centroids",
        f"Token at {place}, {'dot product' if scores == 'dot' else 'cosine'}: "
        f"{experts_in_words(chosen)} {'are' if k > 1 else 'is'} chosen. Expert {chosen[0]} has "
        f"logit {fixed(logits[chosen[0]], 2)} and probability "
        f"{fixed(probabilities[chosen[0]], 2)}.",
        {
            "token": token,
            "centroids": centroids,
            "k": k,
            "scores": scores,
            "reach": reach,
            "digits": digits,
        },
        [draw_plane(token, place, centroids_ED, chosen, scores, reach)],
        [
            bars(
                "logits",
                "Logits",
                logits,
                [fixed(value, 1) for value in logits],
                height=160,
                low=-bound,
                high=bound,
                ticks=[(sign * step, tick(sign * step)) for sign in (-1, 1)],
                chosen=chosen,
            ),
            bars(
                "probabilities",
                "Probabilities",
                probabilities,
                [share(value) for value in probabilities],
                height=130,
                chosen=chosen,
            ),
        ],
    )


def _check_plane(x_D: Tensor, centroids_ED: Tensor) -> None:
    check_floating("x_D", x_D, rank=1)
    check_floating("centroids_ED", centroids_ED)
    check_finite("x_D", x_D)
    check_finite("centroids_ED", centroids_ED)
    if x_D.shape != (2,) or centroids_ED.shape[-1] != 2:
        raise ValueError(
            "x_D must have shape [2] and centroids_ED [E, 2] to lie in the plane, got "
            f"{list(x_D.shape)} and {list(centroids_ED.shape)}"
        )
    if not centroids_ED.any():
        raise ValueError("centroids_ED must not be all zero: no place of the plane has a winner")
