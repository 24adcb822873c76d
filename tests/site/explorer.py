"""One explorer on a built page: the hand that moves it, and what the package calculates for it."""

import json
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from playwright.sync_api import Locator, Page

import moe_tutorial as moe
from moe_tutorial.explorers.posterior import chosen_probabilities, drawn_logits
from tests.explorer_words import (
    centroid_sentence,
    experts_in_words,
    fixed,
    posterior_sentence,
    selection_sentence,
    share,
    temperature_sentence,
)

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
    sentence = centroid_sentence(state["token"], config["digits"], logits_TE, state)
    assert state["sentence"] == sentence


def check_temperature(state: State, config: State) -> None:
    logits_TE = torch.tensor([config["logits"]], dtype=torch.float64)
    probabilities_TE = moe.softmax(logits_TE, temperature_of(state))
    close(state["probabilities"], probabilities_TE[0])
    close(state["entropy"], moe.entropy(probabilities_TE)[0])
    if tau := float(state["temperature"]):
        assert state["sentence"] == temperature_sentence(logits_TE, tau)


def check_selection(state: State, config: State) -> None:
    logits_TE = torch.tensor([config["logits"]], dtype=torch.float64)
    probabilities_TE = moe.softmax(logits_TE)
    experts_TK = moe.top_k(logits_TE, state["k"])
    close(state["probabilities"], probabilities_TE[0])
    assert state["experts"] == experts_TK[0].tolist()
    close(state["gates"]["softmax"], moe.softmax_over_chosen(logits_TE, experts_TK)[0])
    close(state["gates"]["renormalised"], moe.renormalise(probabilities_TE, experts_TK)[0])
    close(state["gates"]["kept"], moe.keep(probabilities_TE, experts_TK)[0])
    assert state["sentence"] == selection_sentence(logits_TE, state["k"])


def draw(logits_TE: torch.Tensor, state: State, uniforms: Any) -> torch.Tensor:
    """The package's own draw, from these uniform numbers."""
    numbers_TE = torch.tensor(uniforms, dtype=torch.float64)
    with patch.object(torch.Tensor, "uniform_", lambda noise, **_: noise.copy_(numbers_TE)):
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
        assert state["sentence"].endswith(f" {fixed(inclusion_E[best].item(), 3)}.")
    assert experts_in_words(state["experts"]) in state["sentence"]
    assert sum(state["counts"]) == state["k"] * state["draws"]


def check_posterior(state: State, config: State) -> None:
    mean_TE = torch.tensor([config["means"]], dtype=torch.float64)
    noise_TE = torch.tensor([state["noise"]], dtype=torch.float64)
    cloud = state["deviation"], state["shared"]
    logits_TE = drawn_logits(mean_TE, *cloud, noise_TE, state["common"])
    close(state["logits"], logits_TE[0])
    assert state["experts"] == moe.top_k(logits_TE, state["k"])[0].tolist()
    own = cloud[0] * (1 - cloud[1]) ** 0.5
    close(state["inclusion"], chosen_probabilities(mean_TE[0], own, state["k"]))
    assert state["sentence"] == posterior_sentence(mean_TE, state)
    assert sum(state["counts"]) == state["k"] * state["draws"]


def check_pipeline(state: State, config: State) -> None:
    """The numbers are the package's own, and tests/test_pipeline.py compares them with it."""
    router = config["routers"][state["router"]]
    step = router["steps"][state["step"]]
    assert state["values"] == step["values"]
    assert state["sentence"] == f"{router['name']}, {step['name']}: {step['said']}"


def check_xray(state: State, config: State) -> None:
    k, layer, token = config["k"], state["layer"], state["token"]
    places = range(k * token, k * token + k)
    ids, gates = config["ids"][layer], config["gates"][layer]
    chosen = [[ids[place], gates[place] / 100] for place in places if ids[place] >= 0]
    assert state["experts"] == chosen
    assert all(f"expert {e} with gate {gate:.2f}" in state["sentence"] for e, gate in chosen)


CHECKS: dict[str, Callable[[State, State], None]] = {
    "centroids": check_centroids,
    "temperature": check_temperature,
    "selection": check_selection,
    "sampled": check_sampled,
    "posterior": check_posterior,
    "pipeline": check_pipeline,
    "xray": check_xray,
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
    labels: [...panel.querySelectorAll(".value")].map(label => label.textContent),
    ghosts: [...panel.querySelectorAll("g .ghost")].map(ghost => {
      const height = Number(ghost.getAttribute("height")) / Number(panel.dataset.unit);
      return Number(ghost.getAttribute("y")) < Number(panel.dataset.zero) - .004 ? height : -height;
    }),
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

    @property
    def drawn(self) -> State:
        drawn: State = self.root.evaluate(DRAWN)
        return drawn

    def check(self) -> State:
        """The state is what the package calculates, and the picture is the state."""
        state = self.state
        CHECKS[self.kind](state, self.config)
        panels = self.drawn
        if "probabilities" in state:
            self.check_bars(panels["probabilities"], state["probabilities"], state.get("experts"))
        if self.kind == "pipeline":
            inside = [e for e, value in enumerate(state["values"]) if value is not None]
            values = [value or 0.0 for value in state["values"]]
            all_in = len(inside) == len(values)
            self.check_bars(panels["values"], values, None if all_in else inside)
            router = self.config["routers"][state["router"]]
            words = panels["pipeline"]["words"]
            for step in router["steps"]:
                start = words.index(step["name"])
                assert words[start + 1 : start + 14] == [step["field"], *step["labels"]]
        if self.kind == "xray":
            assert self.root.locator(".moe-passage span").count() == len(self.config["tokens"])
            assert self.root.locator(".moe-passage .here").count() == 1
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
            assert f"{fixed(state['entropy'], 2)} nats" in panels["entropy"]["words"]
        if self.kind == "posterior":
            shares = [count / state["draws"] for count in state["counts"]]
            self.check_bars(panels["counts"], shares, state["experts"])
            tolerance = 0.006 / panels["counts"]["unit"]
            assert panels["counts"]["marks"] == pytest.approx(state["inclusion"], abs=tolerance)
            assert panels["clouds"]["chosen"] == sorted(state["experts"])
        if self.kind == "selection":
            for way, gates in state["gates"].items():
                self.check_bars(panels[way], self.scattered(state, gates), state["experts"])
                assert f"sum {fixed(sum(gates), 3)}" in panels[way]["words"]
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
            assert panels["counts"]["labels"] == [share(value) for value in shares]
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
            self.press(self.root.locator("fieldset").get_by_text(name, exact=True))

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
        # Not under what sticks to the lower edge of a phone.
        token.evaluate("token => token.scrollIntoView({ block: 'center', behavior: 'instant' })")
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
