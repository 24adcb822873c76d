"""Experiments go on where they were stopped, and leave stored results whole."""

import json
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
    monkeypatch.setattr(balance, "SEEDS", [0, 1])
    sweeps = {name: balance.SWEEPS[name] for name in ("nothing", "z")}
    monkeypatch.setattr(balance, "SWEEPS", sweeps)


@pytest.mark.usefixtures("short_balance")
def test_stopped_sweeps_go_on_and_the_old_results_stay_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole.json", tmp_path / "stopped.json"
    balance.main(["--results", str(whole)])
    out, err = capsys.readouterr()
    assert out.startswith("nothing switch 0.0 ")
    assert "6/6" in err  # the bar of "z"
    stopped.write_text("old")
    with monkeypatch.context() as patch:
        stop_after(5, patch, balance, "one")
        with pytest.raises(StoppedError):
            balance.main(["--results", str(stopped)])
    assert stopped.read_text() == "old"
    with monkeypatch.context() as patch:
        stop_after(3, patch, balance, "one")  # 8 runs less 5
        balance.main(["--results", str(stopped)])
    assert stopped.read_text() == whole.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped.json", "whole.json"]


@pytest.mark.usefixtures("short_balance")
def test_runs_of_other_sweeps_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "some.json"
    with monkeypatch.context() as patch:
        stop_after(1, patch, balance, "one")
        with pytest.raises(StoppedError):
            balance.main(["--results", str(results)])
    fresh = tmp_path / "some.new"
    before = fresh.read_text()
    for name, value in {"SEEDS": [0, 2], "SWEEPS": {"z": balance.SWEEPS["z"]}}.items():
        with monkeypatch.context() as patch:
            patch.setattr(balance, name, value)
            with pytest.raises(SystemExit, match=r"some\.new holds"):
                balance.main(["--results", str(results)])
    assert fresh.read_text() == before


@pytest.mark.usefixtures("short_balance")
def test_the_sweeps_of_the_book_have_the_form_of_new_ones() -> None:
    """Everything but the numbers themselves, which differ with the processor."""
    run = stored("balance")["sweeps"]["nothing"]["runs"][0][0]
    assert set(run) == set(balance.one(0))


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
