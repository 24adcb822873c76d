"""Every notebook as Google Colab runs it: alone in an empty folder, with Colab's versions.

The project is committed to a throw-away repository, whose address goes into _config.yml as a
fork's would; the set-up cell then finds no package and installs it from there.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from tools.execute_notebooks import WIDGET_VIEW, execute

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-colab" / "bin" / "python"
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def git(*arguments: str, folder: Path) -> str:
    """Run git as nobody in particular."""
    identity = ["-c", "user.name=check", "-c", "user.email=check@localhost"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the files here, with its own address in _config.yml and in its notebooks."""
    folder = tmp_path_factory.mktemp("fork")
    for name in git(
        "ls-files", "--cached", "--others", "--exclude-standard", folder=ROOT
    ).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    config = folder / "_config.yml"
    text = config.read_text(encoding="utf-8")
    url = yaml.safe_load(text)["repository"]["url"]
    config.write_text(text.replace(f'url: "{url}"', f'url: "file://{folder}"'), encoding="utf-8")
    tool = [sys.executable, str(folder / "tools" / "execute_notebooks.py"), "--set-up-only"]
    subprocess.run(tool, check=True)
    git("init", "--quiet", "--initial-branch=main", folder=folder)
    git("add", "--all", folder=folder)
    git("commit", "--quiet", "--message=fork", folder=folder)
    return folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder and a kernel like Colab's, whose pip installs into a folder of its own."""
    kernel = tmp_path / "jupyter" / "kernels" / "colab"
    packages = tmp_path / "packages"
    stub = tmp_path / "stub"
    for folder in (kernel, packages, stub / "google" / "colab", tmp_path / "content"):
        folder.mkdir(parents=True)
    launch = [str(PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": launch, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    (stub / "google" / "colab" / "__init__.py").touch()
    # Colab's kernel has imported google.colab before the first cell runs.
    (stub / "sitecustomize.py").write_text("import google.colab\n", encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(stub), str(packages)]))
    monkeypatch.setenv("PIP_TARGET", str(packages))
    # Build with the setuptools that is there (pip reads this "0" as "no isolation").
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    # Two notebooks run at a time; more threads would only wait for one another.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_as_in_colab(name: str, fork: Path, empty: Path) -> None:
    notebook = nbformat.read(fork / "notebooks" / name, as_version=4)
    assert f'ADDRESS = "file://{fork}@main"' in notebook.cells[1].source + notebook.cells[2].source
    execute(notebook, empty / "content", kernel="colab")
    for cell in notebook.cells:
        if "_widget(" in cell.source and cell.cell_type == "code":
            assert WIDGET_VIEW in cell.outputs[0].data, f"cell {cell.id} shows no widget"
    assert (empty / "packages" / "moe_tutorial" / "__init__.py").exists()
    installed = {path.name for path in (empty / "packages").glob("*.dist-info")}
    assert len(installed) == 1, (
        f"the set-up cell installs the package and nothing else: {installed}"
    )


def test_widgets_move_with_the_ipywidgets_of_colab() -> None:
    run = subprocess.run(
        [PYTHON, "-m", "tests.widget_checks"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.startswith("ipywidgets 7.7")


def test_without_an_address_the_set_up_cell_says_what_to_do(empty: Path) -> None:
    template = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8")
    run = subprocess.run(
        [PYTHON, "-c", template], cwd=empty / "content", capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "ModuleNotFoundError" in run.stderr
    assert "inside a clone of the whole project" in run.stderr
