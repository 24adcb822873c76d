"""Group-limited choice: a token's experts come from few groups of experts.

score of a group = sum of its best expert scores;  the experts of all other groups are out.
                                                                                    Chapter 11.
"""

from torch import Tensor

from moe_tutorial.routing.configuration import Groups, RouterConfig, check_config
from moe_tutorial.routing.selection import largest
from moe_tutorial.validation import check_kind, check_logits


def limit_to_groups(scores_TE: Tensor, groups: Groups) -> Tensor:
    r"""Overwrite the scores of all experts outside of a token's best groups.

    .. math:: G_{tg} = \sum \text{ of the } b \text{ largest } s_{te}, \; e \in g, \qquad
              \tilde s_{te} = s_{te} \text{ if } g(e) \in \operatorname{top}_{kept}(G_t),
              \text{ else } fill

    (DeepSeek-V2, 2024, section 2.2.2, with b = 1; DeepSeek-V3, 2024, section 2.1.2, with b = 2.)

    Args:
        scores_TE: what the choice is made on, ``[T, E]`` with any leading dimensions.
        groups: how many there are, how many are kept, and the other two numbers.

    Returns:
        limited_TE: shape and dtype of ``scores_TE``. No gradient flows through the choice, but the
        scores that stay keep theirs.

    Raises:
        TypeError, ValueError: scores that are not finite floating point, or groups that do not
            fit the number of experts.
    """
    check_logits("scores_TE", scores_TE)
    check_kind("groups", groups, Groups)
    check_config(RouterConfig(1, groups=groups), scores_TE.shape[-1])
    return limited(scores_TE, groups)


def limited(scores_TE: Tensor, groups: Groups) -> Tensor:
    """:func:`limit_to_groups` of arguments that were checked."""
    grouped_TGN = scores_TE.reshape(*scores_TE.shape[:-1], groups.number, -1)
    group_scores_TG = grouped_TGN.detach().topk(groups.best, dim=-1).values.sum(-1)
    kept_TX = largest(group_scores_TG, groups.kept)
    outside_TG = group_scores_TG.new_ones(group_scores_TG.shape).scatter(-1, kept_TX, 0.0).bool()
    limited_TGN = grouped_TGN.masked_fill(outside_TG.unsqueeze(-1), groups.fill)
    return limited_TGN.reshape(scores_TE.shape)
