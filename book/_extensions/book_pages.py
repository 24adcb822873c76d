"""What a page says about itself, and how its chapter is laid out.

- A description, its own or its first sentences; with html.baseurl or BOOK_URL, also addresses,
  a social card (book_cards.py), a sitemap and robots.txt. No address, no guess at one.
- How long it takes to read, under the title.
- Class names for what every chapter has: its aims, its exercises.
- A page for addresses that do not exist, and a first page that leads to the book.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from book_figures import colour_sheet
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

from moe_tutorial.figures.palette import PAGE

Context = dict[str, Any]

WORDS_A_MINUTE = 220
SECONDS_A_CODE_LINE = 4
SECONDS_A_FORMULA = 8
CODE_AND_FORMULAS = (nodes.literal_block, nodes.math_block)
HIDDEN = {"tag_hide-cell", "tag_hide-input", "cell_output"}
DESCRIPTION = range(50, 161)  # characters; search engines show no more
SEARCH = (
    "Search every chapter, the glossary and the package of this book on Mixture-of-Experts routing."
)
NOT_FOUND = "There is no page at this address: search the book, or choose one of its chapters."
FIRST_FONTS = ("serif", "serif-bold", "sans")  # every page needs these at once
THEME_COLOURS = PAGE._asdict()


# --- what a page is about ---


def plain(node: nodes.Node) -> str:
    """The words of a node on one line, formulas without the signs that only set them."""
    pieces = [
        re.sub(r"[\\{}_^]", "", text) if isinstance(text.parent, nodes.math) else str(text)
        for text in node.findall(nodes.Text)
    ]
    return " ".join("".join(pieces).split())


def describe(document: nodes.document) -> str:
    """The page's own description, or as many of its first sentences as fit into one."""
    for meta in document.findall(nodes.meta):
        if meta.get("name") == "description":
            return str(meta["content"])
    first = next(p for p in document.findall(nodes.paragraph) if len(plain(p)) >= min(DESCRIPTION))
    description = ""
    for sentence in re.split(r"(?<=[.?!]) ", plain(first)):
        if len(description) + len(sentence) < max(DESCRIPTION):
            description = f"{description} {sentence}".strip()
    return description


def minutes(document: nodes.document) -> int:
    """How long a reader takes for the text, the visible code and the formulas."""
    boxes = document.findall(lambda n: isinstance(n, nodes.container) and HIDDEN & {*n["classes"]})
    hidden = {id(node) for box in boxes for node in box.findall()}
    words = code_lines = formulas = 0
    for node in document.findall(lambda node: id(node) not in hidden):
        if isinstance(node, nodes.math_block):
            formulas += 1
        elif isinstance(node, nodes.literal_block):
            code_lines += sum(bool(line.strip()) for line in node.astext().splitlines())
        elif isinstance(node, nodes.Text) and not isinstance(node.parent, CODE_AND_FORMULAS):
            words += len(node.split())
    seconds = SECONDS_A_CODE_LINE * code_lines + SECONDS_A_FORMULA * formulas
    return max(1, round(words / WORDS_A_MINUTE + seconds / 60))


def examine(app: Sphinx, document: nodes.document) -> None:
    """Store what a page is about, and name the parts that every chapter has."""
    page = app.env.docname
    about = app.env.metadata[page]
    about["book_description"] = describe(document)
    if page.startswith("notebooks/"):
        about["book_minutes"] = minutes(document)
    for paragraph in list(document.findall(nodes.paragraph)):
        text = plain(paragraph)
        if text == "After this chapter you can":
            aims = nodes.container(classes=["aims"])
            goals = paragraph.next_node(nodes.bullet_list, descend=False, siblings=True)
            paragraph.replace_self(aims)
            goals.parent.remove(goals)
            aims += [paragraph, goals]
    for formula in list(document.findall(nodes.math)):
        keep_with_next(formula)
    for code in document.findall(nodes.literal_block):
        if "cell_input" in code.parent["classes"]:
            close_up(code)
    for section in document.findall(nodes.section):
        if re.match(r"Exercise \d+\.\d+", section.next_node(nodes.title).astext()):
            section["classes"].append("exercise")


def close_up(code: nodes.literal_block) -> None:
    """Show one empty line where a cell has two, as PEP 8 asks for around functions."""
    code.rawsource = re.sub(r"\n{3,}", "\n\n", code.astext())
    code[:] = [nodes.Text(code.rawsource)]


def keep_with_next(formula: nodes.math) -> None:
    """Keep a short formula on one line with the punctuation that follows it."""
    parent = formula.parent
    place = parent.index(formula) + 1
    after = parent[place] if place < len(parent) else None
    if not isinstance(after, nodes.Text) or len(formula.astext()) >= 24:
        return
    mark = re.match(r"[,.;:?!)\u2019\u201d]+", after)
    if mark:
        unbroken = nodes.inline(classes=["unbroken"])
        parent[place] = nodes.Text(after[mark.end() :])
        parent[place - 1] = unbroken
        unbroken += [formula, nodes.Text(mark[0])]


# --- what its head and its title say ---


def tag(_tag: str, **attributes: str) -> str:
    """An element without content."""
    written = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{_tag} {written} />"


def complete_page(
    app: Sphinx, page: str, _template: str, context: Context, _document: object
) -> None:
    """Fill in the head of a page and the line under its title."""
    about = app.env.metadata.get(page, {})
    description = {"search": SEARCH, "404": NOT_FOUND}.get(page) or about.get("book_description")
    if not description:
        return
    base = app.config.html_baseurl
    book = app.config.html_title or app.config.project
    title = re.sub("<.*?>", "", context.get("title", "")) or book
    named = {
        "description": description,
        "twitter:card": "summary_large_image" if base else "summary",
    }
    properties = {
        "og:type": "article" if page.startswith("notebooks/") else "website",
        "og:title": title,
        "og:description": description,
        "og:site_name": book,
        "og:locale": "en",
    }
    if page in ("search", "404"):
        named["robots"] = "noindex"
    elif base:
        properties["og:url"] = urljoin(base, f"{page}.html")
        properties["og:image"] = urljoin(base, card_path(page))
        properties["og:image:width"], properties["og:image:height"] = "1200", "630"
        properties["og:image:alt"] = f"{title}: {description}"
    tags = [
        *(tag("meta", name=name, content=text) for name, text in named.items()),
        *(tag("meta", property=name, content=text) for name, text in properties.items()),
        *(
            tag(
                "meta", name="theme-color", content=colour, media=f"(prefers-color-scheme: {theme})"
            )
            for theme, colour in THEME_COLOURS.items()
        ),
    ]
    if page != "404":  # beside it there is no file, wherever a host shows it
        static = context["pathto"]("_static", resource=True)
        tags.append(tag("link", rel="apple-touch-icon", href=f"{static}/icon-180.png"))
        for font in FIRST_FONTS:
            preload = tag(
                "link", rel="preload", href=f"{static}/fonts/{font}.woff2", type="font/woff2"
            )
            tags.append(preload.replace(" />", ' as="font" crossorigin />'))
    # A page's own description is among the tags already; it is said once, with the others.
    own = re.sub(r'<meta [^>]*name="description"[^>]*>', "", context.get("metatags", ""))
    context["metatags"] = "\n".join([own, *tags, ""])
    if "body" in context:
        context["body"] = head_of_chapter(context["body"], about.get("book_minutes"))


def head_of_chapter(body: str, reading_time: int | None) -> str:
    """Set the chapter's number apart, and say how long the chapter is."""
    body = re.sub(r"<h1>(\d\d) ", r'<h1><span class="chapter-number">\1</span> ', body, count=1)
    if reading_time:
        unit = "minute" if reading_time == 1 else "minutes"
        line = f'<p class="reading-time">About {reading_time} {unit} to read</p>'
        body = body.replace("</h1>", f"</h1>\n{line}", 1)
    return body


def card_path(page: str) -> str:
    """Where the social card of a page lies in the site."""
    return f"_static/cards/{page.replace('/', '-')}.png"


# --- pages that no file is written for ---


def page_not_found(app: Sphinx) -> Iterator[tuple[str, Context, str]]:
    """The page that a server shows for an address that does not exist."""
    root = urlsplit(app.config.html_baseurl).path
    chapters = [
        (page, *app.env.titles[page].astext().split(" ", 1))
        for page in sorted(app.env.found_docs)
        if page.startswith("notebooks/")
    ]
    mark = Path(app.srcdir, "book", "_static", "favicon.svg").read_text("utf-8")
    yield (
        "404",
        {"root": root, "colours": colour_sheet(), "chapters": chapters, "mark": mark},
        "404.html",
    )


def write_addresses(app: Sphinx, failure: Exception | None) -> None:
    """Write the first page, which leads to the book, and what search engines ask for."""
    if failure or app.builder.name != "html":
        return
    start = f"{app.config.root_doc}.html"
    about = app.env.metadata[app.config.root_doc]["book_description"]
    title = escape(app.config.html_title or app.config.project)
    base = app.config.html_baseurl
    addressed = (
        f'<link rel="canonical" href="{urljoin(base, start)}" />\n'
        f'<meta property="og:url" content="{urljoin(base, start)}" />\n'
        f'<meta property="og:image" content="{urljoin(base, card_path(app.config.root_doc))}" />\n'
    )
    out = Path(app.outdir)
    (out / "index.html").write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8" />\n'
        f"<title>{title}</title>\n"
        f'<meta http-equiv="refresh" content="0; url={start}" />\n'
        f'<meta name="description" content="{escape(about)}" />\n'
        f'<meta property="og:title" content="{title}" />\n'
        f'<meta property="og:description" content="{escape(about)}" />\n'
        f"{addressed if base else ''}"
        f'<p><a href="{start}">{title}</a></p>\n</html>\n',
        encoding="utf-8",
    )
    if base:
        pages = "".join(
            f"<url><loc>{urljoin(base, f'{page}.html')}</loc></url>\n"
            for page in sorted(app.env.found_docs)
        )
        (out / "sitemap.xml").write_text(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{pages}</urlset>\n',
            encoding="utf-8",
        )
        (out / "robots.txt").write_text(
            f"User-agent: *\nAllow: /\nSitemap: {urljoin(base, 'sitemap.xml')}\n", encoding="utf-8"
        )


def settle_address(_app: Sphinx, config: Config) -> None:
    """Where the book will stand on the web: BOOK_URL, else html.baseurl, else nowhere yet."""
    address = os.environ.get("BOOK_URL") or config.html_baseurl or ""
    if address and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", address):
        raise ExtensionError(
            f"the book's address must start with https:// and name a host, got {address!r}: "
            "mend BOOK_URL, or html: baseurl in _config.yml"
        )
    config.html_baseurl = f"{address.rstrip('/')}/" if address else ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", settle_address)
    app.connect("doctree-read", examine)
    app.connect("html-page-context", complete_page)
    app.connect("html-collect-pages", page_not_found)
    app.connect("build-finished", write_addresses)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
