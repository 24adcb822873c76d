"""The stored benchmark of the layer, one record for each size, with words instead of code names.

rows for each expert that has any: T K / (E (1 - (1 - K/E)^T)).                     Chapter 07.
"""

from dataclasses import dataclass
from typing import Any, Literal

from moe_tutorial.results import stored

Mode = Literal["forward", "forward_backward"]

KINDS: dict[str, tuple[str, ...]] = {
    "masks": ("mask loop", "HF eager"),
    "sorted, module by module": ("sorted modules",),
    "grouped product": ("HF grouped_mm", "torchtitan style"),
    "one-hot or copies": ("st-moe-pytorch", "HF batched_mm"),
}
"""How the seven others run the experts, and what ``benchmarks/README.md`` calls them."""

_SIZES = ((2e5, "small"), (1e6, "medium"), (5e6, "large"))


@dataclass(frozen=True)
class MeasuredLayer:
    """What one size of layer took, in every implementation that was timed.

    Attributes:
        tokens: T.
        model_width: D.
        hidden_width: F.
        num_experts: E.
        k: K.
        matrices: of an expert: three for SwiGLU, two for GELU.
        matmul_rate: GFLOP/s of one large matrix product, measured in the same process.
        implementations: for each name what the benchmark's JSON file says.
    """

    tokens: int
    model_width: int
    hidden_width: int
    num_experts: int
    k: int
    matrices: int
    matmul_rate: float
    implementations: dict[str, Any]

    @property
    def words(self) -> str:
        """Tokens and experts in words, such as "64 tokens, 8 large"."""
        weights = self.expert_weights
        size = next((word for limit, word in _SIZES if weights < limit), "very large")
        return f"{self.tokens} token{'s' * (self.tokens > 1)}, {self.num_experts} {size}"

    @property
    def expert_weights(self) -> int:
        """The weights of one expert."""
        return self.matrices * self.model_width * self.hidden_width

    @property
    def busy_experts(self) -> float:
        """How many experts have rows, as expected for choices at random."""
        idle = (1 - self.k / self.num_experts) ** self.tokens
        return self.num_experts * (1 - idle)

    @property
    def rows_per_expert(self) -> float:
        """Rows for each expert that has any."""
        return self.tokens * self.k / self.busy_experts

    def took_part(self, name: str) -> bool:
        """Whether an implementation was timed at this size."""
        return "skipped" not in self.implementations[name]

    def rate(self, name: str, mode: Mode = "forward") -> float:
        """GFLOP/s of one implementation: the products' arithmetic over all of its time."""
        return float(self.implementations[name][mode]["gflop_per_s"])

    def ratio(self, name: str, mode: Mode = "forward") -> float:
        """Time of ``dispatch`` divided by the time of another, the median over paired rounds."""
        return float(self.implementations[name][mode]["ours_to_this"])

    def fastest(self, kind: str, mode: Mode = "forward") -> tuple[str, float] | None:
        """The fastest other implementation of a kind, with its ratio; None if there was none.

        Args:
            kind: one of :data:`KINDS`, or ``"all"``.
            mode: with or without the backward pass.

        Raises:
            ValueError: an unknown kind.
        """
        names = {"all": tuple(name for group in KINDS.values() for name in group), **KINDS}
        if kind not in names:
            raise ValueError(f"kind must be one of {', '.join(names)}, got {kind!r}")
        found = {name: self.ratio(name, mode) for name in names[kind] if self.took_part(name)}
        return max(found.items(), key=lambda it: it[1]) if found else None


def measured_layers() -> list[MeasuredLayer]:
    """Every size of the stored benchmark, few tokens first."""
    layers = []
    for cell in stored("layer")["cells"]:
        numbers, activation = cell["size"].split()
        tokens, model_width, hidden_width, num_experts, k = (int(n) for n in numbers.split(","))
        layers.append(
            MeasuredLayer(
                tokens=tokens,
                model_width=model_width,
                hidden_width=hidden_width,
                num_experts=num_experts,
                k=k,
                matrices=3 if activation == "S" else 2,
                matmul_rate=cell["matmul_gflop_per_s"],
                implementations=cell["implementations"],
            )
        )
    return sorted(layers, key=lambda it: (it.tokens, it.num_experts, it.expert_weights))
