"""What a release says about itself, and the names that it promises."""

import re
from importlib import import_module

import pytest
import tomllib
from packaging.version import Version
from trove_classifiers import classifiers

import moe_tutorial
from tools import release


@pytest.mark.parametrize("path", release.COPIES)
def test_every_file_that_repeats_the_release_is_up_to_date(path: str) -> None:
    text = release.read(path)
    assert release.COPIES[path](text, release.release()) == text, (
        f"{path} is not up to date: run python -m tools.release"
    )


def test_the_copies_follow_what_they_repeat() -> None:
    now = release.Release("2.3.4", "2031-05-06", "https://host.example/owner/book")
    cff = release.citation(release.read("CITATION.cff"), now)
    assert "\nversion: 2.3.4\n" in cff
    assert '\ndate-released: "2031-05-06"\n' in cff
    assert '\nrepository-code: "https://host.example/owner/book"\n' in cff
    assert "version 2.3.4}" in release.first_page(release.read("book/intro.md"), now)
    project = release.metadata(release.read("pyproject.toml"), now)
    assert tomllib.loads(project)["project"]["urls"] == {
        "Source": "https://host.example/owner/book",
        "Changelog": "https://host.example/owner/book/blob/v2.3.4/CHANGELOG.md",
        "Issues": "https://host.example/owner/book/issues",
    }
    for path, copy in release.COPIES.items():
        text = release.read(path)
        back = copy(copy(text, now), release.release())
        assert back == text, f"{path}: writing it twice leaves something behind"


def test_the_version_is_one_that_pip_reads_and_the_change_log_begins_with_it() -> None:
    assert str(Version(moe_tutorial.__version__)) == moe_tutorial.__version__
    headings = re.findall(r"^## (.*)$", release.read("CHANGELOG.md"), re.M)
    assert headings[0] == "[Unreleased]"
    assert headings[1].startswith(f"[{moe_tutorial.__version__}] - ")
    kinds = set(re.findall(r"^### (.*)$", release.read("CHANGELOG.md"), re.M))
    known = {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
        "Known to be missing",
    }
    assert kinds <= known


def test_a_tag_of_another_version_is_refused() -> None:
    found = release.faults("v0.9.0")
    assert any("the tag must be v1" in fault and "got v0.9.0" in fault for fault in found)


def test_no_promised_name_is_gone() -> None:
    gone = sorted({*release.promised()} - {*release.public_names()})
    assert not gone, (
        f"{', '.join(gone)}: promised by an earlier release. Bring the name back, and let it give "
        "a DeprecationWarning; book/api.md says how long. Only for a new major version may the "
        "line be deleted from tests/public_names.txt."
    )


def test_promised_names_are_there_and_described() -> None:
    assert len(release.promised()) > 100
    pages = "".join(path.read_text("utf-8") for path in (release.ROOT / "book").glob("api*.md"))
    for name in release.public_names():
        module, _, short = name.rpartition(".")
        value = getattr(import_module(module), short)
        if callable(value) and not isinstance(value, (str, dict)):
            home = getattr(value, "__module__", module)
            assert f":: {home}\n" in pages or f":: {module}\n" in pages, name


def test_the_metadata_is_complete() -> None:
    project = tomllib.loads(release.read("pyproject.toml"))["project"]
    assert {"name", "description", "readme", "license", "authors", "keywords"} <= project.keys()
    assert project["dynamic"] == ["version"]
    assert set(project["classifiers"]) <= classifiers
    assert not any(it.startswith("License ::") for it in project["classifiers"])  # license says it
    light = {"torch", "numpy", "matplotlib", "ipywidgets", "tqdm"}
    assert {re.split(r"[^\w-]", need)[0] for need in project["dependencies"]} == light
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", need) for need in project["dependencies"])
