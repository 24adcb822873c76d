"""The scrubber in a browser: by keyboard and mouse, on paper, without scripts, two on a page."""

import re
from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser, Page

from moe_tutorial.figures import EXPERT_COLOURS_DARK, Picture, Scrubber, curves, expert_bars

LABELS = ["step 0", "step <10>", "step 20"]
PICTURES = [
    expert_bars({label: torch.eye(4)[i]}, "load", y_limits=(0, 1)) for i, label in enumerate(LABELS)
]
# A picture of another height, and with characters that HTML, URLs and JSON know.
ODD = Picture(curves([1, 2], {"a": [3, 4]}, x_label="x", y_label="y").figure, "</script> & \"é%' #")
WIDTH = 390


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Two scrubbers of the same pictures below each other, and a third one."""
    scrubber = Scrubber(PICTURES, LABELS, "training step", start=1)
    odd = Scrubber([*PICTURES, ODD], [*LABELS, "</script>"], "odd & <b>one</b>")
    tab = browser.new_page(viewport={"width": WIDTH, "height": 900})
    tab.on("pageerror", lambda error: pytest.fail(str(error)))
    tab.set_content(f"<main>{scrubber.html}{scrubber.html}{odd.html}</main>")
    yield tab
    tab.close()


def shown(page: Page, number: int = 0) -> tuple[str, str]:
    """The words and the alternative text of the one picture to be seen in a scrubber."""
    root = page.locator(".moe-scrubber").nth(number)
    (picture,) = (i for i in root.locator("img, .moe-frame > svg").all() if i.is_visible())
    if picture.get_attribute("src") is None:
        svg = picture.evaluate("svg => svg.outerHTML")
        return words(svg), picture.get_attribute("aria-label") or ""
    svg = picture.evaluate("i => decodeURIComponent(i.src.slice('data:image/svg+xml,'.length))")
    return words(svg), picture.get_attribute("alt") or ""


def words(svg: str) -> str:
    """What is drawn: every shape's outline and every text, in order."""
    return " ".join(map("".join, re.findall(r' d="([^"]+)"|>([^<\n]+)<', svg)))


def expected(picture: Picture) -> tuple[str, str]:
    return words(picture.svg), picture.alt


def test_each_position_shows_its_picture_and_says_its_name(page: Page) -> None:
    slider = page.get_by_role("slider").first
    assert shown(page) == expected(PICTURES[1])
    for key, position in [("Home", 0), ("ArrowRight", 1), ("End", 2), ("ArrowLeft", 1)]:
        slider.press(key)
        assert shown(page) == expected(PICTURES[position])
        assert slider.get_attribute("aria-valuetext") == LABELS[position]
        assert page.locator(".moe-value").first.inner_text() == LABELS[position]
    assert page.get_by_role("slider", name="training step", exact=True).count() == 2
    assert page.get_by_role("img", name=PICTURES[1].alt).count() == 2


def test_a_finger_and_a_mouse_move_it(page: Page) -> None:
    slider = page.get_by_role("slider").first
    box = slider.bounding_box()
    assert box is not None
    assert box["height"] >= 24
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + 2)
    assert shown(page) == expected(PICTURES[2])


def test_on_a_phone_its_letters_can_be_read_and_its_controls_be_hit(page: Page) -> None:
    sizes = page.locator(".moe-scrubber").first.evaluate(
        """root => [...root.querySelectorAll("text, tspan, span, button")]
          .filter(e => e.checkVisibility() && e.textContent.trim())
          .map(e => {
            const {a, b} = e.getScreenCTM?.() ?? {a: 1, b: 0}; // b, where it is turned
            return parseFloat(getComputedStyle(e).fontSize) * Math.hypot(a, b);
          })"""
    )
    assert len(sizes) > 8
    assert min(sizes) >= 11
    for target in page.locator("button, input").all():
        box = target.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 24


def test_two_of_the_same_move_apart(page: Page) -> None:
    page.get_by_role("slider").nth(1).press("Home")
    assert shown(page, 0) == expected(PICTURES[1])
    assert shown(page, 1) == expected(PICTURES[0])
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids), "ids of two pictures meet"
    used = page.locator(".moe-frame use").evaluate_all("all => all.map(e => e.href.baseVal)")
    assert used
    assert {link.removeprefix("#") for link in used} <= set(ids)


def test_it_plays_to_the_end_and_begins_again(page: Page) -> None:
    slider = page.get_by_role("slider").first
    page.wait_for_timeout(1000)
    assert shown(page) == expected(PICTURES[1]), "it plays by itself"
    page.get_by_role("button", name="Play: training step").first.press("Enter")
    assert shown(page) == expected(PICTURES[2])
    # The last picture: it has come to rest, and begins again when it is asked to.
    button = page.get_by_role("button", name="Play: training step").first
    button.press("Space")
    assert slider.get_attribute("aria-valuetext") == LABELS[0]
    assert shown(page) == expected(PICTURES[0])
    page.wait_for_function("document.querySelector('input').value === '1'")
    # A hand on the slider takes over.
    slider.press("ArrowLeft")
    page.wait_for_timeout(1000)
    assert shown(page) == expected(PICTURES[0])
    assert button.count() == 1


def test_in_the_dark_it_has_the_palettes_colours_and_no_filter(browser: Browser) -> None:
    html = Scrubber(PICTURES, LABELS, "training step", start=1).html
    tab = browser.new_page(color_scheme="dark")
    tab.set_content(f'<body data-theme="dark">{html}</body>')
    fills = tab.evaluate(
        "[...document.querySelectorAll('.moe-frame *')].map(e => getComputedStyle(e).fill)"
    )
    assert rgb(EXPERT_COLOURS_DARK[1]) in fills
    assert rgb("#ffffff") not in fills
    filters = "[...document.querySelectorAll('*')].map(e => getComputedStyle(e).filter)"
    assert set(tab.evaluate(filters)) == {"none"}
    tab.close()


def rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


def test_names_are_text_and_any_character_arrives(page: Page) -> None:
    slider = page.get_by_role("slider", name="odd & <b>one</b>")
    slider.press("End")
    assert shown(page, 2) == expected(ODD)
    assert slider.get_attribute("aria-valuetext") == "</script>"


def test_nothing_else_moves_with_the_picture(page: Page) -> None:
    slider = page.get_by_role("slider").nth(2)
    slider.press("Home")
    where = """[...document.querySelectorAll("*:not(svg, svg *, .moe-value)")]
      .map(e => JSON.stringify(e.getBoundingClientRect()))"""
    before = page.evaluate(where)
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    for _ in range(3):
        slider.press("ArrowRight")
        assert page.evaluate(where) == before


def test_on_paper_it_is_the_picture_that_it_starts_with(page: Page) -> None:
    page.get_by_role("slider").first.press("End")
    page.emulate_media(media="print")
    assert shown(page) == expected(PICTURES[1])
    assert not any(slider.is_visible() for slider in page.locator("label").all())


@pytest.mark.parametrize("stripped", [False, True])
def test_without_scripts_it_is_that_picture_and_no_slider(browser: Browser, stripped: bool) -> None:
    html = Scrubber(PICTURES, LABELS, "training step", start=1).html
    if stripped:  # as GitHub does it
        import bs4

        soup = bs4.BeautifulSoup(html, "html.parser")
        for tag in soup.find_all(["script", "style"]):
            tag.decompose()
        html = str(soup)
    context = browser.new_context(java_script_enabled=stripped)
    tab = context.new_page()
    tab.set_content(html)
    image = tab.get_by_role("img", name=PICTURES[1].alt)
    assert image.count() == tab.locator("img").count() == 1
    assert image.is_visible()
    assert tab.locator("input, label, strong, button").count() == 0
    assert tab.locator("body").inner_text().strip() == ""
    context.close()
