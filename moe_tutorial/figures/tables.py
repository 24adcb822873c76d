"""Tables: lists of numbers with a head, right-aligned, stacked on a phone where they are wide."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from torch import Tensor

from moe_tutorial.figures.captions import caption_html, caption_text
from moe_tutorial.figures.labels import MINUS
from moe_tutorial.figures.palette import ACCENT, ORANGE
from moe_tutorial.figures.style import check_named, check_words, listing, numbers
from moe_tutorial.validation import check_size

STRONGEST = 45  # per cent of a colour in a cell: words on it stay readable in both themes
PHONE = 356  # pixels that a line has on a phone of 390
LETTER, PADDING = 7.2, 10  # of its letters' average width, and of a cell's sides, as in the style


class Table:
    """Columns of texts and numbers, the first of them naming the rows.

    Jupyter displays it as HTML, a terminal as aligned text. :func:`table` and :func:`number_table`
    make it.

    Args:
        columns: for each head its cells, as texts.
        right: the heads of the columns that hold numbers.
        shades: for each cell beside the first column a number from -1 to 1, or none.
        title: what all numbers are, above the table, or nothing.
        caption: number and sentence below it, or none.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[str]],
        right: Sequence[str],
        shades: np.ndarray | None = None,
        title: str = "",
        caption: tuple[str, str] | None = None,
    ) -> None:
        self._columns, self._right, self._shades = columns, right, shades
        self._title, self._caption = title, caption

    def captioned(self, number: str, takeaway: str) -> "Table":
        """The table with its number in the chapter and the sentence to take away from it.

        Args:
            number: chapter and place in it, such as ``"3.1"``; tables are counted by themselves.
            takeaway: what the reader should see.

        Returns:
            The same table, with "Table 3.1." and the sentence below.

        Raises:
            TypeError: a text that is no str.
            ValueError: a number of another form, or a takeaway that is no sentence.
        """
        caption_text(number, takeaway, "Table")
        return Table(self._columns, self._right, self._shades, self._title, (number, takeaway))

    @property
    def html(self) -> str:
        """The table as HTML, the same bytes for the same cells."""
        stacked = " moe-cards" if self._phone_width() > PHONE else ""
        kind = stacked if self._shades is None else " moe-shaded"
        caption = caption_html(*self._caption, "Table", "figcaption") if self._caption else ""
        title = f"<caption>{escape(self._title)}</caption>\n" if self._title else ""
        head = "".join(
            f'<th scope="col"{self._place(name)}>{escape(name)}</th>' if name else "<td></td>"
            for name in self._columns
        )
        body = "".join(
            "<tr>" + "".join(self._cell(r, c, text) for c, text in enumerate(row)) + "</tr>\n"
            for r, row in enumerate(zip(*self._columns.values(), strict=True))
        )
        return (
            f'<figure class="moe-table-figure"><table class="moe-table{kind}">\n{title}'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>{caption}</figure>"
        )

    def _phone_width(self) -> float:
        """About how wide the table is at least, in pixels: words stay whole, numbers in a line."""
        width = 0.0
        for head, cells in self._columns.items():
            longest = max([word for text in (head, *cells) for word in text.split()], key=len)
            lines = [len(cell) if head in self._right else len(cell) / 2 for cell in cells]
            width += PADDING + LETTER * max(len(longest), *lines)
        return width

    def _place(self, column: str) -> str:
        return ' class="number" style="text-align: right"' if column in self._right else ""

    def _cell(self, row: int, column: int, text: str) -> str:
        head = list(self._columns)[column]
        if column == 0:
            label = f' data-label="{escape(head)}"'
            return f'<th scope="row"{label}{self._place(head)}>{escape(text)}</th>'
        start = f'<td data-label="{escape(head)}"'
        if self._shades is None:
            return f"{start}{self._place(head)}>{escape(text)}</td>"
        shade = self._shades[row, column - 1]
        # The page's colour, which knows the dark; in a notebook the light one.
        colour = (
            f"var(--book-accent, {ACCENT.light})" if shade > 0
            else f"var(--book-orange, {ORANGE.light})"
        )  # fmt: skip
        mixed = f"color-mix(in srgb, {colour} {round(STRONGEST * abs(shade))}%, transparent)"
        return (
            f'{start} class="number" style="text-align: right; background: {mixed}">'
            f"{escape(text)}</td>"
        )

    def __repr__(self) -> str:
        rows = [list(self._columns), *zip(*self._columns.values(), strict=True)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if head in self._right else cell.ljust(width)
                for cell, width, head in zip(row, widths, self._columns, strict=True)
            ).rstrip()
            for row in rows
        ]
        if self._title:
            lines.insert(0, self._title)
        if self._caption:
            lines.append(" ".join(caption_text(*self._caption, "Table")))
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": repr(self)}


def table(
    columns: Mapping[str, Sequence[object] | Tensor], *, digits: int | Mapping[str, int] = 2
) -> Table:
    """A table of named columns; the first names the rows.

    Args:
        columns: for each column's head its entries ``[N]``: texts, or numbers. A column of whole
            numbers has no decimals.
        digits: decimals of the other numbers, for all columns or for those that it names (others
            have 2).

    Returns:
        The table. Columns of numbers are right-aligned, and where the columns would not fit on a
        phone beside each other, it becomes a list of cards there.

    Raises:
        TypeError: a head that is no str, entries that are neither texts nor numbers, or digits
            that are no int.
        ValueError: no columns, columns of different lengths, tensors that are not one-dimensional,
            or digits for a column that is not there.
    """
    check_named("columns", columns)
    wanted = digits if isinstance(digits, Mapping) else dict.fromkeys(columns, digits)
    for head, places in wanted.items():
        check_size(f"digits[{head!r}]", places, least=0)
        if head not in columns:
            raise ValueError(f"digits must name columns ({', '.join(columns)}), got {head!r}")
    cells: dict[str, list[str]] = {}
    right = []
    for head, entries in columns.items():
        if isinstance(entries, Tensor):
            numbers(f"columns[{head!r}]", entries, 1)
            entries = entries.tolist()
        listed = list(entries)
        if all(isinstance(entry, int | float | np.number) for entry in listed):
            right.append(head)
        places = wanted.get(head, 2) if any(isinstance(e, float) for e in listed) else 0
        cells[head] = [_written(head, entry, places) for entry in listed]
        length = len(next(iter(cells.values())))
        if len(listed) != length:
            raise ValueError(
                f"columns must all have {length} entries as the first has, got {len(listed)} for "
                f"{head!r}"
            )
    return Table(cells, right)


def _written(head: str, entry: object, places: int) -> str:
    if isinstance(entry, bool | str):
        return str(entry)
    if isinstance(entry, int | float | np.number):
        return _decimals(float(entry), places)
    raise TypeError(
        f"columns[{head!r}] must hold texts or numbers, got {entry!r} of type "
        f"{type(entry).__name__}"
    )


def _decimals(value: float, places: int) -> str:
    # Adding 0 turns a rounded -0.00 into 0.00.
    return f"{round(value, places) + 0:.{places}f}".replace("-", MINUS)


def number_table(
    values_RC: Tensor, row_labels: Sequence[str], column_labels: Sequence[str], quantity: str
) -> Table:
    """A table of signed numbers, shaded orange where negative and purple where positive.

    The nearer to 0, the fainter: a cell of 0 has the page's own colour, in the dark too.

    Args:
        values_RC: the numbers, one row a label.
        row_labels: R names.
        column_labels: C names; up to five stay readable on a phone.
        quantity: what the numbers are, written above the table.

    Returns:
        The table, two decimals a number.

    Raises:
        TypeError: values that are no numbers, or a text that is no str.
        ValueError: labels that do not match the shape, or a value that is not finite.
    """
    check_words(quantity=quantity)
    for label in (*row_labels, *column_labels):
        check_words(**{"row_labels and column_labels": label})
    table_RC = numbers("values_RC", values_RC, 2)
    if table_RC.shape != (len(row_labels), len(column_labels)):
        raise ValueError(
            f"values_RC must have shape [{len(row_labels)}, {len(column_labels)}] as the labels "
            f"have, got {list(table_RC.shape)}"
        )
    columns = {"": list(row_labels)}
    for label, values_R in zip(column_labels, table_RC.T, strict=True):
        columns[label] = [_decimals(value, 2) for value in values_R]
    if len(columns) <= len(column_labels):
        raise ValueError(
            f"column_labels must differ from one another, got {listing(list(column_labels))}"
        )
    shades_RC = table_RC / max(np.abs(table_RC).max(), 1e-12)
    return Table(columns, list(column_labels), shades_RC, quantity)
