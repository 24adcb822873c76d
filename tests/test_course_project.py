"""The term project: equal budgets, counted compute, and places that luck does not give."""

import math
from pathlib import Path

import pytest
import torch

from moe_tutorial import Attention, Block, FeedForward, LanguageModel
from moe_tutorial.course import baseline_dense, baseline_sparse
from moe_tutorial.course.plan import PlanError
from moe_tutorial.course.project import (
    Run,
    as_markdown,
    check_model,
    compete,
    read_entry,
    standings,
    stored_runs,
)
from moe_tutorial.learning.language_model import training_flops
from moe_tutorial.learning.text import Corpus, corpus

SMALL = """
from moe_tutorial import Attention, Block, FeedForward, LanguageModel
SETTINGS = {"batch_size": 2, "length": 8, "learning_rate": 0.01}
def build():
    return LanguageModel([Block(Attention(8, 2), FeedForward(8, 8))])
"""


@pytest.fixture(scope="module")
def text() -> Corpus:
    documents = [f"{n} times {m} is {n * m}. " * 8 for n in range(9) for m in range(3)]
    return corpus({"sums": documents})


def run_of(name: str, seed: int, loss: float) -> Run:
    return Run(name, "d", seed, 1e9, 1e9, 10, 10, {"steps": 5}, loss, {}, 1.0, ["a", "b"], ["3"])


def test_places_are_shared_by_all_whom_nobody_beats_with_each_seed() -> None:
    losses = {"a": (2.0, 2.2), "b": (2.1, 2.3), "c": (2.25, 2.4), "d": (2.5, 2.6)}
    runs = [
        run_of(name, seed, loss) for name, its in losses.items() for seed, loss in enumerate(its)
    ]
    found = standings(runs)
    # a beats c clearly, b does not; all three beat d.
    assert [(it.name, it.place) for it in found] == [("a", 1), ("b", 1), ("c", 2), ("d", 4)]
    page = as_markdown(found, {"e": "PlanError: no build"})
    assert "| 1 | b | 2.200 | 2.100 to 2.300 | 2 |" in page
    assert "e did not run: PlanError: no build" in page
    assert "One seed" not in page
    assert "One seed" in as_markdown(standings([run_of("a", 0, 2.0)]), {})


@pytest.mark.parametrize("baseline", [baseline_dense, baseline_sparse])
def test_the_baselines_compute_what_they_count(baseline: object, text: Corpus) -> None:
    entry = read_entry(Path(str(baseline.__file__)))  # type: ignore[attr-defined]
    torch.manual_seed(0)
    model = check_model(entry.build(), text, 32)
    assert training_flops(model, 128) == pytest.approx(6.9e5, rel=0.1)


class Twice(LanguageModel):
    """Computes everything twice, and counts it once."""

    def forward(self, tokens_BS, generator=None):  # type: ignore[no-untyped-def]
        super().forward(tokens_BS, generator)
        return super().forward(tokens_BS, generator)


def test_a_model_that_computes_more_than_it_counts_is_refused(text: Corpus) -> None:
    with pytest.raises(PlanError, match="FLOPs a token forward, and counts"):
        check_model(Twice([Block(Attention(8, 2), FeedForward(8, 8))]), text, 16)
    with pytest.raises(PlanError, match="must return a LanguageModel, got Linear"):
        check_model(torch.nn.Linear(2, 2), text, 16)


def test_entries_get_one_budget_are_stored_and_stop_nobody(tmp_path: Path, text: Corpus) -> None:
    files = {
        "small": SMALL,
        "empty": "",
        "greedy": SMALL.replace('"batch_size": 2', '"steps": 10**9'),
        "broken": SMALL.replace("def build():", "def build():\n    return 1 / 0"),
        "poor": SMALL.replace('"batch_size": 2', '"batch_size": 5000'),
    }
    paths = []
    for name, source in files.items():
        paths.append(tmp_path / f"{name}.py")
        paths[-1].write_text(source)
    budget = 1.6e7
    (standing,) = compete(paths, [0, 1], budget, text, tmp_path / "out")
    assert (standing.name, standing.place, len(standing.losses)) == ("small", 1, 2)
    for run in standing.runs:
        step = run.flops / run.settings["steps"]
        assert budget - step < run.flops <= budget
        assert run.loss < math.log(256)
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    for words in (
        "empty did not run",
        "greedy.py: SETTINGS may hold",
        "ZeroDivisionError",
        "gives",
    ):
        assert words in page
    before = stored_runs(tmp_path / "out" / "runs.json")
    compete(paths[:1], [0, 1], budget, text, tmp_path / "out")
    assert stored_runs(tmp_path / "out" / "runs.json") == before
