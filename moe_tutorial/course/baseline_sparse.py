"""An entry for the term project: eight experts, of which each token uses two.

For a token it computes as much as the dense one, the router apart.
"""

from torch import Tensor

from moe_tutorial import Attention, Block, Experts, LanguageModel, MoELayer, Router
from moe_tutorial.learning.balance import switch_loss
from moe_tutorial.routing.decision import Routing

SETTINGS = {"learning_rate": 0.01, "warm_up": 20}


def build() -> LanguageModel:
    """Two blocks of width 64 with 8 experts of width 64."""
    return LanguageModel(
        [
            Block(Attention(64, 4), MoELayer(Router(64, num_experts=8, k=2), Experts(8, 64, 64)))
            for _ in range(2)
        ]
    )


def penalty(routing: Routing) -> Tensor:
    """The balancing loss of one layer (chapter 08), with a small coefficient."""
    return 0.01 * switch_loss(routing.probabilities_TE, routing.experts_TK)
