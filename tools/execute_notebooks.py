"""Execute the notebooks into one canonical form: the same code gives the same bytes.

python tools/execute_notebooks.py                 in place, all of notebooks/
python tools/execute_notebooks.py --output DIR    the results go to DIR, notebooks/ stays
python tools/execute_notebooks.py --set-up-only   only set-up cells and folds, execute nothing

Every notebook's first code cell, the set-up cell, is written from tools/setup_cell.py with the
address of the repository from _config.yml: a fork changes that one line, and all its notebooks
point to the fork. Cells that only draw a figure or a table get the metadata that folds their code.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# The kernels inherit these: one order of sets and dictionaries, one way of drawing, one thread, and
# no note of the exercises in the home of whoever executes them.
# Two kernels at a time share the machine, and more threads would only wait for one another.
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OMP_NUM_THREADS": "1",
    "MOE_TUTORIAL_PROGRESS": "off",
}
CELL_TIMEOUT = 60  # seconds; a whole chapter takes less than twenty
DRAWING = ("moe_tutorial.figures", "moe_tutorial.explorers")
TABLES = ("table", "number_table")
TITLE = re.compile(r"# @title Draw (?:figure|table) .*\n")

Notebook = Any  # nbformat's NotebookNode, a dictionary with attributes
Cell = Any  # another


def set_up_source() -> str:
    """The set-up cell, with the address that _config.yml names."""
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    address = f"{repository['url']}@{repository['branch']}" if repository["url"] else ""
    template = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8").strip()
    return template.replace('ADDRESS = ""', f"ADDRESS = {json.dumps(address)}")


def refresh_set_up(notebook: Notebook) -> None:
    """Write the set-up cell: the first code cell, made if the notebook has none yet."""
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code_cells or code_cells[0].id != "setup":
        title = 1 if notebook.cells and notebook.cells[0].cell_type == "markdown" else 0
        notebook.cells.insert(title, nbformat.v4.new_code_cell(id="setup"))
        code_cells = [notebook.cells[title]]
    code_cells[0].source = set_up_source()
    code_cells[0].metadata = nbformat.from_dict(
        {
            "cellView": "form",
            "mystnb": {
                "code_prompt_show": "Show the set-up cell",
                "code_prompt_hide": "Hide the set-up cell",
            },
            "tags": ["hide-input"],
        }
    )


def drawn(cell: Cell, later: list[Cell]) -> str | None:
    """What a cell draws, such as "figure 2.1", or None if the cell does anything else.

    A cell only draws if it ends in a figure or a table with a number,
    ``bars(...).captioned("2.1", "...")``, if all else in it imports figures or gives names to what
    is drawn, and if no later cell needs these names. Widgets stay open, since readers put their
    own numbers into them.

    Args:
        cell: a code cell.
        later: the code cells after it.
    """
    *before, last = ast.parse(cell.source).body or [ast.Pass()]
    match last:
        case ast.Expr(
            ast.Call(
                ast.Attribute(ast.Call(ast.Name(drawer)), "captioned"),
                [ast.Constant(str(number)), *_],
            )
        ):
            kind = "table" if drawer in TABLES else "figure"
        case _:
            return None
    given = set()
    for step in before:
        if isinstance(step, ast.Assign):
            given |= {name for target in step.targets for name in names(target, ast.Store)}
        elif not isinstance(step, ast.ImportFrom) or step.module not in DRAWING:
            return None
    needed = set()
    for code in later:
        tree = ast.parse(code.source)
        parameters = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        needed |= names(tree, ast.Load) - names(tree, ast.Store) - parameters
    return None if given & needed else f"{kind} {number}"


def names(tree: ast.AST, context: type[ast.expr_context]) -> set[str]:
    """The names that a piece of code reads (ast.Load) or gives (ast.Store)."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {node.id for node in found if isinstance(node.ctx, context)}


def fold_drawings(notebook: Notebook) -> None:
    """Hide the code of cells that only draw, on the page, in Jupyter and in Colab."""
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for index, cell in enumerate(code_cells):
        what = drawn(cell, code_cells[index + 1 :])
        was_folded = TITLE.match(cell.source)
        cell.source = TITLE.sub("", cell.source, count=1)
        if what:
            cell.source = f"# @title Draw {what}\n{cell.source}"
            cell.metadata = nbformat.from_dict(
                {
                    "cellView": "form",
                    "jupyter": {"source_hidden": True},
                    "mystnb": {
                        "code_prompt_hide": "Hide the code",
                        "code_prompt_show": f"Show the code that draws {what}",
                    },
                    "tags": ["hide-input"],
                }
            )
        elif was_folded:
            cell.metadata = nbformat.from_dict({})


def execute(notebook: Notebook, folder: Path, kernel: str = "python3") -> None:
    """Run every cell in `folder`, filling in the outputs."""
    notebook.metadata.pop("widgets", None)
    for attempt in (1, 2):
        client = NotebookClient(
            notebook,
            kernel_name=kernel,
            timeout=CELL_TIMEOUT,
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": str(folder)}},
        )
        try:
            client.execute()
            return
        except CellTimeoutError:
            # Now and then nbclient misses a kernel's reply around a widget and waits for ever.
            if attempt == 2:
                raise


def canonicalise(notebook: Notebook) -> None:
    """Drop what differs between two runs of the same code, and what needs the kernel to run."""
    for cell in notebook.cells:
        keep = {"tags", "mystnb", "cellView", "jupyter", "slideshow", "claims"}
        cell.metadata = {key: cell.metadata[key] for key in sorted(keep & set(cell.metadata))}
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                # The frames name files of this computer; the last line is what the reader needs.
                output.traceback = [f"{output.ename}: {output.evalue}"]
            elif output.output_type == "stream":
                output.text = without_addresses(output.text)
            else:
                # A widget is dead without its kernel: its sentence stays, and says how to run it.
                output.data.pop(WIDGET_VIEW, None)
                for kind, value in output.data.items():
                    if kind.startswith("text/"):
                        output.data[kind] = without_addresses(value)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )


def without_addresses(text: str) -> str:
    """<object at 0x7f...> says where it lay in memory, which no two runs share."""
    return re.sub(r"0x[0-9a-f]{6,}", "0x000000", text)


def process(source: Path, target: Path, run: bool) -> str:
    """Refresh, execute and write one notebook; returns the line that reports it."""
    notebook = nbformat.read(source, as_version=4)
    refresh_set_up(notebook)
    fold_drawings(notebook)
    if run:
        execute(notebook, source.parent)
    canonicalise(notebook)
    notebook.nbformat_minor = 5
    text = nbformat.writes(notebook) + "\n"
    changed = not target.exists() or target.read_text(encoding="utf-8") != text
    if changed:
        target.write_text(text, encoding="utf-8")
    return f"{source.name}: {'written' if changed else 'unchanged'}"


def main() -> int:
    """Read the command line and work through the notebooks, two at a time."""
    parser = argparse.ArgumentParser(description="Execute the notebooks into canonical files.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/")
    parser.add_argument("--output", type=Path, help="folder for the results; default: in place")
    parser.add_argument("--set-up-only", action="store_true", help="execute nothing")
    options = parser.parse_args()
    sources = options.notebooks or sorted(NOTEBOOKS.glob("*.ipynb"))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
    os.environ.update(ENVIRONMENT)
    failed = 0
    with concurrent.futures.ProcessPoolExecutor(max_workers=2) as pool:
        jobs = {
            source: pool.submit(
                process,
                source,
                (options.output or source.parent) / source.name,
                not options.set_up_only,
            )
            for source in sources
        }
        for source, job in jobs.items():
            try:
                print(job.result(), flush=True)
            except Exception as error:  # one broken notebook should not hide the next
                print(f"{source.name}: {error}", file=sys.stderr)
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
