"""Timing takes turns, and what it stores is what it shows."""

import json
from pathlib import Path

import pytest

from moe_tutorial.results import stored
from moe_tutorial.results.timing import STORE, median_seconds, stored_machine, timings


def test_ways_take_turns_and_a_longer_way_takes_longer() -> None:
    calls = []
    ways = {
        "long": lambda: calls.append("long") or sum(range(200_000)),
        "short": lambda: calls.append("short"),
    }
    seconds = median_seconds(ways, seconds=0.05)
    assert list(seconds) == ["long", "short"]
    assert calls == ["long", "short"] * (len(calls) // 2)
    assert len(calls) >= 12
    assert seconds["long"] > seconds["short"] > 0


def test_measured_numbers_are_stored_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "timings.json"
    monkeypatch.setenv(STORE, str(path))
    for name in ("one", "two"):
        timings(name, {"a": lambda: None, "b": lambda: None}, seconds=0.01)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert list(content["seconds"]) == ["one", "two"]
    assert list(content["seconds"]["one"]) == ["a", "b"]
    assert content["machine"] == stored_machine()


def test_stored_numbers_are_the_default_and_belong_to_the_ways() -> None:
    names = ["token by token", "expert by expert", "sorted blocks", "grouped product"]
    found = timings("four ways, 64 tokens", dict.fromkeys(names, lambda: None))
    assert list(found) == names
    assert all(value > 0 for value in found.values())
    assert "thread" in stored_machine()
    with pytest.raises(ValueError, match="'four ways, 64 tokens' must be among the stored"):
        timings("four ways, 64 tokens", {"another": lambda: None})
    with pytest.raises(ValueError, match="make timings"):
        timings("no such comparison", {"a": lambda: None})


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="ways must name at least one function"):
        median_seconds({})
    with pytest.raises(ValueError, match="seconds must be positive, got 0"):
        median_seconds({"a": lambda: None}, seconds=0)
    with pytest.raises(ValueError, match="seconds must be positive, got nan"):
        median_seconds({"a": lambda: None}, seconds=float("nan"))
    with pytest.raises(ValueError, match="seconds must be finite, got inf"):
        median_seconds({"a": lambda: None}, seconds=float("inf"))
    with pytest.raises(TypeError, match="seconds must be a number, got str"):
        median_seconds({"a": lambda: None}, seconds="1")  # type: ignore[arg-type]


def test_the_stored_numbers_are_those_that_chapter_07_tells() -> None:
    seconds = stored("timings")["seconds"]
    many = seconds["four ways, 4096 tokens"]
    assert 26 < many["token by token"] / min(many.values()) < 30, "its first sentence: nearly 30"
    single = seconds["four ways, 1 tokens"]
    assert min(single, key=lambda way: single[way]) == "token by token", "its first prediction"
    few = seconds["three layers, 16 tokens"]
    assert few["sparse"] > 5 * few["dense, same arithmetic"], "its second prediction"
    for name, layers in seconds.items():
        if name.startswith("three layers"):
            assert layers["sparse"] < layers["dense, same weights"], "its summary"
