"""A slider that leafs through finished pictures, with a kernel or without one."""

from collections.abc import Sequence

from moe_tutorial.figures.live import LivePicture, script_of, themed
from moe_tutorial.figures.style import Picture


class Scrubber(LivePicture):
    """A slider linked to pictures that were drawn ahead, with a button that plays them in turn.

    Made for what a browser cannot compute, such as a training run. Where scripts do not run, and
    on paper, it is the picture that it starts with, and there is no slider. Pictures mostly share
    their axes, so each line of their SVG is kept only once.

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
        svgs = [themed(picture.svg[picture.svg.index("<svg") :]) for picture in pictures]
        # Every line once, numbered where it first comes up; a frame is a list of numbers.
        numbers: dict[str, int] = {}
        frames = [
            [numbers.setdefault(line, len(numbers)) for line in svg.split("\n")] for svg in svgs
        ]
        # One box, as large as the largest picture, so that nothing moves when they change.
        sides = [picture.figure.get_size_inches() for picture in pictures]
        width, height = (round(96 * max(lengths)) for lengths in zip(*sides, strict=True))
        config = {
            "name": name,
            "labels": self.labels,
            "start": start,
            "box": f"{width} / {height}",
            "lines": list(numbers),
            "frames": frames,
        }
        script = script_of("figures/scrubber.js")
        super().__init__("scrubber", f"Slider: {name}", config, [pictures[start]], script)

    def __repr__(self) -> str:
        return (
            f"A slider for the {self.name} over {len(self.pictures)} pictures: {self.labels[0]} "
            f"to {self.labels[-1]}. It starts with {self.labels[self.start]}: {self.alt}"
        )
