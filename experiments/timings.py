"""Measure what chapter 07 compares and store it: moe_tutorial/results/timings.json.

Runs the notebook itself, so that the stored results belong to the code that readers see. Leave the
machine alone meanwhile; it takes about two minutes.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm.auto import tqdm

from moe_tutorial.results.timing import STORE

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "moe_tutorial" / "results" / "timings.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Execute the notebook, and keep what it measured once it has come to its end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    results: Path = parser.parse_args(arguments).results
    notebook = nbformat.read(ROOT / "notebooks" / "07_making_it_fast.ipynb", as_version=4)
    fresh = results.with_suffix(".new").resolve()
    fresh.unlink(missing_ok=True)
    os.environ[STORE] = str(fresh)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(ROOT / "notebooks")}})
    with tqdm(total=sum(cell.cell_type == "code" for cell in notebook.cells), unit="cell") as bar:
        client.on_cell_executed = lambda **_: bar.update()
        client.execute()
    fresh.replace(results)
    print(results.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
