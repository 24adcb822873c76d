"""What a reader picks, reads and unfolds: on the page, and kept in their browser alone."""

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Locator, Page, expect
from sphinx.application import Sphinx

from tools.execute_notebooks import canonicalise, fold_drawings
from tools.site.site_host import serve

from .conftest import BOOK, PAGES, ROOT
from .test_browser import darken, inaccessible

FIRST = (
    "**Predict first.** Which changes the *probabilities*?\n\n- A. Adding $x$.\n- B. Doubling.\n"
)
ANSWER = "\n**Prediction: B.** A shift cancels.\n"
SECOND = "\n**Predict first.** Is it a sum?\n\n- A. Yes.\n- B. No.\n- C. Who knows?\n"
PAIRS = f"# Two\n\n{FIRST}\nBetween.\n{ANSWER}{SECOND}\n**Prediction: A.** It is.\n"


def build(text: str, folder: Path) -> tuple[BeautifulSoup, str]:
    """The page that Sphinx makes of a text and of a cell that draws, and what it warns of in it."""
    drawing = nbformat.v4.new_code_cell('bars(p).captioned("2.1", "One is high.")')
    drawing.outputs = [nbformat.v4.new_output("display_data", {"text/html": "<p>A figure.</p>"})]
    cells = [nbformat.v4.new_markdown_cell(text), drawing]
    notebook = nbformat.v4.new_notebook(cells=cells)
    fold_drawings(notebook)
    canonicalise(notebook)
    nbformat.write(notebook, folder / "index.ipynb")
    options = {
        "extensions": ["myst_nb", "book_predict"],
        "myst_enable_extensions": ["dollarmath"],
        "nb_execution_mode": "off",
        "html_static_path": [str(ROOT / "book" / "_static")],
    }
    html, warnings = folder / "html", io.StringIO()
    sys.path.insert(0, str(ROOT / "book" / "_extensions"))
    try:
        app = Sphinx(
            folder, None, html, folder / "trees", "html", options, status=None, warning=warnings
        )
        app.build()
    finally:
        del sys.path[0]
    page = BeautifulSoup((html / "index.html").read_text("utf-8"), "html.parser")
    # Others speak of a second build in one process.
    lines = [line for line in warnings.getvalue().splitlines() if "index.ipynb:" in line]
    return page, "\n".join(lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with two predictions, built."""
    folder = tmp_path_factory.mktemp("predict")
    _, warnings = build(PAIRS, folder)
    assert not warnings
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> BeautifulSoup:
    return BeautifulSoup((folder / "html" / "index.html").read_text("utf-8"), "html.parser")


# --- what is built ---


def test_a_question_is_a_group_of_radio_buttons(page: BeautifulSoup) -> None:
    first, second = page.select("fieldset.predict")
    assert first.legend
    assert first.legend.get_text() == "Predict first. Which changes the probabilities?"
    labels = [" ".join(label.get_text().split()) for label in first.select("ul > li > label")]
    assert labels[1] == "B. Doubling."
    assert labels[0].startswith("A. Adding")
    assert first.select("label .math")
    assert [radio["value"] for radio in second.select("input[type=radio]")] == ["A", "B", "C"]
    assert len({radio["name"] for radio in page.select("input[type=radio]")}) == 2
    # Without scripts nothing can be picked, and the options are a list.
    for scripted in page.select("fieldset input, .pick-note, .pick"):
        assert "pst-js-only" in scripted["class"]


def test_a_result_names_its_question(page: BeautifulSoup) -> None:
    results = page.select("div.prediction")
    assert [result["data-answer"] for result in results] == ["B", "A"]
    for result, question in zip(results, page.select("fieldset.predict"), strict=True):
        assert result["id"] == f"{question['id']}-result"
        (line,) = result.select(".pick")
        assert not line.contents, "nothing is said before a reader has picked"
    assert results[0].get_text().startswith("Prediction: B. A shift cancels.")


def test_the_code_of_a_figure_stands_below_it(page: BeautifulSoup) -> None:
    (cell,) = page.select(".cell.tag_hide-input")
    shown, fold = cell.find_all(recursive=False)
    assert "A figure." in shown.get_text()
    assert fold.name == "details"
    assert "Show the code that draws figure 2.1" in fold.summary.get_text()
    assert "captioned" in fold.get_text()


def test_a_question_without_options_is_one_to_think_about(tmp_path: Path) -> None:
    page, warnings = build("# One\n\n**Predict first.** Which wins?\n\nRead on.\n", tmp_path)
    assert not warnings
    assert not page.select("fieldset")
    assert page.select_one("p.predict")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (FIRST, "this prediction has no result"),
        (f"{FIRST}{ANSWER}{SECOND}", "this prediction has no result"),
        (ANSWER, "stands before its question"),
        (f"{FIRST}{ANSWER}{ANSWER}", "stands before its question"),
        (f"{ANSWER}{FIRST}", "stands before its question"),
        (FIRST + ANSWER.replace("B.", "C."), "must be one of its options A, B, got C"),
        (FIRST + ANSWER.replace("B.", "B:"), "must begin with a letter"),
        (FIRST + ANSWER.replace("B.", "Doubling."), "must begin with a letter"),
        (FIRST.replace("- B. Doubling.\n", "") + ANSWER, 'got "A"'),
        (FIRST.replace("B. ", "C. ") + ANSWER, 'got "AC"'),
        (FIRST.replace("B. ", "") + ANSWER, 'got "A?"'),
        (f"{FIRST}- C. x\n- D. y\n- E. z\n{ANSWER}", 'got "ABCDE"'),
    ],
)
def test_what_does_not_pair_is_a_warning_and_ends_a_strict_build(
    text: str, warning: str, tmp_path: Path
) -> None:
    _, warnings = build(f"# One\n\n{text}", tmp_path)
    assert warning in warnings


# --- what a reader does ---


@pytest.fixture
def tab(browser: Browser, folder: Path) -> Iterator[Page]:
    """The page with two predictions, on a first visit."""
    with serve(folder / "html") as address:
        context = browser.new_context(base_url=address)
        tab = context.new_page()
        problems: list[str] = []
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.goto("index.html")
        yield tab
        context.close()
        assert not problems


def result(tab: Page, number: int) -> Locator:
    return tab.locator(f"#prediction-{number}-result .pick")


def test_a_pick_is_met_again_at_the_result(tab: Page) -> None:
    expect(result(tab, 1)).to_be_hidden()
    first, second = (tab.locator(f"#prediction-{n}") for n in (1, 2))
    first.get_by_role("radio", name="A. Adding").focus()
    tab.keyboard.press("Space")
    expect(result(tab, 1)).to_contain_text("You picked A, “Adding")
    expect(result(tab, 1)).to_contain_text("It turned out to be B.")
    expect(result(tab, 2)).to_be_hidden()
    tab.keyboard.press("ArrowDown")
    expect(result(tab, 1)).to_have_text("You picked B, and so it is. Back to the question")
    expect(first.get_by_role("status")).to_have_text("You picked B. Read on, or go to the result.")
    second.get_by_text("Who knows?").click()
    tab.reload()
    expect(first.get_by_role("radio", name="B.")).to_be_checked()
    expect(second.get_by_role("radio", name="C.")).to_be_checked()
    expect(result(tab, 1)).to_have_class(re.compile(r"\bsame\b"))
    expect(result(tab, 2)).to_have_class(re.compile(r"\bother\b"))
    expect(result(tab, 2)).to_contain_text("You picked C, “Who knows?” It turned out to be A.")


def test_links_lead_to_the_result_and_back(tab: Page) -> None:
    tab.locator("#prediction-1").get_by_role("radio", name="A.").check()
    tab.get_by_role("link", name="go to the result").press("Enter")
    assert tab.evaluate("location.hash") == "#prediction-1-result"
    result(tab, 1).get_by_role("link", name="Back to the question").press("Enter")
    assert tab.evaluate("location.hash") == "#prediction-1"


def test_a_letter_that_is_no_option_any_more_is_no_pick(tab: Page) -> None:
    tab.locator("#prediction-2").get_by_role("radio", name="C.").check()
    tab.evaluate("for (const key of Object.keys(localStorage)) localStorage[key] = 'D'")
    tab.reload()
    expect(tab.locator("input:checked")).to_have_count(0)
    expect(result(tab, 2)).to_be_hidden()


def test_where_a_browser_keeps_nothing_a_pick_lasts_as_long_as_the_page(
    browser: Browser, folder: Path
) -> None:
    tab = browser.new_page()
    tab.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no') }})"
    )
    with serve(folder / "html") as address:
        tab.goto(address)
        tab.locator("#prediction-1").get_by_role("radio", name="B.").check()
        expect(result(tab, 1)).to_contain_text("You picked B, and so it is.")
        tab.reload()
        expect(result(tab, 1)).to_be_hidden()
    tab.close()


def test_without_scripts_the_options_are_a_list(browser: Browser, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    with serve(folder / "html") as address:
        tab.goto(address)
        expect(tab.locator("#prediction-1 li")).to_have_count(2)
        expect(tab.locator("#prediction-1 li").last).to_have_text("B. Doubling.")
        expect(tab.locator("#prediction-1-result")).to_contain_text("A shift cancels.")
    context.close()


PREDICTING = [
    path for path in PAGES if '<fieldset class="predict"' in (BOOK / path).read_text("utf-8")
]


@pytest.mark.parametrize("path", PREDICTING)
def test_predictions_of_a_chapter(path: str, browser: Browser, server: str) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.goto(server + path)
    for question in tab.locator("fieldset.predict").all():
        line = tab.locator(f"#{question.get_attribute('id')}-result .pick")
        for letter in question.locator("input").all():
            letter.check()
            expect(line).to_contain_text(f"You picked {letter.get_attribute('value')}")
    for width in (390, 1440):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert not inaccessible(tab)
    darken(tab)
    assert not inaccessible(tab, rules=["color-contrast"])
    tab.close()


# --- chapters that were read ---

CHAPTER = "notebooks/02_softmax.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_chapter_is_read_when_its_summary_was_seen(
    browser: Browser, server: str, scheme: str
) -> None:
    context = browser.new_context(base_url=server, color_scheme=scheme)
    tab = context.new_page()
    tab.goto("book/intro.html")
    expect(tab.locator(".read-mark, .progress-note")).to_have_count(0)
    tab.goto(CHAPTER, wait_until="networkidle")
    contents = tab.locator(".bd-sidebar-primary")
    chapter = contents.get_by_role("link", name="02 Softmax and temperature")
    expect(chapter).to_have_accessible_name("02 Softmax and temperature")
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.locator("#summary > h2").scroll_into_view_if_needed()
    expect(chapter).to_have_accessible_name("02 Softmax and temperature read")
    tab.wait_for_timeout(300)
    assert not asked, "what was read is sent to nobody"
    assert not inaccessible(tab)
    tab.goto("notebooks/03_top_k.html")
    expect(contents.locator(".read-mark")).to_have_count(1)
    expect(tab.locator(".prev-next-area .left-prev")).to_contain_text("read")
    tab.goto("book/intro.html")
    expect(tab.locator(".chapters li").filter(has_text="Softmax and temp")).to_contain_text("read")
    expect(tab.locator(".chapters .read-mark")).to_have_count(1)
    count = len([page for page in PAGES if page.startswith("notebooks/")])
    expect(tab.locator(".progress-note")).to_contain_text(f"read 1 of the {count} chapters")
    assert not inaccessible(tab)
    tab.get_by_role("button", name="Forget my progress").press("Enter")
    expect(tab.locator(".progress-note")).to_have_text("Your progress is forgotten.")
    expect(tab.locator(".progress-note")).to_be_focused()
    expect(tab.locator(".read-mark")).to_have_count(0)
    assert not inaccessible(tab)
    # The colours that a reader chose are no progress.
    assert set(tab.evaluate("Object.keys(localStorage)")) <= {"mode", "theme"}
    context.close()


def test_a_page_that_comes_back_knows_what_was_read_since(browser: Browser, server: str) -> None:
    context = browser.new_context(base_url=server)
    tab = context.new_page()
    tab.goto("book/intro.html")
    tab.goto(CHAPTER)
    tab.locator("#summary > h2").scroll_into_view_if_needed()
    tab.wait_for_function("document.querySelector('.bd-sidebar-primary .read-mark')")
    tab.go_back()
    expect(tab.locator(".chapters .read-mark")).to_have_count(1)
    context.close()
