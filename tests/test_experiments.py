"""Experiments go on where they were stopped, and leave stored results whole."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from experiments import balance, language_models
from experiments.store import kept, store
from moe_tutorial.learning.text import Corpus, corpus
from moe_tutorial.results import stored


class StoppedError(Exception):
    pass


def stop_after(runs: int, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    original, calls = getattr(module, name), iter(range(1000))

    def stopping(*arguments: Any, **options: Any) -> Any:
        if next(calls) == runs:
            raise StoppedError
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, stopping)


@pytest.fixture
def short_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "STEPS", 20)
    monkeypatch.setattr(balance, "LAST", 5)
    monkeypatch.setattr(balance, "SEEDS", range(1))
    monkeypatch.setattr(balance, "TRIALS", range(100, 101))
    monkeypatch.setattr(balance, "RATES", (0.01, 0.03))
    names = ("nothing", "sampled")
    monkeypatch.setattr(balance, "SETTINGS", {name: balance.SETTINGS[name] for name in names})
    monkeypatch.setattr(balance, "FOLLOWERS", {"z": balance.FOLLOWERS["z"]})
    monkeypatch.setattr(balance, "ALL", {name: balance.ALL[name] for name in (*names, "z")})
    # In this process, where what was patched is found.
    monkeypatch.setattr(balance.concurrent.futures, "ProcessPoolExecutor", ThreadPoolExecutor)


@pytest.mark.usefixtures("short_balance")
def test_stopped_sweeps_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole.json", tmp_path / "stopped.json"
    balance.main(["--results", str(whole)])
    out, err = capsys.readouterr()
    assert out.startswith("nothing 0 at ")
    assert "3/3" in err
    with monkeypatch.context() as patch:
        stop_after(3, patch, balance, "together")
        with pytest.raises(StoppedError):
            balance.main(["--results", str(stopped)])
    with monkeypatch.context() as patch:
        stop_after(2, patch, balance, "together")  # five groups less three
        balance.main(["--results", str(stopped)])
        balance.main(["--results", str(stopped)])  # nothing is left to do
    assert json.loads(stopped.read_text()) == json.loads(whole.read_text())
    monkeypatch.setattr(balance, "RATES", (0.1,))
    with pytest.raises(SystemExit, match=r"stopped\.json holds runs with other about"):
        balance.main(["--results", str(stopped)])


@pytest.mark.usefixtures("short_balance")
def test_the_sweeps_of_the_book_have_the_form_of_new_ones(tmp_path: Path) -> None:
    """Everything but the numbers themselves, which differ with the processor."""
    balance.main(["--results", str(tmp_path / "some.json")])
    content, book = json.loads((tmp_path / "some.json").read_text()), stored("balance")
    assert set(content) == set(book)
    for name in balance.ALL:
        new, old = (next(r for r in c["runs"] if r["name"] == name) for c in (content, book))
        assert set(new) == set(old)


@pytest.mark.usefixtures("short_balance")
def test_the_best_learning_rate_is_that_of_the_best_setting() -> None:
    trials = [
        {"name": "a", "value": value, "learning_rate": rate, "error": error}
        for value, rate, error in [(1, 0.1, 3.0), (1, 0.1, 1.0), (1, 0.2, 1.5), (2, 0.2, 1.9)]
    ]
    assert balance.best_rate([*trials, trials[0] | {"name": "b", "error": 0.0}], "a") == 0.2


@pytest.fixture
def short_models(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{i}. Zeile mit der Zahl {i * i}, und noch mehr Text" for i in range(300)]
    some: Corpus = corpus({"de": lines, "fr": [line.upper() for line in lines]}, 0.5)
    monkeypatch.setattr(language_models, "installed_documents", dict)
    monkeypatch.setattr(language_models, "corpus", lambda _: some)
    monkeypatch.setattr(language_models, "SEEDS", range(1))
    monkeypatch.setattr(language_models, "TRIALS", range(100, 101))
    monkeypatch.setattr(language_models, "RATES", (0.01,))


@pytest.mark.usefixtures("short_models")
def test_stopped_models_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "models.json"
    options = ["--width", "8", "--expert-width", "8", "--steps", "2", "--results", str(results)]
    with monkeypatch.context() as patch:
        stop_after(4, patch, language_models, "run")
        with pytest.raises(StoppedError):
            language_models.main(options)
    first = json.loads(results.read_text())
    assert (len(first["trials"]), len(first["runs"])) == (3, 1)
    with monkeypatch.context() as patch:
        stop_after(2, patch, language_models, "run")
        language_models.main(options)
        language_models.main(options)  # nothing is left to do
    content = json.loads(results.read_text())
    assert content["trials"] == first["trials"]
    assert content["runs"][:1] == first["runs"]
    assert [run["model"] for run in content["runs"]] == list(language_models.KINDS)
    assert "6/6" in capsys.readouterr().err
    book = stored("language_models")
    assert set(content) == set(book)
    assert set(content["about"]) == set(book["about"])
    assert set(content["runs"][1]) == set(book["runs"][1])
    with pytest.raises(SystemExit, match=r"models\.json holds runs with other about"):
        language_models.main([*options, "--steps", "3"])


@pytest.mark.usefixtures("short_models")
def test_a_folder_that_is_not_there_is_found_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(0, monkeypatch, language_models, "run")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        language_models.main(["--results", str(tmp_path / "nowhere" / "models.json")])


def test_a_store_that_fails_leaves_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    store(path, {"about": 1, "runs": [1]})
    with pytest.raises(TypeError):
        store(path, {"about": 1, "runs": [object()]})
    assert kept(path, {"about": 1}) == {"about": 1, "runs": [1]}
    assert kept(tmp_path / "other.json", {"about": 1}) is None
