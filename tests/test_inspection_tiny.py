"""The small model that the repository keeps: it loads without a network, and is what it says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from experiments import tiny_moe as script
from moe_tutorial import trace
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.text import corpus, fixed_windows
from moe_tutorial.models.drift import overlap
from moe_tutorial.models.guesses import token_dependence
from moe_tutorial.models.trace_files import load
from moe_tutorial.results import tiny_moe

ABOUT = json.loads((tiny_moe() / "training.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def model() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        auto = transformers.AutoModelForCausalLM
        # The implementation that is the default knows no float64.
        options = {"dtype": torch.float64, "experts_implementation": "eager"}
        return auto.from_pretrained(tiny_moe(), **options).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny_moe())


def test_it_is_small() -> None:
    files = list(tiny_moe().iterdir())
    assert sum(file.stat().st_size for file in files) < 1.5e6
    assert (tiny_moe() / "model.safetensors").exists()
    assert not [file for file in files if file.suffix in {".bin", ".pt", ".py"}]


def test_it_is_what_it_says(model: Any) -> None:
    assert type(model) is transformers.GraniteMoeForCausalLM
    assert sum(it.numel() for it in model.parameters()) == ABOUT["parameters"] == 496_192
    assert all(bool(torch.isfinite(it).all()) for it in model.parameters())


@given(st.text())
def test_a_token_is_a_byte(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


@torch.no_grad()
def test_it_predicts_text_that_it_has_not_seen(model: Any) -> None:
    """Other versions have other text: about as well as where it was trained."""
    held_out = corpus(installed_documents(())).validation
    for domain, batch in fixed_windows(held_out, 8, 128):
        logits = model(input_ids=batch.tokens_BS).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_BS.flatten()).item()
        assert abs(loss - ABOUT["validation"][domain]) < 0.3, domain


@torch.no_grad()
def test_the_stored_traces_end_with_its_own(model: Any) -> None:
    stored = load(tiny_moe() / f"step_{ABOUT['settings']['steps']}.npz")
    tokens_BS = stored.tokens_T.long().view(-1, 128)
    with trace(model) as recording:
        model(input_ids=tokens_BS)
    found = overlap(stored, recording.trace()).found_L
    assert bool((found > 0.999).all())  # it was recorded in float32
    early = load(tiny_moe() / "step_50.npz")
    assert bool((overlap(stored, early).found_L < 0.6).all())


def test_its_first_layer_goes_by_the_token() -> None:
    found = token_dependence(load(tiny_moe() / f"step_{ABOUT['settings']['steps']}.npz"))
    assert found.found_L[0] > 0.7 > found.found_L[-1] > found.chance_L[-1] + 0.2


def test_the_script_goes_on_and_stores_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    languages = ("de", "fr")
    text = {
        name: {f"{name} {i}": f"{name} {i} has a text of its own. " * 40 for i in range(12)}
        for name in ("manual", "python", "c++", *languages)
    }
    monkeypatch.setattr(script, "installed_documents", lambda: text)
    monkeypatch.setattr(script, "SNAPSHOTS", (2,))
    monkeypatch.setattr(script, "WINDOWS", 2)
    arguments = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "model")]
    for folder in ("first", "second"):
        script.main([*arguments[:-1], str(tmp_path / folder), "--steps", "4"])
    first, second = tmp_path / "first", tmp_path / "second"
    names = sorted(file.name for file in first.iterdir())
    assert names == sorted([
        "config.json", "generation_config.json", "model.safetensors", "step_2.npz", "step_4.npz",
        "tokenizer.json", "tokenizer_config.json", "training.json",
    ])  # fmt: skip
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert len(load(first / "step_2.npz")) == 5 * script.SNAPSHOT_WINDOWS * 128
