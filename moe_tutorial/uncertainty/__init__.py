"""V. Routing under uncertainty: how far a decision can be trusted.

``stability`` compares two decisions for the same tokens, with what chance alone would give.
"""
