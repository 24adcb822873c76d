"""What more experts buy: runs go on where they were stopped, at equal training compute."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments import models, more_experts
from moe_tutorial.learning.language_model import training_flops
from moe_tutorial.learning.text import Corpus, Text, corpus
from moe_tutorial.learning.training import Settings


def test_compute_is_what_torch_counts_with_half_of_attention() -> None:
    model = more_experts.build(1, width=16, expert_width=24)
    length = 40
    tokens_BS = torch.zeros(1, length, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens_BS)
    # torch counts every pair of a query and a key; causal ones are half of them and the diagonal.
    pairs = models.LAYERS * 2 * 2 * 16 * length**2
    causal = models.LAYERS * 2 * 2 * 16 * length * (length + 1) // 2
    expected = counter.get_total_flops() - pairs + causal
    assert training_flops(model, length) * length == 3 * expected


def test_stopped_runs_go_on_and_get_equal_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{i}. Zeile mit der Zahl {i * i}, und noch mehr Text" for i in range(300)]
    some: Corpus = corpus({"de": lines, "fr": [line.upper() for line in lines]}, 0.5)
    monkeypatch.setattr(more_experts, "installed_documents", dict)
    monkeypatch.setattr(more_experts, "corpus", lambda _: some)
    monkeypatch.setattr(more_experts, "SEEDS", range(1))
    monkeypatch.setattr(more_experts, "EXPERTS", (1, 32))
    monkeypatch.setattr(more_experts, "RATES", (0.001, 0.03))
    monkeypatch.setattr(more_experts, "FEW", (1,))
    monkeypatch.setattr(more_experts, "CUT", ("fr",))
    monkeypatch.setattr(more_experts, "KEPT", 32)
    monkeypatch.setattr(more_experts, "ROUNDS", 2)
    monkeypatch.setattr(models, "WINDOWS", 2)
    monkeypatch.setattr(more_experts, "WINDOWS", 2)
    results = tmp_path / "found.json"
    options = ["--width", "8", "--expert-width", "8", "--steps", "24", "--results", str(results)]
    more_experts.main([*options, "--minutes", "0"])
    assert json.loads(results.read_text())["trials"] == []
    more_experts.main(options)
    content = json.loads(results.read_text())
    assert [len(content[part]) for part in ("trials", "runs", "cut")] == [4, 2, 1]
    assert sum(content["bytes"].values()) == len(some.training.bytes_N)
    dense, sparse = content["runs"]
    assert (dense["experts"], sparse["experts"]) == (1, 32)
    assert dense["settings"]["steps"] == 24 > sparse["settings"]["steps"]
    ends = [run["validation"][-1]["teraflops"] for run in (dense, sparse)]
    assert ends[1] == pytest.approx(ends[0], rel=0.03)
    assert content["cut"][0]["settings"] == dense["settings"]
    assert content["cut"][0]["validation"] != dense["validation"]
    assert {key: len(rows) for key, rows in content["milliseconds"].items()} == {"1": 2, "32": 2}
    for run in (dense, sparse):
        assert set(run["training_text"]) == {"de", "fr"}
        own = [it for it in content["trials"] if it["experts"] == run["experts"]]
        best = min(own, key=models.last_loss)
        assert run["settings"]["learning_rate"] == best["settings"]["learning_rate"]
        assert run["settings"]["batch_size"] == Settings.batch_size
    more_experts.main(options)  # nothing is left to do
    assert json.loads(results.read_text()) == content
    kept = torch.load(results.with_suffix(".pt"), weights_only=True)
    more_experts.build(32, 8, 8).load_state_dict(kept)
    assert {weight.dtype for weight in kept.values()} == {torch.float16}
    with pytest.raises(SystemExit, match="runs with other about"):
        more_experts.main([*options, "--steps", "25"])


def test_text_is_cut_in_one_domain_alone() -> None:
    bytes_N = torch.arange(9000).remainder(251).to(torch.uint8)
    text = Text(("a", "b"), bytes_N, (0, 5500, 9000))
    less = more_experts.cut(text, 3000, ["a"])
    assert less.starts == (0, 3000, 6500)
    assert torch.equal(less.bytes_N[3000:], bytes_N[5500:])
    found = [bytes(piece.tolist()) for piece in less.bytes_N[:3000].split(1000)]
    pieces = [bytes(piece.tolist()) for piece in bytes_N[:5000].split(1000)]
    assert sorted(found, key=pieces.index) == found
    assert len(set(found)) == 3


def test_tables_of_each_domain_know_their_own_text() -> None:
    lines = {"a": ["one two three four"] * 9, "b": ["fünf sechs sieben"] * 9}
    documents = {name: [f"{i} {line}" for i, line in enumerate(it)] for name, it in lines.items()}
    found = more_experts.tables(corpus(documents, 0.3), windows=2, length=12)
    assert {len(rows) for rows in found.values()} == {6}
    for losses in found["a table for each domain"]:
        assert all(0 < loss < 4 for loss in losses.values())
