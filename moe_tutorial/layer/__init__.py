"""II. The layer (chapters 06 and 07): experts, what brings tokens to them, and the whole.

- ``feed_forward``: what one expert computes, and the weights of E of them.
- ``assignments``: sort by expert, run each expert on its rows, sum each token's rows: three steps.
- ``loop`` and ``grouped``: two fast ways to take them, with ``memory`` for what they write and a
  ``backward`` that they share.
- ``dispatch``: the checked door, which chooses between the two.
- ``experts``: E networks as one module; ``moe``: the layer, a router and its experts.
- ``block``: a transformer block around it.
- ``counting``: parameters and FLOPs.
"""
