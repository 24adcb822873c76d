"""The decision: what a router says of every token, as it travels through the code.

l_t -> s_t -> S_t -> g_t.                                                     End of chapter 05.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Routing:
    """One routing decision for every token, as it travels through the code.

    Attributes:
        logits_TE: the scores that the choice was made from, noise included where there was any.
        probabilities_TE: softmax of these logits at the router's temperature, or their sigmoid.
        experts_TK: int64 ids of the chosen experts: best first, or in the order of the draw.
        gates_TK: the weight of each chosen expert's output.
    """

    logits_TE: Tensor
    probabilities_TE: Tensor
    experts_TK: Tensor
    gates_TK: Tensor


@dataclass(frozen=True, eq=False)
class LimitedRouting(Routing):
    """A routing decision of which not every assignment is carried out.

    ``experts_TK`` still names the experts that were *wanted*, so that a load counted from it is
    the load before drops. The gates of dropped assignments are 0.

    Attributes:
        kept_TK: bool, which assignments are carried out.
    """

    kept_TK: Tensor
