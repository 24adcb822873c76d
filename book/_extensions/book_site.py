"""What makes the built site whole in itself: no page asks another host for anything.

- Formulas are set while the book is built (site_maths.py); the written pages get their icons and
  share one sheet of styles (site_finish.py, site_styles.py).
- KaTeX's sheet and fonts come from node_modules, with its licence and that of the icons.
- A figure's alternative text comes from the output that it belongs to.
- Links to Colab and to the sources appear when _config.yml names a repository, and not before.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

# From a package in node_modules to a folder in _static, and what of it pages can ask for.
COPIES = {
    "katex/dist": ("katex", ["katex.min.css", "fonts/*.woff2"]),
    "katex": ("katex", ["LICENSE"]),
    "@fortawesome/fontawesome-free": ("icons", ["LICENSE.txt"]),
}


def copy_packages(app: Sphinx) -> None:
    """Put other people's styles and fonts into _static."""
    for package, (folder, patterns) in COPIES.items():
        source = Path(app.srcdir, "node_modules", package)
        for pattern in patterns:
            found = sorted(source.glob(pattern))
            if not found:
                raise ExtensionError(
                    f"{source / pattern} is missing: run `make book`, which installs it"
                )
            for path in found:
                target = Path(app.outdir, "_static", folder, path.relative_to(source))
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.copytree(path, target, dirs_exist_ok=True)
                else:
                    shutil.copy2(path, target)


def link_repository(_app: Sphinx, config: Config) -> None:
    """Show the buttons that lead to the repository, if there is one."""
    options = config.html_theme_options
    if options.get("repository_url"):
        options["launch_buttons"] = {"colab_url": "https://colab.research.google.com"}
        for button in ("repository", "edit_page", "issues"):
            options[f"use_{button}_button"] = True
    else:
        options["launch_buttons"] = {}


def render_image_with_its_alt(
    self: NbElementRenderer, data: MimeData, render: Any = NbElementRenderer.render_image
) -> list[nodes.Element]:
    """Take the alternative text from the output; myst-nb knows only one for the whole cell."""
    images: list[nodes.Element] = render(self, data)
    alt = data.output_metadata.get("mystnb", {}).get("image", {}).get("alt")
    for image in images:
        if alt:
            image["alt"] = alt
    return images


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    NbElementRenderer.render_image = render_image_with_its_alt
    app.connect("config-inited", link_repository)
    app.connect("builder-inited", copy_packages)
    app.add_css_file("katex/katex.min.css", priority=400)
    app.setup_extension("site_maths")
    app.setup_extension("site_finish")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
