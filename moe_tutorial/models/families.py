"""Where the routers of transformers are: a module, a block, and the sizes that a default lacks.

One line is one router of one family, as it is by default or with a flag.             Chapter 11.
"""

from typing import Any, NamedTuple


class Family(NamedTuple):
    """A block of transformers, or its router, and how to make one by default.

    Attributes:
        folder: of ``transformers.models``.
        block: the class, of a block, or of a router where that is all of it.
        config: its configuration's class.
        changes: fields of the configuration that differ from the default; what a default leaves
            open, such as a number of experts, is that of a published model.
        layer: which layer it is, for a block that asks.
    """

    folder: str
    block: str
    config: str
    changes: dict[str, Any] | None = None
    layer: int = 3


# As DeepSeek-V2 has it.
_K = {"num_experts_per_tok": 6}
_GROUPED = _K | {"topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3}

# fmt: off
FAMILIES: dict[str, Family] = {
    "deepseek_v3": Family("deepseek_v3", "DeepseekV3MoE", "DeepseekV3Config"),
    "deepseek_v32": Family("deepseek_v32", "DeepseekV32MoE", "DeepseekV32Config"),
    "axk1": Family("axk1", "AXK1MoE", "AXK1Config"),
    "bailing_hybrid": Family("bailing_hybrid", "BailingHybridMoE", "BailingHybridConfig"),
    "dots1": Family("dots1", "Dots1MoE", "Dots1Config",
                    {"n_routed_experts": 128, "num_experts_per_tok": 6, "n_shared_experts": 2}),
    "dots3_note": Family("dots3_note", "Dots3NoteTextMoE", "Dots3NoteTextConfig"),
    "exaone_moe": Family("exaone_moe", "ExaoneMoeSparseMoEBlock", "ExaoneMoeConfig"),
    "glm4_moe": Family("glm4_moe", "Glm4MoeMoE", "Glm4MoeConfig"),
    "glm4_moe_lite": Family("glm4_moe_lite", "Glm4MoeLiteMoE", "Glm4MoeLiteConfig"),
    "glm4v_moe": Family("glm4v_moe", "Glm4vMoeTextMoE", "Glm4vMoeTextConfig"),
    "glm5_next": Family("glm5_next", "Glm5NextTextMoE", "Glm5NextTextConfig"),
    "glm_moe_dsa": Family("glm_moe_dsa", "GlmMoeDsaMoE", "GlmMoeDsaConfig"),
    "hy_v4": Family("hy_v4", "HYV4MoE", "HYV4Config"),
    "kimi_linear": Family("kimi_linear", "KimiLinearMoE", "KimiLinearConfig"),
    "solar_open": Family("solar_open", "SolarOpenMoE", "SolarOpenConfig"),
    "mimo_v2_flash": Family("mimo_v2_flash", "MiMoV2FlashMoE", "MiMoV2FlashConfig"),
    "nemotron_h": Family("nemotron_h", "NemotronHMoE", "NemotronHConfig"),
    "axk2": Family("axk2", "AXK2MoE", "AXK2Config"),
    "beam": Family("beam", "BeamMoE", "BeamConfig"),
    "mistral4": Family("mistral4", "Mistral4MoE", "Mistral4Config"),
    "mistral_large4": Family("mistral_large4", "MistralLarge4TextMoE", "MistralLarge4TextConfig"),
    "deepseek_v2": Family("deepseek_v2", "DeepseekV2Moe", "DeepseekV2Config", _K),
    "deepseek_v2:grouped": Family("deepseek_v2", "DeepseekV2Moe", "DeepseekV2Config", _GROUPED),
    "deepseek_ocr2": Family("deepseek_ocr2", "DeepseekOcr2TextMoe", "DeepseekOcr2TextConfig", _K),
    "deepseek_ocr2:grouped": Family("deepseek_ocr2", "DeepseekOcr2TextMoe",
                                    "DeepseekOcr2TextConfig", _GROUPED),
    "unlimited_ocr": Family("unlimited_ocr", "UnlimitedOcrTextMoe", "UnlimitedOcrTextConfig"),
    "unlimited_ocr:grouped": Family("unlimited_ocr", "UnlimitedOcrTextMoe",
                                    "UnlimitedOcrTextConfig", _GROUPED),
    "afmoe": Family("afmoe", "AfmoeSparseMoeBlock", "AfmoeConfig"),
    "hy_v3": Family("hy_v3", "HYV3MoE", "HYV3Config"),
    "dots3_note:vision": Family("dots3_note", "Dots3NoteVisionMoE", "Dots3NoteVisionConfig"),
    "minimax_m2": Family("minimax_m2", "MiniMaxM2SparseMoeBlock", "MiniMaxM2Config"),
    "minimax_m3_vl": Family("minimax_m3_vl", "MiniMaxM3VLSparseMoeBlock", "MiniMaxM3VLTextConfig"),
    "step3p7": Family("step3p7", "Step3p7SparseMoeBlock", "Step3p7TextConfig"),
    "laguna": Family("laguna", "LagunaSparseMoeBlock", "LagunaConfig"),
    "lfm2_moe": Family("lfm2_moe", "Lfm2MoeSparseMoeBlock", "Lfm2MoeConfig"),
    "inkling2": Family("inkling2", "Inkling2SparseMoeBlock", "Inkling2TextConfig"),
    "muse_spark": Family("muse_spark", "MuseSparkMoE", "MuseSparkTextConfig"),
    "kolibri1": Family("kolibri1", "Kolibri1SparseMoeBlock", "Kolibri1Config"),
    "flint": Family("flint", "FlintSparseMoeBlock", "FlintConfig"),
    "deepseek_v4": Family("deepseek_v4", "DeepseekV4SparseMoeBlock", "DeepseekV4Config"),
    "deepseek_v4:hash": Family("deepseek_v4", "DeepseekV4SparseMoeBlock", "DeepseekV4Config",
                               layer=0),
    "inkling": Family("inkling", "InklingMoE", "InklingTextConfig"),
    "olmoe": Family("olmoe", "OlmoeSparseMoeBlock", "OlmoeConfig"),
    "flex_olmo": Family("flex_olmo", "FlexOlmoSparseMoeBlock", "FlexOlmoConfig"),
    "qwen2_moe": Family("qwen2_moe", "Qwen2MoeSparseMoeBlock", "Qwen2MoeConfig"),
    "qwen3_moe": Family("qwen3_moe", "Qwen3MoeSparseMoeBlock", "Qwen3MoeConfig"),
    "qwen3_next": Family("qwen3_next", "Qwen3NextSparseMoeBlock", "Qwen3NextConfig"),
    "qwen3_5_moe": Family("qwen3_5_moe", "Qwen3_5MoeSparseMoeBlock", "Qwen3_5MoeTextConfig"),
    "qwen3_vl_moe": Family("qwen3_vl_moe", "Qwen3VLMoeTextSparseMoeBlock", "Qwen3VLMoeTextConfig"),
    "qwen4_exp": Family("qwen4_exp", "Qwen4ExpTextSparseMoeBlock", "Qwen4ExpTextConfig"),
    "mellum": Family("mellum", "MellumSparseMoeBlock", "MellumConfig"),
    "qwen3_omni_moe:thinker": Family("qwen3_omni_moe", "Qwen3OmniMoeThinkerTextSparseMoeBlock",
                                     "Qwen3OmniMoeTextConfig"),
    "qwen3_omni_moe:talker": Family(
        "qwen3_omni_moe", "Qwen3OmniMoeTalkerTextSparseMoeBlock", "Qwen3OmniMoeTalkerTextConfig",
        {"shared_expert_intermediate_size": 768}),
    "mixtral": Family("mixtral", "MixtralSparseMoeBlock", "MixtralConfig"),
    "minimax": Family("minimax", "MiniMaxSparseMoeBlock", "MiniMaxConfig"),
    "jamba": Family("jamba", "JambaSparseMoeBlock", "JambaConfig"),
    "hunyuan_v1_moe": Family("hunyuan_v1_moe", "HunYuanMoEV1Moe", "HunYuanMoEV1Config"),
    "dbrx": Family("dbrx", "DbrxFFN", "DbrxConfig"),
    "ernie4_5_moe": Family("ernie4_5_moe", "Ernie4_5_MoeSparseMoeBlock", "Ernie4_5_MoeConfig"),
    "longcat_flash": Family("longcat_flash", "LongcatFlashMoE", "LongcatFlashConfig"),
    "aria": Family("aria", "AriaTextMoELayer", "AriaTextConfig"),
    "granitemoe": Family("granitemoe", "GraniteMoeMoE", "GraniteMoeConfig"),
    "granitemoeshared": Family("granitemoeshared", "GraniteMoeSharedMoE", "GraniteMoeSharedConfig"),
    "granitemoe_swa": Family("granitemoe_swa", "GraniteMoeSWAMoE", "GraniteMoeSWAConfig"),
    "granitemoehybrid": Family("granitemoehybrid", "GraniteMoeHybridMoE", "GraniteMoeHybridConfig"),
    "gpt_oss": Family("gpt_oss", "GptOssMLP", "GptOssConfig"),
    "openai_privacy_filter": Family("openai_privacy_filter", "OpenAIPrivacyFilterMLP",
                                    "OpenAIPrivacyFilterConfig"),
    "cohere2_moe": Family("cohere2_moe", "Cohere2MoeSparseMoeBlock", "Cohere2MoeConfig",
                          {"expert_selection_fn": "softmax"}),
    "cohere2_moe:sigmoid": Family("cohere2_moe", "Cohere2MoeSparseMoeBlock", "Cohere2MoeConfig",
                                  {"expert_selection_fn": "sigmoid"}),
    "phimoe": Family("phimoe", "PhimoeSparseMoeBlock", "PhimoeConfig"),
    "zaya": Family("zaya", "ZayaSparseMoeBlock", "ZayaConfig", layer=0),
    "zaya:eda": Family("zaya", "ZayaSparseMoeBlock", "ZayaConfig"),
    "gemma4": Family("gemma4", "Gemma4TextRouter", "Gemma4TextConfig",
                     {"num_experts": 128, "top_k_experts": 8}),
    "diffusion_gemma": Family("diffusion_gemma", "DiffusionGemmaTextRouter",
                              "DiffusionGemmaTextConfig",
                              {"num_experts": 128, "top_k_experts": 8}),
    "diffusion_gemma:encoder": Family("diffusion_gemma", "DiffusionGemmaTextRouter",
                                      "DiffusionGemmaTextConfig",
                                      {"num_experts": 128, "top_k_experts": 8}),
    "llama4": Family("llama4", "Llama4TextMoe", "Llama4TextConfig"),
    "jetmoe": Family("jetmoe", "JetMoeMoE", "JetMoeConfig"),
    "jetmoe:moa": Family("jetmoe", "JetMoeMoA", "JetMoeConfig"),
    "ernie4_5_vl_moe": Family("ernie4_5_vl_moe", "Ernie4_5_VLMoeMoeBlock",
                              "Ernie4_5_VLMoeTextConfig"),
    "switch_transformers": Family("switch_transformers", "SwitchTransformersSparseMLP",
                                  "SwitchTransformersConfig"),
    "nllb_moe": Family("nllb_moe", "NllbMoeSparseMLP", "NllbMoeConfig"),
    "doge": Family("doge", "DogeCDMoE", "DogeConfig"),
}
# fmt: on
UNSUPPORTED = {
    "VitPoseBackboneMoeMLP": "has no router: which expert an image takes is an input, and that "
    "expert's output is put beside the shared one, not added to it",
}
"""Blocks of experts that are no routers, and why."""
