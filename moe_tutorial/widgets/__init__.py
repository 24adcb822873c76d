"""The explorers with a kernel behind them: put in your own model's logits, tokens and centroids.

Controls above pictures and a table. Whatever is moved, the package calculates anew and the figure
changes in its place. Made for chapters 01 to 05, and for any number of experts.
"""

from moe_tutorial.widgets.chapters import (
    centroid_widget,
    routing_widget,
    selection_widget,
    temperature_widget,
)
from moe_tutorial.widgets.live import LiveFigure

__all__ = [
    "LiveFigure",
    "centroid_widget",
    "routing_widget",
    "selection_widget",
    "temperature_widget",
]
