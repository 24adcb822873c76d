"""Labels that look for a free place near their points: no line through them, none on another."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from moe_tutorial.figures.palette import readable_as
from moe_tutorial.figures.style import INK, QUIET, plain
from moe_tutorial.figures.vector import SMALLEST

_DISTANCES = (6, 9, 13, 18, 25, 34, 45, 58)  # from a point to its label, in points
_ANGLES = np.deg2rad([45, 0, 90, 135, -45, -90, 180, -135, 20, -20, 70, -70, 110, -110, 160, -160])
_ALONE = 16  # from this distance on, a line leads from the point to its label
_TOGETHER = 6  # points between two places that are one to a reader
_AIR = 3  # between a label and the edge of the axes
_APART = 40  # points from a curve to the next one: more do not make its name any clearer


class Label(NamedTuple):
    """Words for a point, in the coordinates of the axes' data."""

    text: str
    x: float
    y: float
    colour: str = INK  # of its point: the words have it, too, where it can be read
    needed: bool = True  # others are left out where they have no free place


class Obstacle(NamedTuple):
    """A line or points that a label must not cover."""

    points_N2: np.ndarray  # in the coordinates of the axes' data
    margin: float  # around each of them, in points
    weight: float = 100  # how bad it is to cover one
    joined: bool = True


def fix_layout(figure: Figure) -> None:
    """Lay the figure out once and for all, so that places on it can be calculated."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def place_labels(
    figure: Figure, ax: Axes, labels: Sequence[Label], obstacles: Sequence[Obstacle]
) -> None:
    """Write each label at the nearest free place around its point, the first label first.

    Points at one place that have the same words get them once.
    Afterwards the axes keep their place: call it last.
    """
    fix_layout(figure)
    frame = ax.get_window_extent()
    margins, weights, spots = _spots(ax, obstacles)
    taken: list[np.ndarray] = []
    written: list[tuple[str, np.ndarray]] = []
    for label in labels:
        point = ax.transData.transform((label.x, label.y))
        if any(t == label.text and np.hypot(*(p - point)) < _TOGETHER for t, p in written):
            continue
        written.append((label.text, point))
        text = figure.text(0, 0, plain(label.text), size=SMALLEST, linespacing=1.2, va="bottom")
        text.set_in_layout(False)
        extent = text.get_window_extent()
        size = np.array([extent.width, extent.height])
        choices = []
        for distance in _DISTANCES:
            for angle in _ANGLES:
                way = np.array([np.cos(angle), np.sin(angle)])
                # The label's nearest corner or side lies at the distance from the point.
                low = point + distance * way - size * (1 - np.sign(np.round(way, 6))) / 2
                box = np.concatenate([low, low + size])
                cost = distance / 10 + _cost(box, spots, margins, weights, taken, frame)
                leader = _leader(point, box) if distance >= _ALONE else np.empty((0, 2))
                cost += _crossed(leader, spots, weights)
                choices.append((cost, leader, box))
        cost, leader, box = min(choices, key=lambda choice: choice[0])
        if cost >= 100 and not label.needed:
            text.remove()
            continue
        taken.append(box)
        text.set_transform(figure.dpi_scale_trans)
        text.set_position(tuple(box[:2] / 72))
        text.set_color(readable_as(label.colour))
        if len(leader):
            figure.add_artist(
                Line2D(
                    *leader[[0, -1]].T / 72,
                    color=QUIET, linewidth=0.8, transform=figure.dpi_scale_trans,
                )
            )  # fmt: skip


def label_lines(
    figure: Figure, ax: Axes, lines: Sequence[Label], curves_N2: list[np.ndarray]
) -> None:
    """Write each curve's name beside it, where it lies furthest from the others.

    Args:
        figure: the figure.
        ax: its axes, whose place is fixed.
        lines: the names in their colours; their places are looked for.
        curves_N2: for each name its curve's points; further curves have no name here.
    """
    figure.draw_without_rendering()
    frame = ax.get_window_extent()
    xs = frame.x0 + frame.width * np.linspace(0.03, 0.9, 88)
    drawn = [ax.transData.transform(curve_N2).T for curve_N2 in curves_N2]
    ys = np.array([np.interp(xs, *points) for points in drawn])
    placed = []
    for i, line in enumerate(lines):
        others = np.abs(np.delete(ys, i, 0) - ys[i]).min(0, initial=_APART)
        at = int(others.argmax())
        place = ax.transData.inverted().transform((xs[at], ys[i, at]))
        placed.append(line._replace(x=float(place[0]), y=float(place[1])))
    place_labels(figure, ax, placed, [Obstacle(curve_N2, 3) for curve_N2 in curves_N2])


def _leader(point: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Places along the line from a point to its label, a few points away from the point."""
    near = np.clip(point, box[:2], box[2:])
    start = point + (near - point) * min(1, 5 / max(float(np.hypot(*(near - point))), 1))
    return np.linspace(start, near, int(np.hypot(*(near - start)) / 2) + 2)


def _crossed(leader: np.ndarray, spots: np.ndarray, weights: np.ndarray) -> float:
    """How bad it is what a leader crosses; the curve of its own point is left behind at once."""
    away = leader[1:]
    if not len(away) or not len(spots):
        return 0.0
    near = np.abs(away[:, None] - spots).max(-1) < 1.6
    return float(weights[near.any(0)].sum())


def _spots(ax: Axes, obstacles: Sequence[Obstacle]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins, weights and places of all obstacles, lines as a spot every few points."""
    margins, weights, spots = [], [], []
    for points_N2, margin, weight, joined in obstacles:
        places = ax.transData.transform(points_N2)
        if joined and len(places) > 1:
            steps = [
                np.linspace(a, b, int(np.hypot(*(b - a)) / 3) + 2) for a, b in pairwise(places)
            ]
            places = np.concatenate(steps)
        spots.append(places)
        margins += [margin] * len(places)
        weights += [weight] * len(places)
    return np.array(margins), np.array(weights), np.concatenate([np.empty((0, 2)), *spots])


def _cost(
    box: np.ndarray,
    spots: np.ndarray,
    margins: np.ndarray,
    weights: np.ndarray,
    taken: Sequence[np.ndarray],
    frame: Bbox,
) -> float:
    x0, y0, x1, y1 = box
    over = (
        (spots[:, 0] > x0 - margins) & (spots[:, 0] < x1 + margins)
        & (spots[:, 1] > y0 - margins) & (spots[:, 1] < y1 + margins)
    )  # fmt: skip
    cost = float(weights[over].sum())
    for a0, b0, a1, b1 in taken:
        if x0 < a1 + 3 and a0 < x1 + 3 and y0 < b1 + 1 and b0 < y1 + 1:
            cost += 10_000
    left, low, right, high = frame.extents
    if x0 < left + _AIR or x1 > right - _AIR or y0 < low + _AIR or y1 > high - _AIR:
        cost += 10_000
    return cost
