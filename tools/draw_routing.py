"""Draw the picture that the README shows: book/images/routing.svg."""

from pathlib import Path

import torch

from moe_tutorial import Router
from moe_tutorial.example import one_token, twelve_centroids
from moe_tutorial.figures import Picture, routing_at_a_glance

PATH = Path(__file__).resolve().parent.parent / "book" / "images" / "routing.svg"


def picture() -> Picture:
    """One token of the book's example, routed to three of twelve experts."""
    router = Router(model_width=2, num_experts=12, k=3).double()
    router.load_state_dict({"centroids_ED": twelve_centroids()})
    with torch.no_grad():
        return routing_at_a_glance(router(one_token()))


if __name__ == "__main__":
    PATH.write_text(picture().svg, encoding="utf-8")
    print(f"{PATH.name}: {picture().alt}")
