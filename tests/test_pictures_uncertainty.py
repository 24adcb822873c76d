"""Figures of chapter 16 draw the numbers they are given, and refuse what is none."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.patches import Ellipse

from moe_tutorial import figures
from moe_tutorial.example import one_token, twelve_centroids

X_D, W_ED = one_token()[0], twelve_centroids()
COVARIANCE_DD = torch.tensor([[0.5, -0.3], [-0.3, 0.4]]).double()
NOISE_MED = torch.randn(200, 12, 2, generator=torch.Generator().manual_seed(0)).double()
LOGITS_ME = (W_ED + 0.3 * NOISE_MED) @ X_D


def test_an_ellipse_is_one_deviation_wide() -> None:
    picture = figures.clouds(X_D, W_ED, COVARIANCE_DD.expand(12, 2, 2), LOGITS_ME, 3)
    plane, cloud, decision = picture.figure.axes
    ellipse = next(it for it in plane.patches if isinstance(it, Ellipse))
    assert (np.array(ellipse.center) == W_ED[0].numpy()).all()
    axes = sorted([ellipse.width / 2, ellipse.height / 2])
    expected = torch.linalg.eigvalsh(COVARIANCE_DD).sqrt().tolist()
    assert axes == pytest.approx(expected)
    # Every point of its edge lies one deviation from its middle.
    edge_N2 = ellipse.get_transform().transform(ellipse.get_path().vertices)
    away_N2 = plane.transData.inverted().transform(edge_N2) - W_ED[0].numpy()
    lengths_N = (away_N2 @ np.linalg.inv(COVARIANCE_DD.numpy()) * away_N2).sum(-1)
    on_edge = [n for n, code in enumerate(ellipse.get_path().codes) if code != 79][::3]
    assert lengths_N[on_edge] == pytest.approx(1, abs=0.01)
    shares = [bar.get_height() for bar in decision.patches]
    often_E = torch.bincount(LOGITS_ME.topk(3).indices.flatten(), minlength=12) / 200
    assert shares == pytest.approx(often_E.tolist())
    assert len(cloud.lines[0].get_ydata()) == 60
    assert f"expert 5 ({shares[5]:.2f})" in picture.alt


def test_differences_say_whose_interval_leaves_zero_out() -> None:
    rows = {"a": {"one": (-0.2, 0.1), "two": (0.05, 0.1)}, "b": {"one": (0.3, 0.2)}}
    picture = figures.differences(rows, x_label="loss less loss")
    assert "a: one -0.200 ± 0.100 (below 0), two +0.050 ± 0.100 (around 0)." in picture.alt
    assert "b: one +0.300 ± 0.200 (above 0)." in picture.alt
    (ax,) = picture.figure.axes
    ends = [tuple(it.get_xdata()) for it in ax.lines if len(it.get_xdata()) == 2]
    assert any(pair == pytest.approx((-0.3, -0.1)) for pair in ends)


def test_reliability_names_the_fullest_bin_and_the_furthest() -> None:
    said = torch.tensor([0.2, 0.0, 0.6, 0.9]).double()
    right = torch.tensor([0.25, 0.0, 0.3, 0.8]).double()
    count = torch.tensor([5.0, 0.0, 10.0, 50.0]).double()
    picture = figures.reliability({"model": (said, right, count)})
    assert "most forecasts say 0.90, of which 0.80 are right" in picture.alt
    assert "those that say 0.60, with 0.30 right" in picture.alt
    (dots,) = picture.figure.axes[0].collections
    assert len(dots.get_offsets()) == 3, "the empty bin is left out"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: figures.clouds(X_D, W_ED, COVARIANCE_DD.expand(3, 2, 2), LOGITS_ME, 3),
            ValueError,
            "covariances_EDD must have shape",
        ),
        (
            lambda: figures.clouds(X_D, W_ED, -COVARIANCE_DD.expand(12, 2, 2), LOGITS_ME, 3),
            ValueError,
            "no negative eigenvalue",
        ),
        (
            lambda: figures.clouds(X_D, W_ED, COVARIANCE_DD.triu().expand(12, 2, 2), LOGITS_ME, 3),
            ValueError,
            "must be symmetric",
        ),
        (
            lambda: figures.clouds(X_D, W_ED, COVARIANCE_DD.expand(12, 2, 2), LOGITS_ME, 13),
            ValueError,
            "k must be between",
        ),
        (lambda: figures.differences({}, x_label="x"), ValueError, "at least one entry"),
        (
            lambda: figures.differences({"a": {"one": (0.1, -0.1)}}, x_label="x"),
            ValueError,
            r"rows\['a'\]\['one'\] must be a difference and half",
        ),
        (
            lambda: figures.reliability({"a": (torch.ones(2), torch.ones(3), torch.ones(2))}),
            ValueError,
            "three of one length",
        ),
        (
            lambda: figures.reliability({"a": (torch.ones(2) * 2, torch.ones(2), torch.ones(2))}),
            ValueError,
            "shares from 0 to 1",
        ),
    ],
)
def test_bad_input_is_refused_by_name(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
