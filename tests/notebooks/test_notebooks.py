"""What every notebook has: the set-up cell, executed cells, outputs that hold on any computer."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from tools.execute_notebooks import set_up_source

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_set_up_cell_is_the_template_with_the_address(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells[0].id == "setup"
    assert cells[0].source == set_up_source(), "run `make notebooks`"
    assert cells[0].outputs == []
    assert len(cells[0].source.splitlines()) <= 25


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_is_executed_and_prints_no_trace_of_a_computer(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        assert cell.execution_count, f"cell {cell.id} is not executed: run `make notebooks`"
        assert not [o for o in cell.outputs if o.get("name") == "stderr"], f"cell {cell.id} warns"
        shown = json.dumps(
            [
                output.get("text") or output.get("data", {}).get("text/plain", "")
                for output in cell.outputs
            ]
        )
        assert not re.search(rf"ipykernel_|{Path.home()}/|{ROOT}|0x000000", shown), (
            f"cell {cell.id}: {shown}"
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_needs_a_kernel(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            kinds = output.get("data", {})
            assert not [kind for kind in kinds if "widget" in kind], f"cell {cell.id}: {kinds}"
