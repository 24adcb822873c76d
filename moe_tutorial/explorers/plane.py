"""The plane of the centroids: which expert wins where, exactly, and the picture of it."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from moe_tutorial.explorers.svg import (
    PAPER,
    QUIET,
    WIDTH,
    disc,
    line,
    panel,
    place,
    round_below,
    text,
    tick,
)
from moe_tutorial.figures.palette import expert_colour
from moe_tutorial.figures.style import INK, listing

Point = tuple[float, float]

MIDDLE: Point = (WIDTH / 2 + 8, 158.0)
"""The origin of the plane in the picture, in pixels."""

HALF = 154.0
"""Half of the plane's width, in pixels."""


def winning_regions(
    centroids_ED: Tensor, reach: float, scores: str = "dot"
) -> dict[int, list[Point]]:
    """Where in the square from -reach to reach each expert has the largest logit.

    Both scores order the experts as linear functions of the token do, the cosine with centroids of
    length 1. So a region is the square, cut along one line for each other expert.

    Args:
        centroids_ED: the centroids, ``[E, 2]``.
        reach: half the square's side.
        scores: ``"dot"`` or ``"cosine"``.

    Returns:
        For each expert that wins somewhere, the corners of its region.
    """
    points_ED = centroids_ED.double()
    if scores == "cosine":
        length_E1 = points_ED.norm(dim=-1, keepdim=True)
        points_ED = points_ED / torch.where(length_E1 > 0, length_E1, 1)
    normals: list[Point] = [(x, y) for x, y in points_ED.tolist()]
    regions = {}
    for expert, (x, y) in enumerate(normals):
        corners: list[Point] = [(-reach, -reach), (reach, -reach), (reach, reach), (-reach, reach)]
        for other_x, other_y in normals:
            corners = _cut(corners, (x - other_x, y - other_y))
        # Of two experts that score the same everywhere the lower id wins.
        if (x, y) not in normals[:expert] and _area(corners) > 1e-9 * reach**2:
            regions[expert] = corners
    return regions


def _cut(corners: list[Point], normal: Point) -> list[Point]:
    """The part of a convex polygon where the dot product with the normal is not negative."""
    kept: list[Point] = []
    for i, end in enumerate(corners):
        start = corners[i - 1]
        before, after = _dot(normal, start), _dot(normal, end)
        if before * after < 0:
            part = before / (before - after)
            x, y = (a + part * (b - a) for a, b in zip(start, end, strict=True))
            kept.append((x, y))
        if after >= 0:
            kept.append(end)
    return kept


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return a[0] * b[0] + a[1] * b[1]


def _area(corners: list[Point]) -> float:
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in pairs)) / 2


def draw_plane(
    token: list[float],
    place_of_token: str,
    centroids_ED: Tensor,
    chosen: list[int],
    scores: str,
    reach: float,
) -> str:
    """The regions of both scores, the centroids, the token, and the chosen centroids' projections.

    Only what belongs to ``scores`` is visible; the script shows the rest when asked.
    """
    unit = round(HALF / reach, 4)

    def pixels(point: Sequence[float]) -> Point:
        return MIDDLE[0] + unit * point[0], MIDDLE[1] - unit * point[1]

    (left, top), (right, bottom) = pixels((-reach, reach)), pixels((reach, -reach))
    parts = []
    regions = {kind: winning_regions(centroids_ED, reach, kind) for kind in ("dot", "cosine")}
    for kind, polygons in regions.items():
        drawn = [
            f'<polygon class="region c{expert % 12}" fill="{expert_colour(expert)}" '
            f'fill-opacity=".2" stroke="{PAPER}" points="'
            + " ".join(",".join(map(place, pixels(corner))) for corner in corners)
            + '"/>'
            for expert, corners in polygons.items()
        ]
        parts.append(_for_scores(kind, scores, "".join(drawn)))
    for value in (-round_below(reach), 0, round_below(reach)):
        across, up = pixels((value, value))
        parts.append(text(across, bottom + 15, tick(value), "quiet"))
        parts.append(text(left - 6, up + 3.5, tick(value), "quiet", text_anchor="end"))
    parts.append(line(MIDDLE[0], top, MIDDLE[0], bottom, "rule"))
    parts.append(line(left, MIDDLE[1], right, MIDDLE[1], "rule"))

    # The line through the token and the feet on it may reach beyond the square: a picture in the
    # picture cuts them off.
    x, y, width, height = map(place, (left, top, right - left, bottom - top))
    parts.append(
        f'<svg x="{x}" y="{y}" width="{width}" height="{height}" '
        f'viewBox="{x} {y} {width} {height}">'
    )
    far = 2 * reach / (math.hypot(*token) or 1.0)
    ends = [pixels([sign * far * value for value in token]) for sign in (-1, 1)]
    through = [line(*ends[0], *ends[1], "line", stroke=QUIET, stroke_width=0.8)]
    through += [
        _foot(expert, centroid, token, expert in chosen, pixels)
        for expert, centroid in enumerate(centroids_ED.tolist())
    ]
    parts.append(_for_scores("dot", scores, "".join(through)) + "</svg>")

    tip = pixels(token)
    parts.append(line(*MIDDLE, *tip, "arrow", stroke=INK, stroke_width=2.2))
    for expert, centroid in enumerate(centroids_ED.tolist()):
        at = pixels(centroid)
        ring = f'stroke="{INK if expert in chosen else "none"}" stroke-width="2"'
        parts.append(
            f'<g class="{"chosen" if expert in chosen else ""}" data-expert="{expert}">'
            f'<circle class="ring" cx="{place(at[0])}" cy="{place(at[1])}" r="12.5" fill="none" '
            f"{ring}/>{disc(*at, expert)}</g>"
        )
    # Its name stands above the token, but below it near the upper edge.
    name = text(
        -6, 24 if token[1] > 0.85 * reach else -15, "token", text_anchor="start", font_weight=600
    )
    parts.append(
        f'<g class="token" transform="translate({place(tip[0])} {place(tip[1])})">'
        '<circle class="halo" r="17" fill="none" pointer-events="all"/>'
        f'<circle class="grip" r="7" fill="{INK}" stroke="{PAPER}" stroke-width="2"/>{name}</g>'
    )
    label = (
        f"Plane with {len(centroids_ED)} centroids and a token at {place_of_token}, coloured by "
        f"the expert with the largest logit; {listing([str(e) for e in regions[scores]])} win "
        f"somewhere. Chosen: {listing([str(e) for e in chosen])}."
    )
    return panel("plane", 332, label, parts, x=MIDDLE[0], y=MIDDLE[1], unit=unit)


def _foot(
    expert: int,
    centroid: Sequence[float],
    token: Sequence[float],
    chosen: bool,
    pixels: Callable[[Sequence[float]], Point],
) -> str:
    """The projection of a centroid onto the token's line, to be seen if the expert is chosen."""
    along = _dot(token, centroid) / (_dot(token, token) or 1.0)
    x, y = pixels([along * value for value in token])
    drop = line(*pixels(centroid), x, y, "drop", stroke=QUIET, stroke_dasharray="2 2")
    shown = "visible" if chosen else "hidden"
    return (
        f'<g data-foot="{expert}" visibility="{shown}">{drop}'
        f'<circle class="foot c{expert % 12}" cx="{place(x)}" cy="{place(y)}" r="3.5" '
        f'fill="{expert_colour(expert)}"/></g>'
    )


def _for_scores(kind: str, scores: str, content: str) -> str:
    # Not the visibility attribute: a visible child would show in spite of a hidden parent.
    shown = "" if kind == scores else ' display="none"'
    return f'<g data-scores="{kind}"{shown}>{content}</g>'
