"""What a release says about itself, in every file that says it.

The version stands in ``moe_tutorial/__init__.py``, its day in ``CHANGELOG.md`` and the project's
address in ``_config.yml``. ``python -m tools.release`` copies them to ``CITATION.cff``, to
``pyproject.toml`` and to the first page of the book, and adds the package's new names to the list
of those that are promised. ``python -m tools.release v1.0.0`` checks that a tag fits all of it.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
NAMES = ROOT / "tests" / "public_names.txt"


class Release(NamedTuple):
    """What is copied: the newest version, its day, and where the project lives (or nothing)."""

    version: str
    day: str
    address: str


def read(path: str) -> str:
    """A file of the project as text."""
    return (ROOT / path).read_text(encoding="utf-8")


def release() -> Release:
    """What the three places say now.

    Raises:
        ValueError: the change log has no day for the package's version at its top.
    """
    version = re.findall(r'^__version__ = "(.+)"$', read("moe_tutorial/__init__.py"), re.M)[0]
    newest = re.search(r"^## \[(\d\S*)\] - (\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.M)
    if newest is None or newest[1] != version:
        raise ValueError(
            f"CHANGELOG.md must begin with the package's version and its day, as in "
            f"'## [{version}] - 2026-11-26', got {newest and newest[0]!r}"
        )
    return Release(version, newest[2], yaml.safe_load(read("_config.yml"))["repository"]["url"])


# --- the files that repeat it ---


def citation(text: str, now: Release) -> str:
    """``CITATION.cff`` with the version, its day and, where there is one, the address."""
    text = re.sub(r"^version: .*$", f"version: {now.version}", text, flags=re.M)
    text = re.sub(r"^date-released: .*$", f'date-released: "{now.day}"', text, flags=re.M)
    text = re.sub(r"^repository-code: .*\n", "", text, flags=re.M)
    line = f'repository-code: "{now.address}"\n' if now.address else ""
    return text.replace("license: ", f"{line}license: ", 1)


def metadata(text: str, now: Release) -> str:
    """``pyproject.toml`` with the addresses of the source, of what changed and of the problems."""
    text = re.sub(r"\[project\.urls\]\n(?:.+\n)*\n", "", text)
    if not now.address:
        return text
    urls = {
        "Source": now.address,
        "Changelog": f"{now.address}/blob/v{now.version}/CHANGELOG.md",
        "Issues": f"{now.address}/issues",
    }
    table = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    return text.replace("[tool.", f"[project.urls]\n{table}\n[tool.", 1)


def first_page(text: str, now: Release) -> str:
    """The book's first page, whose BibTeX entry names the version."""
    return re.sub(r"version \d+\.\d+\.\d+", f"version {now.version}", text)


COPIES = {"CITATION.cff": citation, "pyproject.toml": metadata, "book/intro.md": first_page}


# --- the names that are promised ---


def public_names() -> list[str]:
    """Every promised name: those that the package and its parts list in ``__all__``."""
    parts = [f"moe_tutorial.{path.parent.name}" for path in ROOT.glob("moe_tutorial/*/__init__.py")]
    modules = map(importlib.import_module, ["moe_tutorial", *parts])
    return sorted(f"{it.__name__}.{name}" for it in modules for name in getattr(it, "__all__", []))


def promised() -> list[str]:
    """The names of the last release."""
    return NAMES.read_text(encoding="utf-8").split() if NAMES.exists() else []


def write() -> None:
    """Write every copy, and add the names that are new."""
    now = release()
    for path, copy in COPIES.items():
        (ROOT / path).write_text(copy(read(path), now), encoding="utf-8")
    names = sorted({*promised(), *public_names()})
    NAMES.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def faults(tag: str) -> list[str]:
    """What keeps a tag from being a release, one sentence each."""
    now = release()
    found = [
        f"{path} is not up to date: run python -m tools.release"
        for path, copy in COPIES.items()
        if copy(read(path), now) != read(path)
    ]
    if tag != f"v{now.version}":
        found.append(f"the tag must be v{now.version}, as the package says, got {tag}")
    unlisted = sorted({*public_names()} - {*promised()})
    if unlisted:
        found.append(f"run python -m tools.release: not promised yet are {', '.join(unlisted)}")
    return found


def main(arguments: list[str]) -> str | None:
    """Write the copies, or check them against a tag; what is returned is the way it failed."""
    if not arguments:
        write()
        return None
    return "\n".join(faults(arguments[0])) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
