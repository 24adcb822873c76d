"""III. Training a router (chapters 08 to 10): balance, capacity, a language model. And chapter 13.

- ``loads``: how many tokens came to each expert, and how even is that? ``padding`` never counts.
- ``balance``: losses that even loads out; ``selection_bias``: balance without a loss.
- ``clusters``: a small task to watch all this on.
- ``capacity``: whom an expert turns away; ``drops``: how many that are.
- ``expert_choice``: experts choose tokens; ``causality``: does the future leak?
- ``documents`` and ``text``: real bytes in several domains.
- ``language_model``, ``settings``, ``training`` and ``checkpoint``: a model, and how it is trained.
- ``ngrams``: the odds of the next byte from counts alone, a baseline.
- ``generation`` and ``trained``: text from a model, and a model that is trained already.
- ``specialisation``: what an expert tells about a token.
- ``names``, ``ratings`` and ``code``: what chapter 13 learns from; ``two_tasks`` is its model with
  a gate for each task, ``fitting`` its training loop.
- ``languages``: what chapter 16 learns from, with real doubt in it.
"""
