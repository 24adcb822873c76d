"""Published routers, each as its family's default configuration in transformers has it.

A test compares every entry with the installed library.                               Chapter 11.
"""

from moe_tutorial.models.recipes import Recipe
from moe_tutorial.routing.configuration import Groups, RouterConfig

ROUTERS: dict[str, Recipe] = {
    "deepseek_v3": Recipe(
        256,
        RouterConfig(8, "sigmoid", groups=Groups(8, 4), epsilon=1e-20, gate_scale=2.5),
        selection_bias=True,
    ),
    "deepseek_v32": Recipe(
        256,
        RouterConfig(8, "sigmoid", groups=Groups(8, 4), epsilon=1e-20, gate_scale=2.5),
        selection_bias=True,
    ),
    "axk1": Recipe(
        192,
        RouterConfig(8, "sigmoid", groups=Groups(8, 4), epsilon=1e-20, gate_scale=2.5),
        selection_bias=True,
    ),
    "bailing_hybrid": Recipe(
        512,
        RouterConfig(8, "sigmoid", groups=Groups(8, 4), epsilon=1e-20, gate_scale=2.5),
        selection_bias=True,
    ),
    "dots1": Recipe(128, RouterConfig(6, "sigmoid", renormalise=False), selection_bias=True),
    "dots3_note": Recipe(256, RouterConfig(8, "sigmoid", epsilon=1e-20), selection_bias=True),
    "exaone_moe": Recipe(
        64, RouterConfig(8, "sigmoid", epsilon=1e-20, gate_scale=2.5), selection_bias=True
    ),
    "glm4_moe": Recipe(128, RouterConfig(8, "sigmoid", epsilon=1e-20), selection_bias=True),
    "glm4_moe_lite": Recipe(
        64, RouterConfig(4, "sigmoid", epsilon=1e-20, gate_scale=1.8), selection_bias=True
    ),
    "glm4v_moe": Recipe(128, RouterConfig(8, "sigmoid", epsilon=1e-20), selection_bias=True),
    "glm5_next": Recipe(
        288, RouterConfig(8, "sigmoid", epsilon=1e-20, gate_scale=2.5), selection_bias=True
    ),
    "glm_moe_dsa": Recipe(
        256, RouterConfig(8, "sigmoid", epsilon=1e-20, gate_scale=2.5), selection_bias=True
    ),
    "hy_v4": Recipe(
        256, RouterConfig(8, "sigmoid", epsilon=1e-20, gate_scale=2.827), selection_bias=True
    ),
    "kimi_linear": Recipe(
        256, RouterConfig(8, "sigmoid", epsilon=1e-20, gate_scale=2.446), selection_bias=True
    ),
    "solar_open": Recipe(128, RouterConfig(8, "sigmoid", epsilon=1e-20), selection_bias=True),
    "mimo_v2_flash": Recipe(256, RouterConfig(8, "sigmoid", epsilon=1e-20), selection_bias=True),
    "nemotron_h": Recipe(8, RouterConfig(2, "sigmoid", epsilon=1e-20), selection_bias=True),
    "axk2": Recipe(
        128, RouterConfig(8, "sigmoid", epsilon=1e-20, gate_scale=2.5), selection_bias=True
    ),
    "beam": Recipe(
        256,
        RouterConfig(8, "sigmoid", groups=Groups(8, 4), epsilon=1e-20, gate_scale=2.5),
        selection_bias=True,
    ),
    "mistral4": Recipe(128, RouterConfig(4, epsilon=1e-20)),
    "mistral_large4": Recipe(128, RouterConfig(4, epsilon=1e-20)),
    "deepseek_v2": Recipe(64, RouterConfig(6, renormalise=False)),
    "deepseek_v2:grouped": Recipe(64, RouterConfig(6, renormalise=False, groups=Groups(8, 3, 1))),
    "deepseek_ocr2": Recipe(64, RouterConfig(6, renormalise=False)),
    "deepseek_ocr2:grouped": Recipe(64, RouterConfig(6, renormalise=False, groups=Groups(8, 3, 1))),
    "unlimited_ocr": Recipe(64, RouterConfig(6, renormalise=False)),
    "unlimited_ocr:grouped": Recipe(64, RouterConfig(6, renormalise=False, groups=Groups(8, 3, 1))),
    "afmoe": Recipe(64, RouterConfig(6, "sigmoid", epsilon=1e-20), selection_bias=True),
    "hy_v3": Recipe(
        192, RouterConfig(8, "sigmoid", epsilon=1e-20, gate_scale=2.826), selection_bias=True
    ),
    "dots3_note:vision": Recipe(64, RouterConfig(2, "sigmoid", epsilon=1e-20), selection_bias=True),
    "minimax_m2": Recipe(256, RouterConfig(8, "sigmoid"), selection_bias=True),
    "minimax_m3_vl": Recipe(128, RouterConfig(4, "sigmoid", gate_scale=2.0), selection_bias=True),
    "step3p7": Recipe(288, RouterConfig(8, "sigmoid"), selection_bias=True),
    "laguna": Recipe(256, RouterConfig(8, "sigmoid"), selection_bias=True),
    "lfm2_moe": Recipe(32, RouterConfig(4, "sigmoid", epsilon=1e-06), selection_bias=True),
    "inkling2": Recipe(
        384, RouterConfig(8, "sigmoid", epsilon=1e-20, gate_scale=8.0), selection_bias=True
    ),
    "muse_spark": Recipe(
        256,
        RouterConfig(8, "sigmoid", logit_scale=0.1767766952966369, epsilon=1e-15),
        selection_bias=True,
    ),
    "kolibri1": Recipe(
        384, RouterConfig(6, "sigmoid", renormalise=False, choice_on="logits"), selection_bias=True
    ),
    "flint": Recipe(256, RouterConfig(6, "sigmoid")),
    "deepseek_v4": Recipe(
        256, RouterConfig(6, "sqrtsoftplus", epsilon=1e-20, gate_scale=1.5), selection_bias=True
    ),
    "deepseek_v4:hash": Recipe(
        256, RouterConfig(6, "sqrtsoftplus", epsilon=1e-20, gate_scale=1.5), kind="token ids"
    ),
    "inkling": Recipe(
        256, RouterConfig(6, "sigmoid", gate_scale=8.0), kind="joint gates", selection_bias=True
    ),
    "olmoe": Recipe(64, RouterConfig(8, renormalise=False)),
    "flex_olmo": Recipe(7, RouterConfig(5, renormalise=False)),
    "qwen2_moe": Recipe(60, RouterConfig(4, renormalise=False)),
    "qwen3_moe": Recipe(128, RouterConfig(8, renormalise=False)),
    "qwen3_next": Recipe(512, RouterConfig(10)),
    "qwen3_5_moe": Recipe(256, RouterConfig(8)),
    "qwen3_vl_moe": Recipe(60, RouterConfig(4)),
    "qwen4_exp": Recipe(512, RouterConfig(10)),
    "mellum": Recipe(64, RouterConfig(8)),
    "qwen3_omni_moe:thinker": Recipe(128, RouterConfig(8)),
    "qwen3_omni_moe:talker": Recipe(128, RouterConfig(8, renormalise=False)),
    "mixtral": Recipe(8, RouterConfig(2)),
    "minimax": Recipe(8, RouterConfig(2)),
    "jamba": Recipe(16, RouterConfig(2, renormalise=False)),
    "hunyuan_v1_moe": Recipe(1, RouterConfig(1)),
    "dbrx": Recipe(4, RouterConfig(1)),
    "ernie4_5_moe": Recipe(64, RouterConfig(6, floor=1e-12), selection_bias=True),
    "longcat_flash": Recipe(
        768,
        RouterConfig(12, renormalise=False, gate_scale=6.0, null_experts=256),
        selection_bias=True,
    ),
    "aria": Recipe(8, RouterConfig(2)),
    "granitemoe": Recipe(8, RouterConfig(2)),
    "granitemoeshared": Recipe(8, RouterConfig(2)),
    "granitemoe_swa": Recipe(8, RouterConfig(2)),
    "granitemoehybrid": Recipe(8, RouterConfig(2)),
    "gpt_oss": Recipe(128, RouterConfig(4), logit_bias=True),
    "openai_privacy_filter": Recipe(128, RouterConfig(4), logit_bias=True),
    "cohere2_moe": Recipe(8, RouterConfig(2)),
    "cohere2_moe:sigmoid": Recipe(8, RouterConfig(2, "sigmoid")),
    "phimoe": Recipe(16, RouterConfig(2, renormalise=False), kind="sparsemixer"),
    "zaya": Recipe(
        17,
        RouterConfig(1, renormalise=False, null_experts=1, null="skip"),
        kind="network",
        selection_bias=True,
    ),
    "zaya:eda": Recipe(
        17,
        RouterConfig(1, renormalise=False, null_experts=1, null="skip"),
        kind="network",
        selection_bias=True,
    ),
    "gemma4": Recipe(128, RouterConfig(8), expert_scale=True, input_norm=True),
    "diffusion_gemma": Recipe(128, RouterConfig(8), expert_scale=True, input_norm=True),
    "diffusion_gemma:encoder": Recipe(128, RouterConfig(8), expert_scale=True, input_norm=True),
    "llama4": Recipe(16, RouterConfig(1, "sigmoid", renormalise=False), gates_on="input"),
    "jetmoe": Recipe(8, RouterConfig(2)),
    "jetmoe:moa": Recipe(8, RouterConfig(2)),
    "ernie4_5_vl_moe": Recipe(
        64, RouterConfig(6, floor=1e-12), kind="two routers", selection_bias=True
    ),
    "switch_transformers": Recipe(8, RouterConfig(1, renormalise=False), kind="capacity"),
    "nllb_moe": Recipe(128, RouterConfig(2), kind="capacity"),
    "doge": Recipe(16384, RouterConfig(64), kind="product keys"),
}
"""Names are those of :data:`moe_tutorial.models.families.FAMILIES`."""
