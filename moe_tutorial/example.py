"""The token and the twelve experts that chapters 01 to 05 follow, small enough to check by hand.

The numbers were drawn once from a normal distribution and rounded to one digit; among many such
draws this one was taken because its points do not overlap in a picture.
"""

import torch
from torch import Tensor


def one_token() -> Tensor:
    """The token u_t, float64 ``[1, 2]``: T = 1 and D = 2, so that it can be drawn in the plane."""
    return torch.tensor([[1.2, 0.8]], dtype=torch.float64)


def twelve_centroids() -> Tensor:
    """The centroids W_EC, float64 ``[12, 2]``, one row per expert."""
    return torch.tensor(
        [
            [1.4, -1.3], [-0.7, -1.0], [-1.0, 2.1], [0.5, 0.3], [0.8, 1.0], [2.0, 0.1],
            [-1.1, -0.2], [-1.4, -0.5], [1.7, 0.4], [-0.2, -2.1], [-1.1, 0.9], [0.0, -1.6],
        ],
        dtype=torch.float64,
    )  # fmt: skip
