"""What every notebook has: the set-up cell, executed cells, outputs that hold on any computer."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from tools.execute_notebooks import drawn, fold_drawings, set_up_source

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


FOLDED = {
    "cellView": "form",
    "jupyter": {"source_hidden": True},
    "mystnb": {
        "code_prompt_hide": "Hide the code",
        "code_prompt_show": "Show the code that draws figure 2.1",
    },
    "tags": ["hide-input"],
}
# Cells, and whether nothing happens in them but that figure 2.1 is drawn.
DRAW = 'bars({"T": p_E}, "p").captioned("2.1", "One bar is high.")'
CELLS = {
    DRAW: True,
    f"from moe_tutorial.figures import bars\n\nT = 1.0\nrows = [p for p in p_TE]\n{DRAW}": True,
    f"from moe_tutorial.explorers import bars\n\n{DRAW}": True,
    f"T, rows = 1.0, 2.0\n{DRAW}": True,
    'Scrubber(frames, labels).captioned("2.1", f"Step {step} is the last.")': True,
    "": False,
    'bars({"T": p_E}, "p")': False,  # no number yet
    f"picture = {DRAW}": False,  # shows nothing
    f"{DRAW}\nprint(1)": False,
    f"print(1)\n{DRAW}": False,
    f"assert p_E.sum() == 1\n{DRAW}": False,
    f"def double(x):\n    return 2 * x\n\n\n{DRAW}": False,
    f"from moe_tutorial import softmax\n\n{DRAW}": False,
    f"for _ in range(3):\n    {DRAW}": False,
    f"wanted = 1.0\n{DRAW}": False,  # a later cell reads it
    "table(columns)": False,  # no number yet
    "temperature_widget(logits_TE)": False,
}
LATER = "def twice(rows):\n    T = wanted\n    return T * rows"


@pytest.mark.parametrize(("source", "draws"), CELLS.items())
def test_a_cell_that_only_draws_is_folded(source: str, draws: bool) -> None:
    cells = [nbformat.v4.new_code_cell(code) for code in (source, LATER)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    for _ in range(2):  # the second time changes nothing
        fold_drawings(notebook)
        title = "# @title Draw figure 2.1\n" if draws else ""
        assert notebook.cells[0].source == title + source
        assert notebook.cells[0].metadata == (FOLDED if draws else {})
        assert notebook.cells[1].metadata == {}


@pytest.mark.parametrize("drawer", ["table", "number_table"])
def test_a_table_is_drawn_too(drawer: str) -> None:
    source = f'{drawer}(columns).captioned("2.1", "All are equal.")'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    for _ in range(2):
        fold_drawings(notebook)
        assert notebook.cells[0].source == f"# @title Draw table 2.1\n{source}"
        prompt = notebook.cells[0].metadata["mystnb"]["code_prompt_show"]
        assert prompt == "Show the code that draws table 2.1"


def test_a_cell_that_draws_no_more_is_unfolded() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(DRAW)])
    fold_drawings(notebook)
    notebook.cells[0].source += "\nprint(1)"
    fold_drawings(notebook)
    assert notebook.cells[0].source == f"{DRAW}\nprint(1)"
    assert notebook.cells[0].metadata == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_that_only_draw_are_folded_and_no_others(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    for index, cell in enumerate(cells[1:], 1):
        what = drawn(cell, cells[index + 1 :])
        folded = "hide-input" in cell.metadata.get("tags", [])
        assert folded == bool(what), f"cell {cell.id}: run `make notebooks`"
