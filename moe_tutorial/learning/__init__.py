"""III. Training a router (chapters 08 to 10): balance, capacity, and a language model.

``loads`` are measured, ``balance`` evens them, ``clusters`` is the task to watch that on;
``capacity`` and ``expert_choice`` limit them, ``causality`` looks for leaks. ``documents``,
``text``, ``language_model`` and ``training`` make a model, ``specialisation`` looks into it.
"""
