"""Who is compared: this package and the ways that people compute an MoE layer today."""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.problem import Layer, Problem, SkippedError
from moe_tutorial.layer.dispatch import Method, dispatch
from moe_tutorial.layer.feed_forward import Activation, ExpertWeights, activate

LARGEST_COPY = 2**31
"""Bytes: an implementation that copies weights or masks for every token sits out above this."""


class Stacked(Layer):
    """Two stacked weights, ``[E, out, in]``."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.first, self.second = (it.detach().requires_grad_() for it in problem.weights())

    def leaves(self) -> list[Tensor]:
        """See :class:`Layer`."""
        return [self.first, self.second]

    def weight_gradients(self) -> tuple[Tensor, Tensor]:
        """See :class:`Layer`."""
        first, second = self.first.grad, self.second.grad
        assert first is not None
        assert second is not None
        return first, second


class Ours(Stacked):
    """This package, with the rule or with one of its methods."""

    def __init__(self, problem: Problem, method: Method | None = None) -> None:
        if method == "grouped" and not hasattr(nn.functional, "grouped_mm"):
            raise SkippedError("this torch has no grouped_mm")
        super().__init__(problem)
        self.method: Method | None = method

    def forward(self) -> Tensor:
        """See :class:`Layer`."""
        return dispatch(
            self.x_TD,
            self.problem.experts_TK,
            self.gates_TK,
            ExpertWeights(self.first, self.second, self.problem.size.activation),
            method=self.method,
        )


def hugging_face(problem: Problem, implementation: str, class_name: str) -> Any:
    """A module of Mixtral or, without a gate half, of Nemotron-H, whose weights are still to come.

    Raises:
        SkippedError: transformers is missing or too old, or would copy too much.
    """
    size = problem.size
    copied = problem.x_TD.element_size() * size.tokens * size.k
    copied *= size.model_width * size.inner_width
    if implementation == "batched_mm" and copied > LARGEST_COPY:
        raise SkippedError(f"would copy {copied / 2**30:.0f} GiB of weights")
    gated = size.activation == "swiglu"
    try:
        transformers: Any = importlib.import_module("transformers")
        family = "mixtral" if gated else "nemotron_h"
        models: Any = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
        module_class = getattr(models, class_name)
    except (ImportError, AttributeError) as error:
        raise SkippedError(f"transformers 5 is not installed ({error})") from error
    shared = {
        "hidden_size": size.model_width,
        "num_experts_per_tok": size.k,
        "experts_implementation": implementation,
    }
    if gated:
        config = transformers.MixtralConfig(
            intermediate_size=size.hidden_width,
            num_local_experts=size.num_experts,
            hidden_act="silu",
            **shared,
        )
    else:
        config = transformers.NemotronHConfig(
            moe_intermediate_size=size.hidden_width,
            n_routed_experts=size.num_experts,
            mlp_hidden_act="gelu",
            **shared,
        )
    with torch.device("meta"):
        return module_class(config)


class HuggingFace(Stacked):
    """The experts module of Hugging Face's Mixtral or, without a gate half, of its Nemotron-H."""

    def __init__(self, problem: Problem, implementation: str) -> None:
        super().__init__(problem)
        gated = problem.size.activation == "swiglu"
        name = "MixtralExperts" if gated else "NemotronHExperts"
        self.module = hugging_face(problem, implementation, name)
        self.first, self.second = nn.Parameter(self.first), nn.Parameter(self.second)
        setattr(self.module, "gate_up_proj" if gated else "up_proj", self.first)
        self.module.down_proj = self.second

    def forward(self) -> Tensor:
        """See :class:`Layer`."""
        y_TD: Tensor = self.module(self.x_TD, self.problem.experts_TK, self.gates_TK)
        return y_TD


class Permuted(Stacked):
    """As torchtitan does it: permute the rows, ``grouped_mm``, weigh, ``scatter_add``."""

    def __init__(self, problem: Problem) -> None:
        if not hasattr(nn.functional, "grouped_mm"):
            raise SkippedError("this torch has no grouped_mm")
        super().__init__(problem)

    def forward(self) -> Tensor:
        """See :class:`Layer`."""
        size, experts_R = self.problem.size, self.problem.experts_TK.flatten()
        order_R = experts_R.argsort(stable=True)
        token_RD = (order_R // size.k)[:, None].expand(-1, size.model_width)
        # histc counts without waiting for a GPU; on a CPU it wants floating point.
        counted_R = experts_R.float() if experts_R.device.type == "cpu" else experts_R.int()
        counts_E = torch.histc(counted_R, size.num_experts, 0, size.num_experts - 1)
        ends_E = counts_E.cumsum(0, dtype=torch.int32)
        rows_RD = self.x_TD.gather(0, token_RD)
        hidden_RH = nn.functional.grouped_mm(rows_RD, self.first.mT, offs=ends_E)
        hidden_RF = activate(hidden_RH, size.activation)
        rows_RD = nn.functional.grouped_mm(hidden_RF, self.second.mT, offs=ends_E)
        rows_RD = rows_RD * self.gates_TK.flatten()[order_R, None]
        return torch.zeros_like(self.x_TD).scatter_add(0, token_RD, rows_RD)


class FeedForward(nn.Module):
    """One expert as a module of its own."""

    def __init__(self, first_HD: Tensor, second_DF: Tensor, activation: Activation) -> None:
        super().__init__()
        (inner, outer), width = first_HD.shape, second_DF.shape[1]
        self.first = nn.Linear(outer, inner, bias=False, device="meta")
        self.second = nn.Linear(width, outer, bias=False, device="meta")
        self.first.weight = nn.Parameter(first_HD)
        self.second.weight = nn.Parameter(second_DF)
        self.activation: Activation = activation

    def forward(self, x_RD: Tensor) -> Tensor:
        """Two matrices and the nonlinearity between them."""
        hidden_RF = activate(self.first(x_RD), self.activation)
        y_RD: Tensor = self.second(hidden_RF)
        return y_RD


class Modules(Layer):
    """A list of expert modules."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.modules = nn.ModuleList(
            FeedForward(first_HD, second_DF, problem.size.activation)
            for first_HD, second_DF in zip(*problem.weights(), strict=True)
        )

    def leaves(self) -> list[Tensor]:
        """See :class:`Layer`."""
        return list(self.modules.parameters())

    def weight_gradients(self) -> tuple[Tensor, Tensor]:
        """See :class:`Layer`."""
        gradients = [
            torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self.leaves()
        ]
        return torch.stack(gradients[0::2]), torch.stack(gradients[1::2])


class MaskLoop(Modules):
    """As tutorials write it: for every expert, search for its tokens and add to their output."""

    def forward(self) -> Tensor:
        """See :class:`Layer`."""
        y_TD = torch.zeros_like(self.x_TD)
        for i, expert in enumerate(self.modules):
            token_N, slot_N = torch.where(self.problem.experts_TK == i)
            if len(token_N) > 0:
                rows_ND = expert(self.x_TD[token_N]) * self.gates_TK[token_N, slot_N, None]
                y_TD.index_add_(0, token_N, rows_ND)
        return y_TD


class SortedModules(Modules):
    """As DeepSeek's published model code does it: sort once, then one slice for every module."""

    def forward(self) -> Tensor:
        """See :class:`Layer`."""
        size, experts_R = self.problem.size, self.problem.experts_TK.flatten()
        order_R = experts_R.argsort()
        counts = experts_R.bincount(minlength=size.num_experts).tolist()
        blocks = self.x_TD[order_R // size.k].split_with_sizes(counts)
        sorted_RD = torch.cat(
            [
                expert(block)
                for expert, block in zip(self.modules, blocks, strict=True)
                if len(block) > 0
            ]
        )
        rows_RD = torch.empty_like(sorted_RD)
        rows_RD[order_R] = sorted_RD
        rows_TKD = rows_RD.view(*self.gates_TK.shape, size.model_width)
        return (rows_TKD * self.gates_TK[:, :, None]).sum(1)


class StMoe(Modules):
    """st-moe-pytorch, its gate replaced by our choice, with room for the largest load.

    Only its own dispatch with one-hot masks, experts and combination are left; the masks are made
    once and for all, outside the clock.
    """

    def __init__(self, problem: Problem) -> None:
        size = problem.size
        experts_R = problem.experts_TK.flatten()
        counts_E = experts_R.bincount(minlength=size.num_experts)
        capacity = int(counts_E.max())
        shape = (size.tokens, size.num_experts, capacity)
        needed = size.tokens * size.num_experts * capacity * problem.x_TD.element_size()
        if needed > LARGEST_COPY:
            raise SkippedError(f"would make masks of {needed / 2**30:.0f} GiB")
        try:
            module: Any = importlib.import_module("st_moe_pytorch")
        except ImportError as error:
            raise SkippedError(f"st-moe-pytorch is not installed ({error})") from error
        super().__init__(problem)

        order_R = experts_R.argsort()
        starts_E = counts_E.cumsum(0) - counts_E
        place_R = torch.empty_like(order_R)
        place_R[order_R] = (
            torch.arange(len(order_R), device=order_R.device) - starts_E[experts_R[order_R]]
        )
        token_R = torch.arange(size.tokens, device=order_R.device).repeat_interleave(size.k)
        index = (torch.zeros_like(token_R), token_R, experts_R, place_R)
        mask_1TEC = problem.x_TD.new_zeros(1, *shape)
        mask_1TEC[index] = 1

        class Gate(nn.Module):
            """Gives what its TopNGating gives: two masks and two losses."""

            def forward(_, x_1TD: Tensor, **_options: Any) -> tuple[Tensor, Tensor, float, float]:  # noqa: N805
                empty_1TEC = x_1TD.new_zeros(mask_1TEC.shape)
                return mask_1TEC, empty_1TEC.index_put(index, self.gates_TK.flatten()), 0.0, 0.0

        self.module = module.MoE(
            size.model_width,
            num_experts=size.num_experts,
            gating_top_n=max(2, size.k),
            experts=self.modules,
        )
        self.module.gate = Gate()
        self.module.to(problem.x_TD.device)

    def forward(self) -> Tensor:
        """See :class:`Layer`."""
        y_TD: Tensor = self.module(self.x_TD[None]).outputs[0]
        return y_TD
