"""From matplotlib's SVG to the book's: small, its text as text, the same bytes on any machine.

matplotlib repeats the letters' family at each text, numbers every group, and writes coordinates
whose last digits differ between processors. Here groups that do nothing are dissolved, coordinates
have two decimals, and an id is a digest of what it names, so that two pictures on one page that
share an id share what it stands for, too.
"""

import hashlib
import re
from html import escape
from itertools import groupby
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

FAMILY = (
    "'Book Sans', 'Source Sans 3', system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, "
    "sans-serif"
)
"""The book's letters, then a system's. All of them are narrower than what matplotlib measures."""

SMALLEST = 11
"""Of letters, in points: 11 px where a phone shows a figure 350 px wide."""

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉ₑₖₜ", "0123456789ekt", strict=True))
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789\N{MINUS SIGN}", strict=True))


def book_svg(svg: str, label: str) -> str:
    """Rewrite what matplotlib has drawn.

    Args:
        svg: matplotlib's file, with text as text.
        label: the sentence that a screen reader speaks.

    Returns:
        An SVG element, one line for each of its elements.
    """
    root = ElementTree.fromstring(svg)
    box = _rounded(root.get("viewBox", ""))
    width, height = box.split()[2:]
    body = _dissolve(root)
    for element in root.iter():
        _tidy(element)
    lines = [line for element in body for line in _lines(element)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(label)}" '
            f'width="{width}pt" height="{height}pt" viewBox="{box}" font-family="{FAMILY}" '
            'stroke-linejoin="round">',
            *_renamed(lines),
            "</svg>\n",
        ]
    )


def _dissolve(parent: Element) -> list[Element]:
    """The children of an element, groups without attributes of their own replaced by theirs."""
    found: list[Element] = []
    for child in parent:
        name = child.tag.removeprefix(_SVG)
        if name in ("metadata", "title", "style"):
            continue
        child[:] = _dissolve(child)
        if name == "g" and not set(child.attrib) - {"id"}:
            found += child
        elif name == "defs":  # one for each thing, which brings each a line of its own
            found += [_around(thing) for thing in child]
        else:
            found.append(child)
    return found


def _around(thing: Element) -> Element:
    defs = Element(f"{_SVG}defs")
    defs.append(thing)
    return defs


def _tidy(element: Element) -> None:
    if target := element.attrib.pop(_HREF, None):
        element.set("href", target)
    style = dict(part.split(": ", 1) for part in element.get("style", "").split("; ") if part)
    if fill := element.attrib.pop("fill", None):
        style["fill"] = fill
    if element.tag in (f"{_SVG}text", f"{_SVG}tspan"):
        if "rotate(-0 " in element.get("transform", ""):
            del element.attrib["transform"]
        style.pop("font-family", None)
        if font := style.pop("font", None):  # weight and size and family in one
            weight, size = re.findall(r"\b\d{3}\b|[\d.]+px", font)
            style |= {"font-weight": "600" if int(weight) > 400 else weight, "font-size": size}
        if size := style.pop("font-size", None):
            element.set("font-size", size.removesuffix("px"))
        if (anchor := style.pop("text-anchor", "start")) != "start":
            element.set("text-anchor", anchor)
    for name, value in element.attrib.items():
        if name not in ("id", "href", "clip-path", "style"):
            element.set(name, _rounded(value))
    if style:
        element.set("style", "; ".join(f"{n}: {_rounded(v)}" for n, v in style.items()))


def _rounded(numbers: str) -> str:
    # Adding 0 turns a rounded -0 into 0.
    numbers = " ".join(numbers.split())
    return re.sub(r"-?\d+\.\d+(?:e-?\d+)?", lambda n: f"{round(float(n[0]), 2) + 0:g}", numbers)


def _lines(element: Element) -> list[str]:
    name = element.tag.removeprefix(_SVG)
    start = name + "".join(f' {key}="{escape(value)}"' for key, value in element.attrib.items())
    inside = [line for child in element for line in _lines(child)]
    if name in ("text", "tspan"):
        return [f"<{start}>{_script((element.text or '').strip())}{''.join(inside)}</{name}>"]
    if name == "g":
        return [f"<{start}>", *inside, "</g>"]
    return [f"<{start}>{''.join(inside)}</{name}>" if inside else f"<{start}/>"]


def _script(text: str) -> str:
    """Text with its lowered and raised letters as ordinary ones, moved: no font lacks those."""
    parts: list[str] = []
    height = 0
    for wanted, letters in groupby(text, _height):
        plain = "".join(_LOWERED.get(x) or _RAISED.get(x) or x for x in letters)
        size = f' font-size="{SMALLEST}"' if wanted else ""
        start, end = (f'<tspan dy="{wanted - height}"{size}>', "</tspan>") if parts else ("", "")
        parts.append(f"{start}{escape(plain, quote=False)}{end}")
        height = wanted
    return "".join(parts)


def _height(letter: str) -> int:
    return 3 if letter in _LOWERED else -4 if letter in _RAISED else 0


def _renamed(lines: list[str]) -> list[str]:
    """Lines whose ids are digests of what they name, other ids left out."""
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', "\n".join(lines)))
    names: dict[str, str] = {}
    kept = []
    for line in lines:
        if found := re.search(r' id="([^"]+)"', line):
            bare = line.replace(found[0], "")
            name = "m" + hashlib.sha256(bare.encode()).hexdigest()[:7]
            again, names[found[1]] = name in names.values(), name
            if again:
                continue
            line = line.replace(found[0], f' id="{name}"' if found[1] in used else "")
        kept.append(line)
    return [
        re.sub(r'(url\(|href=")#([^)"]+)', lambda found: f"{found[1]}#{names[found[2]]}", line)
        for line in kept
    ]
