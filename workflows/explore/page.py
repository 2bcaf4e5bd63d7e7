"""One HTML page of pictures with captions: self-contained with the folder beside it, nothing from a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workflows.files.text_files import write_text
from workflows.messages.text_tables import TextTable

ASSETS = Path(__file__).with_name("assets")
POLICY = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"
"""The page runs no script and fetches nothing but the pictures beside it."""


@dataclass(frozen=True)
class Picture:
    """An image file.

    Args:
        file: relative to the page, with forward slashes.
        size_px: width and height, so that the page does not jump while loading.
    """

    file: str
    caption: str
    size_px: tuple[int, ...]


@dataclass(frozen=True)
class Section:
    """Part of a page: numbers as lines of text, pictures, tables, those opened by a click, links as (file, words)."""

    title: str
    lines: Sequence[str]
    pictures: Sequence[Picture]
    tables: Sequence[TextTable] = ()
    folded: Sequence[TextTable] = ()
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Page:
    """A page to be written."""

    title: str
    note: str = ""
    sections: Sequence[Section] = ()


def write_page(page: Page, file: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        ConfigurationError: if the folder cannot be written to.
    """
    text = page_html(page)
    write_text(file, text)


def page_html(page: Page) -> str:
    """The page as HTML; all words are escaped."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = quote
    return environment.get_template("page.html").render(page=page, policy=POLICY)
