"""The three spaces of a router: centroids, logits and decisions, from the same real numbers."""

from collections.abc import Collection

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from moe_tutorial.figures import palette
from moe_tutorial.figures.bars import draw_bars
from moe_tutorial.figures.palette import expert_colour
from moe_tutorial.figures.placing import Label, Obstacle, place_labels
from moe_tutorial.figures.style import (
    INK,
    QUIET,
    Picture,
    check_words,
    expert_axis,
    expert_ids,
    label_expert,
    largest,
    listing,
    new_figure,
    numbers,
    plain,
    style,
)
from moe_tutorial.routing.probabilities import softmax
from moe_tutorial.routing.scores import dot_scores
from moe_tutorial.routing.selection import top_k


def centroid_space(
    x_D: Tensor,
    centroids_ED: Tensor,
    *,
    chosen: Tensor | None = None,
    project: bool = True,
    axes: tuple[str, str] = ("coordinate 0", "coordinate 1"),
) -> Picture:
    """The token and the experts' centroids as points of the plane, with their projections.

    Args:
        x_D: one token, ``[2]``.
        centroids_ED: the centroids, ``[E, 2]``. Beyond sixteen, only chosen ones are numbered.
        chosen: the ids of the experts to ring ``[K]``.
        project: whether to drop each centroid onto the token's line, where dot products compare.
        axes: what the two coordinates are called.

    Returns:
        The figure; its sentence names the centroids that reach furthest along the token, and the
        ringed ones.

    Raises:
        TypeError: points that are no numbers, ids that are no integers, or a name that is no str.
        ValueError: a width other than 2, a value that is not finite, an id that is no centroid's,
            or a zero token to project on.
    """
    check_words(**{"axes[0]": axes[0], "axes[1]": axes[1]})
    token, centroids = plane_points(x_D, centroids_ED, project)
    ringed = [] if chosen is None else expert_ids("chosen", chosen, len(centroids))
    with style():
        figure, (ax,) = new_figure(4.6)
        obstacles = draw_plane(ax, token, centroids, ringed, project)
        ax.set_xlabel(plain(axes[0]))
        ax.set_ylabel(plain(axes[1]))
        place_labels(figure, ax, [Label("token uₜ", *token)], obstacles)
    if project:
        sentence = _plane_sentence(token, centroids)
    else:
        sentence = (
            f"A token at ({token[0]:.2g}, {token[1]:.2g}) and {len(centroids)} centroids in the "
            "plane."
        )
    if ringed:
        sentence += f" Ringed: {listing([str(e) for e in ringed])}."
    return Picture(figure, sentence)


def centroid_and_logit_space(x_D: Tensor, centroids_ED: Tensor) -> Picture:
    """The plane of :func:`centroid_space` above the bars of the logits it gives.

    Args:
        x_D: one token, ``[2]``.
        centroids_ED: the centroids, ``[E, 2]``.

    Returns:
        The figure; its sentence describes both spaces.

    Raises:
        TypeError: points that are no floating-point tensors.
        ValueError: a width other than 2, a value that is not finite, or a zero token.
    """
    token, centroids = plane_points(x_D, centroids_ED)
    logits_E = numbers("logits", dot_scores(x_D[None], centroids_ED)[0], 1)
    with style():
        figure, (plane, bars) = new_figure(6.6, 2, height_ratios=(2.1, 1))
        obstacles = draw_plane(plane, token, centroids)
        plane.set_title("Centroid space: the router's weights")
        _draw_logits(bars, logits_E)
        place_labels(figure, plane, [Label("token uₜ", *token)], obstacles)
    return Picture(
        figure,
        _plane_sentence(token, centroids)
        + f" Logit space, bars below: largest at {largest(logits_E)}.",
    )


def three_spaces(x_D: Tensor, centroids_ED: Tensor, k: int, temperature: float = 1.0) -> Picture:
    """The whole decision about one token: centroid space, logit space and decision space.

    Args:
        x_D: one token, ``[2]``.
        centroids_ED: the centroids, ``[E, 2]``.
        k: how many experts are chosen.
        temperature: of the softmax.

    Returns:
        The figure; its sentence follows the token through the three spaces.

    Raises:
        TypeError: points that are no floating-point tensors, or a k that is no int.
        ValueError: a width other than 2, a value that is not finite, a zero token, k or temperature
            out of range.
    """
    token, centroids = plane_points(x_D, centroids_ED)
    logits_TE = dot_scores(x_D[None], centroids_ED)
    probabilities_E = numbers("probabilities", softmax(logits_TE, temperature)[0], 1)
    chosen = top_k(logits_TE, k)[0].tolist()
    logits_E = numbers("logits", logits_TE[0], 1)
    with style():
        figure, (plane, bars, decision) = new_figure(8.4, 3, height_ratios=(2.1, 1, 1))
        obstacles = draw_plane(plane, token, centroids)
        plane.set_title("1  Centroid space: the router's weights")
        _draw_logits(bars, logits_E)
        bars.set_title("2  Logit space: token times centroid")
        draw_bars(decision, probabilities_E, chosen)
        expert_axis(decision, len(probabilities_E))
        decision.set_ylabel("probability")
        decision.set_title(f"3  Decision space: softmax, top {k} outlined")
        place_labels(figure, plane, [Label("token uₜ", *token)], obstacles)
    return Picture(
        figure,
        _plane_sentence(token, centroids)
        + f" Logit space: largest at {largest(logits_E)}. Decision space: probabilities largest at "
        f"{largest(probabilities_E)}; chosen: {listing([str(e) for e in chosen])}.",
    )


def weighted_sum(outputs_KD: Tensor, gates_K: Tensor, experts_K: Tensor) -> Picture:
    """The chosen experts' outputs, shrunk by their gates and laid tip to tail: they end at y.

    Args:
        outputs_KD: outputs of the chosen experts in the plane, ``[K, 2]``.
        gates_K: their gates, ``[K]``.
        experts_K: their int64 ids, ``[K]``.

    Returns:
        The figure; its sentence gives each gate and where the sum ends.

    Raises:
        ValueError: outputs that are not two-dimensional, or a value that is not finite.
    """
    outputs, gates = numbers("outputs_KD", outputs_KD, 2), numbers("gates_K", gates_K, 1)
    numbers("experts_K", experts_K, 1)
    ids = expert_ids("experts_K", experts_K, max(experts_K.tolist(), default=0) + 1)
    if outputs.shape != (len(ids), 2) or len(gates) != len(ids):
        raise ValueError(
            f"outputs_KD must have shape [K, 2] for K = {len(ids)} experts and as many gates, got "
            f"{list(outputs.shape)} and {len(gates)} gates"
        )
    tips = np.vstack([np.zeros((1, 2)), np.cumsum(gates[:, None] * outputs, axis=0)])
    with style():
        figure, (ax,) = new_figure(4.0)
        for i, expert in enumerate(ids):
            _arrow(ax, np.zeros(2), outputs[i], expert_colour(expert), width=1, alpha=0.45)
            _arrow(ax, tips[i], tips[i + 1], expert_colour(expert), width=2.6)
            label_expert(ax, outputs[i][0], outputs[i][1], expert, str(expert), size=16)
        _arrow(ax, np.zeros(2), tips[-1], INK, width=2.2)
        _frame_plane(ax, np.vstack([tips, 1.15 * outputs]))
        ax.set_xlabel("output coordinate 0")
        ax.set_ylabel("output coordinate 1")
        arrows = [Obstacle(np.stack([np.zeros(2), output]), 3) for output in outputs]
        arrows += [Obstacle(tips, 3), Obstacle(tips[[0, -1]], 3)]
        discs = Obstacle(outputs, 10, joined=False)
        place_labels(figure, ax, [Label("yₜ", *tips[-1])], [*arrows, discs])
    weighted = [f"expert {e} with gate {g:.2f}" for e, g in zip(ids, gates, strict=True)]
    return Picture(
        figure,
        f"Arrows in the plane: the outputs of {listing(weighted)}, each shortened by its gate and "
        f"laid tip to tail, end at y = ({tips[-1][0]:.2f}, {tips[-1][1]:.2f}).",
    )


def plane_points(
    x_D: Tensor, centroids_ED: Tensor, project: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A token and centroids as arrays that can be drawn in the plane."""
    token, centroids = numbers("x_D", x_D, 1), numbers("centroids_ED", centroids_ED, 2)
    if len(token) != 2 or centroids.shape[1] != 2:
        raise ValueError(
            "x_D and centroids_ED must have width 2 to be drawn in the plane, got "
            f"{len(token)} and {centroids.shape[1]}"
        )
    if project and not token.any():
        raise ValueError("x_D must not be zero: a zero vector has no direction to project onto")
    return token, centroids


def draw_plane(
    ax: Axes,
    x_D: np.ndarray,
    centroids_ED: np.ndarray,
    ringed: Collection[int] = (),
    project: bool = True,
) -> list[Obstacle]:
    """Draw the plane; what the token's label must not cover."""
    points = np.vstack([centroids_ED, x_D])
    obstacles = [
        Obstacle(centroids_ED, 10, joined=False),
        Obstacle(np.stack([np.zeros(2), x_D]), 4),
    ]
    if project:
        direction = x_D / np.linalg.norm(x_D)
        reach = centroids_ED @ direction
        ends = np.array([reach.min() - 0.2, reach.max() + 0.3])
        ax.plot(*np.outer(direction, ends), color=QUIET, linewidth=1, zorder=1)
        points = np.vstack([points, np.outer(ends, direction)])
        obstacles.append(Obstacle(np.outer(ends, direction), 2))
    numbered = range(len(centroids_ED)) if len(centroids_ED) <= 16 else ringed
    for expert, (x, y) in enumerate(centroids_ED):
        colour = expert_colour(expert)
        if project:
            foot = reach[expert] * direction
            ax.plot((x, foot[0]), (y, foot[1]), color=QUIET, linewidth=0.8, linestyle=":")
            ax.plot(*foot, "o", color=colour, markersize=4, zorder=3)
            obstacles.append(Obstacle(np.stack([centroids_ED[expert], foot]), 1, weight=20))
        if expert in numbered:
            label_expert(ax, x, y, expert, str(expert), size=16)
        else:
            ax.plot(x, y, "o", color=colour, markersize=6, zorder=3)
        if expert in ringed:
            ax.plot(x, y, "o", markersize=20, color="none", markeredgecolor=INK, mew=2, zorder=4)
    if x_D.any():
        _arrow(ax, np.zeros(2), x_D, INK, width=2.2)
    _frame_plane(ax, points)
    ax.set_xlabel("coordinate 0")
    ax.set_ylabel("coordinate 1")
    return obstacles


def _draw_logits(ax: Axes, logits_E: np.ndarray) -> None:
    draw_bars(ax, logits_E)
    expert_axis(ax, len(logits_E))
    ax.set_ylabel("logit")
    ax.set_title("Logit space: one number per expert")


def _plane_sentence(x_D: np.ndarray, centroids_ED: np.ndarray) -> str:
    reach = centroids_ED @ x_D / np.linalg.norm(x_D)
    furthest = [str(e) for e in np.argsort(-reach, kind="stable")[:3]]
    return (
        f"Centroid space: a token at ({x_D[0]:.2g}, {x_D[1]:.2g}) and {len(centroids_ED)} "
        f"centroids in the plane, each projected onto the token's direction; "
        f"furthest along it lie the centroids of experts {listing(furthest)}."
    )


def _arrow(
    ax: Axes, start: np.ndarray, end: np.ndarray, colour: str, *, width: float, alpha: float = 1
) -> None:
    ax.annotate(
        "",
        (end[0], end[1]),
        xytext=(start[0], start[1]),
        arrowprops={
            "arrowstyle": "-|>",
            "color": colour,
            "linewidth": width,
            "alpha": alpha,
            "shrinkA": 0,
            "shrinkB": 0,
        },
        zorder=4,
    )


def _frame_plane(ax: Axes, points_N2: np.ndarray) -> None:
    ax.axhline(0, color=palette.GRID.light, linewidth=0.8, zorder=0)
    ax.axvline(0, color=palette.GRID.light, linewidth=0.8, zorder=0)
    # The limits are only hints: equal units on both axes come first, and then the full width.
    ax.update_datalim(points_N2)
    ax.margins(0.1)
    ax.set_aspect("equal", adjustable="datalim")
