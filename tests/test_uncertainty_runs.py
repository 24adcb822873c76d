"""The script of chapters 15 and 16: it stops and goes on, and its parts measure what they say."""

import argparse
import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import uncertainty
from experiments import uncertainty_routers as routers
from experiments import uncertainty_scores as scores
from experiments import uncertainty_stability as stability
from moe_tutorial.learning.documents import LANGUAGES
from moe_tutorial.learning.languages import ELSEWHERE, KNOWN
from moe_tutorial.uncertainty.one_layer import moe_layers
from tests.oracles import same


def documents(languages: Sequence[str] = LANGUAGES) -> dict[str, dict[str, str]]:
    """Words of a few letters, which neighbouring languages share in part."""
    found = {}
    for i, domain in enumerate(("manual", "python", *languages)):
        draw = random.Random(i)
        letters = [chr(97 + (i + j) % 26) for j in range(5)]
        found[domain] = {f"thing/{j}": "".join(draw.choices(letters, k=60)) for j in range(60)}
    return found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> argparse.Namespace:
    for module in (scores, stability):
        monkeypatch.setattr(module, "installed_documents", documents)
    monkeypatch.setattr(stability, "LAYERS", 2)
    monkeypatch.setattr(stability, "WIDTH", 16)
    monkeypatch.setattr(stability, "WINDOWS", 2)
    monkeypatch.setattr(stability, "EXPERT_WIDTH", 8)
    monkeypatch.setattr(stability, "LENGTH", 12)
    monkeypatch.setattr(stability, "DROPPED", (2, 8))
    monkeypatch.setattr(stability, "DRAWS", 2)
    monkeypatch.setattr(stability, "EXPERTS", 6)
    monkeypatch.setattr(routers, "EXPERTS", 6)
    monkeypatch.setattr(routers, "WIDTH", 16)
    monkeypatch.setattr(routers, "EXPERT_WIDTH", 8)
    monkeypatch.setattr(routers, "BATCH", 16)
    monkeypatch.setattr(stability, "GAMMAS", (0.01, 1.0))
    monkeypatch.setattr(stability, "TEMPERATURES", (1.0,))
    monkeypatch.setattr(stability, "SNAPSHOTS", (0, 16, 32))
    monkeypatch.setattr(routers, "LAYERS", 1)
    monkeypatch.setattr(routers, "FISHER", 6)
    monkeypatch.setattr(routers, "DRAWS", 2)
    for name, value in (("TEST", 12), ("CALIBRATION", 12), ("OUTSIDE", 12), ("BOOTSTRAP", 3)):
        monkeypatch.setattr(scores, name, value)
    caches = (scores.data, stability.text, stability.tokens)
    for it in caches:
        it.cache_clear()
    monkeypatch.setattr(uncertainty, "SEEDS", range(1))
    monkeypatch.setattr(uncertainty, "ORDERS", (0, 1))
    monkeypatch.setattr(uncertainty, "RATES", (0.05,))
    grids = {
        "draws": {"sampled": (1.0,)},
        "frozen": {"full covariance": (0.01,)},
        "joint": {"temperature": (0.01,)},
        "smoothing": {"smoothing": (0.1,)},
        "ensemble": {"a third of the steps each": (3.0,)},
    }
    monkeypatch.setattr(uncertainty, "GRIDS", grids)
    # In this process, where what was patched is found.
    monkeypatch.setattr(uncertainty.concurrent.futures, "ProcessPoolExecutor", ThreadPoolExecutor)
    yield argparse.Namespace(steps=24, language_steps=8, work=tmp_path)
    for it in caches:
        it.cache_clear()


def without_seconds(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: without_seconds(v) for k, v in content.items() if k != "seconds"}
    return [without_seconds(it) for it in content] if isinstance(content, list) else content


def test_stopped_runs_go_on(
    short: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "found.json"
    options = ["--steps", "24", "--language-steps", "8", "--results", str(results),
               "--work", str(short.work), "--workers", "1"]  # fmt: skip
    uncertainty.main([*options, "--minutes", "0"])
    content = json.loads(results.read_text())
    assert (content["stability"], content["routers"]) == ([], [])

    with monkeypatch.context() as patch:
        calls = iter(range(100))
        original = uncertainty.router_run

        def stopping(*arguments: Any, **more: Any) -> Any:
            if next(calls) == 3:
                raise KeyboardInterrupt
            return original(*arguments, **more)

        patch.setattr(uncertainty, "router_run", stopping)
        with pytest.raises(KeyboardInterrupt):
            uncertainty.main(options)
    first = json.loads(results.read_text())
    assert [len(first[part]) for part in ("stability", "trials", "routers")] == [3, 1, 2]
    uncertainty.main(options)
    content = json.loads(results.read_text())
    assert content["stability"] == first["stability"]
    assert content["routers"][:2] == first["routers"]
    methods = sum(len(values) for it in uncertainty.GRIDS.values() for values in it.values())
    assert len(content["routers"]) == 1 + methods
    uncertainty.main(options)  # nothing is left to do
    assert json.loads(results.read_text()) == content
    # A run that is made again, in a fresh folder, is the same.
    again = uncertainty.router_run(
        {key: content["routers"][1][key] for key in ("part", "method", "value", "seed")},
        short, 0.05,
    )  # fmt: skip
    assert without_seconds(again) == without_seconds(content["routers"][1])
    with pytest.raises(SystemExit, match="runs with other about"):
        uncertainty.main([*options, "--steps", "25"])
    check_routers(content["routers"])
    check_stability(content["stability"])


def check_routers(rows: list[dict[str, Any]]) -> None:
    by_method = {(it["part"], it["method"]): it for it in rows if it["seed"] == 0}
    plain = by_method["plain", "plain"]
    assert {"byte bigrams", "Mahalanobis", "centroid variance", "output entropy"} <= set(
        plain["errors"]
    )
    assert set(plain["elsewhere"]) == set(ELSEWHERE)
    for (_, method), row in by_method.items():
        for name in ("one draw", "outputs averaged", "averaged inside"):
            if name not in row:
                continue
            found = row[name]
            assert set(found) >= {"calibration", "test", "scaled"}
            assert found["scaled"]["accuracy"] == found["test"]["accuracy"]
            if name == "one draw":
                continue
            interval = found["test nll less the plain model's"]
            difference = found["test"]["nll"] - plain["plain"]["test"]["nll"]
            assert interval["value"] == pytest.approx(difference, abs=2e-4)
        assert ("averaged inside" in row) == (method == "full covariance")
        assert ("logarithms averaged" in row) == (method == "sampled")
        for values in row["elsewhere"].values():
            assert all(0 <= it <= 1 for it in values.values())


def check_stability(rows: list[dict[str, Any]]) -> None:
    models = [it for it in rows if it["part"] == "language model"]
    pairs = [it for it in rows if it["part"] == "pair"]
    assert [it["method"] for it in pairs] == ["same first weights"]
    for it in models:
        small, large = it["noise"]
        assert min(small["at the router"]) > max(large["at the router"])
        assert it["training"]["8"] == [1.0, 1.0]
        assert [len(it["sampling"]), len(it["switched off"]), len(it["context"])] == [2, 2, 2]
        assert 0 <= max(it["bfloat16"]["router alone"]) < 0.2
    assert models[0]["quality"] != models[1]["quality"]


@pytest.mark.usefixtures("short")
def test_noise_has_its_size_and_every_model_the_same_random_numbers() -> None:
    plain = routers.build(0).eval()
    tokens_NS = scores.data().test.tokens_NS
    assert tokens_NS.shape == (12 * len(KNOWN), scores.LENGTH)
    noisy = routers.with_posterior(plain, "noise", 0.5, frozen=True)
    for layer in moe_layers(noisy):
        x_TD = torch.zeros(2000, routers.WIDTH)
        logits_TE = layer.router(x_TD, torch.Generator().manual_seed(0)).logits_TE
        assert logits_TE.std().item() == pytest.approx(0.5, rel=0.03)
    assert not [name for name, it in noisy.named_parameters() if it.requires_grad
                and "posterior" not in name]  # fmt: skip
    # The same random numbers whatever the model, and none for one that draws nothing.
    with routers.drawing(plain, "sampled", 1.0) as model:
        same(
            scores.passes(model, tokens_NS, 2)["logits"],
            scores.passes(model, tokens_NS, 2)["logits"],
        )
    assert scores.passes(plain, tokens_NS, 2)["disagreement"].max() == 0
    assert moe_layers(plain)[0].router.config.selection == "top_k"


@pytest.mark.usefixtures("short")
def test_a_laplace_cloud_shrinks_with_its_prior() -> None:
    plain = routers.build(0).eval()
    sizes = []
    for precision in (1.0, 1000.0):
        model = routers.with_posterior(plain, "laplace", precision, frozen=True)
        found = scores.passes(model, scores.data().test.tokens_NS, 4)
        sizes.append(found["logit variance"].mean().item())
    assert sizes[0] > 2 * sizes[1] > 0
    assert all(it.requires_grad for it in plain.parameters())
