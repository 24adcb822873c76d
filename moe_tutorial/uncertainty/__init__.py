"""V. Routing under uncertainty.

- ``stability``: how much two choices for the same tokens share, and what chance alone would.
"""
