"""One posterior in the three spaces: ellipses of centroids, clouds of logits, sets that change."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from torch import Tensor

from moe_tutorial.figures.bars import draw_bars
from moe_tutorial.figures.palette import expert_colour
from moe_tutorial.figures.placing import Label, place_labels
from moe_tutorial.figures.spaces import draw_plane, plane_points
from moe_tutorial.figures.style import (
    INK,
    Picture,
    expert_axis,
    largest,
    listing,
    new_figure,
    numbers,
    style,
)
from moe_tutorial.routing.selection import top_k
from moe_tutorial.validation import check_k

_DOTS = 60  # draws that are drawn: more would be a bar


def clouds(
    x_D: Tensor, centroids_ED: Tensor, covariances_EDD: Tensor, logits_ME: Tensor, k: int
) -> Picture:
    """A cloud around every centroid, the logits it gives one token, and who is chosen how often.

    Args:
        x_D: one token, ``[2]``.
        centroids_ED: the middles of the clouds, ``[E, 2]``.
        covariances_EDD: the covariance of each centroid; its ellipse is one standard deviation.
        logits_ME: the token's logits in M draws.
        k: how many experts each draw chooses.

    Returns:
        The figure; its sentence gives the widest and the narrowest cloud of logits, and who is
        chosen how often.

    Raises:
        TypeError: values that are no numbers, or a k that is no int.
        ValueError: a width other than 2, shapes that do not fit, a covariance that is none, or k
            out of range.
    """
    token, centroids = plane_points(x_D, centroids_ED)
    covariances = numbers("covariances_EDD", covariances_EDD, 3)
    draws = numbers("logits_ME", logits_ME, 2)
    experts = len(centroids)
    if covariances.shape != (experts, 2, 2) or draws.shape[1] != experts:
        raise ValueError(
            f"covariances_EDD must have shape {(experts, 2, 2)} and logits_ME {experts} columns, "
            f"got {covariances.shape} and {draws.shape[1]}"
        )
    check_k(k, experts)
    chosen_MK = top_k(logits_ME, k).numpy()
    frequency_E = np.bincount(chosen_MK.flatten(), minlength=experts) / len(draws)
    spread_E = draws.std(0)
    with style():
        figure, (plane, cloud, decision) = new_figure(8.6, 3, height_ratios=(2.1, 1.2, 1))
        for expert in range(experts):
            _ellipse(plane, centroids[expert], covariances[expert], expert_colour(expert))
        obstacles = draw_plane(plane, token, centroids, project=False)
        plane.set_title("1  Centroid space: an ellipse each")
        _dots(cloud, draws)
        cloud.set_title(f"2  Logit space: {min(len(draws), _DOTS)} draws")
        draw_bars(decision, frequency_E)
        expert_axis(decision, experts)
        decision.set_ylabel("share")
        decision.set_ylim(0, 1.02)
        decision.set_yticks([0, 0.5, 1], labels=["0", "0.5", "1"])
        decision.set_title(f"3  Decision space: share of draws in top {k}")
        place_labels(figure, plane, [Label("token uₜ", *token)], obstacles)
    order = np.argsort(spread_E, kind="stable")
    wide = listing([f"expert {e} ({spread_E[e]:.2f})" for e in (order[-1], order[0])])
    return Picture(
        figure,
        f"Centroid space: an ellipse around each of {experts} centroids. Logit space: clouds of "
        f"draws, whose standard deviations lie between those of {wide}. Decision space: chosen "
        f"most often are {largest(frequency_E, k + 1)}.",
    )


def _ellipse(ax: Axes, middle: np.ndarray, covariance: np.ndarray, colour: str) -> None:
    if not np.allclose(covariance, covariance.T):
        raise ValueError(f"covariances_EDD must be symmetric, got {covariance.tolist()}")
    variances, axes = np.linalg.eigh(covariance)
    if variances.min() < -1e-9 * np.abs(variances).max():
        raise ValueError(
            f"covariances_EDD must have no negative eigenvalue, got {variances.min():.4g}"
        )
    width, height = 2 * np.sqrt(variances.clip(min=0))
    turn = float(np.degrees(np.arctan2(axes[1, 0], axes[0, 0])))
    shape = {"facecolor": colour, "alpha": 0.25, "edgecolor": colour, "zorder": 1}
    ax.add_patch(Ellipse((middle[0], middle[1]), width, height, angle=turn, **shape))


def _dots(ax: Axes, draws: np.ndarray) -> None:
    shown = draws[:_DOTS]
    sideways = np.linspace(-0.28, 0.28, len(shown)) if len(shown) > 1 else np.zeros(1)
    for expert in range(draws.shape[1]):
        ax.plot(
            expert + sideways, shown[:, expert], "o", color=expert_colour(expert),
            markersize=3, markeredgewidth=0, alpha=0.7,
        )  # fmt: skip
        mean = draws[:, expert].mean()
        ax.plot([expert - 0.4, expert + 0.4], [mean, mean], color=INK, linewidth=1.4)
    ax.axhline(0, color=INK, linewidth=0.8)
    expert_axis(ax, draws.shape[1])
    ax.set_ylabel("logit")
