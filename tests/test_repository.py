"""The project's files: all its own, naming no computer and no address but the one."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()
]  # fmt: skip
TEXTS = [path for path in FILES if path.is_file() and path != Path(__file__)]
KINDS = {
    "", ".bib", ".cff", ".css", ".html", ".ipynb", ".js", ".json", ".md", ".mjs", ".py", ".svg",
    ".toml", ".txt", ".typed", ".yml",
}  # fmt: skip


def test_no_file_is_a_font_an_archive_or_somebody_elses_bundle() -> None:
    for path in TEXTS:
        suffix = (
            "" if path.name.startswith(".") or path.name == "LICENSE-CC-BY-4.0" else path.suffix
        )
        assert suffix in KINDS, f"{path.name}: a kind of file that this project does not keep"
        text = path.read_text(encoding="utf-8")  # fails on binary content
        if suffix in {".css", ".js", ".mjs"}:
            assert max(map(len, text.splitlines())) < 200, (
                f"{path.name} looks like a minified bundle"
            )


@pytest.mark.parametrize(
    "forbidden",
    [
        r"/root/|/home/\w|/work/",  # one computer's folders
        r"registry\.npmjs|files\.pythonhosted|pypi\.org/simple|extra-index",  # where packages are
        r"executablebooks/jupyter-book",  # what Jupyter Book puts in for no address
        r"github\.com/(you|your|user|username|org|example)\b",  # somebody could own these
    ],
)
def test_no_file_names_what_is_not_the_projects(forbidden: str) -> None:
    for path in TEXTS:
        found = re.search(forbidden, path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: {found[0]}"


def test_the_address_is_one_that_pip_and_colab_can_read() -> None:
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    assert re.fullmatch(r"|https://[^/]+/[^/]+/[^/]+?(?<!\.git)", repository["url"])
    assert repository["branch"]
