"""Mixture-of-Experts routing, one idea a module, in five parts that follow the book.

- ``routing``: a token's decision. ``scores`` -> ``probabilities`` -> ``selection`` or
  ``sampling`` -> ``combination``; ``decision`` takes these steps in one function, ``route``, and
  ``router`` is centroids plus that.
- ``layer``: ``experts``, what brings tokens to them (``dispatch``), and the layer, ``moe``.
- ``learning``: ``loads``, ``balance`` and ``capacity``, and a small ``language_model`` with its
  ``training``.
- ``models``: published models, and what a running one routes where.
- ``uncertainty``: how far a decision can be trusted.

Arrows run one way: ``routing`` imports from no other part, ``layer`` from ``routing``, the others
from both. ``parallel`` takes the first three to many devices, and ``train`` is a command that does.

Names end in the shape of what they hold:

- ``T`` tokens (any leading dimensions, such as batch and sequence)
- ``D`` model width
- ``E`` experts
- ``K`` experts chosen for each token
- ``F`` an expert's hidden width (``H`` = F, or 2F before a SwiGLU)
- ``R`` rows, the T * K assignments of tokens to experts

so ``logits_TE`` has one row per token and one column per expert.
"""

# The order is that of the book.
# isort: off
from moe_tutorial.routing.scores import cosine_scores, dot_scores
from moe_tutorial.routing.probabilities import entropy, sigmoid, softmax, sqrt_softplus
from moe_tutorial.routing.selection import keep, renormalise, softmax_over_chosen, top_k
from moe_tutorial.routing.sampling import (
    gumbel_top_k,
    noisy_logits,
    plackett_luce_log_probability,
)
from moe_tutorial.routing.inclusion import (
    inclusion_probabilities,
    inclusion_probabilities_by_enumeration,
)
from moe_tutorial.routing.combination import combine, scatter_gates
from moe_tutorial.routing.configuration import Groups, RouterConfig
from moe_tutorial.routing.groups import limit_to_groups
from moe_tutorial.routing.decision import LimitedRouting, Routing, route
from moe_tutorial.routing.router import Router

from moe_tutorial.layer.feed_forward import ExpertWeights, FeedForward
from moe_tutorial.layer.dispatch import dispatch
from moe_tutorial.layer.experts import Experts
from moe_tutorial.layer.moe import MoELayer, MoEOutput
from moe_tutorial.layer.block import Attention, Block

from moe_tutorial.learning.loads import LoadMetrics, expert_load, load_metrics
from moe_tutorial.learning.balance import (
    gshard_loss,
    importance,
    smooth_load,
    squared_variation,
    switch_loss,
    z_loss,
)
from moe_tutorial.learning.selection_bias import updated_bias
from moe_tutorial.learning.capacity import (
    dispatch_kept,
    expert_capacity,
    limit_capacity,
    within_capacity,
)
from moe_tutorial.learning.drops import expected_drops
from moe_tutorial.learning.expert_choice import expert_choice
from moe_tutorial.learning.causality import future_leak
from moe_tutorial.learning.language_model import LanguageModel, Prediction

from moe_tutorial.models.inspection import trace
from moe_tutorial.models.traces import Trace
# isort: on

__version__ = "1.0.0"

__all__ = [
    "Attention",
    "Block",
    "ExpertWeights",
    "Experts",
    "FeedForward",
    "Groups",
    "LanguageModel",
    "LimitedRouting",
    "LoadMetrics",
    "MoELayer",
    "MoEOutput",
    "Prediction",
    "Router",
    "RouterConfig",
    "Routing",
    "Trace",
    "combine",
    "cosine_scores",
    "dispatch",
    "dispatch_kept",
    "dot_scores",
    "entropy",
    "expected_drops",
    "expert_capacity",
    "expert_choice",
    "expert_load",
    "future_leak",
    "gshard_loss",
    "gumbel_top_k",
    "importance",
    "inclusion_probabilities",
    "inclusion_probabilities_by_enumeration",
    "keep",
    "limit_capacity",
    "limit_to_groups",
    "load_metrics",
    "noisy_logits",
    "plackett_luce_log_probability",
    "renormalise",
    "route",
    "scatter_gates",
    "sigmoid",
    "smooth_load",
    "softmax",
    "softmax_over_chosen",
    "sqrt_softplus",
    "squared_variation",
    "switch_loss",
    "top_k",
    "trace",
    "updated_bias",
    "within_capacity",
    "z_loss",
]
