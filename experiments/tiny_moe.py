"""Train the small model that chapter 12 looks into: moe_tutorial/results/tiny_moe.

It is a Granite MoE in transformers' own classes, as the published granite-3.1-1b-a400m is, over
bytes: token b is byte b. Windows come from Python's manual, Python's library, C++ headers and the
names of things in six languages, a quarter of them from each. Some ten minutes on one core; a run
that was stopped goes on. Beside the model stand its tokenizer; in training.json, how it came about
and what it reaches on text that it has not seen; and in step_50.npz and others, how it routed the
same windows after so many steps.
"""

import argparse
import copy
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn

from experiments.models import BALANCE, balance
from experiments.store import store
from moe_tutorial import (
    LanguageModel,
    Prediction,
    Routing,
    Trace,
    softmax_over_chosen,
    top_k,
    trace,
)
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import Text, corpus, fixed_windows
from moe_tutorial.learning.training import History, evaluate, train
from moe_tutorial.models.trace_files import save

RESULTS = Path(__file__).resolve().parent.parent / "moe_tutorial/results/tiny_moe"
WORK = Path("build/tiny_moe")
SNAPSHOTS = (50, 100, 200, 400, 800, 1600, 3000)  # steps after which a model's routing is kept
SNAPSHOT_WINDOWS = 4  # of each domain
WINDOWS = 64  # of each domain, for the losses that are stored
K = 2


def build() -> transformers.GraniteMoeForCausalLM:
    """The model before training, with weights from torch's global generator."""
    config = transformers.GraniteMoeConfig(
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_local_experts=16,
        num_experts_per_tok=K,
        intermediate_size=32,  # of one expert
        vocab_size=256,
        max_position_embeddings=1024,
        attention_multiplier=0.25,  # 1 / sqrt of a head's width; Granite's own default is 1
        initializer_range=0.05,
        bos_token_id=0,  # the byte that ends each document
        eos_token_id=0,
    )
    return transformers.GraniteMoeForCausalLM(config)


class Trainee(nn.Module):
    """A model of transformers as ``train`` and ``evaluate`` call one."""

    def __init__(self, model: transformers.GraniteMoeForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens_BS: Tensor, _: torch.Generator) -> Prediction:
        """The logits, and each layer's routing, from the logits that its router returns."""
        output = self.model(tokens_BS, output_router_logits=True, use_cache=False)
        routings = []
        for logits_TE in output.router_logits:
            experts_TK = top_k(logits_TE, K)
            gates_TK = softmax_over_chosen(logits_TE, experts_TK)
            routings.append(Routing(logits_TE, logits_TE.softmax(-1), experts_TK, gates_TK))
        return Prediction(output.logits, tuple(routings))


def bytes_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer that makes token b of byte b."""
    # The alphabet that byte-level tokenizers write bytes in: visible ones stand for themselves.
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    letters = {byte: chr(byte) for byte in visible}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(hidden)}
    tokenizer = Tokenizer(models.BPE({letters[byte]: byte for byte in range(256)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=letters[0], pad_token=letters[0]
    )


def four_sources(text: Text) -> Text:
    """The same text with all languages as one domain, so that few names are not learnt by heart."""
    return Text((*text.domains[:3], "names"), text.bytes_N, (*text.starts[:4], text.starts[-1]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, or go on training, and store the model in half precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=WORK, help="where a stopped run goes on")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    text = corpus(installed_documents())
    settings = Settings(
        steps=options.steps, learning_rate=options.learning_rate, warm_up=options.steps // 50
    )
    torch.manual_seed(0)
    model = build()
    model.set_experts_implementation("grouped_mm")  # the fastest here
    # Called as a LanguageModel is.
    trainee = cast(LanguageModel, Trainee(model))
    history = History()
    for step in [*(it for it in SNAPSHOTS if it < options.steps), options.steps]:
        history = train(
            trainee, four_sources(text.training), settings,
            penalty=balance, checkpoint=options.work / "checkpoint", until=step, progress=True,
        )  # fmt: skip
        folder = options.work / f"step_{step}"
        if not folder.exists():
            stored(model).save_pretrained(folder)
    last = stored(model)
    last.save_pretrained(options.results)
    bytes_tokenizer().save_pretrained(options.results)
    for folder in options.work.glob("step_*"):
        save(routing_of(folder, text.validation), options.results / f"{folder.name}.npz")
    losses = evaluate(
        cast(LanguageModel, Trainee(nn.Module.to(last, torch.float32))),
        text.validation,
        WINDOWS,
        settings.length,
    )
    about = {
        "parameters": sum(it.numel() for it in model.parameters()),
        "settings": asdict(settings),
        "balance": BALANCE,
        "text": [text.training.fingerprint(), text.validation.fingerprint()],
        "training_loss": round(statistics.mean(history.losses[-100:]), 4),
        "validation_windows": WINDOWS,
        "validation": {domain: round(loss, 4) for domain, loss in losses.items()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    store(options.results / "training.json", about, indent=1)


@torch.no_grad()
def routing_of(folder: Path, text: Text) -> Trace:
    """How a stored model routes the same few windows of each domain, without gates."""
    model = transformers.GraniteMoeForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with trace(model) as recording:
        for _, batch in fixed_windows(text, SNAPSHOT_WINDOWS, Settings.length):
            model(input_ids=batch.tokens_BS)
    return replace(recording.trace(), gates_LTK=None)


def stored(model: transformers.GraniteMoeForCausalLM) -> transformers.GraniteMoeForCausalLM:
    """A copy of the model in half precision, which is enough to use it."""
    half = copy.deepcopy(model)
    nn.Module.to(half, torch.float16)
    return half


if __name__ == "__main__":
    main()
