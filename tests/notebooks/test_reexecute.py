"""Executing the notebooks twice gives the very files that are kept."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_two_executions_give_the_kept_files(tmp_path: Path) -> None:
    assert KEPT
    command = [sys.executable, str(ROOT / "tools" / "execute_notebooks.py"), "--output"]
    for run in ("first", "second"):
        subprocess.run([*command, str(tmp_path / run)], check=True)
    for kept in KEPT:
        first, second = ((tmp_path / run / kept.name).read_bytes() for run in ("first", "second"))
        assert first == second, f"{kept.name}: two executions differ"
        assert first == kept.read_bytes(), f"{kept.name} is out of date: run `make notebooks`"
