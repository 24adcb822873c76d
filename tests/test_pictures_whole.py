"""A picture depends on its arguments alone, and everything that it draws can be seen."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pytest
import torch
from bs4 import BeautifulSoup
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from moe_tutorial import figures
from moe_tutorial.figures import Picture, curves, expert_bars, palette, trade_off
from tests.test_pictures import CENTROIDS_ED, LIMITED, LOGITS_TE, PICTURES, ROOT, X_TD

# --- its arguments alone ---

SURROUNDINGS = {
    "axes.facecolor": "black",
    "axes.grid": True,
    "axes.xmargin": 0.4,
    "axes.prop_cycle": plt.cycler(color=["red"]),
    "axes.unicode_minus": False,
    "figure.dpi": 300,
    "figure.constrained_layout.w_pad": 0.5,
    "font.size": 30,
    "font.weight": "bold",
    "hatch.color": "red",
    "lines.marker": "x",
    "mathtext.fontset": "cm",
    "savefig.bbox": "tight",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "xtick.minor.visible": True,
}


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_around_a_picture_changes_it(name: str) -> None:
    expected = PICTURES[name]().svg
    with plt.style.context(["dark_background", SURROUNDINGS]):
        picture = PICTURES[name]()
        assert picture.svg == expected
        assert picture.svg == expected, "drawing it has changed it"
        assert plt.rcParams["font.size"] == 30, "drawing it has changed its surroundings"
    torch.set_default_dtype(torch.float64)
    try:
        if name not in ("queues", "positions", "block", "dense block"):  # they hold weights
            assert PICTURES[name]().svg == expected
    finally:
        torch.set_default_dtype(torch.float32)


ODD_WORDS = ["_a & <b>", "$x", "$x$", r"cost in $ or \alpha, $"]
WITH_WORDS: dict[str, Callable[[str], Picture]] = {
    "bars": lambda w: expert_bars(
        {w: torch.ones(12)}, w, markers={w: torch.ones(12)}, marker_label=w
    ),
    "curves": lambda w: curves(
        [1, 2], {w: [1, 2], "b": [2, 1]}, x_label=w, y_label=w, levels={w: 1.5}
    ),
    "ratios": lambda w: figures.ratios({w: {w: 2, "b": 1}}, x_label=w, y_label=w),
    "boxes": lambda w: figures.dense_and_sparse(4, [1], w, w),
    "roofline": lambda w: figures.roofline(
        {w: ([1, 9], [1, 2])}, peak=2, slope=1, x_label=w, y_label=w, roofs=(w, w)
    ),
    "sizes": lambda w: figures.total_and_active({w: (3, 1)}),
    "stems": lambda w: figures.stems({w: [0, 1]}, x_label=w, y_label=w),
    "trade-off": lambda w: trade_off(
        {w: ([1], torch.ones(1, 1), torch.ones(1, 1))}, x_label=w, y_label=w
    ),
    "positions": lambda w: figures.dropped_by_position({w: LIMITED}),
    "plane": lambda w: figures.centroid_space(X_TD[0], CENTROIDS_ED, axes=(w, w)),
    "router": lambda w: figures.sampled_router(LOGITS_TE[0], [(w, 1.0, torch.tensor([1, 2]))]),
}


@pytest.mark.parametrize("odd", ODD_WORDS)
@pytest.mark.parametrize("name", WITH_WORDS)
def test_words_are_drawn_as_they_stand(name: str, odd: str) -> None:
    picture = WITH_WORDS[name](odd)
    ElementTree.fromstring(picture.svg)  # draws it, too
    texts: list[Artist] = picture.figure.findobj(lambda a: hasattr(a, "get_text"))
    shown = [t.get_text() for t in texts]  # type: ignore[attr-defined]
    wanted = {
        "curves": 4,
        "boxes": 2,
        "sizes": 1,
        "positions": 1,
        "plane": 2,
        "router": 1,
    }
    # Names at the ends of curves are broken into lines, those of a trade-off bring a setting.
    lines = [" ".join(t.split("\n")).removesuffix(", 1").removeprefix("1  ") for t in shown]
    drawn = [t for t in lines if t.replace(r"\$", "$") == odd]
    assert len(drawn) >= wanted.get(name, 3), shown
    assert not any(re.search(r"(?<!\\)\$", t) for t in drawn), "a formula"


# --- all of it can be seen ---


def cut_off(figure: Figure) -> list[str]:
    """What a figure draws outside of its axes, or outside of itself where it may leave them."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    found = []
    for ax in figure.axes:
        for artist in (*ax.lines, *ax.patches, *ax.collections, *ax.texts):
            box = artist.get_window_extent(renderer)
            if artist in ax.collections:  # matplotlib knows no extent of the spread of the seeds
                box = ax.transData.transform_bbox(artist.get_datalim(ax.transData))
            if not box.width * box.height and artist not in ax.lines:
                continue  # a bar of nothing, as in a legend
            if artist in ax.lines and not len(artist.get_xdata()):
                continue
            frame = figure.bbox if artist in ax.texts or not artist.get_clip_on() else ax.bbox
            frame = frame.padded(1)  # half a line at the very edge
            if not (
                frame.x0 <= box.x0 <= box.x1 <= frame.x1
                and frame.y0 <= box.y0 <= box.y1 <= frame.y1
            ):
                found.append(f"{artist}: {box} not in {frame}")
    return found


FAR = torch.tensor([0.0, 1.0, 50.0])
EXTREMES: dict[str, Callable[[], Picture]] = {
    "rising rows": lambda: expert_bars({"a": FAR / 100, "b": FAR}, "x"),
    "falling below": lambda: expert_bars({"a": FAR, "b": -FAR}, "x"),
    "high markers": lambda: expert_bars({"a": FAR / 50}, "x", markers={"a": FAR}),
    "low markers": lambda: expert_bars(
        {"a": FAR}, "x", markers={"a": torch.zeros(3)}, y_limits=(0, 51)
    ),
    "far level": lambda: curves([1, 2], {"a": [1, 2]}, x_label="x", y_label="y", levels={"b": 90}),
    "small model": lambda: figures.total_and_active({"a": (0.2, 0.01), "b": (900, 40)}),
    "stems of both signs": lambda: figures.stems(
        {"a": [0, -2, 90], "b": [0, 0, 0]}, x_label="x", y_label="y"
    ),
    "far output": lambda: figures.weighted_sum(
        torch.tensor([[-30.0, 2], [1, 40]]), torch.tensor([0.1, 0.9]), torch.tensor([0, 1])
    ),
    "far centroid": lambda: figures.centroid_space(
        torch.tensor([0.1, -9.0]), torch.tensor([[50.0, 1], [0, -0.1]]), chosen=torch.tensor([0])
    ),
    "one full expert": lambda: figures.expert_queues(LIMITED, 9, y_limit=18),
    "far below the roof": lambda: figures.roofline(
        {"a": ([1, 1e5], [1e-3, 90])}, peak=3, slope=2, x_label="x", y_label="y"
    ),
    "ranks without rows": lambda: figures.exchanged_rows(torch.tensor([[0, 0, 9, 9], [0] * 4])),
    "all rows that fit": lambda: figures.exchanged_rows(torch.full((3, 12), 1)),
    "many experts, one row": lambda: figures.sorted_blocks(torch.tensor([[0]]), 9),
    "as many rows as fit": lambda: figures.sorted_blocks(torch.arange(24).view(8, 3) % 5, 5),
    "seeds apart": lambda: trade_off(
        {"a": ([1, 2], torch.tensor([[0.0, 90], [1, 2]]), torch.tensor([[5.0, -70], [1, 2]]))},
        x_label="x", y_label="y", start=(torch.tensor([200.0]), torch.tensor([-300.0])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*PICTURES, *EXTREMES])
def test_everything_lies_inside_its_axes(name: str) -> None:
    assert cut_off((PICTURES | EXTREMES)[name]().figure) == []


def test_all_rows_share_one_scale_with_room_for_all() -> None:
    first, second = expert_bars({"a": FAR / 100, "b": FAR}, "x").figure.axes
    assert first.get_ylim() == second.get_ylim()
    assert second.get_ylim()[1] > 50


def stored_figures() -> Iterator[tuple[str, str]]:
    """Every figure that a notebook holds, those of its sliders too."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                name, data = f"{path.name}, {cell['id']}", output.get("data", {})
                yield from ((name, "".join(data[k])) for k in data if k == "image/svg+xml")
                document = BeautifulSoup("".join(data.get("text/html", "")), "html.parser")
                for root in document.select(".moe-scrubber"):
                    held = json.loads(str(root["data-config"]))
                    for frame in held["frames"]:
                        yield name, "\n".join(held["lines"][line] for line in frame)


NAMESPACE = "{http://www.w3.org/2000/svg}"
RECTANGLE = ("x", "y", "width", "height")


def outside_of_their_clip(svg: str) -> list[str]:
    """The shapes of an SVG that its axes cut off."""
    root = ElementTree.fromstring(svg)
    clips = {
        f"url(#{clip.get('id')})": [float(clip[0].get(side, 0)) for side in RECTANGLE]
        for clip in root.iter(f"{NAMESPACE}clipPath")
    }
    found = []
    for element in root.iter(f"{NAMESPACE}path"):
        if element.get("clip-path"):
            left, top, width, height = clips[element.get("clip-path", "")]
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", element.get("d", ""))]
            xs, ys = numbers[::2], numbers[1::2]
            if "logarithmic" in svg and "fill: #" in element.get("style", ""):
                xs = [max(x, left) for x in xs]  # a bar there begins at 0
            if (
                min(xs) < left - 1 or max(xs) > left + width + 1
                or min(ys) < top - 1 or max(ys) > top + height + 1
            ):  # fmt: skip
                found.append(ElementTree.tostring(element, encoding="unicode")[:200])
    return found


def test_everything_in_a_stored_figure_lies_inside_its_axes() -> None:
    figures_seen = list(stored_figures())
    assert len(figures_seen) > 80
    for name, svg in figures_seen:
        assert outside_of_their_clip(svg) == [], name


# --- colours ---


def test_every_colour_stands_once() -> None:
    colour = re.compile("#[0-9a-f]{6}")
    held = Path(palette.__file__)
    own = set(colour.findall(held.read_text(encoding="utf-8")))
    for folder in ("moe_tutorial", "book/_extensions", "book/styles", "book/_templates"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in (".py", ".js", ".css", ".html") and path != held:
                again = own & set(colour.findall(path.read_text(encoding="utf-8")))
                assert not again, f"{path.name} repeats {again} of the palette"
    # The icon is a picture of its own, in the palette's colours.
    icon = (ROOT / "book" / "_static" / "favicon.svg").read_text(encoding="utf-8")
    assert set(colour.findall(icon)) <= own
