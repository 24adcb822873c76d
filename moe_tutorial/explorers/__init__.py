"""Explorers: pictures that compute in the reader's browser, with a kernel or without one.

Each function takes a token's own numbers, or a trace of many tokens, and returns an
:class:`Explorer`, which Jupyter shows and whose ``html`` can stand in any page. All share one
script, ``routing.js``, which calculates what the package calculates, and nothing is loaded from
anywhere. Where no script may run, as on GitHub or in a notebook that JupyterLab does not trust yet,
a picture of the first state is shown.
"""

from moe_tutorial.explorers.centroids import centroid_explorer
from moe_tutorial.explorers.page import Explorer
from moe_tutorial.explorers.pipeline import pipeline_explorer
from moe_tutorial.explorers.posterior import posterior_explorer
from moe_tutorial.explorers.sampled import routing_explorer
from moe_tutorial.explorers.selection import selection_explorer
from moe_tutorial.explorers.temperature import temperature_explorer
from moe_tutorial.explorers.xray import xray

__all__ = [
    "Explorer",
    "centroid_explorer",
    "pipeline_explorer",
    "posterior_explorer",
    "routing_explorer",
    "selection_explorer",
    "temperature_explorer",
    "xray",
]
