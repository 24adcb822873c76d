"""I. A token's decision, step by step (chapters 01 to 05).

``scores`` -> ``probabilities`` -> ``selection`` or ``sampling`` -> gates, which ``combination``
adds up. ``decision`` takes all these steps at once; ``router`` is centroids plus a decision.
``inclusion`` says how likely each expert is to be drawn.
"""
