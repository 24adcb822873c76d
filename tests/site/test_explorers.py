"""The explorers on the built pages: every control, by keyboard, mouse and finger.

After each move the state that an explorer keeps in its element is compared with what the package
calculates for that state, and what is drawn with the state.
"""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch
from playwright.sync_api import Browser, BrowserContext, Locator, Page

import moe_tutorial as moe
from moe_tutorial import explorers
from moe_tutorial.example import one_token, twelve_centroids
from moe_tutorial.explorers import svg
from moe_tutorial.explorers.page import experts_in_words
from tests.oracles import sfc32

CHAPTERS = {
    "centroids": "notebooks/01_similarity_scores.html",
    "temperature": "notebooks/02_softmax.html",
    "selection": "notebooks/03_top_k.html",
    "selection, chapter 05": "notebooks/05_weighted_combination.html",
    "sampled": "notebooks/04_temperature_sampling.html",
    "sampled, first page": "book/intro.html",
}
HANDS = ("keyboard", "mouse", "finger")
PHONE = {"width": 390, "height": 844}
State = dict[str, Any]


# --- what the package calculates for a state ---


def temperature_of(state: State) -> float:
    return float(state["temperature"]) or 5e-324  # the script's 0 is the limit


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(
        torch.as_tensor(found, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
        rtol=0,
        atol=1e-6,
    )


def check_centroids(state: State, config: State) -> None:
    score = moe.dot_scores if state["scores"] == "dot" else moe.cosine_scores
    token_TD = torch.tensor([state["token"]], dtype=torch.float64)
    logits_TE = score(token_TD, torch.tensor(config["centroids"], dtype=torch.float64))
    close(state["logits"], logits_TE[0])
    close(state["probabilities"], moe.softmax(logits_TE)[0])
    assert state["experts"] == moe.top_k(logits_TE, state["k"])[0].tolist()
    fresh = explorers.centroid_explorer(
        token_TD[0], torch.tensor(config["centroids"]).double(), state["k"], scores=state["scores"]
    )
    assert state["sentence"] == fresh.alt


def check_temperature(state: State, config: State) -> None:
    logits_TE = torch.tensor([config["logits"]], dtype=torch.float64)
    probabilities_TE = moe.softmax(logits_TE, temperature_of(state))
    close(state["probabilities"], probabilities_TE[0])
    close(state["entropy"], moe.entropy(probabilities_TE)[0])
    if tau := float(state["temperature"]):
        assert state["sentence"] == explorers.temperature_explorer(logits_TE[0], tau).alt


def check_selection(state: State, config: State) -> None:
    logits_TE = torch.tensor([config["logits"]], dtype=torch.float64)
    probabilities_TE = moe.softmax(logits_TE)
    experts_TK = moe.top_k(logits_TE, state["k"])
    close(state["probabilities"], probabilities_TE[0])
    assert state["experts"] == experts_TK[0].tolist()
    close(state["gates"]["softmax"], moe.softmax_over_chosen(logits_TE, experts_TK)[0])
    close(state["gates"]["renormalised"], moe.renormalise(probabilities_TE, experts_TK)[0])
    close(state["gates"]["kept"], moe.keep(probabilities_TE, experts_TK)[0])
    assert state["sentence"] == explorers.selection_explorer(logits_TE[0], state["k"]).alt


def draw(logits_TE: torch.Tensor, state: State, uniforms: Any) -> torch.Tensor:
    """The package's own draw, from these uniform numbers."""
    numbers_TE = torch.tensor(uniforms, dtype=torch.float64)
    with patch("torch.rand", return_value=numbers_TE):
        return moe.gumbel_top_k(logits_TE, state["k"], temperature_of(state))


def check_sampled(state: State, config: State) -> None:
    logits_TE = torch.tensor([config["logits"]], dtype=torch.float64)
    tau = temperature_of(state)
    close(state["probabilities"], moe.softmax(logits_TE, tau)[0])
    if state["selection"] == "sampled":
        experts_TK = draw(logits_TE, state, [state["uniforms"]])
        inclusion_E = moe.inclusion_probabilities(logits_TE, state["k"], max(tau, 1e-300))[0]
    else:
        experts_TK = moe.top_k(logits_TE, state["k"])
        inclusion_E = torch.isin(torch.arange(len(config["logits"])), experts_TK)
    assert state["experts"] == experts_TK[0].tolist()
    close(state["inclusion"], inclusion_E)
    for name, temperature in zip(
        ("gates", "others"), (1.0, tau) if state["from"] == "original" else (tau, 1.0), strict=True
    ):
        close(state[name], moe.softmax_over_chosen(logits_TE, experts_TK, temperature)[0])
    best = moe.top_k(logits_TE, 1).item()
    if state["selection"] == "sampled":
        draws = f"{state['draws']} draw{'s' if state['draws'] > 1 else ''}"
        assert f"Expert {best} was in {state['counts'][best]} of {draws};" in state["sentence"]
        assert state["sentence"].endswith(f" {svg.fixed(inclusion_E[best].item(), 3)}.")
    assert experts_in_words(state["experts"]) in state["sentence"]
    assert sum(state["counts"]) == state["k"] * state["draws"]


CHECKS: dict[str, Callable[[State, State], None]] = {
    "centroids": check_centroids,
    "temperature": check_temperature,
    "selection": check_selection,
    "sampled": check_sampled,
}


# --- what is drawn ---

# Heights of bars on each panel's own scale, and every word of it.
DRAWN = """root => Object.fromEntries([...root.querySelectorAll("[data-panel]")].map(panel => [
  panel.dataset.panel, {
    values: [...panel.querySelectorAll(".bar")].map(bar => {
      const height = Number(bar.getAttribute("height")) / Number(panel.dataset.unit);
      return Number(bar.getAttribute("y")) < Number(panel.dataset.zero) - .004 ? height : -height;
    }),
    marks: [...panel.querySelectorAll(".mark")].map(mark =>
      mark.getAttribute("visibility") === "hidden" ? null :
      (Number(panel.dataset.zero) - parseFloat(mark.getAttribute("transform").split(" ")[1]))
        / Number(panel.dataset.unit)),
    notes: [...panel.querySelectorAll(".note")].map(note => note.textContent),
    chosen: [...panel.querySelectorAll("[data-expert].chosen")].map(g => Number(g.dataset.expert)),
    words: [...panel.querySelectorAll("text")].map(text => text.textContent),
    places: [...panel.querySelectorAll(".token, .here")].map(p => p.getAttribute("transform")),
    unit: Number(panel.dataset.unit),
  }]))"""


class Explorer:
    """One explorer on a page, and the hand that moves it."""

    def __init__(self, page: Page, root: Locator, hand: str) -> None:
        self.page, self.root, self.hand = page, root, hand
        self.kind = root.get_attribute("data-explorer") or ""
        self.config: State = json.loads(root.get_attribute("data-config") or "")
        root.scroll_into_view_if_needed()

    @property
    def state(self) -> State:
        state: State = json.loads(self.root.get_attribute("data-state") or "")
        return state

    def check(self) -> State:
        """The state is what the package calculates, and the picture is the state."""
        state = self.state
        CHECKS[self.kind](state, self.config)
        panels = self.root.evaluate(DRAWN)
        self.check_bars(panels["probabilities"], state["probabilities"], state.get("experts"))
        if self.kind == "centroids":
            self.check_bars(panels["logits"], state["logits"], state["experts"])
            assert panels["plane"]["chosen"] == sorted(state["experts"])
            x, y = (float(v) for v in panels["plane"]["places"][0][10:-1].split())
            plane = self.root.locator("[data-panel=plane]")
            middle = [float(plane.get_attribute(f"data-{axis}") or "") for axis in "xy"]
            unit = panels["plane"]["unit"]
            close(
                [round((x - middle[0]) / unit, 2), round((middle[1] - y) / unit, 2)],
                [round(value, 2) for value in state["token"]],
            )
        if self.kind == "temperature":
            assert f"{svg.fixed(state['entropy'], 2)} nats" in panels["entropy"]["words"]
        if self.kind == "selection":
            for way, gates in state["gates"].items():
                self.check_bars(panels[way], self.scattered(state, gates), state["experts"])
                assert f"sum {svg.fixed(sum(gates), 3)}" in panels[way]["words"]
        if self.kind == "sampled":
            self.check_bars(
                panels["gates"], self.scattered(state, state["gates"]), state["experts"]
            )
            tolerance = 0.006 / panels["gates"]["unit"]
            others = dict(zip(state["experts"], state["others"], strict=True))
            for expert, mark in enumerate(panels["gates"]["marks"]):
                assert (mark is not None) == (expert in others)
                assert mark == pytest.approx(others.get(expert), abs=tolerance)
            shares = [count / state["draws"] for count in state["counts"]]
            self.check_bars(panels["counts"], shares, state["experts"])
            tolerance = 0.006 / panels["counts"]["unit"]
            assert panels["counts"]["marks"] == pytest.approx(state["inclusion"], abs=tolerance)
            assert [svg.share(p) for p in state["inclusion"]] == panels["counts"]["notes"]
        return state

    def check_bars(self, panel: State, values: list[float], chosen: list[int] | None) -> None:
        assert panel["values"] == pytest.approx(values, abs=0.006 / panel["unit"])
        assert panel["chosen"] == sorted(chosen or [])

    def scattered(self, state: State, gates: list[float]) -> list[float]:
        row = [0.0] * len(self.config["logits"])
        for expert, gate in zip(state["experts"], gates, strict=True):
            row[expert] = gate
        return row

    # --- hands ---

    def press(self, target: Locator) -> None:
        if self.hand == "keyboard":
            target.focus()
            self.page.keyboard.press("Space")
        elif self.hand == "mouse":
            target.click()
        else:
            target.tap()

    def slide(self, name: str, part: float) -> None:
        """Move a slider to a part of its way, with this hand."""
        target = self.root.get_by_role("slider", name=name, exact=True)
        if self.hand == "keyboard":
            target.focus()
            self.page.keyboard.press("Home" if part < 0.5 else "End")
            first, last = (int(target.get_attribute(a) or "") for a in ("min", "max"))
            steps = round(min(part, 1 - part) * (last - first))
            for _ in range(steps):
                self.page.keyboard.press("ArrowRight" if part < 0.5 else "ArrowLeft")
            return
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        assert box is not None
        x = box["x"] + 8 + part * (box["width"] - 16)
        y = box["y"] + box["height"] / 2
        if self.hand == "mouse":
            self.page.mouse.click(x, y)
        else:
            self.page.touchscreen.tap(x, y)

    def choose(self, name: str) -> None:
        radio = self.root.get_by_role("radio", name=name, exact=True)
        if self.hand == "keyboard":
            radio.focus()
            self.page.keyboard.press("Space")
        else:
            self.press(self.root.get_by_text(name, exact=True))

    def carry_token(self, by: tuple[float, float]) -> None:
        """Drag the token so many pixels to the right and down, or as many arrow keys."""
        token = self.root.get_by_role("slider", name="Token")
        if self.hand == "keyboard":
            token.focus()
            for key, steps in (("ArrowRight", by[0]), ("ArrowDown", by[1])):
                back = {"ArrowRight": "ArrowLeft", "ArrowDown": "ArrowUp"}[key]
                for _ in range(round(abs(steps) / 10)):
                    self.page.keyboard.press(key if steps > 0 else back)
            return
        token.scroll_into_view_if_needed()
        box = token.locator(".grip").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        path = [(x + by[0] * i / 4, y + by[1] * i / 4) for i in range(5)]
        if self.hand == "mouse":
            self.page.mouse.move(*path[0])
            self.page.mouse.down()
            for point in path[1:]:
                self.page.mouse.move(*point)
            self.page.mouse.up()
        else:
            session = self.page.context.new_cdp_session(self.page)
            for i, (px, py) in enumerate([*path, path[-1]]):
                kind = "touchStart" if i == 0 else "touchMove" if i < 5 else "touchEnd"
                points = [] if kind == "touchEnd" else [{"x": px, "y": py}]
                session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.fixture(scope="module")
def contexts(browser: Browser) -> Iterator[dict[str, BrowserContext]]:
    made = {
        "keyboard": browser.new_context(viewport={"width": 1440, "height": 900}),
        "mouse": browser.new_context(viewport={"width": 1440, "height": 900}),
        "finger": browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True),
    }
    yield made
    for context in made.values():
        context.close()


Open = Callable[[str, str], Explorer]


@pytest.fixture
def open_explorer(contexts: dict[str, BrowserContext], server: str) -> Iterator[Open]:
    pages: list[Page] = []

    def open_(name: str, hand: str) -> Explorer:
        page = contexts[hand].new_page()
        pages.append(page)
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto(server + CHAPTERS[name], wait_until="load")
        root = page.locator(f"[data-explorer={name.split(',')[0]}]")
        assert root.count() == 1
        return Explorer(page, root, hand)

    yield open_
    for page in pages:
        page.close()


@pytest.mark.parametrize("hand", HANDS)
def test_temperature(hand: str, open_explorer: Open) -> None:
    explorer = open_explorer("temperature", hand)
    seen = []
    for part in (0, 0.1, 0.3, 0.5, 0.7, 1):
        explorer.slide("Temperature", part)
        seen.append(float(explorer.check()["temperature"]))
    assert seen == sorted(set(seen))
    assert seen[0] == 0
    assert seen[-1] == math.inf
    assert 0.01 <= seen[1] < 0.05
    slider = explorer.root.get_by_role("slider")
    assert slider.get_attribute("aria-valuetext") == "infinite"


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("name", ["selection", "selection, chapter 05"])
def test_selection(name: str, hand: str, open_explorer: Open) -> None:
    explorer = open_explorer(name, hand)
    for k in range(1, 13):
        explorer.slide("Experts chosen", (k - 1) / 11)
        assert explorer.check()["k"] == k


@pytest.mark.parametrize("hand", HANDS)
def test_centroids(hand: str, open_explorer: Open) -> None:
    explorer = open_explorer("centroids", hand)
    explorer.check()
    for by in ((-60, 40), (-70, 60), (10, -200), (250, 30), (-400, 400)):
        before = explorer.state["token"]
        explorer.carry_token(by)
        after = explorer.check()["token"]
        assert (after[0] - before[0]) * by[0] > 0
        assert (after[1] - before[1]) * by[1] < 0
    reach = explorer.config["reach"]
    if hand != "keyboard":
        assert after == [-reach, -reach]
    explorer.choose("cosine")
    assert explorer.check()["scores"] == "cosine"
    for k in (1, 12, 5):
        explorer.slide("Experts chosen", (k - 1) / 11)
        assert explorer.check()["k"] == k
    explorer.choose("dot product")
    assert explorer.check()["scores"] == "dot"
    token = explorer.root.get_by_role("slider", name="Token")
    if hand == "keyboard":
        token.focus()
        before = explorer.state["token"]
        explorer.page.keyboard.press("Shift+ArrowRight")
        assert explorer.check()["token"][0] == pytest.approx(min(before[0] + 0.5, reach))
        explorer.page.keyboard.press("Home")
        assert explorer.check()["token"] == explorer.config["token"]
    else:
        plane = explorer.root.locator("[data-panel=plane]")
        explorer.page.wait_for_timeout(50)
        box = plane.bounding_box()
        assert box is not None
        x, y = box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"]
        if hand == "mouse":
            explorer.page.mouse.click(x, y)
        else:
            explorer.page.touchscreen.tap(x, y)
        at = explorer.check()["token"]
        assert at[0] == pytest.approx(-1.14, abs=0.1)
        assert at[1] == pytest.approx(1.43, abs=0.1)
    assert token.get_attribute("aria-valuetext") == ", ".join(
        svg.fixed(value, 2) for value in explorer.state["token"]
    )


def test_the_token_at_the_origin_is_a_tie(open_explorer: Open) -> None:
    explorer = open_explorer("centroids", "keyboard")
    explorer.root.get_by_role("slider", name="Token").focus()
    for key, presses in (("ArrowLeft", 12), ("ArrowDown", 8)):
        for _ in range(presses):
            explorer.page.keyboard.press(key)
    state = explorer.check()
    assert state["token"] == [0, 0]
    assert state["experts"] == [0, 1, 2]
    explorer.choose("cosine")
    assert explorer.check()["experts"] == [0, 1, 2]


@pytest.mark.parametrize("hand", HANDS)
def test_sampled(hand: str, open_explorer: Open) -> None:
    explorer = open_explorer("sampled", hand)
    again = explorer.root.get_by_role("button", name="Draw again")
    many = explorer.root.get_by_role("button", name="Draw 1000 times")
    logits_TE = torch.tensor([explorer.config["logits"]], dtype=torch.float64)
    first = explorer.check()
    generator = torch.Generator().manual_seed(6)
    assert first["experts"] == moe.gumbel_top_k(logits_TE, 3, 1.0, generator)[0].tolist()

    # Every count is that of the package's draws from the generator's own numbers.
    numbers = sfc32([math.floor(u * 2**32) for u in explorer.config["uniforms"][:3]])
    counts = torch.tensor(first["counts"])
    for presses in (3, 2):
        for _ in range(presses):
            explorer.press(again)
            experts_TK = draw(logits_TE, first, [[next(numbers) for _ in range(12)]])
            counts += torch.bincount(experts_TK.flatten(), minlength=12)
            assert explorer.check()["counts"] == counts.tolist()
        explorer.press(many)
        uniforms = [[next(numbers) for _ in range(12)] for _ in range(1000)]
        drawn_NK = draw(logits_TE.expand(1000, 12), first, uniforms)
        counts += torch.bincount(drawn_NK.flatten(), minlength=12)
        assert explorer.check()["counts"] == counts.tolist()
    state = explorer.state
    assert state["draws"] == 2006
    inclusion_E = torch.tensor(state["inclusion"])
    error_E = (inclusion_E * (1 - inclusion_E) / state["draws"]).sqrt()
    assert ((counts / state["draws"] - inclusion_E).abs() < 4 * error_E).all()

    for part in (0, 0.3, 0.6, 1):
        explorer.slide("Temperature", part)
        state = explorer.check()
        assert state["draws"] == 1
        explorer.press(many)
        explorer.check()
    for k in (1, 12, 4):
        explorer.slide("Experts chosen", (k - 1) / 11)
        assert explorer.check()["k"] == k
        explorer.press(again)
        explorer.check()
    explorer.slide("Temperature", 0.6)
    original = explorer.check()["gates"]
    explorer.choose("tempered logits")
    state = explorer.check()
    assert state["from"] == "tempered"
    assert state["gates"] != original
    explorer.choose("Top-K")
    assert explorer.check()["selection"] == "top_k"
    assert again.is_disabled()
    assert many.is_disabled()
    explorer.choose("original logits")
    explorer.check()
    explorer.choose("sampled")
    explorer.check()
    assert again.is_enabled()


# --- what it is to look at ---


@pytest.mark.parametrize("name", CHAPTERS)
def test_without_scripts_the_first_picture_stands_there(
    name: str, browser: Browser, server: str, open_explorer: Open
) -> None:
    context = browser.new_context(viewport=PHONE, java_script_enabled=False)
    page = context.new_page()
    page.goto(server + CHAPTERS[name], wait_until="load")
    root = page.locator(f"[data-explorer={name.split(',')[0]}]")
    assert root.locator("input, button").count() == 0
    for panel in root.locator("svg[data-panel]").all():
        box = panel.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        assert panel.is_visible()
    # The script takes the picture over as it is.
    still = root.evaluate(DRAWN)
    said = root.locator(".moe-readout").inner_text()
    context.close()
    live = open_explorer(name, "mouse")
    assert live.root.evaluate(DRAWN) == still
    live.page.wait_for_timeout(400)
    assert live.root.locator(".moe-readout").inner_text() == said


OVERFLOW = """root => {
  const edge = root.getBoundingClientRect();
  return [...root.querySelectorAll("*:not(style):not(script)")].filter(e => {
    if (e.closest("svg svg")) return false;  // cut off at the edge of the plane
    const box = e.getBoundingClientRect();
    return box.width && (box.right > edge.right + .5 || box.left < edge.left - .5);
  }).map(e => `${e.tagName} ${e.getAttribute("class")} ${e.textContent.slice(0, 30)}`);
}"""
SMALLEST = """root => Math.min(...Array.from(root.querySelectorAll("text, span, p, button"), e => {
  const size = parseFloat(getComputedStyle(e).fontSize);
  return e.getScreenCTM ? size * e.getScreenCTM().a : size;
}))"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_on_a_phone_all_fits_and_nothing_jumps(name: str, open_explorer: Open) -> None:
    explorer = open_explorer(name, "finger")
    root = explorer.root
    assert root.evaluate(SMALLEST) >= 9.5
    for target in root.locator("input[type=range], fieldset label, button, .token .halo").all():
        box = target.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 24
    heights = set()
    sliders = root.locator("input[type=range]").all()
    for part in (0, 0.2, 0.5, 0.8, 1):
        for slider in sliders:
            explorer.slide(slider.get_attribute("aria-label") or "", part)
            many = root.get_by_role("button", name="Draw 1000 times")
            if many.count():
                explorer.press(many)
            explorer.page.wait_for_timeout(300)  # until the sentence is there
            assert root.evaluate(OVERFLOW) == []
            heights.add(root.evaluate("root => root.getBoundingClientRect().height"))
    assert len(heights) == 1
    assert explorer.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_sentence_waits_until_the_hand_rests(name: str, open_explorer: Open) -> None:
    explorer = open_explorer(name, "keyboard")
    readout = explorer.root.locator(".moe-readout")
    assert readout.get_attribute("role") == "status"
    explorer.page.wait_for_timeout(400)
    explorer.root.evaluate(
        """root => { root.said = 0; new MutationObserver(() => root.said++)
          .observe(root.querySelector(".moe-readout"), { childList: true }); }"""
    )
    slider = explorer.root.locator("input[type=range]").first
    slider.focus()
    before = readout.inner_text()
    for _ in range(5):
        explorer.page.keyboard.press("ArrowRight")
    explorer.page.wait_for_function(
        "before => document.querySelector('.moe-readout').textContent !== before", arg=before
    )
    assert explorer.root.evaluate("root => root.said") == 1


def test_in_the_dark_in_print_and_without_motion(browser: Browser, server: str) -> None:
    context = browser.new_context(color_scheme="dark", reduced_motion="reduce")
    page = context.new_page()
    page.goto(server + CHAPTERS["selection"], wait_until="load")
    style = """property => getComputedStyle(
      document.querySelector("[data-panel=probabilities] .c5"))[property]"""
    card = "getComputedStyle(document.querySelector('.moe-explorer')).backgroundColor"
    filters = """[...document.querySelectorAll(".moe-explorer")].flatMap(e => {
      const found = []; for (; e; e = e.parentElement) found.push(getComputedStyle(e).filter);
      return found; }).filter(f => f !== "none")"""
    assert page.evaluate(style, "fill") == rgb(explorers.page.EXPERT_COLOURS_DARK[5])
    variable = "getComputedStyle(document.documentElement).getPropertyValue('--book-card')"
    dark = page.evaluate(variable)
    assert page.evaluate(card) == rgb(dark)
    assert page.evaluate(filters) == []
    assert page.evaluate(style, "transitionDuration") == "0s"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(style, "fill") == rgb(explorers.page.EXPERT_COLOURS[5])
    assert page.evaluate(variable) != dark
    assert page.evaluate(card) == rgb("#ffffff")
    assert not page.locator(".moe-controls").is_visible()
    assert page.locator("[data-panel=probabilities]").is_visible()
    context.close()


def rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


# --- on other pages ---


def all_of_them() -> list[explorers.Explorer]:
    logits_E = moe.dot_scores(one_token(), twelve_centroids())[0]
    generator = torch.Generator().manual_seed(0)
    return [
        explorers.centroid_explorer(one_token()[0], twelve_centroids()),
        explorers.temperature_explorer(logits_E[:5]),
        explorers.selection_explorer(torch.linspace(-2, 3, 16)),
        explorers.routing_explorer(logits_E, generator=generator),
    ]


def test_many_on_one_page_do_not_meet(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 900})
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.set_content("<main>" + "".join(2 * e.html for e in all_of_them()) + "</main>")
    roots = page.locator("[data-explorer]").all()
    assert len(roots) == 8
    before = [root.get_attribute("data-state") for root in roots]
    for first, second in zip(roots[::2], roots[1::2], strict=True):
        explorer = Explorer(page, first, "mouse")
        explorer.slide(first.locator("input[type=range]").first.get_attribute("aria-label"), 0.9)
        for group in first.locator("fieldset").all():
            group.locator("label").last.click()
        explorer.check()
        assert first.get_attribute("data-state") != second.get_attribute("data-state")
    assert [root.get_attribute("data-state") for root in roots[1::2]] == before[1::2]
    assert not page.locator("[id]").count()
    page.close()


def test_it_comes_alive_where_a_notebook_puts_it_in_later(browser: Browser) -> None:
    """JupyterLab sets the HTML of an output, and then makes its scripts anew so that they run."""
    page = browser.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.set_content('<body data-jp-theme-light="false"><main></main></body>')
    for explorer in all_of_them():
        page.evaluate(
            """html => {
              const output = document.createElement("div");
              output.innerHTML = html;
              for (const script of output.querySelectorAll("script")) {
                const again = document.createElement("script");
                again.textContent = script.textContent;
                script.replaceWith(again);
              }
              document.querySelector("main").append(output);
            }""",
            explorer.html,
        )
        assert page.locator("[data-explorer][data-live]").count() >= 1
        Explorer(page, page.locator("[data-explorer]").last, "mouse").check()
    card = "getComputedStyle(document.querySelector('.moe-explorer')).backgroundColor"
    assert page.evaluate(card) == rgb("#1a1f26")
    page.close()
