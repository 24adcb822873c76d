"""A reader's function runs with the settings of a fresh session, and leaves the reader's alone."""

import contextlib
import os
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def neutral_surroundings() -> Iterator[None]:
    """The settings of a fresh session inside, and those from before afterwards.

    They are torch's default dtype and device, its gradient and inference modes, deterministic
    algorithms, the states of the three random number generators, and the filters of warnings.
    Nothing that is printed or warned of inside is shown.
    """
    dtype, device = torch.get_default_dtype(), _default_device()
    deterministic = torch.get_deterministic_debug_mode()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    gpus = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)  # type: ignore[no-untyped-call]
    try:
        with contextlib.ExitStack() as stack:
            sink = stack.enter_context(open(os.devnull, "w", errors="ignore"))  # noqa: PTH123
            for setting in (
                contextlib.redirect_stdout(sink),
                contextlib.redirect_stderr(sink),
                warnings.catch_warnings(),
                np.errstate(all="ignore"),
                torch.random.fork_rng(gpus),
                torch.inference_mode(False),
                torch.enable_grad(),
            ):
                stack.enter_context(setting)
            warnings.simplefilter("ignore")
            torch.set_default_dtype(torch.float32)
            if device.type != "cpu":
                torch.set_default_device("cpu")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_default_dtype(dtype)
        if _default_device() != device:
            torch.set_default_device(None)  # inside `with torch.device(...)` this is all it takes
        if _default_device() != device:
            torch.set_default_device(device)
        if torch.get_deterministic_debug_mode() != deterministic:
            torch.set_deterministic_debug_mode(deterministic)


def _default_device() -> torch.device:
    """As torch.get_default_device, which fails in torch 2.6 after set_default_device(None)."""
    return torch.empty(0).device
