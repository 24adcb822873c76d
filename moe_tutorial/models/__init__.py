"""IV. Routers in the wild.

- ``published``: published models as shapes, each with the sizes that its makers give (chapter 06).
- ``zoo``: the router of any block of transformers, taken over with its weights; ``layers``: whole
  layers. ``recipes``: what a router is, as one record that prints as a sentence; ``routers``: the
  published ones; ``elsewhere``: those of other programs (chapter 11).
- ``readers``, ``families``: which fields of transformers say what, and where its blocks are.
- ``compositions``, ``capped``, ``sparsemixer``: routers that one configuration does not describe.
- ``inspection``: ``trace`` records the routing of a model while it runs, at the layers that
  ``moe_layers`` finds, as a ``Trace`` of ``traces``, which ``trace_files`` keeps in files
  (chapter 12).
- ``engines`` and ``vllm_arrays``: traces of llama.cpp, Megatron-Core and vLLM.
- ``questions``, ``guesses`` and ``drift``: what people ask of a trace, with chance beside it.
"""
