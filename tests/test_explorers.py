"""The explorers calculate what the package calculates, and their first picture shows it."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import torch
from bs4 import BeautifulSoup
from torch import Tensor

import moe_tutorial as moe
from moe_tutorial import explorers
from moe_tutorial.example import one_token, twelve_centroids
from moe_tutorial.explorers.centroids import centroid_pictures
from moe_tutorial.explorers.selection import selection_picture
from moe_tutorial.explorers.temperature import temperature_pictures
from moe_tutorial.figures import Picture, palette
from moe_tutorial.models import zoo
from tests.explorer_words import fixed, listing, share
from tests.oracles import sfc32

FOLDER = Path(explorers.__file__).parent
NODE = Path(sys.executable).with_name("node")
COLDEST = 5e-324  # what the package takes for the limit that the script calls 0
TEMPERATURES = (0.0, 1e-300, 1e-4, 0.03, 0.5, 1.0, 3.0, 1e5, math.inf)
LOGITS_E = moe.dot_scores(one_token(), twelve_centroids())[0]


def javascript(calls: list[tuple[str, ...]]) -> list[Any]:
    """What the scripts answer to each call, a function's name and its arguments."""
    names = ",".join(sorted({name for name, *_ in calls}))
    # live.js and controls.js need a page
    scripts = ("routing.js", "panels.js", "centroids.js", "posterior.js")
    program = "const bring = () => {};\n"  # no page, no explorer to bring to life
    program += "".join((FOLDER / name).read_text(encoding="utf-8") for name in scripts) + (
        'const infinite = (_, value) => (value === "Infinity" ? Infinity : value);\n'
        'const calls = JSON.parse(require("fs").readFileSync(0, "utf8"), infinite);\n'
        f"const functions = {{{names}}};\n"
        "const answers = calls.map(([name, ...rest]) => functions[name](...rest));\n"
        "process.stdout.write(JSON.stringify(answers));\n"
    )
    run = subprocess.run(
        [NODE, "-e", program],
        input=json.dumps(calls).replace(" Infinity", ' "Infinity"'),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    answers: list[Any] = json.loads(run.stdout)
    return answers


def rows() -> list[Tensor]:
    """Logits of many sizes: far apart, close together, with ties, all equal."""
    made = []
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        num_experts = int(torch.randint(2, 17, (), generator=generator))
        logits_E = torch.randn(num_experts, generator=generator, dtype=torch.float64)
        scale = (0.01, 1.0, 3.0, 30.0, 300.0)[seed % 5]
        made.append((logits_E * scale).round() if seed % 4 == 3 else logits_E * scale)
    return [*made, torch.zeros(5, dtype=torch.float64), LOGITS_E]


def worst(answers: list[Any], expected: list[Tensor]) -> float:
    return max(
        (torch.tensor(answer, dtype=torch.float64) - right).abs().max().item()
        for answer, right in zip(answers, expected, strict=True)
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_probabilities_and_entropy(temperature: float) -> None:
    answers = javascript([("softmax", row.tolist(), temperature) for row in rows()])
    expected = [moe.softmax(row[None], temperature or COLDEST)[0] for row in rows()]
    assert worst(answers, expected) < 1e-14
    entropies = javascript([("entropy", row) for row in answers])
    assert worst(entropies, [moe.entropy(row[None])[0] for row in expected]) < 1e-13


def test_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens_ND = torch.randn(100, 2, generator=generator, dtype=torch.float64) * 3
    tokens_ND[0], tokens_ND[1] = 0.0, 1e-200
    centroids_ED = torch.cat([twelve_centroids(), torch.zeros(1, 2, dtype=torch.float64)])
    for name, score in (("dotScores", moe.dot_scores), ("cosineScores", moe.cosine_scores)):
        answers = javascript([(name, x_D, centroids_ED.tolist()) for x_D in tokens_ND.tolist()])
        assert worst(answers, list(score(tokens_ND, centroids_ED))) < 1e-14


def test_top_k_with_ties() -> None:
    cases = [(row, k) for row in rows() for k in range(1, len(row) + 1)]
    answers = javascript([("topK", row.tolist(), k) for row, k in cases])
    assert answers == [moe.top_k(row[None], k)[0].tolist() for row, k in cases]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gates(temperature: float) -> None:
    cases = [(row, moe.top_k(row[None], k)) for row in rows() for k in {1, 2, len(row)}]
    tau = temperature or COLDEST
    chosen = [(row.tolist(), experts_TK[0].tolist()) for row, experts_TK in cases]
    tempered = javascript([("softmaxOverChosen", *case, temperature) for case in chosen])
    right = [moe.softmax_over_chosen(row[None], experts_TK, tau)[0] for row, experts_TK in cases]
    assert worst(tempered, right) < 1e-14
    shares = [moe.softmax(row[None], tau) for row, _ in cases]
    ways: tuple[tuple[str, Callable[..., Tensor]], ...] = (
        ("keep", moe.keep),
        ("renormalise", moe.renormalise),
    )
    for name, way in ways:
        calls = [
            (name, share_TE[0].tolist(), experts_TK[0].tolist())
            for share_TE, (_, experts_TK) in zip(shares, cases, strict=True)
        ]
        right = [way(p, experts_TK)[0] for p, (_, experts_TK) in zip(shares, cases, strict=True)]
        assert worst(javascript(calls), right) < 1e-14


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_draws_from_the_same_noise(temperature: float) -> None:
    calls, expected = [], []
    for seed, row in enumerate(r for r in rows() if len(r.unique()) == len(r)):
        for k in {1, 3, len(row)} - ({3} if len(row) < 3 else set()):
            uniforms = torch.rand(
                1, len(row), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            calls.append(("gumbelTopK", row.tolist(), k, temperature, uniforms[0].tolist()))
            generator = torch.Generator().manual_seed(seed)
            drawn_TK = moe.gumbel_top_k(row[None], k, temperature or COLDEST, generator)
            expected.append(drawn_TK[0].tolist())
    assert javascript(calls) == expected


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_inclusion_probabilities(temperature: float) -> None:
    cases = [(row, k) for row in rows()[::2] for k in {1, 2, len(row) // 2 + 1, len(row)}]
    answers = javascript([("inclusionProbabilities", r.tolist(), k, temperature) for r, k in cases])
    tau = max(temperature, 1e-300)  # as good as the limit
    expected = [moe.inclusion_probabilities(row[None], k, tau)[0] for row, k in cases]
    assert worst(answers, expected) < 1e-12


def test_uniform_numbers_are_those_of_sfc32() -> None:
    calls = (
        "(seeds => { const next = uniformSource(seeds); return Array.from({length: 20000}, next) })"
    )
    program = (FOLDER / "routing.js").read_text(encoding="utf-8")
    program += f"process.stdout.write(JSON.stringify({calls}([7, 2**31 + 5, 2**32 - 1])))"
    run = subprocess.run([NODE, "-e", program], capture_output=True, text=True, check=True)
    numbers = json.loads(run.stdout)
    reference = sfc32([7, 2**31 + 5, 2**32 - 1])
    assert numbers[:1000] == [next(reference) for _ in range(1000)]
    counts = torch.histc(torch.tensor(numbers), 100, 0, 1)
    assert ((counts - 200) ** 2 / 200).sum() < 150  # chi-square, 99 degrees: p = 0.0007
    assert len(set(numbers)) == len(numbers)


def test_numbers_are_written_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    values = (torch.randn(300, generator=generator, dtype=torch.float64) * 2).tolist()
    values += [0.0, -0.0, -0.001, 0.125, 0.375, -0.125, 2.5, 1e-9, 123.456]
    for digits in (0, 1, 2, 3):
        answers = javascript([("fixed", value, digits) for value in values])
        assert answers == [fixed(value, digits) for value in values]
    experts = [[0], [5, 0], [0, 1, 2], [3, 11, 0]]
    answers = javascript([("listing", row) for row in experts])
    assert answers == [listing(row) for row in experts]
    shares = [*(value % 1 for value in values), 0.0, 1.0, 0.995, 0.9949, 0.005, 0.0049]
    assert javascript([("share", value) for value in shares]) == [share(v) for v in shares]


# --- the plane ---


@pytest.mark.parametrize("scores", ["dot", "cosine"])
@pytest.mark.parametrize("seed", range(8))
def test_regions_are_where_an_expert_wins(seed: int, scores: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    centroids_ED = torch.randn(seed + 3, 2, generator=generator, dtype=torch.float64)
    if seed == 0:
        centroids_ED = twelve_centroids()
    if seed == 1:  # two that are the same, and one at the origin
        centroids_ED = torch.cat(
            [centroids_ED, centroids_ED[:1], torch.zeros_like(centroids_ED[:1])]
        )
    (regions,) = javascript([("winningRegions", centroids_ED.tolist(), 2.0, scores)])
    assert sum(area(corners) for corners in regions) == pytest.approx(16)
    points_ND = 4 * torch.rand(2000, 2, generator=generator, dtype=torch.float64) - 2
    score = moe.dot_scores if scores == "dot" else moe.cosine_scores
    winners = moe.top_k(score(points_ND, centroids_ED), 1)[:, 0].tolist()
    for (x, y), winner in zip(points_ND.tolist(), winners, strict=True):
        assert inside(x, y, regions[winner])


def area(corners: list[tuple[float, float]]) -> float:
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(a * d - b * c for (a, b), (c, d) in pairs)) / 2


def inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """Whether a point lies to the left of every edge of a polygon that runs anticlockwise."""
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return all((c - a) * (y - b) - (d - b) * (x - a) > -1e-9 for (a, b), (c, d) in pairs)


# --- the piece of HTML ---

MADE: dict[str, Callable[[], explorers.Explorer]] = {
    "centroids": lambda: explorers.centroid_explorer(one_token()[0], twelve_centroids()),
    "cosine, all chosen": lambda: explorers.centroid_explorer(
        torch.tensor([0.0, 230.0]), 100 * twelve_centroids(), 12, scores="cosine"
    ),
    "temperature": lambda: explorers.temperature_explorer(LOGITS_E),
    "infinite": lambda: explorers.temperature_explorer(LOGITS_E, math.inf),
    "selection": lambda: explorers.selection_explorer(LOGITS_E),
    "sixteen": lambda: explorers.selection_explorer(torch.linspace(-3, 4, 16), 1),
    "sampled": lambda: explorers.routing_explorer(
        LOGITS_E, generator=torch.Generator().manual_seed(6)
    ),
    "top-k": lambda: explorers.routing_explorer(
        LOGITS_E, 2, 0.5, selection="top_k", gates="tempered"
    ),
    "posterior": lambda: explorers.posterior_explorer(
        LOGITS_E, generator=torch.Generator().manual_seed(6)
    ),
    "pipeline": lambda: explorers.pipeline_explorer(
        {name: zoo.ROUTERS[name] for name in ("deepseek_v3", "mixtral", "llama4", "gemma4")}
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_an_explorer_is_whole_in_itself(name: str) -> None:
    first, second = MADE[name](), MADE[name]()
    if name != "top-k":  # without a generator
        assert first.html == second.html
    data = first._repr_mimebundle_()
    assert data == {"text/html": first.html, "text/plain": repr(first)}
    assert repr(first) == first.alt
    document = BeautifulSoup(first.html, "html.parser")
    root = document.select_one("[data-explorer]")
    assert root is not None
    assert not document.select("[id], input, button, [src]:not(img), [href], link")
    assert not re.search(r"https?:", re.sub("<img[^>]*>", "", first.html))
    assert first.html.count("</script") == 1
    assert not re.search("0x[0-9a-f]{6}", first.html)  # the notebooks' tool would rewrite it
    # What stands where scripts and style sheets are taken away: images that bring all with them.
    assert " ".join(image["alt"] for image in document.select("img")) == first.alt
    for picture in stills(first):
        assert picture.startswith("<svg ")
        assert "href" not in re.sub('href="#', "", picture)
        assert not re.search(r"url\((?!#)", picture)


def stills(explorer: explorers.Explorer) -> list[str]:
    """The pictures that stand in an explorer's place before its script runs."""
    images = BeautifulSoup(explorer.html, "html.parser").select("img")
    return [unquote(image["src"].removeprefix("data:image/svg+xml,")) for image in images]


PAIR = r"var\(--book-([\w-]+),light-dark\((#\w+),(#\w+)\)\)"


def light(svg: str) -> str:
    """A still picture as it was drawn, on a light page."""
    return re.sub(PAIR, r"\2", svg.replace('style="color-scheme:light dark" ', ""))


def test_a_still_picture_has_the_palettes_colours_in_both_themes() -> None:
    still = stills(MADE["temperature"]())[0]
    assert not re.search("(fill|stroke): #", still)
    pairs = {name: palette.Colour(*colours) for name, *colours in re.findall(PAIR, still)}
    assert pairs["expert-5"] == palette.PAGES["expert-5"]
    # The card, which has to stand out from a dark page that is not the book's.
    assert pairs.pop("card").dark == palette.SURFACE.dark
    assert all(colours == palette.PAGES[name] for name, colours in pairs.items())


@pytest.mark.parametrize("name", MADE)
def test_an_explorer_is_small(name: str) -> None:
    import gzip

    html = MADE[name]().html
    assert len(gzip.compress(html.encode())) < 15_500


def heights(picture: Picture) -> list[list[float]]:
    """The heights of a picture's bars, row by row."""
    return [[bar.get_height() for bar in ax.patches] for ax in picture.figure.axes]


def test_the_first_picture_shows_the_packages_numbers() -> None:
    probabilities = moe.softmax(LOGITS_E[None])[0].tolist()
    plane = centroid_pictures(one_token()[0], twelve_centroids(), LOGITS_E[None], 3, "dot")
    assert [light(s) for s in stills(MADE["centroids"]())] == [picture.svg for picture in plane]
    assert heights(plane[1]) == [LOGITS_E.tolist()]
    assert "Ringed: 5, 8 and 4." in MADE["centroids"]().alt
    bars, _ = infinite = temperature_pictures(LOGITS_E[None], math.inf)
    assert [light(s) for s in stills(MADE["infinite"]())] == [picture.svg for picture in infinite]
    assert heights(bars) == [pytest.approx([1 / 12] * 12)]
    chosen = selection_picture(LOGITS_E[None], 3)
    assert [light(s) for s in stills(MADE["selection"]())] == [chosen.svg]
    kept = [p if e in (4, 5, 8) else 0 for e, p in enumerate(probabilities)]
    rows = heights(chosen)
    assert (rows[0], rows[3]) == (pytest.approx(probabilities), pytest.approx(kept))
    for part in ("(sum 1.000): largest", "keep (sum 0.794): largest"):
        assert part in MADE["selection"]().alt


def test_the_first_draw_is_the_packages_own() -> None:
    explorer = MADE["sampled"]()
    generator = torch.Generator().manual_seed(6)
    drawn_TK = moe.gumbel_top_k(LOGITS_E[None], 3, 1.0, generator)
    assert f"outlined: {listing(drawn_TK[0].tolist())}." in explorer.alt
    gates_K = moe.softmax_over_chosen(LOGITS_E[None], drawn_TK)[0]
    assert f"expert {drawn_TK[0, 1]} ({gates_K[1]:.2f})" in explorer.alt
    inclusion_E = moe.inclusion_probabilities(LOGITS_E[None], 3)[0]
    assert f"diamonds (inclusion probability): expert 5 ({inclusion_E[5]:.2f})" in explorer.alt
    # The generator has moved on as it does for a draw.
    moved = torch.Generator().manual_seed(6)
    explorers.routing_explorer(LOGITS_E, generator=moved)
    assert torch.equal(moved.get_state(), generator.get_state())


# --- scales ---


def test_a_scale_fits_its_values() -> None:
    generator = torch.Generator().manual_seed(2)
    sizes = 10 ** (12 * torch.rand(300, generator=generator, dtype=torch.float64) - 6)
    rows = [torch.randn(6, generator=generator, dtype=torch.float64) * size for size in sizes]
    for (low, high), row in zip(
        javascript([("around", r.tolist()) for r in rows]), rows, strict=True
    ):
        for end, reached in ((low, row.min().clamp(max=0)), (high, row.max().clamp(min=0))):
            assert abs(end) >= abs(reached) * 0.999999
            assert abs(end) <= 2 * abs(reached) + 1e-12, "more than half of it is empty"
    exact = [[0.0, 0.3], [0.0, 1.0], [0.0, 0.0], [-0.02, -0.011], [2.0, 5.0], [0.0, 1 + 1e-12]]
    expected = [[0, 0.3], [0, 1], [0, 1], [-0.02, 0], [0, 5], [0, 1]]
    assert javascript([("around", row) for row in exact]) == expected


def test_ticks_fit_beside_their_axis() -> None:
    values = [0, 0.5, 0.25, 0.015, 1, 2.5, -3, 200, 50000, -3e7, 0.0002]
    words = [
        "0",
        ".5",
        ".25",
        ".015",
        "1",
        "2.5",
        "\N{MINUS SIGN}3",
        "200",
        "5e4",
        "\N{MINUS SIGN}3e7",
        "2e\N{MINUS SIGN}4",
    ]
    assert javascript([("tick", value) for value in values]) == words
    assert max(map(len, words)) <= 4


# --- the caption ---


def test_a_caption_is_the_last_thing_and_the_picture_stays_as_it_is() -> None:
    plain = MADE["selection"]()
    captioned = plain.captioned("3.2", "Two of three ways sum to 1 & one does not.")
    caption = "<strong>Figure 3.2.</strong> Two of three ways sum to 1 &amp; one does not."
    assert captioned.html == f'{plain.html}<p class="moe-caption">{caption}</p>\n'
    assert captioned._repr_mimebundle_()["text/plain"].startswith("Figure 3.2. Two of three ways")
    assert plain.html == MADE["selection"]().html
    with pytest.raises(ValueError, match="number must be chapter and place"):
        plain.captioned("3", "Three.")
    with pytest.raises(TypeError, match="takeaway must be a str, got 3"):
        plain.captioned("3.2", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: explorers.temperature_explorer([1.0, 2.0]), TypeError, "logits_E must be a torch"),
        (lambda: explorers.temperature_explorer(torch.ones(3).long()), TypeError, "floating-point"),
        (
            lambda: explorers.temperature_explorer(torch.ones(1, 3)),
            ValueError,
            r"got shape \(1, 3\)",
        ),
        (
            lambda: explorers.temperature_explorer(torch.ones(1)),
            ValueError,
            "from 2 to 16 .* got 1",
        ),
        (
            lambda: explorers.selection_explorer(torch.ones(17)),
            ValueError,
            "from 2 to 16 .* got 17",
        ),
        (
            lambda: explorers.temperature_explorer(torch.tensor([0, torch.nan])),
            ValueError,
            "finite",
        ),
        (
            lambda: explorers.temperature_explorer(LOGITS_E, 0),
            ValueError,
            "temperature must be posi",
        ),
        (
            lambda: explorers.temperature_explorer(LOGITS_E, math.nan),
            ValueError,
            "temperature must",
        ),
        (
            lambda: explorers.temperature_explorer(LOGITS_E, "1"),
            TypeError,
            "temperature must be a n",
        ),
        (
            lambda: explorers.selection_explorer(LOGITS_E, 13),
            ValueError,
            r"k must be .*\(12\), got 13",
        ),
        (lambda: explorers.selection_explorer(LOGITS_E, 2.0), TypeError, "k must be an int"),
        (lambda: explorers.routing_explorer(LOGITS_E, 0), ValueError, "k must be between"),
        (
            lambda: explorers.routing_explorer(LOGITS_E, selection="best"),
            ValueError,
            "selection must",
        ),
        (
            lambda: explorers.routing_explorer(LOGITS_E, gates="both"),
            ValueError,
            "gates must be one",
        ),
        (lambda: explorers.routing_explorer(LOGITS_E, generator=1), TypeError, "generator must be"),
        (
            lambda: explorers.centroid_explorer(torch.ones(3), torch.ones(4, 3)),
            ValueError,
            r"x_D must have shape \[2\]",
        ),
        (
            lambda: explorers.centroid_explorer(torch.ones(2), torch.zeros(4, 2)),
            ValueError,
            "centroids_ED must not be all zero",
        ),
        (
            lambda: explorers.centroid_explorer(torch.ones(2), twelve_centroids(), scores="l2"),
            ValueError,
            "scores must be one of 'dot', 'cosine', got 'l2'",
        ),
        (
            lambda: explorers.centroid_explorer(torch.ones(2), torch.ones(4, 3, 2)),
            ValueError,
            r"2 dimensions, got shape \(4, 3, 2\)",
        ),
    ],
)
def test_bad_input_is_refused_by_name(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
