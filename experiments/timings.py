"""Measure what chapter 07 compares and store it: moe_tutorial/results/timings.json.

Runs the notebook itself, so that the stored results belong to the code that readers see. Leave the
machine alone meanwhile; it takes about two minutes.
"""

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from moe_tutorial.results.timing import STORE

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "moe_tutorial" / "results" / "timings.json"

if __name__ == "__main__":
    notebook = nbformat.read(ROOT / "notebooks" / "07_making_it_fast.ipynb", as_version=4)
    fresh = RESULTS.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    os.environ[STORE] = str(fresh)
    NotebookClient(notebook, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    fresh.replace(RESULTS)
    print(RESULTS.read_text(encoding="utf-8"))
