"""Source distribution and wheel: what is in them, and that a wheel works with what it asks for."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

import moe_tutorial

ROOT = Path(__file__).resolve().parents[1]
NAMED = f"moe_tutorial-{moe_tutorial.__version__}"


def listed(*folders: str) -> list[str]:
    """The project's files as git knows them, and those that it is going to know."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in run.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, built from a copy of the files: a wheel made from the source distribution."""
    clone = tmp_path_factory.mktemp("clone")
    for name in [*listed("moe_tutorial", "tests/*.py"), *listed(":/*.*", ":/LICENSE")]:
        if "/" not in name or name.startswith(("moe_tutorial/", "tests/")):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    run = subprocess.run(build, cwd=clone, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return clone / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"{NAMED}-py3-none-any.whl"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == set(listed("moe_tutorial"))


def test_the_source_distribution_builds_it_without_the_tests(dist: Path) -> None:
    with tarfile.open(dist / f"{NAMED}.tar.gz") as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert set(listed("moe_tutorial")) < inside
    assert {"README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "pyproject.toml"} < inside
    assert not any(name.startswith(("tests", "book", "notebooks")) for name in inside)


def test_both_are_small(dist: Path) -> None:
    for path in dist.iterdir():
        assert path.stat().st_size < 4e6, f"{path.name}: {path.stat().st_size / 1e6:.1f} MB"


def test_the_metadata_is_what_an_index_accepts(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"{NAMED}.dist-info/METADATA")
    found = Metadata.from_email(text, validate=True)
    assert (found.name, str(found.version)) == ("moe_tutorial", moe_tutorial.__version__)
    assert found.license_expression == "MIT"
    assert found.license_files == ["LICENSE"]
    assert found.description_content_type == "text/markdown"
    assert str(BytesParser().parsebytes(text).get_payload()).startswith("# Mixture-of-Experts")


def needed(name: str, extras: frozenset[str] = frozenset()) -> Iterator[str]:
    """Everything that a distribution needs here to run, itself first."""
    yield name
    for line in metadata.requires(name) or []:
        need = Requirement(line)
        if need.marker is None or any(
            need.marker.evaluate({"extra": extra}) for extra in [*extras, ""]
        ):
            yield from needed(need.name, frozenset(need.extras))


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of the wheel and of what it asks for, and of nothing else.

    What it asks for is linked from here, for torch takes a minute to install.
    """
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    packages = next(folder.glob("lib/python*/site-packages"))
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"{NAMED}.dist-info/METADATA")
    needs = [need for need in Metadata.from_email(text).requires_dist or [] if not need.marker]
    for name in dict.fromkeys(every for need in needs for every in needed(need.name)):
        for file in metadata.files(name) or []:
            top, place = file.parts[0], packages / file.parts[0]
            source = Path(str(file.locate())).parents[len(file.parts) - 1] / top
            if top not in ("..", "__pycache__") and not place.exists():
                place.symlink_to(source)
    return python


def run(python: Path, program: str, folder: Path) -> str:
    """What a program prints that runs in an empty folder and sees nothing but its environment."""
    away = {"MOE_TUTORIAL_PROGRESS": "off", "MPLCONFIGDIR": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-I", "-c", program],
        cwd=folder, env=os.environ | away, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_environment_holds_what_the_wheel_asks_for(alone: Path, tmp_path: Path) -> None:
    check = [sys.executable, "-m", "pip", "--python", alone, "check"]
    subprocess.run(check, check=True, capture_output=True)
    assert run(alone, WHAT_IS_THERE, tmp_path) == "True []\n"


WHAT_IS_THERE = """
import importlib.util, moe_tutorial, pathlib, sys
others = ["babel", "pip", "pytest", "scipy", "sphinx", "transformers", "yaml"]
inside = pathlib.Path(moe_tutorial.__file__).is_relative_to(sys.prefix)
print(inside, [name for name in others if importlib.util.find_spec(name)])
"""
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = README.partition("```python\n")[2].partition("```")[0]
EXERCISE = """
from moe_tutorial.exercises import check
length = lambda rows: torch.linalg.vector_norm(rows, dim=-1)
print([check("1.1", lambda x, w: length(x)[:, None] * length(w)).status])
print([check("1.1", lambda x, w: x @ w.T).status])
"""
EVERY_MODULE = """
import importlib, pkgutil, moe_tutorial
for module in pkgutil.walk_packages(moe_tutorial.__path__, "moe_tutorial."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_every_module_can_be_imported_there(alone: Path, tmp_path: Path) -> None:
    run(alone, EVERY_MODULE, tmp_path)


def test_the_lines_of_the_readme_and_an_exercise_run_there(alone: Path, tmp_path: Path) -> None:
    assert "Router(" in LINES
    program = f"{LINES}\nassert routing.gates_TK.shape[-1] == 3\n{EXERCISE}"
    assert run(alone, program, tmp_path) == "['correct']\n['wrong']\n"
