"""What all widgets share: the figure that is drawn anew in its place, its controls, its table."""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
from torch import Tensor

from moe_tutorial.explorers.temperature import COLD, in_words
from moe_tutorial.figures import Picture
from moe_tutorial.figures.live import styles, themed
from moe_tutorial.validation import check_finite, check_floating

_NUMBERS = itertools.count()

_STYLE = """
.moe-widget { max-width: 560px; padding: 8px 16px; }
.moe-widget .moe-rows { max-height: 22rem; overflow: auto; }
.moe-widget table { border-collapse: collapse; color: inherit; font: inherit; }
.moe-widget :is(th, td) { padding: 0.1rem 0.7rem 0.1rem 0; text-align: right; }
"""


class LiveFigure(ipywidgets.VBox):  # type: ignore[misc]
    """Controls above a figure that is drawn anew, in its place, whenever one of them is moved.

    It is a widget like any other and can be put into a box with others.

    Attributes:
        controls: the controls by name. To set ``controls["k"].value`` is to move the slider.
        buttons: the buttons by name; ``buttons["draw_again"].click()`` presses one.
        shown: the HTML widget below them: pictures, a sentence, a table with six decimals.
    """

    def __init__(
        self,
        controls: Mapping[str, Any],
        draw: Callable[..., str],
        buttons: Mapping[str, Any] | None = None,
    ) -> None:
        self.controls = dict(controls)
        self.buttons = dict(buttons or {})
        self.shown = ipywidgets.HTML()
        self._draw = draw
        rows = [*self.controls.values(), ipywidgets.HBox(list(self.buttons.values())), self.shown]
        super().__init__(rows if self.buttons else [*self.controls.values(), self.shown])
        for control in self.controls.values():
            control.observe(self.redraw, "value")
        self.redraw()

    def redraw(self, _change: object = None) -> None:
        """Calculate and draw for where the controls stand."""
        self.shown.value = self._draw(**{name: c.value for name, c in self.controls.items()})

    # What stands where there is no kernel. Jupyter shows no more than 110 characters of it.
    def __repr__(self) -> str:
        return (
            "A live figure with sliders. It needs a kernel: run this cell in Jupyter or in Colab."
        )


def rows_of(name: str, values: Any) -> Tensor:
    """The values as float64 on the CPU, one row a token, cut off from any gradient."""
    check_floating(name, values, rank=1)
    check_finite(name, values)
    rows = values.detach().cpu().double().reshape(-1, values.shape[-1])
    if len(rows) == 0:
        raise ValueError(f"{name} must hold at least one token, got shape {tuple(values.shape)}")
    return rows  # type: ignore[no-any-return]


_LAYOUT = {"style": {"description_width": "12em"}, "layout": {"width": "100%"}}


def slider(name: str, kind: Any, value: Any, **options: Any) -> Any:
    """One of the slider widgets, as wide as the figure, with room for its name."""
    return kind(value=value, description=name, **_LAYOUT, **options)


def token_and_k(num_tokens: int, k: int, num_experts: int) -> dict[str, Any]:
    """A slider for K, from 1 to E, below one for the token, if there are several."""
    controls = token_slider(num_tokens)
    return {**controls, "k": slider("K", ipywidgets.IntSlider, k, min=1, max=num_experts)}


def token_slider(num_tokens: int) -> dict[str, Any]:
    """A slider for the token, if there are several."""
    if num_tokens == 1:
        return {}
    return {"token": slider("token", ipywidgets.IntSlider, 0, min=0, max=num_tokens - 1)}


def temperature_slider(temperature: float) -> Any:
    """Ten steps a decade from 0.01 to 100, both limits, and the temperature that it starts at."""
    steps = (1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8)
    values = {float(f"{step}e{decade}") for decade in (-2, -1, 0, 1) for step in steps}
    values |= {COLD, 100.0, math.inf, float(temperature)}
    options = [(in_words(value), value) for value in sorted(values)]
    return slider("temperature", ipywidgets.SelectionSlider, float(temperature), options=options)


def choice(name: str, words: Mapping[str, str], value: str) -> Any:
    """A list of words of which one holds."""
    options = [(word, key) for key, word in words.items()]
    return ipywidgets.Dropdown(options=options, value=value, description=name, **_LAYOUT)


def page(pictures: Sequence[Picture], sentence: str, table: str) -> str:
    """Pictures, a sentence and a table below each other, on the card of the explorers."""
    drawn = "".join(f'<div class="moe-frame">{_inline(picture)}</div>' for picture in pictures)
    return (
        f'<style>{styles()}{_STYLE}</style><div class="moe-explorer moe-widget">{drawn}'
        f'<p role="status">{escape(sentence)}</p><div class="moe-rows">{table}</div></div>'
    )


def _inline(picture: Picture) -> str:
    # Ids count in the whole notebook: these must not meet those of another figure.
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>live{next(_NUMBERS)}-", themed(picture.svg))


def table_of(experts_TK: Tensor, columns: Mapping[str, Tensor]) -> str:
    """One row for each of the experts of the one token, one column for each ``[1, E]``."""
    heads = "".join(f"<th scope=col>{escape(name)}</th>" for name in ("expert", *columns))
    body = "".join(
        f"<tr><th scope=row>{expert}</th>"
        + "".join(f"<td>{values_TE[0, expert]:.6f}</td>" for values_TE in columns.values())
        + "</tr>"
        for expert in experts_TK[0].tolist()
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
