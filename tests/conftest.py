"""What all tests share: one thread each, every device there is, repeatable examples."""

import os

import hypothesis
import pytest
import torch

# Two pytest workers on two cores: more threads would only wait for one another.
torch.set_num_threads(1)

# Checks, in programs that tests start too, leave the progress of whoever runs the tests alone.
os.environ["MOE_TUTORIAL_PROGRESS"] = "off"

# The same examples on every run: a failure can be repeated, and a pass means the same tomorrow.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, max_examples=60, database=None
)
hypothesis.settings.load_profile("repeatable")

devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=devices)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what asks for something that an older torch does not have, or does wrongly."""
    here = tuple(int(it) for it in torch.__version__.split(".")[:2])
    for mark in item.iter_markers("torch_from"):
        if here < mark.args:
            pytest.skip(f"torch {torch.__version__}: {mark.kwargs['reason']}")
