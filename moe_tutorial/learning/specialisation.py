"""Specialisation: how much does the expert tell about the token, and the token about its expert?

I(label; expert) = sum over both of p(l, e) ln(p(l, e) / (p(l) p(e))).               Chapter 10.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.validation import (
    check_finite,
    check_flag,
    check_id_range,
    check_int64,
    check_same_device,
    check_same_shape,
    check_sets,
    check_size,
)
from moe_tutorial.values import holds, values_are_visible

BYTE_KINDS = (
    "end of a document",
    "white space",
    "letter",
    "digit",
    "punctuation",
    "start of a longer character",
    "rest of a longer character",
)
"""The kinds of bytes that :func:`byte_kinds` tells apart; a kind's place here is its id."""


def byte_kinds(tokens_BS: Tensor) -> Tensor:
    """Name the kind of each byte, as :data:`BYTE_KINDS` lists them.

    Letters, digits and punctuation are those of ASCII; UTF-8 writes all other characters with two
    to four bytes of 128 and above.

    Args:
        tokens_BS: int64 bytes, of any shape.

    Returns:
        int64 ids of kinds, of the same shape.

    Raises:
        TypeError: tokens_BS does not hold int64 numbers.
        ValueError: a number outside 0 to 255.
    """
    check_int64("tokens_BS", tokens_BS, "bytes")
    check_id_range("tokens_BS", tokens_BS, 256)
    kind_of = torch.full((256,), BYTE_KINDS.index("punctuation"), device="cpu")
    for byte in range(128):
        if byte == 0:
            kind_of[byte] = BYTE_KINDS.index("end of a document")
        elif chr(byte).isspace():
            kind_of[byte] = BYTE_KINDS.index("white space")
        elif chr(byte).isalpha():
            kind_of[byte] = BYTE_KINDS.index("letter")
        elif chr(byte).isdigit():
            kind_of[byte] = BYTE_KINDS.index("digit")
    kind_of[128:192] = BYTE_KINDS.index("rest of a longer character")
    kind_of[192:] = BYTE_KINDS.index("start of a longer character")
    return kind_of.to(tokens_BS.device)[tokens_BS]


def joint_counts(labels_T: Tensor, experts_TK: Tensor, num_labels: int, num_experts: int) -> Tensor:
    r"""Count how often tokens of each label went to each expert.

    .. math:: n_{le} = \left| \{ t : \text{label}_t = l, \; e \in S_t \} \right|

    Args:
        labels_T: int64 ids from 0 to L - 1, with any leading dimensions.
        experts_TK: int64 ids from 0 to E - 1, the same dimensions and K.
        num_labels: L.
        num_experts: E.

    Returns:
        int64 ``[L, E]``, with a sum of T * K.

    Raises:
        TypeError, ValueError: ids that are not int64 or out of range, or shapes that do not fit.
    """
    check_size("num_labels", num_labels)
    check_sets(experts_TK, num_experts)
    _check_labels("labels_T", labels_T, "experts_TK", experts_TK, num_labels)
    pairs = labels_T[..., None] * num_experts + experts_TK
    counts = torch.bincount(pairs.flatten(), minlength=num_labels * num_experts)
    return counts.view(num_labels, num_experts)


def mutual_information(counts_LE: Tensor) -> Tensor:
    r"""How many nats one learns about the label from being told the expert, and the reverse.

    .. math:: I = \sum_{l,e} \frac{n_{le}}{n} \ln \frac{n_{le} \, n}{n_{l} \, n_{e}}

    It is 0 if the expert says nothing, and at most the smaller of the labels' and the experts'
    entropy. From n counts it comes out too large, by about (L - 1)(E - 1) / 2n where there is
    nothing to learn at all, and by more where neighbouring tokens are alike: compare it with the
    same counts after the labels were shuffled.

    Args:
        counts_LE: ``[L, E]`` counts, with any leading dimensions.

    Returns:
        Nats, float64, one number for each table.

    Raises:
        TypeError, ValueError: no tensor of two dimensions or more, a count that is negative or
            not finite, or a table of zeros.
    """
    _check_counts("counts_LE", counts_LE)
    joint_LE = counts_LE.double() / counts_LE.double().sum((-2, -1), keepdim=True)
    labels_L1, experts_1E = joint_LE.sum(-1, keepdim=True), joint_LE.sum(-2, keepdim=True)
    independent_LE = labels_L1 * experts_1E
    ratio_LE = torch.where(joint_LE > 0, joint_LE / independent_LE, 1)
    return (joint_LE * ratio_LE.log()).sum((-2, -1))


@dataclass(frozen=True)
class Specialisation:
    """What one layer's experts and one kind of label tell about each other, in nats.

    Attributes:
        information: :func:`mutual_information` of the labels and the chosen experts.
        shuffled: the mean of the same after each of several shuffles of the labels: what chance
            alone gives.
        label_entropy: of the labels; no expert can tell more.
    """

    information: float
    shuffled: float
    label_entropy: float


def specialisation(
    labels_BS: Tensor,
    experts_BSK: Tensor,
    num_labels: int,
    num_experts: int,
    *,
    windows: bool,
    given_BS: Tensor | None = None,
    shuffles: int = 20,
) -> Specialisation:
    """Measure how far experts and labels go together, beside what chance alone gives.

    Args:
        labels_BS: int64 ``[B, S]``.
        experts_BSK: int64 ``[B, S, K]``, one layer's choice.
        num_labels: L.
        num_experts: E.
        windows: whether labels are shuffled from window to window, as they must be where all
            tokens of a window have one label (a domain), or from token to token (a kind of byte).
            Tokens of one window are alike in many ways, so shuffling them one by one would make
            chance look smaller than it is.
        given_BS: int64 ids ``[B, S]`` of what is known already, such as the bytes. Then all three
            numbers are those that the label adds to it, I(label; expert | given) =
            I(label and given; expert) - I(given; expert).
        shuffles: how many, the same ones in every call.

    Returns:
        Both informations and the entropy of the labels.

    Raises:
        TypeError, ValueError: as :func:`joint_counts`.
    """
    check_size("shuffles", shuffles)
    check_size("num_labels", num_labels)
    check_flag("windows", windows)
    check_sets(experts_BSK, num_experts, "experts_BSK")
    _check_labels("labels_BS", labels_BS, "experts_BSK", experts_BSK, num_labels)
    if given_BS is None:
        given_BS = torch.zeros_like(labels_BS)
    check_int64("given_BS", given_BS, "ids")
    check_same_shape("given_BS", given_BS, "labels_BS", labels_BS)
    num_given = max(1, int(given_BS.amax()) + 1) if given_BS.numel() else 1
    check_id_range("given_BS", given_BS, num_given)

    def both(labels_BS: Tensor) -> Tensor:
        pairs_BS = labels_BS * num_given + given_BS
        return joint_counts(pairs_BS, experts_BSK, num_labels * num_given, num_experts)

    counts_LGE = both(labels_BS).view(num_labels, num_given, num_experts)
    given_GE = counts_LGE.sum(0)
    known = mutual_information(given_GE).item()
    # On the CPU, so that the shuffles are the same ones whatever device the labels are on.
    generator = torch.Generator("cpu").manual_seed(0)
    size = len(labels_BS) if windows else labels_BS.numel()
    tables = []
    for _ in range(shuffles):
        order = torch.randperm(size, generator=generator, device="cpu").to(labels_BS.device)
        rows = labels_BS if windows else labels_BS.flatten()
        shuffled_BS = rows[order].view_as(labels_BS)
        tables.append(both(shuffled_BS))
    return Specialisation(
        mutual_information(counts_LGE.flatten(0, 1)).item() - known,
        mutual_information(torch.stack(tables)).mean().item() - known,
        _entropy(counts_LGE.sum(-1)) - _entropy(given_GE.sum(-1)),
    )


def _entropy(counts: Tensor) -> float:
    return float(torch.special.entr(counts.double() / counts.sum()).sum())


def _check_labels(
    name: str, labels_T: Any, experts_name: str, experts_TK: Tensor, num_labels: int
) -> None:
    """Refuse what is not one label for each token, from 0 to L-1."""
    check_int64(name, labels_T, "ids")
    if labels_T.shape != experts_TK.shape[:-1]:
        raise ValueError(
            f"{name} must have the tokens' shape, {tuple(experts_TK.shape[:-1])}, got "
            f"{tuple(labels_T.shape)}"
        )
    check_same_device(**{name: labels_T, experts_name: experts_TK})
    check_id_range(name, labels_T, num_labels)


def _check_counts(name: str, counts_LE: Any) -> None:
    """Refuse what is no table of numbers, at least one of them above 0 and none below."""
    if not isinstance(counts_LE, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(counts_LE).__name__}")
    if counts_LE.is_complex() or counts_LE.dtype == torch.bool:
        raise TypeError(f"{name} must hold numbers, got {counts_LE.dtype}")
    if counts_LE.ndim < 2 or 0 in counts_LE.shape[-2:]:
        raise ValueError(f"{name} must have the shape [L, E], got {tuple(counts_LE.shape)}")
    if not values_are_visible(counts_LE) or counts_LE.numel() == 0:
        return
    check_finite(name, counts_LE)
    if not holds((counts_LE >= 0).all(), f"{name} must not be negative"):
        worst = counts_LE[~(counts_LE >= 0)][0].item()
        raise ValueError(f"{name} must not be negative, got {worst}")
    if not holds((counts_LE.sum((-2, -1)) > 0).all(), f"{name} must not be all zeros"):
        raise ValueError(f"{name} must not be all zeros, got a table without a count")
