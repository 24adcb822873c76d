"""A slider that leafs through finished pictures, with a kernel or without one."""

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from urllib.parse import quote

from moe_tutorial.figures.style import Picture


class Scrubber:
    """A slider linked to pictures that were drawn ahead, so that it also moves on a static page.

    Made for what a browser cannot compute, such as a training run. One piece of HTML carries the
    pictures and the script that exchanges them. Where scripts do not run, on paper for instance,
    it is the picture that it starts with, and there is no slider. Pictures mostly share their
    axes, so each line of their SVG is kept only once.

    Args:
        pictures: what to show, one for each position of the slider.
        labels: what each position is called, such as ``"T = 0.5"``.
        name: what the slider changes, such as ``"temperature"``.
        start: the first position.

    Raises:
        TypeError: a picture that is no ``Picture``, a label or name that is no string, or a start
            that is no integer.
        ValueError: no pictures, as many labels as pictures are not given, or start out of range.
    """

    def __init__(
        self, pictures: Sequence[Picture], labels: Sequence[str], name: str, start: int = 0
    ) -> None:
        for argument, values, kind in (
            ("pictures", pictures, Picture),
            ("labels", labels, str),
            ("name", [name], str),
            ("start", [start], int),
        ):
            for value in values:
                if not isinstance(value, kind):
                    raise TypeError(
                        f"{argument} must be of type {kind.__name__}, got {value!r} of type "
                        f"{type(value).__name__}"
                    )
        if not pictures or len(pictures) != len(labels):
            raise ValueError(
                "labels must name each picture, got "
                f"{len(labels)} labels for {len(pictures)} pictures"
            )
        if not 0 <= start < len(pictures):
            raise ValueError(f"start must be between 0 and {len(pictures) - 1}, got {start}")
        self.pictures = list(pictures)
        self.labels = list(labels)
        self.name = name
        self.start = start

    @property
    def html(self) -> str:
        """The slider and its pictures, the same bytes for the same pictures."""
        svgs = [picture.svg for picture in self.pictures]
        sides = [picture.figure.get_size_inches() for picture in self.pictures]
        # One box, as large as the largest picture, so that nothing moves when they change.
        width, height = (round(96 * max(lengths)) for lengths in zip(*sides, strict=True))
        first = svgs[self.start].split("\n")
        # The script counts every line of the start frame, and others where they first come up.
        numbers = {line: number for number, line in reversed(list(enumerate(first)))}
        lines: list[str] = []
        frames: list[list[int]] = []
        for svg in svgs:
            for line in svg.split("\n"):
                if line not in numbers:
                    numbers[line] = len(first) + len(lines)
                    lines.append(line)
            frames.append([numbers[line] for line in svg.split("\n")])
        data = json.dumps(
            {
                "name": self.name,
                "labels": self.labels,
                "start": self.start,
                "lines": lines,
                "frames": frames,
            },
            separators=(",", ":"),
        )
        # No "<" inside the script's data, so that no label can end it.
        data = data.replace("<", r"\u003c")
        parts = files("moe_tutorial.figures")
        alt = html.escape(self.pictures[self.start].alt)
        # An image of its own keeps the ids inside a picture from meeting those of another.
        return (
            f"<style>{parts.joinpath('scrubber.css').read_text('utf-8')}</style>"
            f'<div class="scrubber"><div class="start"><img alt="{alt}" '
            f'width="{width}" height="{height}" style="aspect-ratio: {width} / {height}" '
            f'src="data:image/svg+xml,{quote(svgs[self.start], safe=" /:;=,()-._")}"></div>'
            f'<script type="application/json">{data}</script>'
            f"<script>{parts.joinpath('scrubber.js').read_text('utf-8')}</script>"
            "</div>"
        )

    def __repr__(self) -> str:
        return (
            f"A slider for the {self.name} over {len(self.pictures)} pictures: {self.labels[0]} "
            f"to {self.labels[-1]}. It starts with {self.labels[self.start]}: "
            f"{self.pictures[self.start].alt}"
        )

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": repr(self)}
