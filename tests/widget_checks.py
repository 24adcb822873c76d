"""What the widgets do when they are moved, checked without pytest, so that any environment can.

``python -m tests.widget_checks`` runs every check with the ipywidgets that is installed there.
"""

import math
import re
import xml.etree.ElementTree as ET

import ipywidgets
import torch

from moe_tutorial import (
    cosine_scores,
    dot_scores,
    entropy,
    gumbel_top_k,
    inclusion_probabilities,
    keep,
    renormalise,
    softmax,
    softmax_over_chosen,
    top_k,
)
from moe_tutorial.explorers.selection import WAYS
from moe_tutorial.widgets import (
    LiveFigure,
    centroid_widget,
    routing_widget,
    selection_widget,
    temperature_widget,
)

NOISE = torch.Generator().manual_seed(0)
LOGITS_TE = 2 * torch.randn(3, 12, generator=NOISE, dtype=torch.float64)


def table(live: LiveFigure) -> dict[str, dict[int, float]]:
    """The numbers below the picture: column -> expert -> value."""
    html = live.shown.value
    heads = re.findall(r"<th scope=col>(.*?)</th>", html)
    rows = [
        [int(expert), *map(float, re.findall(r"<td>(.*?)</td>", cells))]
        for expert, cells in re.findall(r"<tr><th scope=row>(\d+)</th>(.*?)</tr>", html)
    ]
    return {head: {row[0]: row[i] for row in rows} for i, head in enumerate(heads) if i}


def shows(live: LiveFigure, **columns: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Check every column, given as the experts it must list, in order, and their values."""
    found = table(live)
    for name, (experts_K, values_K) in columns.items():
        column = found[name.replace("_", " ")]
        assert list(column) == experts_K.tolist(), (name, column, experts_K)
        shown_K = torch.tensor(list(column.values()), dtype=torch.float64)
        assert (shown_K - values_K.double()).abs().max() <= 1e-6, (name, shown_K, values_K)
    pictures = re.findall(r"<svg.*?</svg>", live.shown.value, flags=re.S)
    assert pictures
    for svg in pictures:
        assert len(ET.fromstring(svg).get("aria-label", "")) > 40


def check_temperature() -> None:
    live = temperature_widget(LOGITS_TE, temperature=0.7)
    assert live.controls["temperature"].value == 0.7
    for token, tau in [(0, 0.7), (0, 2.0), (2, 2.0), (2, math.inf), (1, 0.01)]:
        live.controls["token"].value, live.controls["temperature"].value = token, tau
        probabilities_TE = softmax(LOGITS_TE[token : token + 1], tau)
        order_E = top_k(LOGITS_TE[token : token + 1], 12)[0]
        shows(live, probability=(order_E, probabilities_TE[0, order_E]))
        (shown,) = re.findall(r"Entropy ([\d.]+) nats", live.shown.value)
        assert abs(float(shown) - entropy(probabilities_TE).item()) <= 1e-6


def check_limits_of_the_temperature() -> None:
    live = temperature_widget(torch.tensor([1.0, 3.0, 3.0, 2.999999]))
    slider = live.controls["temperature"]
    words = [word for word, _ in slider.options]
    slider.index = 0
    assert (words[0], words[-1]) == ("\N{RIGHTWARDS ARROW} 0", "\N{INFINITY}")
    assert table(live)["probability"] == {1: 0.5, 2: 0.5, 3: 0.0, 0: 0.0}
    slider.index = len(words) - 1
    assert set(table(live)["probability"].values()) == {0.25}


def check_selection() -> None:
    live = selection_widget(LOGITS_TE)
    for token, k in [(0, 3), (0, 1), (1, 12), (2, 5)]:
        live.controls["token"].value, live.controls["k"].value = token, k
        logits_TE = LOGITS_TE[token : token + 1]
        chosen_TK, probabilities_TE = top_k(logits_TE, k), softmax(logits_TE)
        ways = [
            softmax_over_chosen(logits_TE, chosen_TK)[0],
            renormalise(probabilities_TE, chosen_TK)[0],
            keep(probabilities_TE, chosen_TK)[0],
        ]
        names = WAYS.values()
        expected = {name: (chosen_TK[0], way_K) for name, way_K in zip(names, ways, strict=True)}
        shows(live, **expected)
        sums = re.findall(r"\d: ([\d.]+)[,.] ?", live.shown.value.split("The gates sum to")[1])
        for shown, way_K in zip(sums, ways, strict=True):
            assert abs(float(shown) - way_K.sum().item()) <= 1e-6


def check_routing() -> None:
    live = routing_widget(
        LOGITS_TE, 4, 2.0, gates="tempered", generator=torch.Generator().manual_seed(5)
    )
    same = torch.Generator().manual_seed(5)
    logits_TE = LOGITS_TE[:1]
    draws = [gumbel_top_k(logits_TE, 4, 2.0, same)]
    for press, number in (("draw_again", 1), ("draw_1000", 1000)):
        live.buttons[press].click()
        draws.append(gumbel_top_k(logits_TE.expand(number, -1), 4, 2.0, same))
    counts_E = torch.bincount(torch.cat(draws).flatten(), minlength=12)
    last_TK = draws[-1][-1:]
    last_K = last_TK[0]
    expected = {
        "probability": softmax(logits_TE, 2.0)[0, last_K],
        "gate, original": softmax_over_chosen(logits_TE, last_TK)[0],
        "gate, tempered": softmax_over_chosen(logits_TE, last_TK, 2.0)[0],
        "share of draws": counts_E[last_K] / 1002,
        "inclusion probability": inclusion_probabilities(logits_TE, 4, 2.0)[0, last_K],
    }
    shows(live, **{name: (last_K, values_K) for name, values_K in expected.items()})
    assert "in 1002 draws" in live.shown.value
    assert "gates from the tempered logits" in live.shown.value
    live.controls["gates"].value = "original"  # changes no draw
    assert "in 1002 draws" in live.shown.value
    assert "gates from the original logits" in live.shown.value
    live.controls["k"].value = 2  # begins anew
    drawn_K = gumbel_top_k(logits_TE, 2, 2.0, same)[0]
    share_K = torch.ones(2)
    shows(live, share_of_draws=(drawn_K, share_K))
    live.controls["selection"].value = "top_k"
    assert all(button.disabled for button in live.buttons.values())
    shows(live, share_of_draws=(top_k(logits_TE, 2)[0], share_K))
    live.controls["token"].value, live.controls["selection"].value = 2, "sampled"
    assert not any(button.disabled for button in live.buttons.values())
    assert "in 1 draw:" in live.shown.value


def check_centroids() -> None:
    x_TD = torch.randn(3, 2, generator=NOISE, dtype=torch.float64)
    centroids_ED = torch.randn(12, 2, generator=NOISE, dtype=torch.float64)
    live = centroid_widget(x_TD, centroids_ED, 2)
    for token, first, second, rule, k in [
        (0, 0.0, 0.0, "dot", 2),
        (0, 0.5, -0.3, "dot", 4),
        (1, 0.5, -0.3, "cosine", 4),
        (1, *(-x_TD[1]).tolist(), "dot", 4),
    ]:
        wanted = {"token": token, "first": first, "second": second, "scores": rule, "k": k}
        for name, value in wanted.items():
            live.controls[name].value = value
        moved_TD = x_TD[token : token + 1] + torch.tensor([[first, second]], dtype=torch.float64)
        logits_TE = {"dot": dot_scores, "cosine": cosine_scores}[rule](moved_TD, centroids_ED)
        chosen_K = top_k(logits_TE, k)[0]
        logit = (chosen_K, logits_TE[0, chosen_K])
        shows(live, logit=logit, probability=(chosen_K, softmax(logits_TE)[0, chosen_K]))


def check_centroids_of_any_width() -> None:
    x_D = torch.randn(40, generator=NOISE, dtype=torch.float64)
    centroids_ED = torch.randn(64, 40, generator=NOISE, dtype=torch.float64)
    live = centroid_widget(x_D, centroids_ED, 8)
    logits_TE = dot_scores(x_D[None], centroids_ED)
    chosen_K = top_k(logits_TE, 8)[0]
    shows(live, logit=(chosen_K, logits_TE[0, chosen_K]))
    # Another way to the first principal direction: the covariance's leading eigenvector.
    direction_D = torch.linalg.eigh(torch.cov(centroids_ED.T)).eigenvectors[:, -1]
    direction_D = direction_D * direction_D[direction_D.abs().argmax()].sign()
    live.controls["first"].value = 1.5
    logits_TE = dot_scores((x_D + 1.5 * direction_D)[None], centroids_ED)
    chosen_K = top_k(logits_TE, 8)[0]
    shows(live, logit=(chosen_K, logits_TE[0, chosen_K]))


def check_any_number_of_experts_and_dtype() -> None:
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    for dtype, num_experts in zip(dtypes, (2, 8, 64, 128), strict=True):
        logits_BSE = torch.randn(2, 3, num_experts, generator=NOISE).to(dtype)
        live = selection_widget(logits_BSE.requires_grad_(), 2)
        live.controls["token"].value = 5
        exact_TE = logits_BSE.detach()[1, 2].double()[None]
        chosen_K = top_k(exact_TE, 2)[0]
        shows(live, probability=(chosen_K, softmax(exact_TE)[0, chosen_K]))
        assert logits_BSE.grad is None


def check_it_is_redrawn_in_its_place_and_shows_as_a_widget() -> None:
    live = temperature_widget(LOGITS_TE)
    shown, before = live.shown, live.shown.value
    live.controls["temperature"].value = 5.0
    assert live.shown is shown
    assert live.children[-1] is shown
    assert shown.value != before
    assert "token" not in temperature_widget(LOGITS_TE[:1]).controls
    assert len(repr(live)) <= 110  # more than that ipywidgets would cut off
    assert "It needs a kernel" in repr(live)
    ids = re.findall(
        r'\bid="(.*?)"', before + shown.value + temperature_widget(LOGITS_TE).shown.value
    )
    assert len(set(ids)) == len(ids), "ids of two pictures meet"
    for used in re.findall(r'(?:href="#|url\(#)(.*?)[")]', before):
        assert used in ids, f"{used} points nowhere"


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]

if __name__ == "__main__":
    for check in CHECKS:
        check()
    print(f"ipywidgets {ipywidgets.__version__}: {len(CHECKS)} checks passed")
