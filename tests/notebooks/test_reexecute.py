"""Executing a notebook gives the very file that is kept, and so does every execution after it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_an_execution_gives_the_kept_file(kept: Path, tmp_path: Path) -> None:
    tool = str(ROOT / "tools" / "execute_notebooks.py")
    subprocess.run([sys.executable, tool, "--output", str(tmp_path), str(kept)], check=True)
    assert (tmp_path / kept.name).read_bytes() == kept.read_bytes(), (
        f"{kept.name} is out of date: run `make notebooks`"
    )
