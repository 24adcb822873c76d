"""What all explorers share: the frame of HTML, the scripts and styles inside it, the checks."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from torch import Tensor

from moe_tutorial.figures.palette import EXPERT_COLOURS, EXPERT_COLOURS_DARK, PAGE, readable_on
from moe_tutorial.figures.style import listing
from moe_tutorial.validation import check_finite, check_floating, check_positive_number

MOST_EXPERTS = 16
"""More bars than this cannot be told apart on a phone."""


class Explorer:
    """A picture that computes in the reader's browser: controls, numbers and bars, with no kernel.

    Jupyter displays it as HTML with its own small script, so it also moves on a static page. Where
    scripts do not run, the picture of the first state stands in its place. Any page can hold it:
    write ``html`` into the page, as often as you like.

    Attributes:
        html: the explorer as one piece of HTML, the same bytes for the same numbers.
        alt: the sentence that says the first state.
    """

    def __init__(
        self,
        kind: str,
        title: str,
        alt: str,
        config: Mapping[str, Any],
        main: Sequence[str],
        side: Sequence[str],
    ) -> None:
        self.alt = alt
        data = escape(json.dumps(config, separators=(",", ":"), allow_nan=False))
        self.html = (
            f'<div class="moe-explorer moe-{kind}" role="group" aria-label="{escape(title)}" '
            f'data-explorer="{kind}" data-config="{data}">\n<style>\n{_styles()}</style>\n'
            '<div class="moe-grid">\n'
            f'<div class="moe-main">{chr(10).join(main)}</div>\n'
            f'<div class="moe-side">{chr(10).join(side)}</div>\n'
            f'<p class="moe-readout">{escape(alt)}</p>\n</div>\n'
            f"<script>\n(() => {{\n{_script(kind)}}})();\n</script>\n</div>\n"
        )

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.alt}


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


@cache
def _script(kind: str) -> str:
    lines = "".join(_file(f"{name}.js") for name in ("routing", "controls", kind)).splitlines()
    # Comments and indentation are for readers of the files, who are not those of the page.
    bare = (line.strip() for line in lines if not line.strip().startswith("//"))
    return "".join(f"{line}\n" for line in bare if line)


@cache
def _styles() -> str:
    lines = ["".join(f"{line.strip()}\n" for line in _file("explorers.css").splitlines())]
    for expert, (light, dark) in enumerate(zip(EXPERT_COLOURS, EXPERT_COLOURS_DARK, strict=True)):
        on_light, on_dark = readable_on(light), PAGE.dark
        lines.append(f".moe-explorer .c{expert}{{fill:light-dark({light},{dark})}}\n")
        lines.append(f".moe-explorer .on{expert}{{fill:light-dark({on_light},{on_dark})}}\n")
    return "".join(lines)


def check_one_token(logits_E: Any) -> list[float]:
    """Refuse what is not one token's finite logits; returns them as numbers."""
    check_floating("logits_E", logits_E, rank=1)
    check_finite("logits_E", logits_E)
    check_num_experts("logits_E", logits_E, 1)
    return as_numbers(logits_E)


def check_num_experts(name: str, tensor: Tensor, ndim: int) -> None:
    """Refuse another number of dimensions, or a number of experts that cannot be shown."""
    shape = tuple(tensor.shape)
    if tensor.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} dimension{'s' if ndim > 1 else ''}, got shape {shape}: "
            "an explorer shows one token"
        )
    if not 2 <= shape[0] <= MOST_EXPERTS:
        raise ValueError(
            f"{name} must have from 2 to {MOST_EXPERTS} experts, got {shape[0]}: more bars cannot "
            "be told apart on a phone"
        )


def check_one_temperature(temperature: Any) -> float:
    """Refuse what is not one positive number; infinity is allowed."""
    check_positive_number("temperature", temperature)
    return float(temperature)


def as_numbers(tensor: Tensor) -> list[Any]:
    """The entries as Python floats, nested as the tensor is."""
    numbers: list[Any] = tensor.detach().cpu().double().tolist()
    return numbers


def temperature_in_words(temperature: float) -> str:
    """As the script writes it: 0.5, 1, infinite."""
    return "infinite" if temperature == float("inf") else f"{temperature:.15g}"


def experts_in_words(experts: Sequence[int]) -> str:
    """'expert 5', 'experts 5 and 8'."""
    return f"expert{'s' if len(experts) > 1 else ''} {listing([str(e) for e in experts])}"
