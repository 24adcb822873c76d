"""The stored runs that compare remedies for an uneven load, each remedy on the same seeds.

change: the mean over the seeds of (error with - error without) ± t s / sqrt(n).    Chapter 08.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moe_tutorial.results import stored

STUDENT = 2.093
"""The 97.5 % point of Student's distribution with 19 degrees of freedom, for twenty seeds."""


@dataclass(frozen=True)
class BalanceRuns:
    """What every remedy did, at every setting that was trained.

    Attributes:
        about: settings and versions.
        trials: short trials, with each of three learning rates, on seeds of their own.
        runs: the runs that are judged, with the learning rate that did best in the trials.
    """

    about: dict[str, Any]
    trials: list[dict[str, Any]]
    runs: list[dict[str, Any]]

    def values(self, name: str) -> list[float]:
        """The settings of a remedy, from small to large.

        Raises:
            ValueError: there is no such remedy.
        """
        self._check(name)
        return sorted({run["value"] for run in self.runs if run["name"] == name})

    def of(self, name: str, value: float, key: str) -> Tensor:
        """A number of each judged seed, ``[S]`` in float64, in the order of the seeds.

        Args:
            name: of the remedy.
            value: its setting; 0 where it has none.
            key: ``"error"``, ``"dead_experts"``, ``"effective_experts"`` or another of a run's.

        Raises:
            ValueError: there is no such remedy, or it was not trained with this setting.
            KeyError: its runs have no such number.
        """
        if value not in self.values(name):
            raise ValueError(f"value must be one of {self.values(name)} for {name}, got {value}")
        runs = [run for run in self.runs if (run["name"], run["value"]) == (name, value)]
        ordered = sorted(runs, key=lambda run: int(run["seed"]))
        return torch.tensor([run[key] for run in ordered], dtype=torch.float64)

    def mean(self, name: str, value: float, key: str) -> float:
        """The mean of :meth:`of` over the seeds."""
        return self.of(name, value, key).mean().item()

    def tried(self, name: str, key: str) -> dict[tuple[float, float], float]:
        """The mean over the trial seeds, for each learning rate and setting of a remedy."""
        self._check(name)
        found: dict[tuple[float, float], list[float]] = {}
        for run in self.trials:
            if run["name"] == name:
                found.setdefault((run["learning_rate"], run["value"]), []).append(run[key])
        return {setting: sum(values) / len(values) for setting, values in found.items()}

    def chosen(self, name: str) -> float:
        """The setting of a remedy with the lowest error on the trial seeds."""
        errors = self.tried(name, "error")
        return min(errors, key=lambda setting: errors[setting])[1]

    def change(
        self, name: str, value: float, other: tuple[str, float] = ("nothing", 0.0)
    ) -> tuple[float, float]:
        """By how much the error changes, against another remedy on the same seeds.

        Args:
            name: of the remedy.
            value: its setting.
            other: what it is compared with, and its setting.

        Returns:
            The mean of the paired differences, and half the width of its 95 % interval.
        """
        change_S = self.of(name, value, "error") - self.of(*other, "error")
        half = STUDENT * change_S.std() / len(change_S) ** 0.5
        return change_S.mean().item(), half.item()

    def loads(self, name: str) -> Tensor:
        """The load of every expert, counted for each ten steps, ``[S, N, E]`` in int64.

        Raises:
            ValueError: there is no such remedy, or its loads were not kept.
        """
        self._check(name)
        kept = [run["load"] for run in self.runs if run["name"] == name and "load" in run]
        if not kept:
            raise ValueError(f"name must be a remedy whose loads were kept, got {name!r}")
        return torch.tensor(kept)

    def _check(self, name: str) -> None:
        names = {run["name"] for run in self.runs}
        if name not in names:
            raise ValueError(f"name must be one of {', '.join(sorted(names))}, got {name!r}")


def balance_runs() -> BalanceRuns:
    """Read the runs that ``experiments/balance.py`` stored (``make balance``)."""
    return BalanceRuns(**stored("balance"))
