"""V. Routing under uncertainty.

- ``stability``: how much two choices for the same tokens share, and what chance alone would.
- ``perturbations``: what may change a little; ``one_layer``: in a single layer of a model.
- ``matching``: which expert of one model plays the part of which expert of another.
"""
