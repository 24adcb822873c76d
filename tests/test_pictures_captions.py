"""Captions, tables and the SVG itself: what a notebook stores for a figure."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import IPython.display
import pytest
import torch
from bs4 import BeautifulSoup

from moe_tutorial import figures
from moe_tutorial.figures import palette
from moe_tutorial.figures.captions import caption_html
from moe_tutorial.figures.labels import apart
from tests.test_pictures import PICTURES

SENTENCE = "At T = 4 the best expert holds < 0.2."


def test_a_picture_with_a_caption_is_two_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[dict[str, str], dict[str, Any]]] = []
    monkeypatch.setattr(
        IPython.display,
        "display",
        lambda data, metadata=None, raw=False: shown.append((data, metadata)),
    )
    picture = PICTURES["bars"]()
    captioned = picture.captioned("2.1", f"  {SENTENCE}\n")
    assert repr(captioned) == picture.alt
    captioned._ipython_display_()
    (first, metadata), (second, _) = shown
    assert first == {"image/svg+xml": picture.svg, "text/plain": picture.alt}
    assert metadata == {"mystnb": {"image": {"alt": picture.alt}}}
    assert second == {
        "text/html": '<p class="moe-caption"><strong>Figure 2.1.</strong> '
        "At T = 4 the best expert holds &lt; 0.2.</p>",
        "text/plain": f"Figure 2.1. {SENTENCE}",
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PICTURES["bars"]().captioned(2.1, "A sentence."), "number must be a str, got 2.1"),
        (lambda: PICTURES["bars"]().captioned("2", "A sentence."), "chapter and place .* got '2'"),
        (lambda: PICTURES["bars"]().captioned("2.1", "No stop"), "full stop, got 'No stop'"),
        (lambda: PICTURES["bars"]().captioned("2.1", " "), "takeaway must be a sentence"),
        (lambda: caption_html("2.1", None), "takeaway must be a str, got None"),  # type: ignore[arg-type]
        (lambda: figures.table({}), "columns must name at least one"),
        (lambda: figures.table({"a": [1], "b": [1, 2]}), "all have 1 entries .* got 2 for 'b'"),
        (lambda: figures.table({"a": [None]}), r"columns\['a'\] must hold texts or numbers"),
        (lambda: figures.table({"a": [1.0]}, digits=-1), r"digits\['a'\] must be at least 0"),
        (lambda: figures.table({"a": [1.0]}, digits={"b": 1}), r"name columns \(a\), got 'b'"),
        (lambda: figures.table({"a": torch.eye(2)}), r"columns\['a'\] must have 1 dimension,"),
        (lambda: figures.number_table(torch.eye(2), ["r", "s"], ["a", "a"], "x"), "differ"),
        (
            lambda: figures.trade_off(
                {"a": ([1], torch.ones(1, 1), torch.ones(1, 1))},
                x_label="x", y_label="y", setting="{:q}",
            ),
            "setting must be a form for a number, got '{:q}'",
        ),
    ],
)  # fmt: skip
def test_bad_captions_and_tables_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


# --- tables ---


def test_a_table_says_in_html_and_in_text_what_it_holds() -> None:
    table = figures.table(
        {"way": ["<masks>", "blocks"], "time": torch.tensor([0.126, 12]), "n": [7, -80]},
        digits={"time": 1},
    ).captioned("7.1", "Blocks are slow.")
    assert repr(table) == (
        "way      time    n\n<masks>   0.1    7\nblocks   12.0  \N{MINUS SIGN}80\n"
        "Table 7.1. Blocks are slow."
    )
    soup = BeautifulSoup(table.html, "html.parser")
    assert [th.get_text() for th in soup.select("thead th[scope=col]")] == ["way", "time", "n"]
    assert [th.get_text() for th in soup.select("tbody th[scope=row]")] == ["<masks>", "blocks"]
    cells = [(td["data-label"], td.get_text()) for td in soup.select("td.number")]
    assert cells[:2] == [("time", "0.1"), ("n", "7")]
    assert soup.select_one("figure > figcaption.moe-caption")
    assert not soup.select(".moe-cards"), "three columns fit on a phone"
    for heads, stacked in (("abcdefg", False), (("column " + c for c in "abcdefg"), True)):
        assert ("moe-cards" in figures.table({name: [0.25] for name in heads}).html) == stacked
    assert table._repr_mimebundle_() == {"text/html": table.html, "text/plain": repr(table)}


def test_the_shades_of_numbers_follow_their_sign_and_size() -> None:
    values = torch.tensor([[1.0, -0.5], [0.0, -0.004]])
    table = figures.number_table(values, ["r", "s"], ["a", "b"], "steps")
    shades = re.findall(r"var\(--book-(\w+), #\w+\) (\d+)%[^>]*>([^<]*)<", table.html)
    minus = "\N{MINUS SIGN}"
    assert shades == [
        ("accent", "45", "1.00"), ("orange", "22", f"{minus}0.50"),
        ("orange", "0", "0.00"), ("orange", "0", "0.00"),
    ]  # fmt: skip
    assert repr(table).startswith("steps\n")


# --- the SVG ---


@pytest.mark.parametrize("name", PICTURES)
def test_the_svg_is_small_and_its_text_is_text(name: str) -> None:
    svg = PICTURES[name]().svg
    root = ElementTree.fromstring(svg)
    assert not re.search(r"\.\d{3}", svg), "coordinates have two decimals"
    assert "<style" not in svg, "it would reach the whole page"
    assert "DejaVu" not in svg
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts
    assert not re.search("[₀-₉ₜₑₖ⁰-⁹]", "".join(texts)), "few fonts have these"
    ids = re.findall(r' id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert set(ids) == set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))


def test_lowered_letters_are_moved_and_the_line_goes_on() -> None:
    svg = figures.curves([1, 2], {"a": [1, 2]}, x_label="uₜ & 10⁻² m", y_label="y").svg
    lowered = 'u<tspan dy="3" font-size="11">t</tspan><tspan dy="-3"> &amp; 10</tspan>'
    raised = '<tspan dy="-4" font-size="11">\N{MINUS SIGN}2</tspan><tspan dy="4"> m</tspan></text>'
    assert lowered + raised in svg


@pytest.mark.parametrize("name", PICTURES)
def test_every_colour_of_a_picture_is_the_palettes(name: str) -> None:
    themed = palette.themed(PICTURES[name]().svg)
    assert not re.findall(r"#[0-9a-f]{6}\b", themed)
    used = set(re.findall(r"var\(--book-([\w-]+)\)", themed))
    assert used <= set(palette.PAGES)
    assert {"card", "ink"} <= used


def test_words_on_an_expert_are_dark_in_the_dark() -> None:
    plane = PICTURES["plane"]()
    themed = palette.themed(plane.svg)
    on_discs = re.findall(r'<text style="fill: var\(--book-([\w-]+)\)"[^>]*>\d+</text>', themed)
    assert {"card", "on-expert"} <= set(on_discs)
    assert palette.PAGES["card"].dark == palette.PAGES["on-expert"].dark


def test_labels_move_apart_as_little_as_possible() -> None:
    wanted, heights = (
        torch.tensor([5.0, 6, 50, 98]).numpy(),
        torch.tensor([10.0, 10, 10, 20]).numpy(),
    )
    places = apart(wanted, heights, 0, 100)
    assert places.tolist() == [5, 15, 50, 90]
    crowded = apart(wanted * 0 + 50, heights, 0, 100)
    assert sorted(crowded.tolist()) == [33.75, 43.75, 53.75, 68.75]


def test_a_logarithmic_axis_has_ticks_along_its_whole_length() -> None:
    picture = figures.curves([1, 2], {"a": [17, 4500]}, x_label="x", y_label="y", log_y=True)
    assert picture.figure.axes[0].get_yticks().tolist() == [30, 100, 300, 1000, 3000]
