"""The committed picture is the one that the package draws, and its sentence stands beside it."""

import gzip
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colorspacious import cspace_convert

from moe_tutorial import (
    Attention,
    Block,
    Experts,
    FeedForward,
    MoELayer,
    Router,
    dot_scores,
    figures,
    limit_capacity,
    softmax,
    top_k,
)
from moe_tutorial.example import one_token, twelve_centroids
from tools import draw_routing

ROOT = Path(__file__).resolve().parent.parent


def picture() -> figures.Picture:
    """One token of the book's example, routed to three of twelve experts."""
    router = Router(model_width=2, num_experts=12, k=3).double()
    router.load_state_dict({"centroids_ED": twelve_centroids()})
    with torch.no_grad():
        return figures.routing_at_a_glance(router(one_token()))


@pytest.mark.parametrize("path", draw_routing.FILES)
def test_the_moving_picture_is_fresh_and_asks_for_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == draw_routing.draw(dark=draw_routing.FILES[path])
    assert "prefers-reduced-motion" in text
    assert "<script" not in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert len(text) < 60_000


def test_the_readme_says_what_the_moving_picture_shows() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f'alt="{draw_routing.ALT}"' in readme
    for path in draw_routing.FILES:
        assert f'"{path.relative_to(ROOT).as_posix()}"' in readme


def channels(colours: Sequence[str]) -> np.ndarray:
    return np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])


@pytest.mark.parametrize("colours", [figures.EXPERT_COLOURS, figures.EXPERT_COLOURS_DARK])
@pytest.mark.parametrize("deficiency", [None, "deuteranomaly", "protanomaly", "tritanomaly"])
def test_experts_differ_in_colour_for_colour_blind_readers(
    deficiency: str | None, colours: Sequence[str]
) -> None:
    rgb = channels(colours)
    if deficiency:
        space = {"name": "sRGB1+CVD", "cvd_type": deficiency, "severity": 100}
        rgb = np.clip(cspace_convert(rgb, space, "sRGB1"), 0, 1)
    points = cspace_convert(rgb, "sRGB1", "CAM02-UCS")
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert distances[~np.eye(len(points), dtype=bool)].min() >= 12


def test_an_expert_keeps_its_hue_in_the_dark() -> None:
    light, dark = (
        cspace_convert(channels(colours), "sRGB1", "CAM02-UCS")[:, 1:] @ np.array([1, 1j])
        for colours in (figures.EXPERT_COLOURS, figures.EXPERT_COLOURS_DARK)
    )
    assert np.abs(np.angle(dark / light, deg=True)).max() < 20


X_TD, CENTROIDS_ED = one_token(), twelve_centroids()
LOGITS_TE = dot_scores(X_TD, CENTROIDS_ED)
EXPERTS_TK = top_k(LOGITS_TE, 3)
LIMITED = limit_capacity(Router(2, 4, 2)(torch.ones(18, 2)), 1.0)
WAITING_TK = torch.tensor([[0, 1], [1, 0]])
PICTURES: dict[str, Callable[[], figures.Picture]] = {
    "glance": picture,
    "plane": lambda: figures.centroid_space(X_TD[0], CENTROIDS_ED),
    "two": lambda: figures.centroid_and_logit_space(X_TD[0], CENTROIDS_ED),
    "three": lambda: figures.three_spaces(X_TD[0], CENTROIDS_ED, 3),
    "sum": lambda: figures.weighted_sum(
        torch.eye(2), torch.tensor([0.25, 0.75]), torch.tensor([3, 7])
    ),
    "bars": lambda: figures.expert_bars(
        {"T = 1": softmax(LOGITS_TE)[0]}, "probability", chosen={"T = 1": EXPERTS_TK[0]}
    ),
    "grid": lambda: figures.draw_grid(EXPERTS_TK, 12),
    "ratios": lambda: figures.ratios(
        {"8 tokens": {"a": 0.5, "b": 2.0}, "64 tokens": {"a": 0.25}},
        x_label="a / b",
        y_label="size",
    ),
    "coloured_passage": lambda: figures.coloured_passage(
        "a $\n" * 9, {"layer 0": [0, 0, 1, 2] * 9, "layer 1": [2] * 36}, 3
    ),
    "stems": lambda: figures.stems({"a": [0, 2], "b": [0, 0]}, x_label="x", y_label="y"),
    "curves": lambda: figures.curves([1, 2], {"a": [3, 4]}, x_label="x", y_label="y"),
    "boxes": lambda: figures.dense_and_sparse(12, [5, 8], "dense", "sparse"),
    "block": lambda: figures.block_diagram(
        Block(Attention(8, 2), MoELayer(Router(8, 4, 2), Experts(4, 8, 16)))
    ),
    "dense block": lambda: figures.block_diagram(Block(Attention(8, 2), FeedForward(8, 16))),
    "sizes": lambda: figures.total_and_active({"Mixtral 8x7B": (46.7, 12.9)}),
    "trade-off": lambda: figures.trade_off(
        {"a remedy": ([0.1, 1], torch.eye(2), torch.ones(2, 2))},
        x_label="x",
        y_label="y",
        start=(torch.ones(2), torch.zeros(2)),
    ),
    "queues": lambda: figures.expert_queues(LIMITED, 9),
    "positions": lambda: figures.dropped_by_position({"in order": LIMITED}, bins=4),
    "waiting lines": lambda: figures.waiting_lines(
        WAITING_TK, torch.tensor([[0, 1], [0, 1]]), 3, 1
    ),
    "router": lambda: figures.sampled_router(LOGITS_TE[0], [("Top-K", 1.0, EXPERTS_TK[0])]),
    "exchanged rows": lambda: figures.exchanged_rows(torch.tensor([[2, 0, 1, 1], [0, 0, 3, 0]])),
    "sorted blocks": lambda: figures.sorted_blocks(torch.tensor([[2, 0], [0, 1], [2, 1]]), 4),
    "roofline": lambda: figures.roofline(
        {"sparse": ([1, 20, 500], [4, 60, 150]), "dense": ([2, 9000], [30, 120])},
        peak=190,
        slope=13,
        x_label="rows",
        y_label="operations",
    ),
}


@pytest.mark.parametrize("name", list(PICTURES))
def test_a_picture_is_the_same_twice_and_speaks(name: str) -> None:
    first, second = PICTURES[name](), PICTURES[name]()
    assert first.svg == second.svg
    assert first.alt == second.alt
    data, metadata = first._repr_mimebundle_()
    assert data["text/plain"] == repr(first) == metadata["mystnb"]["image"]["alt"]
    assert len(first.alt) > 40
    assert "\n" not in first.alt
    assert 'role="img"' in data["image/svg+xml"]


@pytest.mark.parametrize("name", list(PICTURES))
def test_letters_are_large_enough_for_a_phone(name: str) -> None:
    picture = PICTURES[name]()
    # 350 px is the width of a figure on a phone of 390 px.
    scale = 350 / float(picture.svg.split('viewBox="0 0 ')[1].split()[0])
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)"', picture.svg)]
    assert min(sizes) * scale >= 11
    assert len(sizes) >= picture.svg.count("<text")


def test_sentences_name_the_numbers() -> None:
    assert "expert 5 (0.33), expert 8 (0.30) and expert 4 (0.16)" in PICTURES["bars"]().alt
    assert "expert 5 with gate 0.42" in PICTURES["router"]().alt
    assert "a rises from 3 to 4" in PICTURES["curves"]().alt
    assert "a remedy: at 0.1 0.5 and 1 and at 1 0.5 and 1." in PICTURES["trade-off"]().alt
    assert "No remedy: 1 and 0." in PICTURES["trade-off"]().alt
    assert "1 different sets" in PICTURES["grid"]().alt
    assert "a: 8 tokens 0.5 and 64 tokens 0.25. b: 8 tokens 2." in PICTURES["ratios"]().alt
    many = {str(i): {"a": i} for i in range(1, 14)}
    assert "a: from 1 (1) to 13 (13)." in figures.ratios(many, x_label="x", y_label="y").alt
    assert (
        "at expert 0 0 (1st choice) and 1 (2nd choice); at expert 1 1 (1st choice) and 0 (2nd "
        "choice); at expert 2 nobody." in PICTURES["waiting lines"]().alt
    )
    # All 18 tokens want the same two experts, which have room for half of them.
    assert (
        "Dropped are 50 % of all assignments; 0 % in the first quarter" in PICTURES["queues"]().alt
    )
    assert "100 % in the last" in PICTURES["positions"]().alt
    alt = PICTURES["sorted blocks"]().alt
    assert "(expert 0 tokens 0 and 1; expert 1 tokens 1 and 2; expert 2 tokens" in alt
    assert "; expert 3 none)" in alt
    assert "rises by 13 for each unit up to 190 at 14.6" in PICTURES["roofline"]().alt
    assert "sparse: 4 at 1 and 150 at 500. dense: 30 at 2" in PICTURES["roofline"]().alt


def a_roofline(points: Any, peak: float = 9) -> figures.Picture:
    return figures.roofline(points, peak=peak, slope=1, x_label="x", y_label="y")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.centroid_space(torch.ones(3), torch.ones(4, 3)), "width 2"),
        (lambda: figures.expert_bars({"a": torch.ones(2, 2)}, "x"), r"rows\['a'\] must have 1 dim"),
        (lambda: figures.expert_bars({"a": torch.tensor([torch.nan])}, "x"), "finite"),
        (lambda: figures.number_table(torch.eye(2), ["r"], ["a", "b"], "x"), r"\[1, 2\]"),
        (lambda: figures.centroid_space(torch.zeros(2), torch.ones(4, 2)), "must not be zero"),
        (
            lambda: figures.weighted_sum(torch.ones(2, 3), torch.ones(2), torch.tensor([0, 1])),
            r"got \[2, 3\]",
        ),
        (lambda: figures.curves([1, 2], {"a": [3]}, x_label="x", y_label="y"), "2 values .* got 1"),
        (
            lambda: figures.trade_off(
                {"a": ([1], torch.eye(2), torch.eye(2))}, x_label="x", y_label="y"
            ),
            r"a must have x and y of shape \[1, seeds\], got \[2, 2\]",
        ),
        (
            lambda: figures.stems({"a": [0], "b": [0, 1]}, x_label="x", y_label="y"),
            "must all have 1 values.*got 2 for 'b'",
        ),
        (lambda: figures.coloured_passage("ab", {"r": [0]}, 2), "must have 2 ids.*got 1"),
        (lambda: figures.coloured_passage(["ab"], {"r": [0]}, 2), "one letter each, got 'ab'"),
        (lambda: figures.coloured_passage("a", {"r": [2]}, 2), "ids from 0 to 1"),
        (lambda: figures.coloured_passage("a", {"r": [2]}, 13), "at most 12.*got 13"),
        (lambda: figures.coloured_passage("", {"r": []}, 2), "tokens must hold at least one"),
        (lambda: figures.ratios({}, x_label="x", y_label="y"), r"ratios above 0, got \[\]"),
        (
            lambda: figures.ratios({"row": {"a": 0.0}}, x_label="x", y_label="y"),
            r"ratios above 0, got \[0.0\]",
        ),
        (
            lambda: figures.ratios({"row": dict.fromkeys("abcde", 1)}, x_label="x", y_label="y"),
            "at most 4 names, got a, b, c, d and e",
        ),
        (lambda: figures.sorted_blocks([[0]], 4), "experts_TK must be a tensor, got list"),
        (lambda: figures.exchanged_rows([[0]]), "load_WE must be a tensor of int64, got list"),
        (
            lambda: figures.exchanged_rows(torch.ones(2, 3).long()),
            r"E a multiple of W, got \[2, 3\]",
        ),
        (lambda: figures.exchanged_rows(torch.zeros(2, 2).long()), "1 to 36 rows"),
        (lambda: figures.exchanged_rows(torch.tensor([[37]])), "1 to 36 rows"),
        (lambda: figures.exchanged_rows(torch.tensor([[-1, 3]])), "1 to 36 rows"),
        (
            lambda: figures.sorted_blocks(torch.zeros(9, 3).long(), 4),
            r"24 choices .* got .*\[9, 3\]",
        ),
        (lambda: figures.sorted_blocks(torch.tensor([[4]]), 4), "ids from 0 to 3"),
        (lambda: figures.sorted_blocks(torch.tensor([[0.0]]), 4), "integers, got 0.0"),
        (lambda: figures.sorted_blocks(torch.tensor([[0]]), 0), "num_experts must be at least 1"),
        (lambda: a_roofline({}), "points must name at least one"),
        (lambda: a_roofline({"a": ([1, 2], [3])}), r"as many rates as values of x, 2, got 1"),
        (lambda: a_roofline({"a": ([1], [0])}), "must be positive on logarithmic axes, got 0"),
        (lambda: a_roofline({"a": ([1], [1])}, peak=0), "peak must be positive, got 0"),
        (lambda: a_roofline(dict.fromkeys("abcde", ([1], [1]))), "at most 4 names, got a, b, c"),
        (lambda: figures.expert_queues(LIMITED, 9, bins=19), r"tokens \(18\), got 19"),
        (lambda: figures.dropped_by_position({"a": LIMITED}, bins=0), "bins must be at least 1"),
        (
            lambda: figures.waiting_lines(WAITING_TK, WAITING_TK + 6, 3, 1),
            "places from 0 to 5, got 7",
        ),
        (
            lambda: figures.waiting_lines(WAITING_TK, WAITING_TK[:1], 3, 1),
            "the shape of experts_TK",
        ),
        (lambda: figures.waiting_lines(WAITING_TK, WAITING_TK, 1, 1), "ids from 0 to 0"),
        (lambda: figures.Scrubber([], [], "x"), "0 labels for 0 pictures"),
        (lambda: figures.Scrubber([picture()], ["a"], "x", start=1), "between 0 and 0, got 1"),
        (lambda: figures.Scrubber(["<svg>"], ["a"], "x"), "pictures must be of type Picture"),
        (lambda: figures.Scrubber([picture()], [0.5], "x"), "labels must be of type str, got 0.5"),
        (lambda: figures.Scrubber([picture()], ["a"], None), "name must be of type str, got None"),
        (lambda: figures.Scrubber([picture()], ["a"], "x", start=0.0), "start must be of type int"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_scrubber_is_the_same_twice_and_light() -> None:
    def training_run() -> figures.Scrubber:
        loads = torch.randn(16, 12, generator=torch.Generator().manual_seed(0)).softmax(-1)
        frames = [
            figures.expert_bars({f"step {i}": loads[i]}, "load", y_limits=(0, 1)) for i in range(16)
        ]
        return figures.Scrubber(frames, [f"step {i}" for i in range(16)], "step", start=3)

    data = training_run()._repr_mimebundle_()
    assert data == training_run()._repr_mimebundle_()
    assert set(data) == {"text/html", "text/plain"}
    assert "It starts with step 3: Bars of load over the experts." in data["text/plain"]
    assert len(gzip.compress(data["text/html"].encode())) / 16 < 1000


def test_diamonds_are_named_beside_one_of_them_and_not_in_a_legend() -> None:
    shares = torch.full((12,), 0.05).index_fill(0, torch.tensor([5]), 0.5)
    picture = figures.expert_bars({"a": shares}, "b", markers={"a": shares}, marker_label="c")
    assert not picture.figure.legends
    (name,) = picture.figure.texts
    picture.figure.draw_without_rendering()
    box = name.get_window_extent()
    at = picture.figure.axes[0].transData.transform((5, 0.5))
    away = np.maximum(np.maximum(box.min - at, at - box.max), 0)
    assert name.get_text() == "c"
    assert np.hypot(*away) < 20


def test_total_and_active_parameters_are_dots_with_a_line_between() -> None:
    (ax,) = figures.total_and_active({"a": (40, 10), "b": (900, 30)}).figure.axes
    assert not ax.patches, "a bar on a logarithmic axis begins nowhere"
    drawn = [sorted(np.ravel(line.get_xdata())) for line in ax.lines]
    assert drawn == [[10, 40], [10], [40], [30, 900], [30], [900]]
    assert [text.get_text() for text in ax.texts] == ["10 active", "40 total", "30", "900"]


def test_stems_draw_nothing_between_tokens() -> None:
    picture = figures.stems({"a": [0, 2, 1], "b": [0, 0, 0]}, x_label="x", y_label="y")
    for ax in picture.figure.axes:
        (dots,) = (line for line in ax.lines if line.get_marker() == "o")
        assert dots.get_linestyle() == "None"
    assert "a: 2 of 3 are above 0, the largest is 2 at 1; b: 0 of 3 are above 0." in picture.alt
