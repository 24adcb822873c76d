"""How fast it could be: the matmuls of the layer with no routing, and as one dense chain."""

import torch
from torch import Tensor, nn

from benchmarks.problem import Layer, Problem
from moe_tutorial.layer.backward import activate_backward
from moe_tutorial.layer.feed_forward import activate


class Limit(Layer):
    """The matmuls alone: every expert's rows lie ready, and nothing is added up afterwards.

    Forward and backward are written by hand, without autograd: only the first matrix's output is
    kept in between. A CPU runs one expert after another; a GPU in bfloat16 runs ``grouped_mm``.
    """

    def __init__(self, problem: Problem, counts: list[int] | None = None) -> None:
        super().__init__(problem)
        size, experts_R = problem.size, problem.experts_TK.flatten()
        order_R = experts_R.argsort(stable=True)
        self.token_R = order_R // size.k
        self.gate_R1 = problem.gates_TK.flatten()[order_R, None]
        self.rows_RD = problem.x_TD[self.token_R]
        self.grad_RD = problem.grad_TD[self.token_R] * self.gate_R1
        self.counts: list[int] = (
            experts_R.bincount(minlength=size.num_experts).tolist() if counts is None else counts
        )
        self.first, self.second = (weight[: len(self.counts)] for weight in problem.weights())
        self.ends_E = torch.tensor(self.counts, device=order_R.device).cumsum(0).int()
        self.grouped = (
            len(self.counts) > 1
            and order_R.device.type == "cuda"
            and self.rows_RD.dtype == torch.bfloat16
            and hasattr(nn.functional, "grouped_mm")
        )
        self.gradients: list[Tensor] = []

    def leaves(self) -> list[Tensor]:
        """See :class:`Layer`."""
        return []

    def weight_gradients(self) -> tuple[Tensor, Tensor]:
        """See :class:`Layer`."""
        return self.gradients[0], self.gradients[1]

    def clear(self) -> None:
        """See :class:`Layer`."""
        self.gradients.clear()

    def forward(self) -> Tensor:
        """The outputs of all rows."""
        return self._forward(None)

    @torch.no_grad()
    def forward_backward(self) -> None:
        """See :class:`Layer`."""
        kept: list[Tensor] = []
        self._forward(kept)
        self.gradients = self._backward(kept)

    @torch.no_grad()
    def results(self) -> dict[str, Tensor]:
        """What the matmuls alone can say about the layer's results."""
        kept: list[Tensor] = []
        rows_RD = self._forward(kept)
        in_EHD, out_EDF, grad_RD = self._backward(kept)
        zeros_TD = torch.zeros_like(self.x_TD, dtype=torch.float32)
        return {
            "output": zeros_TD.index_add(0, self.token_R, (rows_RD * self.gate_R1).float()),
            "gradient of the tokens": zeros_TD.index_add(0, self.token_R, grad_RD.float()),
            "gradient of the first weights": in_EHD,
            "gradient of the second weights": out_EDF,
        }

    def _forward(self, kept: list[Tensor] | None) -> Tensor:
        activation = self.problem.size.activation
        if self.grouped:
            hidden_RH = nn.functional.grouped_mm(self.rows_RD, self.first.mT, offs=self.ends_E)
            if kept is not None:
                kept.append(hidden_RH)
            hidden_RF = activate(hidden_RH, activation)
            return nn.functional.grouped_mm(hidden_RF, self.second.mT, offs=self.ends_E)
        y_RD = torch.empty_like(self.rows_RD)
        for x_ND, y_ND, first_HD, second_DF in zip(
            self.rows_RD.split_with_sizes(self.counts),
            y_RD.split_with_sizes(self.counts),
            self.first,
            self.second,
            strict=True,
        ):
            hidden_NH = x_ND @ first_HD.T
            if kept is not None:
                kept.append(hidden_NH)
            torch.mm(activate(hidden_NH, activation), second_DF.T, out=y_ND)
        return y_RD

    def _backward(self, kept: list[Tensor]) -> list[Tensor]:
        activation = self.problem.size.activation
        if self.grouped:
            (hidden_RH,) = kept
            mm, ends_E = nn.functional.grouped_mm, self.ends_E
            grad_RF = mm(self.grad_RD, self.second, offs=ends_E)
            hidden_RF, grad_RH = activate_backward(hidden_RH, grad_RF, activation)
            return [
                mm(grad_RH.mT, self.rows_RD, offs=ends_E),
                mm(self.grad_RD.mT, hidden_RF, offs=ends_E),
                mm(grad_RH, self.first, offs=ends_E),
            ]
        first, second = torch.empty_like(self.first), torch.empty_like(self.second)
        rows_RD = torch.empty_like(self.rows_RD)
        blocks = (
            tensor.split_with_sizes(self.counts) for tensor in (self.rows_RD, self.grad_RD, rows_RD)
        )
        for i, (x_ND, grad_ND, out_ND) in enumerate(zip(*blocks, strict=True)):
            hidden_NF, grad_NH = activate_backward(kept[i], grad_ND @ self.second[i], activation)
            torch.mm(grad_NH.mT, x_ND, out=first[i])
            torch.mm(grad_ND.mT, hidden_NF, out=second[i])
            torch.mm(grad_NH, self.first[i], out=out_ND)
        return [first, second, rows_RD]


class DenseChain(Limit):
    """One expert for all T * K rows: as many FLOPs in the fewest and largest matmuls."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, [problem.size.tokens * problem.size.k])

    def results(self) -> dict[str, Tensor]:
        """Nothing: one expert in the place of all computes something else."""
        self.forward_backward()
        self.clear()
        return {}
