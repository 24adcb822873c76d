"""What a router of 64 experts chooses, with and without a balance loss: for chapter 14.

    python -m experiments.parallel_choices

trains two small models, some minutes on one core, and stores the experts that they choose for text
that they have not seen, in moe_tutorial/results/parallel_choices.npz; a third table has the choices
of the balanced one where a token may use 4 of 8 groups of experts only.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

import moe_tutorial.results
from moe_tutorial import Attention, Block, Experts, LanguageModel, MoELayer, Router, switch_loss
from moe_tutorial.learning.documents import installed_documents
from moe_tutorial.learning.settings import Settings
from moe_tutorial.learning.text import Text, corpus, fixed_windows
from moe_tutorial.learning.training import train
from moe_tutorial.routing.configuration import Groups, RouterConfig
from moe_tutorial.routing.decision import Routing, route

EXPERTS, K, WIDTH = 64, 8, 48
SETTINGS = Settings(400, batch_size=8, length=128, learning_rate=5e-3)
WINDOWS = 16  # of each domain
GROUPS = Groups(number=8, kept=4)


def penalty(routing: Routing, coefficient: float) -> Tensor:
    """The balance loss of Switch Transformers, weighted."""
    return coefficient * switch_loss(routing.probabilities_TE, routing.experts_TK)


def trained(text: Text, coefficient: float) -> LanguageModel:
    """A model of one block, trained from seed 0."""
    torch.manual_seed(0)
    layer = MoELayer(Router(WIDTH, EXPERTS, K), Experts(EXPERTS, WIDTH, 16))
    model = LanguageModel([Block(Attention(WIDTH, 4), layer)])
    train(model, text, SETTINGS, penalty=partial(penalty, coefficient=coefficient), progress=True)
    return model.eval()


@torch.no_grad()
def routings(model: LanguageModel, text: Text) -> Tensor:
    """The layer's logits for every token of the fixed windows, window by window."""
    found = []
    for _, batch in fixed_windows(text, WINDOWS, SETTINGS.length):
        routing = model(batch.tokens_BS).routings[0]
        assert routing is not None
        found.append(routing.logits_TE.flatten(0, 1))
    return torch.cat(found)


def main() -> None:
    """Train, choose, store."""
    torch.set_num_threads(1)
    texts = corpus(installed_documents())
    balanced_TE = routings(trained(texts.training, 0.01), texts.validation)
    unbalanced_TE = routings(trained(texts.training, 0.0), texts.validation)
    choices = {
        "balanced": route(balanced_TE, RouterConfig(K)),
        "unbalanced": route(unbalanced_TE, RouterConfig(K)),
        "limited": route(balanced_TE, RouterConfig(K, groups=GROUPS)),
    }
    path = Path(moe_tutorial.results.__file__).parent / "parallel_choices.npz"
    tables: dict[str, Any] = {
        name: it.experts_TK.to(torch.uint8).numpy() for name, it in choices.items()
    }
    numpy.savez_compressed(path, **tables)
    print(f"{path.name}: {len(balanced_TE)} tokens, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
