"""IV. Routers in the wild: the shapes of published models (chapter 06)."""
