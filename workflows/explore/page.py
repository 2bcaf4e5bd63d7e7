"""One HTML page of pictures with captions: self-contained with the folder beside it, nothing from a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

from transforms.files import write_whole
from workflows.messages.errors import ConfigurationError

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; background: #f3f4f6; color: #1b1f24; }
header, main, footer { max-width: 1400px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; }
h1 { font-size: 1.7rem; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 40px 0 8px; overflow-wrap: anywhere; }
nav a { margin-right: 16px; }
a { color: #0b5cad; }
.note { color: #555e68; margin: 0 0 8px; }
pre { background: #fff; border: 1px solid #d9dde2; border-radius: 8px; padding: 12px 16px; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .9rem; }
figure { margin: 20px 0; background: #fff; border: 1px solid #d9dde2; border-radius: 8px; overflow: hidden; }
figure img { display: block; width: 100%; height: auto; margin: 0 auto; }
figcaption { padding: 10px 16px; }
.table { overflow-x: auto; background: #fff; border: 1px solid #d9dde2; border-radius: 8px; margin: 20px 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption, summary { text-align: left; font-weight: 600; padding: 10px 16px; }
th, td { padding: 5px 16px; text-align: right; border-top: 1px solid #e8ebee; }
th:first-child, td:first-child { text-align: left; }
footer { padding: 24px; color: #555e68; font-size: .9rem; }
"""

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
class Table:
    """A table; `folded` ones are opened by a click."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """Part of a page: numbers as lines of text, tables, pictures, links to files as (file, words)."""

    title: str
    lines: Sequence[str]
    pictures: Sequence[Picture]
    tables: Sequence[Table] = ()
    links: Sequence[tuple[str, str]] = ()


@dataclass
class Page:
    """A page to be written."""

    title: str
    note: str = ""
    sections: list[Section] = field(default_factory=list)


def write_page(page: Page, file: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        ConfigurationError: if the folder cannot be written to.
    """
    text = page_html(page)
    try:
        write_whole(file, lambda path: path.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be written ({error.strerror or error}).") from error


def page_html(page: Page) -> str:
    """The page as HTML; all words are escaped."""
    named = [(f"section{number}", section) for number, section in enumerate(page.sections, start=1)]
    links = "".join(f'<a href="#{name}">{escape(section.title)}</a>' for name, section in named)
    note = f'<p class="note">{escape(page.note)}</p>' if page.note else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(page.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(page.title)}</h1>{note}<nav>{links}</nav></header>\n<main>\n"
        + "\n".join(_section(name, section) for name, section in named)
        + "\n</main>\n<footer>Made by brats-unet explore. Research use only. Not a medical device.</footer>\n"
        "</body>\n</html>\n"
    )


def _section(name: str, section: Section) -> str:
    links = " ".join(f'<p><a href="{quote(file)}">{escape(words)}</a></p>' for file, words in section.links)
    return "\n".join(
        [
            f'<section id="{name}"><h2>{escape(section.title)}</h2>',
            f"<pre>{escape(chr(10).join(section.lines))}</pre>",
            *map(_picture, section.pictures),
            *map(_table, section.tables),
            f"{links}</section>",
        ]
    )


def _picture(picture: Picture) -> str:
    width, height = picture.size_px
    file, words = quote(picture.file), escape(picture.caption)
    return (
        f'<figure><a href="{file}"><img src="{file}" alt="{words}" width="{width}" height="{height}" '
        f'style="max-width:{width}px"></a><figcaption>{words}</figcaption></figure>'
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    title = escape(table.title)
    if table.folded:
        return f'<details class="table"><summary>{title}</summary><table>{body}</details>'
    return f'<div class="table"><table><caption>{title}</caption>{body}</div>'
