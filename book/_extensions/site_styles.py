"""One sheet of styles for all pages, with what they use and nothing else.

The theme and the extensions bring nine sheets, 92 kB gzipped, most of it for things that no page
has. After the build, node joins them in their order and drops every rule that neither a page nor a
script can ask for.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from site_node import run_node
from sphinx.application import Sphinx

# The theme links these two in a part of its template that ours replaces.
THEME_SHEETS = {"_static/basic.css": 0, "_static/styles/pydata-sphinx-theme.css": 0}
JOINT_SHEET = "_static/style.css"
SCRIPT = re.compile(r'<script [^>]*\bsrc="[^"]*?(_static/[^"?]+)')


def _record(app: Sphinx) -> Path:
    """Where the sheets' names and priorities wait for a later build that writes fewer pages."""
    return Path(app.doctreedir, "sheets.json")


def collect_sheets(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    """Note which sheets a page links, and link none of them: our layout links the joint one."""
    record = _record(app)
    sheets = json.loads(record.read_text("utf-8")) if record.exists() else dict(THEME_SHEETS)
    linked = {str(sheet.filename): sheet.priority for sheet in context["css_files"]}
    if not linked.keys() <= sheets.keys():
        record.write_text(json.dumps(sheets | linked), "utf-8")
    context["css_files"] = []


def join_sheets(app: Sphinx, pages: list[Path]) -> str:
    """Write the joint sheet; return a mark of its content, by which a browser knows a new one."""
    scripts = {src for page in pages for src in SCRIPT.findall(page.read_text("utf-8"))}
    priorities = json.loads(_record(app).read_text("utf-8"))
    sheet = run_node(
        "join_sheets.mjs",
        json.dumps(
            {
                "sheets": [
                    str(Path(app.outdir, s)) for s in sorted(priorities, key=priorities.get)
                ],
                "content": [str(path) for path in pages]
                + [str(Path(app.outdir, s)) for s in sorted(scripts)],
                "folder": str(Path(app.outdir, "_static")),
            }
        ),
    )
    Path(app.outdir, JOINT_SHEET).write_text(sheet, "utf-8")
    return hashlib.sha256(sheet.encode()).hexdigest()[:8]
