"""Stored results are found by name, and by no other name."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import moe_tutorial.results
from moe_tutorial.results import stored

FILES = sorted(Path(moe_tutorial.results.__file__).parent.glob("*.json"))


def test_every_file_can_be_read_by_its_name() -> None:
    names = get_args(get_type_hints(stored)["name"])
    assert {file.stem for file in FILES} <= set(names)
    assert list(names) == sorted(names)
    for file in FILES:
        assert stored(file.stem) == json.loads(file.read_text("utf-8"))  # type: ignore[arg-type]


def test_what_is_not_stored_is_not_found() -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        stored("nothing")  # type: ignore[arg-type]
