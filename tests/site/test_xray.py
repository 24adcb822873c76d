"""The X-ray on a page: its sliders by keyboard, its tokens by mouse and finger."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from moe_tutorial import Trace
from moe_tutorial.explorers import xray
from moe_tutorial.explorers.xray import by_gate
from tests.test_xray import TEXT, made


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    made_ = context.new_page()
    made_.on("pageerror", lambda error: pytest.fail(str(error)))
    yield made_
    context.close()


def shown(page: Page, trace: Trace, **options: Any) -> None:
    page.set_content(f"<!doctype html><title>X-ray</title>{xray(trace, **options).html}")


def state(page: Page) -> dict[str, Any]:
    page.wait_for_timeout(300)  # the sentence waits for the hand to rest
    found: dict[str, Any] = json.loads(
        page.locator("[data-explorer]").get_attribute("data-state") or ""
    )
    return found


def check(page: Page, trace: Trace) -> dict[str, Any]:
    """What is drawn is what the trace says of this state."""
    now = state(page)
    layer, token, expert = now["layer"], now["token"], now["expert"]
    hues = json.loads(page.locator("[data-explorer]").get_attribute("data-config") or "")["hues"]
    own = by_gate(trace).experts_LTK[layer, :, 0].tolist()
    classes = page.locator(".moe-passage span").evaluate_all("all => all.map(it => it.className)")
    assert len(classes) == len(TEXT.encode())
    for place, kind in enumerate(classes):
        uses = expert in trace.experts_LTK[layer, place].tolist()
        seen = own[place] if expert < 0 else expert if uses else -1
        hue = hues[layer].index(seen) if seen in hues[layer] else None
        words = kind.split()
        assert ("here" in words) == (place == token)
        assert (f"c{hue}" in words) == (hue is not None)
        assert ("alone" in words) == (hue is None and expert >= 0 and uses)
    assert trace.gates_LTK is not None
    pairs = sorted(
        zip(
            trace.experts_LTK[layer, token].tolist(),
            trace.gates_LTK[layer, token].tolist(),
            strict=True,
        ),
        key=lambda pair: -pair[1],
    )
    assert [it[0] for it in now["experts"]] == [e for e, _ in pairs if e >= 0]
    assert page.locator(".moe-readout").inner_text() == now["sentence"]
    for e, gate in pairs:
        assert (f"expert {e} with gate {gate:.2f}" in now["sentence"]) == (e >= 0)
    return now


@pytest.mark.parametrize("num_experts", [6, 16])
def test_by_keyboard(page: Page, num_experts: int) -> None:
    trace = made(num_experts)
    shown(page, trace)
    assert check(page, trace)["layer"] == 0
    for name, keys in (("Layer", 2), ("Token", 4), ("Colour", 6), ("Token", 2)):
        page.get_by_role("slider", name=name, exact=True).focus()
        for _ in range(keys):
            page.keyboard.press("ArrowRight")
        check(page, trace)
    now = check(page, trace)
    assert (now["layer"], now["token"], now["expert"]) == (2, 6, 5)
    assert now["sentence"].startswith("Expert 5 serves ")


def test_a_token_without_an_expert(page: Page) -> None:
    trace = made()
    shown(page, trace)
    page.get_by_role("slider", name="Token", exact=True).fill("4")
    assert "no expert" in check(page, trace)["sentence"]


def test_by_mouse_and_finger(page: Page) -> None:
    trace = made()
    shown(page, trace)
    page.locator("[data-token='3']").hover()
    assert check(page, trace)["token"] == 3
    page.locator("[data-token='9']").tap()
    assert check(page, trace)["token"] == 9
    slider = page.get_by_role("slider", name="Token", exact=True)
    assert slider.input_value() == "9"


def test_without_scripts_there_is_a_picture(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    shown(page, made())
    assert page.locator(".moe-stills img").is_visible()
    context.close()
