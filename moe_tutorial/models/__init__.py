"""IV. Routers in the wild.

- ``published``: published models as shapes, each with the sizes that its makers give (chapter 06).
"""
