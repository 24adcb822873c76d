"""Figures that a course can call with its own numbers. Every one returns a ``Picture``."""

from moe_tutorial.figures.bars import draw_grid, expert_bars
from moe_tutorial.figures.clouds import clouds
from moe_tutorial.figures.curves import curves, stems
from moe_tutorial.figures.differences import differences, reliability
from moe_tutorial.figures.exchange import exchanged_rows
from moe_tutorial.figures.layers import block_diagram, total_and_active
from moe_tutorial.figures.palette import EXPERT_COLOURS, EXPERT_COLOURS_DARK, expert_colour
from moe_tutorial.figures.passage import coloured_passage
from moe_tutorial.figures.queues import dropped_by_position, expert_queues, waiting_lines
from moe_tutorial.figures.ratios import ratios
from moe_tutorial.figures.roofline import roofline
from moe_tutorial.figures.routes import dense_and_sparse, routing_at_a_glance, sampled_router
from moe_tutorial.figures.scrubber import Scrubber
from moe_tutorial.figures.sorting import sorted_blocks
from moe_tutorial.figures.spaces import (
    centroid_and_logit_space,
    centroid_space,
    three_spaces,
    weighted_sum,
)
from moe_tutorial.figures.style import Picture
from moe_tutorial.figures.tables import Table, number_table, table
from moe_tutorial.figures.tradeoffs import trade_off

__all__ = [
    "EXPERT_COLOURS",
    "EXPERT_COLOURS_DARK",
    "Picture",
    "Scrubber",
    "Table",
    "block_diagram",
    "centroid_and_logit_space",
    "centroid_space",
    "clouds",
    "coloured_passage",
    "curves",
    "dense_and_sparse",
    "differences",
    "draw_grid",
    "dropped_by_position",
    "exchanged_rows",
    "expert_bars",
    "expert_colour",
    "expert_queues",
    "number_table",
    "ratios",
    "reliability",
    "roofline",
    "routing_at_a_glance",
    "sampled_router",
    "sorted_blocks",
    "stems",
    "table",
    "three_spaces",
    "total_and_active",
    "trade_off",
    "waiting_lines",
    "weighted_sum",
]
