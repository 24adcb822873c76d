"""How the routers of transformers say what they do: their fields, as the fields of a recipe.

One function for each form, and a table that names its classes.                       Chapter 11.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from moe_tutorial.models.recipes import Recipe
from moe_tutorial.routing.configuration import Groups, Probability, RouterConfig

Reader = Callable[[Any, Any], Recipe]

_WEIGHTS = ("weight", "gate", "wg", "layer", "classifier", "proj", "router_gate")


def centroids_of(router: Any) -> Tensor:
    """The weight that makes a router's logits, one row per expert."""
    for name in _WEIGHTS:
        found = getattr(router, name, None)
        if isinstance(found, nn.Linear):
            found = found.weight
        if isinstance(found, Tensor):
            return found
    raise unsupported(router, "weight", "is in none of the places known")


def unsupported(module: Any, field: str, what: str) -> ValueError:
    """An error that names a class and its field."""
    return ValueError(f"{type(module).__name__}.{field} {what}")


def in_block(router: Any, block: Any, field: str) -> Any:
    """A field that a router's block has, without which the router is not complete."""
    if block is None:
        what = f"{type(router).__name__} is not complete without {field}, which its block has"
        raise ValueError(f"{what}: give the block")
    return getattr(block, field)


def _recipe(router: Any, config: RouterConfig, **options: Any) -> Recipe:
    return Recipe(len(centroids_of(router)), config, **options)


def _groups(router: Any, best: int = 2, fill: float = -math.inf) -> Groups | None:
    number, kept = router.num_group, router.topk_group
    # To keep all groups is to have none.
    return None if number is None or number == kept else Groups(number, kept, best, fill)


def _score(router: Any) -> Probability:
    known: dict[str, Probability] = {"Sigmoid": "sigmoid", "SqrtSoftplusActivation": "sqrtsoftplus"}
    name = type(router.score_fn).__name__
    if name not in known:
        raise unsupported(router, "score_fn", f"must be one of {', '.join(known)}, got {name}")
    return known[name]


def _deepseek_v3(router: Any, block: Any, fill: float = -math.inf) -> Recipe:
    scale = getattr(router, "routed_scaling_factor", None)
    if scale is None:  # Beam
        scale = in_block(router, block, "routed_scaling_factor")
    normalised = router.norm_topk_prob
    config = RouterConfig(
        router.top_k, "sigmoid", renormalise=normalised, epsilon=1e-20 if normalised else 0.0,
        groups=_groups(router, fill=fill), gate_scale=scale,
    )  # fmt: skip
    return _recipe(router, config, selection_bias=True)


def _mistral_4(router: Any, _: Any) -> Recipe:
    normalised = getattr(router, "norm_topk_prob", True)  # Mistral Large 4 always does
    # Probabilities are above 0, so that filling with 0 and with -inf are the same.
    config = RouterConfig(
        router.top_k, renormalise=normalised, epsilon=1e-20 if normalised else 0.0,
        groups=_groups(router), gate_scale=router.routed_scaling_factor,
    )  # fmt: skip
    return _recipe(router, config)


def _deepseek_v2(router: Any, _: Any) -> Recipe:
    if router.topk_method not in ("greedy", "group_limited_greedy"):
        raise unsupported(router, "topk_method", f"is {router.topk_method!r}, which it ignores")
    groups = None if router.topk_method == "greedy" else _groups(router, best=1)
    config = RouterConfig(
        router.top_k, renormalise=False, groups=groups, gate_scale=router.routed_scaling_factor
    )
    return _recipe(router, config)


def _sigmoid(
    router: Any, k: int, scale: float = 1.0, epsilon: float = 0.0, *, bias: bool = True,
    probability: Probability = "sigmoid", renormalise: bool = True, **options: Any,
) -> Recipe:  # fmt: skip
    epsilon = epsilon if renormalise else 0.0
    config = RouterConfig(
        k, probability, renormalise=renormalise, epsilon=epsilon, gate_scale=scale, **options
    )
    return _recipe(router, config, selection_bias=bias)


def _bias_in_block(field: str, scale: str | None, epsilon: float) -> Reader:
    def read(router: Any, block: Any) -> Recipe:
        in_block(router, block, field)
        return _sigmoid(router, router.top_k, getattr(router, scale) if scale else 1.0, epsilon)

    return read


def _scale_in_block(router: Any, block: Any) -> Recipe:
    cap = getattr(router, "router_logit_softcapping", 0) or None
    scale = in_block(router, block, "routed_scaling_factor")
    return _sigmoid(router, router.top_k, scale, logit_cap=cap)


def _lfm2(router: Any, block: Any) -> Recipe:
    if router.use_expert_bias:
        in_block(router, block, "expert_bias")
    return _sigmoid(
        router, router.top_k, router.routed_scaling_factor, 1e-6, bias=router.use_expert_bias,
        renormalise=router.norm_topk_prob,
    )  # fmt: skip


def _scored(router: Any, _: Any) -> Recipe:
    scale, score = router.routed_scaling_factor, _score(router)
    return _sigmoid(router, router.top_k, scale, 1e-20, probability=score)


def _hash(router: Any, _: Any) -> Recipe:
    config = RouterConfig(
        router.top_k, _score(router), epsilon=1e-20, gate_scale=router.routed_scaling_factor
    )
    return _recipe(router, config, kind="token ids")


def _muse_spark(router: Any, _: Any) -> Recipe:
    return _sigmoid(
        router, router.top_k, router.routed_scaling_factor, router.norm_topk_prob_eps,
        logit_scale=router.output_multiplier,
    )  # fmt: skip


def _kolibri_1(router: Any, _: Any) -> Recipe:
    return _sigmoid(router, router.top_k, choice_on="logits", renormalise=router.norm_topk_prob)


def _flint(router: Any, _: Any) -> Recipe:
    return _sigmoid(router, router.top_k, bias=False, renormalise=router.norm_topk_prob)


def _inkling(router: Any, _: Any) -> Recipe:
    scale = router.route_scale
    if not router.global_scale.is_meta:
        scale = scale * router.global_scale.item()  # both multiply all gates
    config = RouterConfig(router.top_k, "sigmoid", gate_scale=scale)
    return Recipe(router.num_experts, config, kind="joint gates", selection_bias=True)


def _softmax(renormalise: bool | None) -> Reader:
    def read(router: Any, _: Any) -> Recipe:
        normalised = router.norm_topk_prob if renormalise is None else renormalise
        return _recipe(router, RouterConfig(router.top_k, renormalise=normalised))

    return read


def _dbrx(router: Any, block: Any) -> Recipe:
    norm = in_block(router, block, "moe_normalize_expert_weights")
    if norm is None:
        return _recipe(router, RouterConfig(block.top_k, renormalise=False))
    return _recipe(router, RouterConfig(block.top_k, norm=float(norm)))


def _ernie(router: Any, _: Any) -> Recipe:
    return _recipe(router, RouterConfig(router.top_k, floor=router.norm_min), selection_bias=True)


def _longcat(router: Any, block: Any) -> Recipe:
    null = router.n_routed_experts - (router.num_experts or 0)
    if block is not None:
        null = block.experts.zero_expert_num
    config = RouterConfig(
        router.top_k, renormalise=False, gate_scale=router.routed_scaling_factor, null_experts=null
    )
    return _recipe(router, config, selection_bias=True)


def _gpt_oss(router: Any, _: Any) -> Recipe:
    return _recipe(router, RouterConfig(router.top_k), logit_bias=True)


def _privacy_filter(router: Any, block: Any) -> Recipe:
    times = in_block(router, block, "num_experts")  # the block's name for what undoes "/ top_k"
    config = RouterConfig(router.top_k, gate_scale=times / router.top_k)
    return _recipe(router, config, logit_bias=True)


def _cohere_2(router: Any, block: Any) -> Recipe:
    averaged = in_block(router, block, "num_shared_experts") > 0
    averaged = averaged and block.shared_expert_combination_strategy == "average"
    scale = 0.5 if averaged else 1.0
    if router.expert_selection_fn == "softmax":
        return _recipe(router, RouterConfig(router.top_k, gate_scale=scale))
    if router.expert_selection_fn != "sigmoid":
        raise unsupported(router, "expert_selection_fn", f"is {router.expert_selection_fn!r}")
    return _sigmoid(router, router.top_k, scale, bias=False, renormalise=router.norm_topk_prob)


def _phimoe(router: Any, _: Any) -> Recipe:
    return _recipe(router, RouterConfig(2, renormalise=False), kind="sparsemixer")


def _zaya(router: Any, _: Any) -> Recipe:
    config = RouterConfig(router.top_k, renormalise=False, null_experts=1, null="skip")
    return Recipe(router.num_router_classes, config, kind="network", selection_bias=True)


def _gemma_4(router: Any, _: Any) -> Recipe:
    config = RouterConfig(router.config.top_k_experts)
    return _recipe(router, config, input_norm=True, expert_scale=True)


def _llama_4(router: Any, _: Any) -> Recipe:
    config = RouterConfig(router.top_k, "sigmoid", renormalise=False)
    return _recipe(router, config, gates_on="input")


def _switch(router: Any, _: Any) -> Recipe:
    bias = router.classifier.bias is not None
    return _recipe(router, RouterConfig(1, renormalise=False), kind="capacity", logit_bias=bias)


def _nllb(router: Any, _: Any) -> Recipe:
    if router.second_expert_policy != "all":
        raise unsupported(
            router, "second_expert_policy", f"must be 'all', got {router.second_expert_policy!r}, "
            "which draws random numbers, in evaluation too",
        )  # fmt: skip
    bias = router.classifier.bias is not None
    return _recipe(router, RouterConfig(2), kind="capacity", logit_bias=bias)


def _doge(block: Any, _: Any) -> Recipe:
    return Recipe(block.num_keys**2, RouterConfig(block.top_k), kind="product keys")


_CLASSES: dict[Reader, str] = {
    _deepseek_v3: "DeepseekV3TopkRouter DeepseekV32TopkRouter AXK1TopkRouter Dots1TopkRouter "
    "BailingHybridTopkRouter Dots3NoteTextTopkRouter ExaoneMoeTopkRouter Glm4MoeTopkRouter "
    "Glm4MoeLiteTopkRouter Glm4vMoeTextTopkRouter Glm5NextTextTopkRouter GlmMoeDsaTopkRouter "
    "HYV4TopkRouter KimiLinearTopkRouter SolarOpenTopkRouter MiMoV2FlashTopkRouter "
    "NemotronHTopkRouter BeamTopKRouter",
    functools.partial(_deepseek_v3, fill=0.0): "AXK2TopkRouter",
    _mistral_4: "Mistral4TopkRouter MistralLarge4TextTopkRouter",
    _deepseek_v2: "DeepseekV2TopkRouter DeepseekOcr2TextTopkRouter UnlimitedOcrTextTopkRouter",
    _bias_in_block("expert_bias", "route_scale", 1e-20): "AfmoeTokenChoiceRouter",
    _bias_in_block(
        "e_score_correction_bias", "router_scaling_factor", 1e-20
    ): "HYV3TopKRouter Dots3NoteVisionTopKRouter",
    _bias_in_block("e_score_correction_bias", None, 0.0): "MiniMaxM2TopKRouter",
    _scale_in_block: "MiniMaxM3VLTopKRouter Step3p7TopKRouter LagunaTopKRouter",
    _lfm2: "Lfm2MoeTopKRouter",
    _scored: "Inkling2TopKRouter DeepseekV4TopKRouter",
    _hash: "DeepseekV4HashRouter",
    _muse_spark: "MuseSparkTopkRouter",
    _kolibri_1: "Kolibri1TopKRouter",
    _flint: "FlintTopKRouter",
    _inkling: "InklingTopkRouter",
    _softmax(None): "OlmoeTopKRouter FlexOlmoTopKRouter Qwen2MoeTopKRouter Qwen3MoeTopKRouter "
    "Qwen3NextTopKRouter Qwen4ExpTextTopKRouter MellumTopKRouter "
    "Qwen3OmniMoeThinkerTextTopKRouter Qwen3OmniMoeTalkerTextTopKRouter",
    # The four families of Granite, and others, take the softmax over the chosen logits alone.
    _softmax(True): "Qwen3_5MoeTopKRouter Qwen3VLMoeTextTopKRouter MixtralTopKRouter "
    "MiniMaxTopKRouter HunYuanMoEV1Gate AriaTextTopKRouter GraniteMoeTopKRouter "
    "GraniteMoeSharedTopKRouter GraniteMoeSWATopKRouter GraniteMoeHybridTopKRouter "
    "JetMoeTopKGating",
    _softmax(False): "JambaTopKRouter",
    _dbrx: "DbrxRouter",
    _ernie: "Ernie4_5_MoeTopKRouter Ernie4_5_VLMoeMoeTopKRouter",
    _longcat: "LongcatFlashTopkRouter",
    _gpt_oss: "GptOssTopKRouter",
    _privacy_filter: "OpenAIPrivacyFilterTopKRouter",
    _cohere_2: "Cohere2MoeTopKRouter",
    _phimoe: "PhimoeTopKRouter",
    _zaya: "ZayaRouter",
    _gemma_4: "Gemma4TextRouter DiffusionGemmaTextRouter",
    _llama_4: "Llama4Router",
    _switch: "SwitchTransformersTop1Router",
    _nllb: "NllbMoeTop2Router",
    _doge: "DogeCDMoE",
}
READERS: dict[str, Reader] = {
    name: reader for reader, names in _CLASSES.items() for name in names.split()
}
"""The reader of each class of transformers that routes."""
