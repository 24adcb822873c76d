"""What all explorers share: the frame of HTML, the scripts and styles inside it, the checks."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Any
from urllib.parse import quote

from torch import Tensor

from moe_tutorial.figures import Picture, palette
from moe_tutorial.validation import check_finite, check_floating

MOST_EXPERTS = 16
"""More bars than this cannot be told apart on a phone."""

SCRIPTS = ("routing", "panels", "controls")


class Explorer:
    """A picture that computes in the reader's browser: controls, numbers and bars, with no kernel.

    Jupyter displays it as HTML with its own small script, so it also moves on a static page. Where
    scripts do not run, pictures of the first state stand in its place. Any page can hold it: write
    ``html`` into the page, as often as you like.

    Attributes:
        html: the explorer as one piece of HTML, the same bytes for the same numbers.
        alt: the sentence that says the first state.
    """

    def __init__(
        self, kind: str, title: str, config: Mapping[str, Any], pictures: Sequence[Picture]
    ) -> None:
        self.alt = " ".join(picture.alt for picture in pictures)
        data = escape(json.dumps(config, separators=(",", ":"), allow_nan=False))
        # An image of its own keeps the ids inside a picture from meeting those of another.
        stills = "".join(
            f'<img class="moe-still" alt="{escape(picture.alt)}" '
            f'src="data:image/svg+xml,{quote(picture.svg, safe=" /:;=,()-._")}">\n'
            for picture in pictures
        )
        self.html = (
            f'<div class="moe-explorer moe-{kind}" role="group" aria-label="{escape(title)}" '
            f'data-explorer="{kind}" data-config="{data}">\n<style>\n{_styles()}</style>\n'
            f"{stills}<script>\n(() => {{\n{_script(kind)}}})();\n</script>\n</div>\n"
        )

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.alt}


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


@cache
def _script(kind: str) -> str:
    lines = "".join(_file(f"{name}.js") for name in (*SCRIPTS, kind)).splitlines()
    # Comments and indentation are for readers of the files, who are not those of the page.
    bare = (line.strip() for line in lines if not line.strip().startswith("//"))
    return "".join(f"{line}\n" for line in bare if line)


@cache
def _styles() -> str:
    """The style sheet, with the palette's colours where a page has none under their names."""
    card = palette.Colour(palette.PAGE.light, palette.SURFACE.dark)
    colours = {**palette.PAGES, "card": card, "shade": palette.SHADE}
    names = ("ink", "muted", "rule", "card", "accent", "shade")
    own = "".join(f"--{name}:var(--book-{name},{_either(*colours[name])});" for name in names)
    rules = [f".moe-explorer{{{own}}}"]
    for expert, light in enumerate(palette.EXPERT_COLOURS):
        words = _either(palette.readable_on(light), palette.PAGE.dark)
        rules.append(f".moe-explorer .c{expert}{{fill:{_either(*colours[f'expert-{expert}'])}}}")
        rules.append(f".moe-explorer .on{expert}{{fill:{words}}}")
    return "".join(f"{line.strip()}\n" for line in [*rules, *_file("explorers.css").splitlines()])


def _either(light: str, dark: str) -> str:
    return f"light-dark({light},{dark})"


def one_token(logits_E: Any) -> Tensor:
    """One token's logits as a float64 row ``[1, E]`` on the CPU; refuses anything else."""
    check_floating("logits_E", logits_E, rank=1)
    check_finite("logits_E", logits_E)
    check_num_experts("logits_E", logits_E, 1)
    return logits_E.detach().cpu().double()[None]  # type: ignore[no-any-return]


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


def number(temperature: float) -> float | str:
    """The temperature as JSON can hold it and JavaScript reads it."""
    return "Infinity" if math.isinf(temperature) else float(temperature)
