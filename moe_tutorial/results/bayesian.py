"""The stored runs of chapter 16: routers that draw, and what they are compared with.

change: the mean over the seeds of (with - without) ± t s / sqrt(n).                 Chapter 16.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.results import stored
from moe_tutorial.results.stability import interval


@dataclass(frozen=True)
class Method:
    """One thing that was tried, at one setting.

    Attributes:
        part: how it came about: ``"plain"``, ``"draws"`` (nothing was trained), ``"frozen"`` (a
            posterior over the trained model), ``"joint"`` (trained with the model),
            ``"smoothing"`` or ``"ensemble"``.
        name: what it is, such as ``"mean field"``.
        value: its setting.
    """

    part: str
    name: str
    value: float


PLAIN = Method("plain", "plain", 0.0)


@dataclass(frozen=True)
class RouterRuns:
    """All runs of all methods, each on the same five seeds.

    Attributes:
        about: settings and versions.
        rows: one for each method, setting and seed.
    """

    about: dict[str, Any]
    rows: list[dict[str, Any]]

    def tried(self) -> list[tuple[str, str]]:
        """Part and name of every method that is stored, in the order in which they ran."""
        return list(dict.fromkeys((row["part"], row["method"]) for row in self.rows))

    def settings(self, part: str, name: str) -> list[Method]:
        """A method at each of its settings, from small to large.

        Raises:
            ValueError: there is no such method.
        """
        found = {
            Method(part, name, row["value"])
            for row in self.rows
            if (row["part"], row["method"]) == (part, name)
        }
        if not found:
            known = dict.fromkeys(f"{row['part']}: {row['method']}" for row in self.rows)
            raise ValueError(f"name must be one of {', '.join(known)}, got {part}: {name}")
        return sorted(found, key=lambda method: method.value)

    def each_seed(self, method: Method, *keys: str) -> Tensor:
        """A number of every seed's run, float64 ``[S]`` in the order of the seeds.

        Args:
            method: of which runs.
            keys: the way to the number, such as ``"outputs averaged", "test", "nll"``.

        Raises:
            ValueError: the method was not tried at this setting.
            KeyError: its runs have no such number.
        """
        if method not in self.settings(method.part, method.name):
            raise ValueError(f"method must be one that was tried, got {method}")
        rows = [
            row
            for row in self.rows
            if (row["part"], row["method"], row["value"])
            == (method.part, method.name, method.value)
        ]
        numbers = []
        for row in sorted(rows, key=lambda row: int(row["seed"])):
            found: Any = row
            for key in keys:
                found = found[key]
            numbers.append(float(found))
        return torch.tensor(numbers, dtype=torch.float64)

    def mean(self, method: Method, *keys: str) -> float:
        """The mean of :meth:`each_seed`."""
        return self.each_seed(method, *keys).mean().item()

    def chosen(self, part: str, name: str) -> Method:
        """A method at the setting with the lowest NLL on the calibration split.

        The test split has no say in it.

        Raises:
            ValueError: there is no such method.
        """
        return min(
            self.settings(part, name),
            key=lambda method: self.mean(method, "outputs averaged", "calibration", "nll"),
        )

    def change(
        self,
        method: Method,
        split: str,
        measure: str,
        *,
        place: str = "outputs averaged",
        other: Method = PLAIN,
    ) -> tuple[float, float]:
        """By how much a method changes a measure, against another with the same seeds.

        Args:
            method: which one.
            split: ``"test"``, or ``"scaled"`` for the test split with both scaled.
            measure: ``"nll"``, ``"ece"``, ``"brier"`` or ``"accuracy"``.
            place: where draws were averaged.
            other: what it is compared with.

        Returns:
            The mean of the paired differences, and half the width of its 95 % interval over seeds.

        Raises:
            ValueError, KeyError: as :meth:`each_seed`.
        """
        there = "plain" if other == PLAIN else "outputs averaged"
        with_S = self.each_seed(method, place, split, measure)
        mean, half = interval(with_S - self.each_seed(other, there, split, measure))
        return mean.item(), half.item()

    def surely(self, method: Method, split: str, measure: str) -> tuple[int, int]:
        """In how many seeds the windows alone leave no doubt that a method is better, or worse.

        Each seed has an interval of its own over draws of test windows, the same ones for method
        and plain model.

        Returns:
            How many of these intervals lie below 0, and how many above.
        """
        keys = ("outputs averaged", f"{split} {measure} less the plain model's")
        low_S, high_S = (self.each_seed(method, *keys, end) for end in ("low", "high"))
        return int((high_S < 0).sum()), int((low_S > 0).sum())


def router_runs() -> RouterRuns:
    """Read the runs that ``experiments/uncertainty.py`` stored (``make uncertainty``)."""
    content = stored("uncertainty")
    return RouterRuns(content["about"], content["routers"])
