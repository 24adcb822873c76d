"""What chapters claim, as the page "How we know" lists it: sentences that rest on something."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def extensions(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """Two modules of book/_extensions, which are in no package."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "book" / "_extensions"), *sys.path])
    return importlib.import_module("book_claims"), importlib.import_module("site_works")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_chapter_claims_something_and_says_how_it_knows(
    file: Path, extensions: tuple[ModuleType, ModuleType]
) -> None:
    book_claims, site_works = extensions
    works = site_works.read_works(ROOT / "book" / "references.bib").values()
    claims = book_claims.read_chapter(file).claims
    assert 4 <= len(claims) <= 10
    assert any(claim.by for claim in claims)
    for claim in claims:
        assert re.fullmatch(r"[A-Z\d].*\.", claim.text)
        assert len(claim.text.split()) <= 28
        if claim.source is not None:
            assert site_works.find_citations(claim.source, works), (
                f"not in the bibliography: {claim.source}"
            )
            assert re.search(r"abstract|section|table|figure|appendix|equation", claim.source)


def notebook(**claim: str) -> dict[str, Any]:
    text = {"cell_type": "markdown", "id": "a", "source": "# 99 Odd", "metadata": {}}
    text["metadata"] = {"claims": [{"claim": "It is so.", **claim}]}
    code = {"cell_type": "code", "id": "b", "source": "assert 1", "metadata": {}}
    return {"cells": [text, code]}


def test_a_claim_that_rests_on_nothing_is_refused(
    tmp_path: Path, extensions: tuple[ModuleType, ModuleType]
) -> None:
    read_chapter = extensions[0].read_chapter
    file = tmp_path / "99_odd.ipynb"
    file.write_text(json.dumps(notebook(by="b")))
    chapter = read_chapter(file)
    assert (chapter.title, chapter.claims[0].by) == ("99 Odd", "b")
    for wrong, message in (
        ({"by": "c"}, "no code cell has the id 'c'"),
        ({}, "either by or source"),
        ({"by": "b", "source": "x"}, "either by or source"),
    ):
        file.write_text(json.dumps(notebook(**wrong)))
        with pytest.raises(ValueError, match=message):
            read_chapter(file)
