"""Bars and strips as text: small SVG pictures that stand on their own and that a script can move.

Colours, sizes and places are written into the elements, because some readers strip every style
sheet. Classes carry the same meaning for explorers.css, which adds the dark palette, and
``data-`` attributes carry the scale for routing.js, which moves the bars.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from html import escape

from moe_tutorial.figures.palette import expert_colour, readable_on
from moe_tutorial.figures.style import INK, listing

WIDTH = 340
"""Units of a panel's width: the pixels that a phone has for it, so that letters keep their size."""

LEFT, RIGHT = 26, WIDTH - 4
"""Where a panel's first slot begins and its last one ends."""

RULE, QUIET, PAPER = "#e1e0e9", "#566071", "#ffffff"
"""Grid lines, secondary text and the ground, as explorers.css has them for the light theme."""

TOP, BOTTOM = 36, 23
"""Above a panel's bars: its title and a number over the tallest bar. Below: the experts' names."""


def fixed(value: float, digits: int) -> str:
    """A number with so many digits, rounded as JavaScript does it, with a real minus sign."""
    exact = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return str(abs(exact) if exact == 0 else exact).replace("-", "\N{MINUS SIGN}")


def share(value: float) -> str:
    """A number from 0 to 1 in the width of a bar: .34."""
    return "0" if value < 0.005 else "1" if value >= 0.995 else fixed(value, 2)[1:]


def round_below(bound: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten up to the bound."""
    power = 10.0 ** math.floor(math.log10(bound))
    return max(factor * power for factor in (1, 2, 5) if factor == 1 or factor * power <= bound)


def tick(value: float) -> str:
    """A round number on an axis."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def place(value: float) -> str:
    """A coordinate."""
    return fixed(value, 2).replace("\N{MINUS SIGN}", "-")


def text(x: float, y: float, words: str, kind: str = "", **attributes: object) -> str:
    """A line of text, in ink and centred on x unless the attributes say otherwise."""
    if "quiet" in kind:
        attributes.setdefault("fill", QUIET)
    named = f'class="{kind}" ' if kind else ""
    return (
        f'<text {named}x="{place(x)}" y="{place(y)}"{_written(attributes)}>{escape(words)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str, **attributes: object) -> str:
    """A straight line, as pale as a rule unless the attributes say otherwise."""
    attributes.setdefault("stroke", RULE)
    return (
        f'<line class="{kind}" x1="{place(x1)}" y1="{place(y1)}" x2="{place(x2)}" y2="{place(y2)}"'
        f"{_written(attributes)}/>"
    )


def _written(attributes: Mapping[str, object]) -> str:
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())


def panel(name: str, height: float, label: str, parts: Sequence[str], **data: float | str) -> str:
    """One picture of an explorer; the label says what it shows."""
    scale = "".join(f' data-{key}="{value}"' for key, value in data.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{escape(label)}" data-panel="{name}"{scale} '
        "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif\" "
        f'font-size="11" text-anchor="middle" fill="{INK}">{"".join(parts)}</svg>'
    )


def column(expert: int, num_experts: int) -> float:
    """The x of an expert's middle."""
    return LEFT + (expert + 0.5) * (RIGHT - LEFT) / num_experts


def name_tag(expert: int, num_experts: int, y: float, chosen: bool) -> str:
    """An expert's number, on a dark tag if it is chosen."""
    x = column(expert, num_experts)
    return (
        f'<rect class="tag" x="{place(x - 8.5)}" y="{place(y - 11)}" width="17" height="15" '
        f'rx="7.5" fill="{INK if chosen else "none"}"/>'
        + text(x, y, str(expert), "id", fill=PAPER if chosen else INK)
    )


def bars(
    name: str,
    title: str,
    values_E: Sequence[float],
    labels_E: Sequence[str],
    *,
    height: float = 150,
    low: float = 0.0,
    high: float = 1.0,
    ticks: Sequence[tuple[float, str]] = ((0.5, ".5"), (1.0, "1")),
    chosen: Collection[int] | None = None,
    marks_E: Sequence[float | None] | None = None,
    legend: str = "",
    reading: str = "",
    notes: tuple[str, Sequence[str]] | None = None,
) -> str:
    """Bars over the experts, on a scale that stays while the values move.

    Args:
        name: what the script calls the panel.
        title: the line above the bars.
        values_E: the values, between ``low`` and ``high``.
        labels_E: what stands at each bar's end.
        height: of the panel, in pixels.
        low: the lower end of the scale, 0 or less.
        high: the upper end of the scale.
        ticks: values with a line and a name at the left.
        chosen: experts to outline; None where there is no choice.
        marks_E: values that diamonds show; no diamond for None.
        legend: the words at the right of the title.
        reading: a number there instead.
        notes: a row of words below the experts' names, and its name at the left.
    """
    num_experts = len(values_E)
    below = BOTTOM + (14 if notes else 0) + (12 if low < 0 else 0)
    unit = round((height - TOP - below) / (high - low), 4)
    zero = round(TOP + high * unit, 4)
    slot = (RIGHT - LEFT) / num_experts
    parts = [
        text(0, 12, title, "title", text_anchor="start", font_size=12.5, font_weight=600),
        text(RIGHT, 12, reading, "reading", text_anchor="end", font_size=12.5, font_weight=600)
        if reading
        else text(RIGHT, 12, legend, "legend quiet", text_anchor="end"),
    ]
    for value, word in ticks:
        y = zero - value * unit
        parts.append(line(LEFT - 4, y, RIGHT, y, "rule"))
        parts.append(text(LEFT - 8, y + 3.5, word, "quiet", text_anchor="end"))
    foot = height - below + BOTTOM - 6 + (12 if low < 0 else 0)
    for expert, value in enumerate(values_E):
        x, picked = column(expert, num_experts), chosen is not None and expert in chosen
        state = "chosen" if picked else "other" if chosen is not None else ""
        outline = f' stroke="{INK}" stroke-width="1.8"' if picked else ""
        opacity = ' fill-opacity=".4"' if state == "other" else ""
        mark = marks_E[expert] if marks_E else None
        end = value if mark is None else max(value, mark)
        parts.append(
            f'<g data-expert="{expert}" class="{state}">'
            f'<rect class="bar c{expert % 12}" x="{place(x - 0.37 * slot)}" '
            f'y="{place(zero - max(value, 0) * unit)}" width="{place(0.74 * slot)}" '
            f'height="{place(abs(value) * unit)}" fill="{expert_colour(expert)}"'
            f"{outline}{opacity}/>"
            + text(
                x,
                zero - end * unit + (12 if value < 0 else -9 if marks_E else -5),
                labels_E[expert],
                "value",
            )
            + (_diamond(x, mark, zero, unit) if marks_E else "")
            + name_tag(expert, num_experts, foot, picked)
            + (text(x, foot + 16, notes[1][expert], "note quiet") if notes else "")
            + "</g>"
        )
    parts.append(line(LEFT - 4, zero, RIGHT, zero, "axis", stroke=INK, stroke_width=0.8))
    if notes:
        parts.append(text(0, foot + 16, notes[0], "quiet", text_anchor="start"))
    spoken = [
        f"expert {e} ({labels_E[e] or '0'})"
        for e in chosen or sorted(range(num_experts), key=lambda e: -values_E[e])[:3]
    ]
    label = f"{title}, bars over {num_experts} experts; {'chosen' if chosen else 'largest'}: "
    return panel(name, height, label + f"{listing(spoken)}.", parts, zero=zero, unit=unit)


def _diamond(x: float, mark: float | None, zero: float, unit: float) -> str:
    y = place(zero - (mark or 0) * unit)
    shown = "visible" if mark is not None else "hidden"
    return (
        f'<path class="mark" d="M{place(x)} -4.5l4.5 4.5-4.5 4.5-4.5-4.5z" fill="{PAPER}" '
        f'stroke="{INK}" transform="translate(0 {y})" visibility="{shown}"/>'
    )


def strip(name: str, title: str, values_E: Sequence[float]) -> str:
    """The numbers themselves, one cell an expert, shaded from the lowest to the highest."""
    num_experts = len(values_E)
    slot = (RIGHT - LEFT) / num_experts
    spread = (max(values_E) - min(values_E)) or 1.0
    parts = [text(0, 12, title, "title", text_anchor="start", font_size=12.5, font_weight=600)]
    for expert, value in enumerate(values_E):
        depth = 0.06 + 0.44 * (value - min(values_E)) / spread
        parts.append(
            f'<rect class="cell" x="{place(LEFT + expert * slot + 1)}" y="22" '
            f'width="{place(slot - 2)}" height="22" rx="2" fill="#2f7d4f" '
            f'fill-opacity="{place(depth)}"/>'
            + text(column(expert, num_experts), 37, fixed(value, 1), letter_spacing=-0.4)
        )
    numbers = listing([f"expert {e} {fixed(v, 1)}" for e, v in enumerate(values_E)])
    return panel(name, 48, f"{title}: {numbers}.", parts)


def disc(x: float, y: float, expert: int, radius: float = 9) -> str:
    """An expert's number on its colour."""
    colour = expert_colour(expert)
    fill = readable_on(colour)
    return (
        f'<circle class="disc c{expert % 12}" cx="{place(x)}" cy="{place(y)}" r="{radius}" '
        f'fill="{colour}" stroke="{INK}" stroke-width=".8"/>'
        + text(x, y + 3.7, str(expert), f"on{expert % 12}", fill=fill)
    )
