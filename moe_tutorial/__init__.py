"""Mixture-of-Experts routing, one idea a module, in the order in which a token meets them.

``scores`` -> ``probabilities`` -> ``selection`` or ``sampling`` -> ``combination``, and a thin
``Router`` over them. Names end in the shape of what they hold:

- ``T`` tokens (any leading dimensions, such as batch and sequence)
- ``D`` model width
- ``E`` experts
- ``K`` experts chosen for each token

so ``logits_TE`` has one row per token and one column per expert.
"""

from moe_tutorial.combination import combine, scatter_gates
from moe_tutorial.probabilities import entropy, sigmoid, softmax
from moe_tutorial.router import Router, Routing
from moe_tutorial.sampling import (
    gumbel_top_k,
    inclusion_probabilities,
    inclusion_probabilities_by_enumeration,
    noisy_logits,
    plackett_luce_log_probability,
)
from moe_tutorial.scores import cosine_scores, dot_scores
from moe_tutorial.selection import keep, renormalise, softmax_over_chosen, top_k

__version__ = "0.1.0"

__all__ = [
    "Router",
    "Routing",
    "combine",
    "cosine_scores",
    "dot_scores",
    "entropy",
    "gumbel_top_k",
    "inclusion_probabilities",
    "inclusion_probabilities_by_enumeration",
    "keep",
    "noisy_logits",
    "plackett_luce_log_probability",
    "renormalise",
    "scatter_gates",
    "sigmoid",
    "softmax",
    "softmax_over_chosen",
    "top_k",
]
