"""The explorers on the built pages: every control, by keyboard, mouse and finger.

After each move the state that an explorer keeps in its element is compared with what the package
calculates for that state, and what is drawn with the state.
"""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from playwright.sync_api import Browser, BrowserContext, Page

import moe_tutorial as moe
from moe_tutorial import explorers
from moe_tutorial.example import one_token, twelve_centroids
from moe_tutorial.figures import EXPERT_COLOURS, EXPERT_COLOURS_DARK
from moe_tutorial.models import zoo
from moe_tutorial.uncertainty.logit_clouds import mean_field_logits
from tests.explorer_words import fixed
from tests.oracles import sfc32
from tests.site.explorer import Explorer, draw

CHAPTERS = {
    "centroids": "notebooks/01_similarity_scores.html",
    "temperature": "notebooks/02_softmax.html",
    "selection": "notebooks/03_top_k.html",
    "selection, chapter 05": "notebooks/05_weighted_combination.html",
    "sampled": "notebooks/04_temperature_sampling.html",
    "sampled, first page": "book/intro.html",
    "pipeline": "notebooks/11_the_router_zoo.html",
    "xray": "notebooks/12_inside_a_real_model.html",
    "posterior": "notebooks/16_bayesian_routers.html",
}
KINDS = [name for name in CHAPTERS if "," not in name]  # each once
HANDS = ("keyboard", "mouse", "finger")
PHONE = {"width": 390, "height": 844}


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
def test_selection(hand: str, open_explorer: Open) -> None:
    explorer = open_explorer("selection", hand)
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
        fixed(value, 2) for value in explorer.state["token"]
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


@pytest.mark.parametrize("hand", HANDS)
def test_posterior(hand: str, open_explorer: Open) -> None:
    explorer = open_explorer("posterior", hand)
    again = explorer.root.get_by_role("button", name="Draw again")
    many = explorer.root.get_by_role("button", name="Draw 1000 times")
    first = explorer.check()
    means_TE = torch.tensor([explorer.config["means"]], dtype=torch.float64)
    nothing = torch.zeros_like(means_TE)
    logits_TE = mean_field_logits(means_TE, nothing, torch.Generator().manual_seed(6))
    assert first["experts"] == moe.top_k(logits_TE, 3)[0].tolist()
    for presses in (3, 2):
        for _ in range(presses):
            explorer.press(again)
            explorer.check()
        explorer.press(many)
        state = explorer.check()
    assert state["draws"] == 2006
    share_E = torch.tensor(state["inclusion"])
    error_E = (share_E * (1 - share_E) / state["draws"]).sqrt() + 1e-4
    assert ((torch.tensor(state["counts"]) / state["draws"] - share_E).abs() < 4 * error_E).all()
    for part in (0, 0.4, 1):
        explorer.slide("Deviation", part)
        assert explorer.check()["draws"] == 1
    narrow = explorer.state["inclusion"]
    explorer.slide("Shared variance", 0.5)
    assert max(explorer.check()["inclusion"]) > max(narrow)
    explorer.slide("Shared variance", 1)
    assert sorted(explorer.check()["inclusion"]) == [0] * 9 + [1] * 3
    for k in (1, 12, 4):
        explorer.slide("Experts chosen", (k - 1) / 11)
        assert explorer.check()["k"] == k
        explorer.press(again)
        explorer.check()


@pytest.mark.parametrize("hand", HANDS)
def test_pipeline(hand: str, open_explorer: Open) -> None:
    explorer = open_explorer("pipeline", hand)
    seen = set()
    for place, router in enumerate(explorer.config["routers"]):
        explorer.choose(router["name"])
        before = explorer.check()
        assert before["router"] == place
        last = len(router["steps"]) - 1
        for part in (0, 1):
            explorer.slide("Step", part)
            state = explorer.check()
            assert state["step"] == part * last
        seen.add(tuple(value is not None for value in state["values"]))
    assert len(seen) == 6, "sets of experts that one token is sent to"
    # Another router is shown at the step of the same name.
    explorer.choose("GLM-4.5")
    explorer.slide("Step", 1)
    explorer.choose("Mixtral")
    assert explorer.check()["step"] == 3
    if hand != "keyboard":
        explorer.press(explorer.root.locator("[data-step='1']"))
        assert explorer.check()["step"] == 1


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
    stills = root.locator("img").all()
    assert stills
    for still in stills:
        box = still.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        assert box["height"] > 100
        assert still.is_visible()
        assert len((still.get_attribute("alt") or "").split()) > 10
    config = root.get_attribute("data-config")
    context.close()
    # The script begins with the same numbers, and nothing of the picture stays.
    live = open_explorer(name, "mouse")
    assert live.root.get_attribute("data-config") == config
    state = live.check()
    assert not live.root.locator("img:visible").count()
    assert live.root.locator(".moe-readout").inner_text() == state["sentence"]


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


@pytest.mark.parametrize("name", KINDS)
def test_on_a_phone_all_fits_and_nothing_jumps(name: str, open_explorer: Open) -> None:
    explorer = open_explorer(name, "finger")
    root = explorer.root
    assert root.evaluate(SMALLEST) >= 11
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


@pytest.mark.parametrize("name", KINDS)
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


@pytest.mark.parametrize("name", KINDS)
def test_on_a_phone_the_hand_stays_while_the_picture_is_in_view(
    name: str, open_explorer: Open
) -> None:
    explorer = open_explorer(name, "finger")
    hand, page = explorer.root.locator(".moe-hand"), explorer.page
    for panel in explorer.root.locator("[data-panel]").all():
        panel.evaluate("panel => panel.scrollIntoView({ block: 'start', behavior: 'instant' })")
        for _ in range(2):
            page.evaluate("new Promise(requestAnimationFrame)")
        box, picture = hand.bounding_box(), panel.bounding_box()
        assert box is not None
        assert picture is not None
        assert box["y"] + box["height"] <= PHONE["height"] + 1
        assert box["height"] < PHONE["height"] / 4
        assert picture["y"] + picture["height"] <= box["y"] + 1 or picture["y"] < box["y"] / 2
    # Below the controls there is the sentence, and no empty strip.
    text = explorer.root.locator(".moe-readout")
    unused = """text => {
      const range = new Range(); range.selectNodeContents(text);
      return text.closest(".moe-explorer").getBoundingClientRect().bottom
        - range.getBoundingClientRect().bottom; }"""
    assert text.evaluate(unused) < 40


def rested(explorer: Explorer) -> None:
    explorer.page.wait_for_function(
        "root => !root.moving", arg=explorer.root.element_handle(), timeout=5000
    )


def test_bars_fill_their_panel_and_grey_is_what_was_there_before(open_explorer: Open) -> None:
    explorer = open_explorer("temperature", "mouse")
    assert set(explorer.drawn["probabilities"]["ghosts"]) == {0}
    tops = []
    for part in (0, 0.45, 0.55, 1):
        before = explorer.state["probabilities"]
        rested(explorer)
        explorer.slide("Temperature", part)
        panel = explorer.drawn["probabilities"]
        assert max(panel["values"]) * panel["unit"] >= 0.5 * (236 - 36 - 23) - 0.1
        tops.append(panel["words"][panel["words"].index("0") + 2])  # above 0, half and the end
        end = float(tops[-1])
        assert panel["ghosts"] == pytest.approx([min(p, end) for p in before], abs=0.01 * end)
    assert (tops[0], tops[-1]) == ("1", ".1")
    # While the hand moves on, the ghost stays.
    rested(explorer)
    explorer.hand = "keyboard"
    start = explorer.state["probabilities"]
    slider = explorer.root.get_by_role("slider")
    slider.focus()
    for _ in range(3):
        explorer.page.keyboard.press("ArrowLeft")
    end = 0.2
    ghosts = explorer.drawn["probabilities"]["ghosts"]
    assert ghosts == pytest.approx([min(p, end) for p in start], abs=0.01 * end)


def test_cosines_are_high_enough_to_read(open_explorer: Open) -> None:
    explorer = open_explorer("centroids", "mouse")
    explorer.choose("cosine")
    panel = explorer.drawn["logits"]
    assert max(panel["values"]) * panel["unit"] > 30
    assert set(panel["ghosts"]) == {0}, "dot products are no state before cosines"


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_draws_play_and_pause_when_they_are_asked_to(
    motion: str, browser: Browser, server: str
) -> None:
    page = browser.new_page(reduced_motion=motion)  # type: ignore[arg-type]
    page.goto(server + CHAPTERS["sampled"], wait_until="load")
    explorer = Explorer(page, page.locator("[data-explorer=sampled]"), "keyboard")
    page.wait_for_timeout(500)
    assert explorer.state["draws"] == 1, "it plays by itself"
    play = explorer.root.get_by_role("button", name="Play: draws")
    play.focus()
    page.keyboard.press("Enter")
    pause = explorer.root.get_by_role("button", name="Pause: draws")
    readout = explorer.root.locator(".moe-readout")
    assert readout.get_attribute("aria-live") == "off", "a screen reader would never come to rest"
    page.wait_for_function(
        "root => JSON.parse(root.dataset.state).draws > 4", arg=explorer.root.element_handle()
    )
    assert pause.evaluate("button => button === document.activeElement")
    page.keyboard.press("Space")
    assert play.count() == 1
    assert readout.get_attribute("aria-live") == "polite"
    drawn = explorer.check()["draws"]
    page.wait_for_timeout(500)
    assert explorer.state["draws"] == drawn
    # Another rule begins again, and does not go on playing.
    play.click()
    explorer.choose("Top-K")
    assert play.is_disabled()
    page.wait_for_timeout(300)
    assert explorer.state["draws"] == 1
    page.close()


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
    assert page.evaluate(style, "fill") == rgb(EXPERT_COLOURS_DARK[5])
    variable = "getComputedStyle(document.documentElement).getPropertyValue('--book-card')"
    dark = page.evaluate(variable)
    assert page.evaluate(card) == rgb(dark)
    assert page.evaluate(filters) == []
    assert page.evaluate(style, "transitionDuration") == "0s"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(style, "fill") == rgb(EXPERT_COLOURS[5])
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
        explorers.pipeline_explorer({it: zoo.ROUTERS[it] for it in ("mixtral", "deepseek_v3")}),
    ]


def test_many_on_one_page_do_not_meet(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 900})
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.set_content("<main>" + "".join(2 * e.html for e in all_of_them()) + "</main>")
    roots = page.locator("[data-explorer]").all()
    assert len(roots) == 10
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
