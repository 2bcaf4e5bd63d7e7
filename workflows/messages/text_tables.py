"""Tables for people: the same cells on the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
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
    if isinstance(value, float):
        shown = f"{value:.4g}" if digits is None else f"{value:.{digits}f}"
        return shown.removeprefix("-") if float(shown) == 0 else shown  # no figure is "-0.00"
    return str(value)
