"""V. Routing under uncertainty.

- ``stability``: how much two choices for the same tokens share, and what chance alone would.
- ``perturbations``: what may change a little; ``one_layer``: in a single layer of a model.
- ``matching``: which expert of one model plays the part of which expert of another.
- ``centroid_clouds``, ``logit_clouds`` and ``temperature``: where uncertainty can be put, draws
  from it, and what it costs.
- ``bayesian``: a router that draws, and a posterior over a trained one; ``bayesian_routers``: four
  of them.
- ``prediction``: what several passes say together, and whether their differences tell anything.
- ``calibration``: whether what is said to be likely is likely.
"""
