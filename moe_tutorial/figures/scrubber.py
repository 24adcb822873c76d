"""A slider that leafs through finished pictures, with a kernel or without one."""

from collections.abc import Sequence
from typing import Any

from moe_tutorial.figures.style import Picture


class Scrubber:
    """A slider linked to pictures that were drawn ahead, so that it also moves on a static page.

    With ipywidgets 8 the slider and the pictures are linked in the browser. Version 7, which
    Colab has, knows no stack of children: there the kernel exchanges the picture.

    Args:
        pictures: what to show, one for each position of the slider.
        labels: what each position is called, such as ``"T = 0.5"``.
        name: what the slider changes, such as ``"temperature"``.
        start: the first position.

    Raises:
        ValueError: no pictures, as many labels as pictures are not given, or start out of range.
    """

    def __init__(
        self, pictures: Sequence[Picture], labels: Sequence[str], name: str, start: int = 0
    ) -> None:
        import ipywidgets as widgets

        if not pictures or len(pictures) != len(labels):
            raise ValueError(
                "labels must name each picture, got "
                f"{len(labels)} labels for {len(pictures)} pictures"
            )
        if not 0 <= start < len(pictures):
            raise ValueError(f"start must be between 0 and {len(pictures) - 1}, got {start}")
        slider = widgets.IntSlider(
            start,
            0,
            len(pictures) - 1,
            description=name,
            readout=False,
            style={"description_width": "initial"},
            layout={"width": "98%", "max_width": "640px"},
        )
        frames = [_frame(p, label) for p, label in zip(pictures, labels, strict=True)]
        if hasattr(widgets, "Stack"):
            shown = widgets.Stack([widgets.HTML(f) for f in frames], selected_index=start)
            widgets.jslink((slider, "value"), (shown, "selected_index"))
        else:
            shown = widgets.HTML(frames[start])
            slider.observe(lambda change: setattr(shown, "value", frames[change["new"]]), "value")
        self.box = widgets.VBox([slider, shown])
        self.alt = (
            f"A slider for the {name} over {len(pictures)} pictures: {labels[0]} to {labels[-1]}."
        )

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.box.model_id,
            },
            "text/plain": self.alt,
        }


def _frame(picture: Picture, label: str) -> str:
    import base64
    import html

    # An image of its own keeps the ids inside one picture from meeting those of the next.
    data = base64.b64encode(picture.svg.encode()).decode()
    return (
        f'<figure class="frame"><figcaption>{html.escape(label)}</figcaption>'
        f'<img alt="{html.escape(picture.alt)}" src="data:image/svg+xml;base64,{data}" '
        'style="width: 100%; max-width: 640px"></figure>'
    )
