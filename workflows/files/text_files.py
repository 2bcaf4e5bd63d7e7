"""Files that a command writes for others to read, whole or not at all: readers never see half a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transforms.files import write_whole
from workflows.messages.errors import ConfigurationError


def write_or_refuse(path: Path, write: Callable[[Path], object]) -> None:
    """`transforms.files.write_whole`, whose error names the file.

    Raises:
        ConfigurationError: if the file cannot be written.
    """
    try:
        write_whole(path, write)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror or error}).") from error


def write_text(path: Path, text: str) -> None:
    """Write `text`, and the bytes of a name that are no text as escapes; errors as in `write_or_refuse`."""
    content = text.encode("utf-8", "backslashreplace")
    write_or_refuse(path, lambda partial: partial.write_bytes(content))


def filled_template(template: Path, **content: Any) -> str:
    """A Jinja template with `content` in it; all that is filled in is escaped, and nothing may be missing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(content)
