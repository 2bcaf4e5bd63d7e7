"""Tables for people: the same cells on the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflows.messages.errors import show_what_the_terminal_knows

NOTHING = "–"
_MARKDOWN_ESCAPES = str.maketrans({"|": "\\|", "<": "&lt;", ">": "&gt;", "\n": " ", "`": "\\`", "*": "\\*"})


@dataclass(frozen=True)
class TextTable:
    """Cells as text. The first column names its row and stands left, as do those in `words`; figures stand right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str] = ()

    @property
    def _left(self) -> list[bool]:
        return [not number or column in self.words for number, column in enumerate(self.columns)]

    def to_markdown(self) -> str:
        """Heading and table; what a name holds is shown, never interpreted."""
        lines = [self.columns, ["---" if left else "---:" for left in self._left]]
        lines += [[markdown_text(cell) for cell in row] for row in self.rows]
        return f"## {markdown_text(self.title)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def print(self) -> None:
        """To the terminal, as wide as that is."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        show_what_the_terminal_knows()
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for column, left in zip(self.columns, self._left, strict=True):
            table.add_column(column, justify="left" if left else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))  # as text: what a name holds is shown, never interpreted
        console = Console()
        console.print(Text(self.title, style="italic"))  # a table's own title is folded to the table's width
        console.print(table)


def markdown_text(text: str) -> str:
    """`text` so that Markdown shows it as it is; underscores inside words need no help."""
    return text.translate(_MARKDOWN_ESCAPES).replace("](", "]\\(")


def cell(value: Any, digits: int | None = None) -> str:
    """A value as a table shows it: `digits` after the point, or four that count."""
    if value is None:
        return NOTHING
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(part, digits)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return " to ".join(cell(part, digits) for part in value) if len(value) == 2 else ", ".join(map(cell, value))
    if isinstance(value, float):
        shown = f"{value:.4g}" if digits is None else f"{value:.{digits}f}"
        return shown.removeprefix("-") if float(shown) == 0 else shown  # no figure is "-0.00"
    return str(value)


def tables_of(title: str, content: Mapping[str, Any]) -> list[TextTable]:
    """Any mapping as tables: one of its plain entries, one for each list of mappings or mapping of mappings in it."""
    plain: list[list[str]] = []
    tables: list[TextTable] = []
    for name, value in content.items():
        rows = _rows_in(value)
        if rows:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            cells = [[cell(row.get(key)) for key in columns] for row in rows]
            tables.append(TextTable(f"{title}: {_words(name)}", [_words(key) for key in columns], cells))
        else:
            plain.append([_words(name), cell(value)])
    return ([TextTable(title, ["", "value"], plain)] if plain else []) + tables


def _rows_in(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping) and value and all(isinstance(row, Mapping) for row in value.values()):
        return [{"": name, **row} for name, row in value.items()]
    is_list = isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)
    return list(value) if is_list else []


def _words(name: str) -> str:
    return str(name).replace("_", " ")
