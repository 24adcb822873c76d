"""II. The layer (chapters 06 and 07): experts, what brings tokens to them, and the whole.

``experts`` are the networks and ``moe`` the layer, ``block`` a transformer block around it;
``dispatch`` brings tokens to experts and back. ``counting`` counts parameters and FLOPs.
"""
