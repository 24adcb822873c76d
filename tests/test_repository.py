"""The project's files: all its own, naming no computer and no address but the one."""

import ast
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
# Weights and traces that long runs found are no text.
STORED = [
    path for path in FILES if path.is_file() and path.suffix in {".npz", ".pt", ".safetensors"}
]
TEXTS = [path for path in FILES if path.is_file() and path != Path(__file__) and path not in STORED]
KINDS = {
    "", ".bib", ".cff", ".css", ".html", ".in", ".ipynb", ".js", ".json", ".md", ".mjs", ".py",
    ".svg", ".toml", ".txt", ".typed", ".yml",
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


def test_what_is_no_text_is_a_result_and_small() -> None:
    for path in STORED:
        assert path.is_relative_to(ROOT / "moe_tutorial" / "results"), path.name
    assert sum(path.stat().st_size for path in STORED) < 5e6


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


PARTS = ["routing", "layer", "learning", "models", "uncertainty"]
PACKAGE = ROOT / "moe_tutorial"


def modules(part: str) -> list[str]:
    every = (path.stem for path in (PACKAGE / part).glob("*.py"))
    return sorted(stem for stem in every if not stem.startswith("__"))


def test_the_readme_lists_the_folders_and_the_parts_in_the_order_of_the_book() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*/`[^|]*) \|", readme, flags=re.MULTILINE)
    named = [name.strip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)]
    inside = [name.removeprefix("moe_tutorial/") for name in named]
    folders = {
        p.name for p in ROOT.iterdir() if p.is_dir() and any(f.is_relative_to(p) for f in FILES)
    }
    folders = {name for name in folders if not name.startswith(".")} - {"moe_tutorial"}
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert set(inside) == folders | rooms
    assert [name for name in inside if name in PARTS] == PARTS


def api_pages() -> str:
    """The pages about the package, in the order of the table of contents."""
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    pages = re.findall(r"file: (book/api\w*)$", contents, flags=re.MULTILINE)
    return "".join((ROOT / f"{page}.md").read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("part", [*PARTS, "parallel", "course"])
def test_every_module_is_named_by_its_part_and_by_the_reference(part: str) -> None:
    opening = ast.get_docstring(ast.parse((PACKAGE / part / "__init__.py").read_text("utf-8")))
    reference = api_pages()
    assert set(re.findall(r"``(\w+)``", str(opening))) >= set(modules(part))
    for module in modules(part):
        assert f"automodule:: moe_tutorial.{part}.{module}\n" in reference


def test_the_parts_stand_in_the_order_of_the_book_wherever_they_are_listed() -> None:
    reference = api_pages()
    found = re.findall(rf"automodule:: moe_tutorial\.({'|'.join(PARTS)})\.", reference)
    assert list(dict.fromkeys(found)) == PARTS
    face = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")))
    assert re.findall(r"^- ``(\w+)``:", str(face), flags=re.MULTILINE) == PARTS
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(rf"`({'|'.join(PARTS)})/` \(I*V?\)", contributing)
    assert named == PARTS


def imported(path: Path) -> set[str]:
    """The rooms of the package that a module imports from."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [it.module or "" for it in ast.walk(tree) if isinstance(it, ast.ImportFrom)]
    names += [a.name for it in ast.walk(tree) if isinstance(it, ast.Import) for a in it.names]
    return {name.split(".")[1] for name in names if name.startswith("moe_tutorial.")}


def test_arrows_run_one_way() -> None:
    """A room imports from rooms that stand before it, and from nowhere else."""
    common = {"validation", "values"}
    # One method asks a later part for what it knows, inside of the method.
    doors = {"moe.py": {"models"}}
    allowed = {
        "routing": common,
        "layer": common | {"routing"},
        "learning": common | {"routing", "layer", "results"},
        "models": common | {"routing", "layer", "learning"},
        "uncertainty": common | {"routing", "layer"},
        "parallel": common | {"routing", "layer", "learning"},
        "results": common,
        "figures": common | {"routing", "layer", "learning", "example"},
        "explorers": common | {"routing", "models", "figures", "example"},
        "widgets": common | {"routing", "figures", "explorers"},
        "exercises": common | {"routing", "layer", "learning", "parallel"},
        "course": common | {"routing", "layer", "learning", "exercises"},
    }
    for room, others in allowed.items():
        for path in (PACKAGE / room).glob("*.py"):
            beyond = imported(path) - others - {room} - doors.get(path.name, set())
            assert not beyond, f"{path.relative_to(ROOT)} imports from {beyond}"


def test_no_file_is_above_300_lines() -> None:
    for path in FILES:
        if path.suffix in {".py", ".js", ".mjs", ".css"} and "tests" not in path.parts:
            lines = len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0
            assert lines <= 300, f"{path.relative_to(ROOT)} has {lines} lines"
