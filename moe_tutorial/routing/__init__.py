"""I. A token's decision, step by step (chapters 01 to 05).

- ``scores``: how well does each expert's centroid match the token?
- ``probabilities``: E scores become E shares.
- ``selection``: the K best experts, and gates over them.
- ``sampling``: K experts are drawn instead; ``inclusion``: how likely is each one to be drawn?
- ``combination``: the chosen experts' outputs become one vector again.
- ``decision``: all these steps in one function, ``route``, and the record that it returns;
  ``configuration``: which steps these are; ``groups`` and ``gates``: two of the steps, as published
  routers take them (chapter 11); ``summary``: how a record prints.
- ``router``: centroids and a decision.
"""
