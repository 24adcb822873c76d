"""The options that benchmarks have in common."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch


def options(
    arguments: Sequence[str] | None, program: str, about: str | None, seconds: float, rounds: int
) -> argparse.Namespace:
    """Read them: --small, --device, --seconds, --rounds and --json; the numbers are defaults."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{program}", description=about)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"per cell ({seconds:g})")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"at least ({rounds})")
    parser.add_argument("--json", type=Path, help="where to write the results")
    return parser.parse_args(arguments)
