"""nbval guards the stored outputs: it fails when a seed or a constant changes, and only then."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = Path("notebooks/04_temperature_sampling.ipynb")
# What changes, in which file, from what to what; every match must count.
MUTATIONS = {
    "nothing": None,
    "a seed in the chapter": (CHAPTER, r"manual_seed\((\d+)\)", r"manual_seed(1\1)"),
    "a number in the package": (
        Path("moe_tutorial/routing/probabilities.py"),
        r"/ temperature",
        "/ (temperature * 1.001)",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_nbval_sees_a_changed_number(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "moe_tutorial", tmp_path / "moe_tutorial")
    (tmp_path / CHAPTER).parent.mkdir()
    shutil.copy(ROOT / CHAPTER, tmp_path / CHAPTER)
    if mutation := MUTATIONS[name]:
        path, old, new = mutation
        text, count = re.subn(old, new, (tmp_path / path).read_text(encoding="utf-8"))
        assert count, f"{path} has nothing like {old} any more: choose another number to change"
        (tmp_path / path).write_text(text, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", str(CHAPTER)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},  # before the installed package
        capture_output=True,
        text=True,
        check=False,
    )
    if mutation:
        assert run.returncode == 1, (
            f"{name} changed, and nbval did not notice\n{run.stdout[-2000:]}"
        )
        assert "FAILED" in run.stdout
    else:
        assert run.returncode == 0, run.stdout[-2000:]
