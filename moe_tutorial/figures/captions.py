"""Numbered captions: the one sentence to take away, under a picture, a table or an explorer."""

import html
import re


def caption_html(number: str, takeaway: str, kind: str = "Figure", tag: str = "p") -> str:
    """A caption as the book's pages and notebooks show it.

    Args:
        number: chapter and place in it, such as ``"2.1"``.
        takeaway: what the reader should see, as one sentence or a few.
        kind: what is numbered: ``"Figure"`` or ``"Table"``.
        tag: the HTML element: ``"p"``, or ``"figcaption"`` where it stands inside of a figure.

    Returns:
        One element of class ``moe-caption``.

    Raises:
        TypeError: a text that is no str.
        ValueError: a number of another form, or a takeaway that is no sentence.
    """
    start, takeaway = caption_text(number, takeaway, kind)
    words = f"<strong>{start}</strong> {html.escape(takeaway, quote=False)}"
    return f'<{tag} class="moe-caption">{words}</{tag}>'


def caption_text(number: str, takeaway: str, kind: str = "Figure") -> tuple[str, str]:
    """The two parts of a caption, "Figure 2.1." and its sentence, both checked.

    Raises:
        TypeError: a text that is no str.
        ValueError: a number of another form, or a takeaway that is no sentence.
    """
    for name, text in (("number", number), ("takeaway", takeaway)):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, got {text!r} of type {type(text).__name__}")
    if not re.fullmatch(r"\d+\.\d+", number):
        raise ValueError(f"number must be chapter and place such as '2.1', got {number!r}")
    takeaway = " ".join(takeaway.split())
    if not takeaway.endswith((".", "?", "!")) or len(takeaway) < 2:
        raise ValueError(
            f"takeaway must be a sentence that ends with a full stop, got {takeaway!r}"
        )
    return f"{kind} {number}.", takeaway
