"""The directive ``routing-at-a-glance``: the example of the book, alive, on the first page.

One token and twelve experts, drawn and redrawn in the reader's browser; without scripts and on
paper, the picture that it starts with.
"""

from __future__ import annotations

from typing import Any

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from moe_tutorial import dot_scores
from moe_tutorial.example import one_token, twelve_centroids
from moe_tutorial.explorers import routing_explorer

SEED = 20  # draws experts 5, 8 and 3, where the best three are 5, 8 and 4


class RoutingAtAGlance(SphinxDirective):
    """Put the explorer of the sampled router here."""

    def run(self) -> list[nodes.Node]:
        """Make the explorer with the package, from the numbers of chapters 01 to 05."""
        logits_TE = dot_scores(one_token(), twelve_centroids())
        explorer = routing_explorer(
            logits_TE[0], k=3, generator=torch.Generator().manual_seed(SEED)
        )
        hero = nodes.container(classes=["hero"])
        hero += nodes.raw("", explorer.html, format="html")
        return [hero]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("routing-at-a-glance", RoutingAtAGlance)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
