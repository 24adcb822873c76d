"""IV. Routers in the wild.

- ``published``: published models as shapes, each with the sizes that its makers give (chapter 06).
- ``inspection``: ``trace`` records the routing of a model while it runs, at the layers that
  ``moe_layers`` finds, as a ``Trace`` of ``traces``, which ``trace_files`` keeps in files
  (chapter 12).
- ``engines`` and ``vllm_arrays``: traces of llama.cpp, Megatron-Core and vLLM.
- ``questions``, ``guesses`` and ``drift``: what people ask of a trace, with chance beside it.
"""
